"""The command is run as a user runs it; see tests/helpers/command.py."""

from tests.helpers.command import ddnsr, eval_json, photo, quick_model
from tests.helpers.processes import processes

__all__ = ["ddnsr", "eval_json", "photo", "processes", "quick_model"]
