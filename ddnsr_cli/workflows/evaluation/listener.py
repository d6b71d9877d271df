"""Whom an evaluation tells."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EvaluateListener:
    """Each is called from the working thread and must be quick."""

    note: Callable[[str], None]
    """One sentence for the user."""

    tick: Callable[[int, int], None]
    """(pictures done, pictures in all): one of every contestant for each subject."""

    download: Callable[[int, int], None]
    """(bytes done, bytes in all) of weights."""
