"""The data doctor: looks at the photos of both sets before a run spends days on them."""
