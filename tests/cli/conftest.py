"""The command is run as a user runs it; see tests/command.py."""

from command import ddnsr, photo, quick_model

__all__ = ["ddnsr", "photo", "quick_model"]
