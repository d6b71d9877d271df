"""What is written for people: the HTML pages, their charts, and model cards."""
