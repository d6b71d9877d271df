"""What `ddnsr eval` does: models, or finished images, in figures."""
