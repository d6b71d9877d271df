"""What `ddnsr train` does: the two kinds of training, their run folders, and what they show."""
