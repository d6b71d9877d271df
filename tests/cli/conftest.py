"""The command is run as a user runs it; see tests/helpers/command.py."""

from tests.helpers.command import ddnsr, photo, quick_model

__all__ = ["ddnsr", "photo", "quick_model"]
