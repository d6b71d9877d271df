"""Losses: scalars from tensors, pure functions."""
