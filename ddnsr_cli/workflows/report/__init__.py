"""The page of a training run: history, curves, panels, and their HTML."""
