"""The failures a user can meet, each with the exit status that it gives.

A message is one line: what was wrong, what was given, what to do next.
"""

from collections.abc import Sequence
from pathlib import Path

MOST_NAMES = 20
"""Files that one message names."""


class DdnsrError(Exception):
    """A failure that is reported to the user in one line, without a traceback."""

    exit_code = 1


class ConfigError(DdnsrError):
    """An option, or a set of options, has no meaning."""

    exit_code = 2


class ImageReadError(DdnsrError):
    """A file or an object could not be taken for an image, or holds what we refuse to read."""

    exit_code = 3


class ImageWriteError(DdnsrError):
    """A result could not be written: no permission, no space, or beyond what the format holds."""

    exit_code = 4


class FolderWriteError(ImageWriteError):
    """Nothing can be written to a folder: what is true of one image is true of the next."""


class WeightsError(DdnsrError):
    """Weights are unknown, damaged, or of another network."""

    exit_code = 5


class HubError(DdnsrError):
    """The Hugging Face Hub could not be reached, or refused."""

    exit_code = 6


class DeviceError(DdnsrError):
    """A device is missing or too small for the work."""

    exit_code = 7


class DataError(DdnsrError):
    """Training or evaluation data are missing or of no use."""

    exit_code = 8


class BatchError(DdnsrError):
    """Some files of a batch failed; the others were done."""

    exit_code = 9


class UnexpectedError(DdnsrError):
    """An error that was not foreseen, of one image of several."""

    exit_code = 70  # sysexits.h: internal software error


class OutOfMemoryError(DeviceError):
    """The device has not enough memory even for the smallest tile."""


class TrainingError(DdnsrError):
    """A training run cannot start, go on, or be resumed as asked."""

    exit_code = 10


class OtherProcessError(TrainingError):
    """Of the processes that train together another one failed first, and tells why."""


class NotFiniteError(TrainingError):
    """A loss or gradient is NaN or infinite; the weights were not moved."""


def shown(path: Path) -> str:
    """A path fit for a message of one line: control characters and undecodable bytes become question marks."""
    return printable(str(path))


def listed(paths: Sequence[Path]) -> str:
    """Names for one line of a message, not too many: each failure was reported when it happened."""
    more = f" and {len(paths) - MOST_NAMES} more" if len(paths) > MOST_NAMES else ""
    return ", ".join(shown(path) for path in paths[:MOST_NAMES]) + more


def printable(text: str) -> str:
    """A text without anything that a terminal would obey, line feeds and bytes that are no text included: "?" each."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)
