"""Pixels to pixels."""
