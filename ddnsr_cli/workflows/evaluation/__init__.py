"""What `ddnsr eval` is made of: scores, tables, pages for people."""
