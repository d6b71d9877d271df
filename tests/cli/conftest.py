"""The command is run as a user runs it; see tests/helpers/command.py."""

from tests.helpers.command import ddnsr, eval_json, image_file, quick_model
from tests.helpers.processes import processes

__all__ = ["ddnsr", "eval_json", "image_file", "processes", "quick_model"]
