"""What `ddnsr upscale` prints on stdout: paths, or events as JSON; and the failures of a long run, last."""

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from ddnsr_cli.errors import ImageWriteError

if TYPE_CHECKING:
    from pathlib import Path

    from ddnsr_cli.workflows.upscaling.events import Event, Planned


class EventPrinter:
    """Prints events as they come."""

    def __init__(self, *, as_json: bool, clear: Callable[[], None]) -> None:
        """clear: takes the progress bar away, so that a line has the terminal to itself."""
        self._as_json = as_json
        self._clear = clear
        self._failed: list[Path] = []

    def show(self, event: "Event") -> None:
        """Print what one event has to tell. Raises ImageWriteError where stdout does not take it."""
        from ddnsr_cli.workflows.upscaling.events import Failed, Planned, Summary, Written, event_json

        if isinstance(event, Failed):
            self._failed.append(event.input)
        if isinstance(event, Summary):
            self._list_failures()
        if self._as_json:
            self._print(json.dumps(event_json(event)).encode(), event)
        elif isinstance(event, Planned):
            self._print(os.fsencode(event.output) + _estimate(event).encode(), event)
        elif isinstance(event, Written):
            for path in (event.output, *([event.sheet] if event.sheet else [])):
                self._print(os.fsencode(path), event)

    def _list_failures(self) -> None:
        """All failures of a run, last, where the line that ends it has no room for all names."""
        from ddnsr_cli.images.formats import shown
        from ddnsr_cli.workflows.upscaling.jobs import MOST_NAMES

        if len(self._failed) > MOST_NAMES:
            self._clear()
            for path in self._failed:
                typer.echo(f"failed: {shown(path)}", err=True)

    def _print(self, line: bytes, event: "Event") -> None:
        """A line on stdout, as bytes: a file name need not be text in the terminal's encoding."""
        from ddnsr_cli.workflows.upscaling.events import Written

        self._clear()
        try:
            typer.echo(line)
        except BrokenPipeError:
            raise  # the reader has seen enough: Typer ends the program without a word
        except OSError as error:
            what = f"{event.output} is written, but its name cannot be" if isinstance(event, Written) else "No output"
            raise ImageWriteError(f"{what} ({error.strerror}). Check where stdout goes.") from error


def _estimate(planned: "Planned") -> str:
    return (
        f"\t{planned.width} x {planned.height}\tabout {planned.seconds:.2g} s"
        f"\t{max(1, round(planned.memory_bytes / 1e6))} MB"
    )
