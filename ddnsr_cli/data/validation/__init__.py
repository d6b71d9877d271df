"""Checks of training data: they look at the photos of both sets before a run spends days on them."""
