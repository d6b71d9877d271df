"""Checks of training data: they look at the images of both sets before a run spends days on them."""
