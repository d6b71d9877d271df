"""What a person sees while work goes on: bars on a terminal, plain lines elsewhere, all on stderr."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from ddnsr_cli.cli.terminal import line_of
from ddnsr_cli.errors import printable

if TYPE_CHECKING:  # a command loads its own code, not that of the others
    from ddnsr_cli.commands.degrade.options import DegradeListener
    from ddnsr_cli.commands.evaluate.options import EvaluateListener
    from ddnsr_cli.commands.train.run import TrainListener
    from ddnsr_cli.commands.upscale.options import UpscaleListener
    from ddnsr_cli.training.loop import StepReport

_SPEED_S = 3600.0
"""How far back the speed is looked at: one image, or one step, may take minutes."""


class LiveFigures:
    """To be shown by `rich.live.Live`, which asks for it a few times a second."""

    def __init__(self, steps: Progress) -> None:
        """steps: a bar, not started."""
        self._steps = steps
        self.latest: StepReport | None = None
        """The figures shown: means over the steps since the report before."""

    def __rich__(self) -> RenderableType:
        """The figures once there are some, and the bar."""
        if self.latest is None:
            return self._steps
        return Group(_table(self.latest), self._steps)


def _table(row: "StepReport") -> Table:
    """A line a group, as the panels of the run's page group them."""
    from ddnsr_cli.reports.history import panels_for

    table = Table.grid(padding=(0, 2))
    for panel in panels_for(row.figures):
        values = "  ".join(
            f"{label} {row.figures[name]:.4g}" for name, label in panel.figures.items() if name in row.figures
        )
        table.add_row(Text(panel.title, style="dim"), Text(values))
    speed = f"{row.images_per_s:.1f} images/s  waiting for data {row.waiting_share:.0%}"
    table.add_row(Text("Speed", style="dim"), Text(speed))
    table.add_row(Text("Means up to step", style="dim"), Text(f"{row.step:,}"))
    return table


def stderr_console(*, quiet: bool, file: TextIO | None = None) -> Console:
    """The console of everything that is not a result. File names are never read as markup. file: None is stderr."""
    return Console(file=file, stderr=True, quiet=quiet, markup=False, emoji=False, highlight=False, soft_wrap=True)


def noting(*, quiet: bool) -> Callable[[str], None]:
    """What says notes on stderr, as lines; nothing where it is to be quiet."""
    console = stderr_console(quiet=quiet)
    return lambda text: say(console, f"note: {text}")


def say(console: Console, text: str) -> None:
    """One line on a console. What of it is a name, or was read from a file, has no say over the terminal."""
    console.print(printable(text))


@contextmanager
def _lasting_stderr() -> Iterator[TextIO | None]:
    """Standard error under a number of its own: a thread that decodes an image turns the usual one away meanwhile."""
    try:
        handle = os.dup(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # closed, or a stream without a file
        yield None
        return
    with open(handle, "w", buffering=1, encoding=sys.stderr.encoding, errors=sys.stderr.errors) as stream:  # noqa: PTH123
        yield stream


@dataclass(frozen=True, kw_only=True)
class UpscaleView:
    """What is seen of an up-scaling."""

    listener: "UpscaleListener"

    clear: Callable[[], None]
    """Take the bar away, so that a line on stdout has the terminal to itself; the next image brings it back."""

    total: Callable[[], int | None]
    """Images to do, those that are finished already not counted; None: nobody counts them, or not yet."""


@contextmanager
def upscale_view(*, quiet: bool, verbose: bool) -> Iterator[UpscaleView]:
    """Bars with the time left, on a terminal only: of the tiles of an image, and of several images; notes as lines.

    Errors are reported even if quiet.
    """
    from ddnsr_cli.commands.upscale.options import UpscaleListener

    with _lasting_stderr() as stderr:
        console = stderr_console(quiet=quiet, file=stderr)
        errors = stderr_console(quiet=False, file=stderr) if quiet else console
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[count]}"))
        with Progress(
            *columns,
            *_times(),
            console=console,
            transient=True,
            disable=_hidden(console),
            speed_estimate_period=_SPEED_S,
        ) as progress:
            bar = _ImageBars(progress)
            with _download_bar(console) as download:
                listener = UpscaleListener(
                    image=bar.begin,
                    tile=bar.move,
                    images=None if _hidden(console) else bar.move_all,
                    note=lambda text: say(console, f"note: {text}"),
                    detail=lambda text: say(console, text) if verbose else None,
                    failed=lambda error: say(errors, f"error: {line_of(error)}"),
                    download=download,
                )
                yield UpscaleView(listener=listener, clear=progress.stop, total=lambda: bar.total)


@dataclass(frozen=True, kw_only=True)
class DegradeView:
    """What is seen of the making of pairs."""

    listener: "DegradeListener"

    clear: Callable[[], None]
    """Take the bar away, so that a line on stdout has the terminal to itself."""

    resume: Callable[[], None]
    """Bring it back."""

    total: Callable[[], int | None]
    """Images to do, those that are finished already not counted; None: that is not known yet."""


@contextmanager
def degrade_view(*, quiet: bool) -> Iterator[DegradeView]:
    """A bar of images with the time left, on a terminal only; notes as lines. Errors are reported even if quiet."""
    from ddnsr_cli.commands.degrade.options import DegradeListener

    with _lasting_stderr() as stderr:
        console, errors = stderr_console(quiet=quiet, file=stderr), stderr_console(quiet=False, file=stderr)
        columns = (TextColumn("degrading"), BarColumn(), MofNCompleteColumn(), TextColumn("images"))
        with Progress(*columns, *_times(), console=console, transient=True, disable=_hidden(console)) as progress:
            task = progress.add_task("", total=None)
            with _download_bar(console) as download:
                listener = DegradeListener(
                    progress=lambda done, total: progress.update(task, completed=done, total=total),
                    note=lambda text: say(console, f"note: {text}"),
                    failed=lambda error: say(errors if quiet else console, f"error: {line_of(error)}"),
                    download=download,
                )
                yield DegradeView(
                    listener=listener,
                    clear=progress.stop,
                    resume=progress.start,
                    total=lambda: None if (total := progress.tasks[task].total) is None else int(total),
                )


@contextmanager
def training_view(*, quiet: bool) -> Iterator["TrainListener"]:
    """On a terminal the latest figures over a bar of steps, which leave the last figures behind as a line; elsewhere
    such a line with every report.
    """
    from ddnsr_cli.commands.train.run import TrainListener

    console = stderr_console(quiet=quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[unit]}"))
    progress = Progress(  # shown as a part of what follows
        *columns, *_times(), console=console, disable=True, speed_estimate_period=_SPEED_S
    )
    bar, figures, hidden = _Stages(progress), LiveFigures(progress), _hidden(console)

    def report(row: "StepReport") -> None:
        figures.latest = row
        if hidden:
            say(console, _figures(row, progress.tasks[0]))

    listener = TrainListener(
        note=lambda text: say(console, f"note: {text}"),
        image=lambda done, total: bar.move("looking", "images", done, total),
        tick=lambda done, total: bar.move("training", "steps", done, total),
        report=report,
        scores=lambda step, scores: say(console, f"step {step}  validation  {_named(scores)}"),
        download=lambda _done, _total: None,
    )
    shown = nullcontext() if hidden else Live(figures, console=console, transient=True)
    try:
        with shown, _download_bar(console) as download:
            yield replace(listener, download=download)
    finally:
        if figures.latest is not None and not hidden:
            say(console, _figures(figures.latest, progress.tasks[0]))


@contextmanager
def evaluation_view(*, quiet: bool) -> Iterator["EvaluateListener"]:
    """A bar of images with the time left, shown on a terminal only; notes as lines."""
    from ddnsr_cli.commands.evaluate.options import EvaluateListener

    console = stderr_console(quiet=quiet)
    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TextColumn("images"))
    with Progress(*columns, *_times(), console=console, transient=True, disable=_hidden(console)) as progress:
        bar = _Bar(progress)
        with _download_bar(console) as download:
            yield EvaluateListener(note=lambda text: say(console, f"note: {text}"), tick=bar.move, download=download)


@contextmanager
def download_view(*, quiet: bool, doing: str = "downloading") -> Iterator["_DownloadBar"]:
    """A bar of bytes with speed and time left, on a terminal only."""
    with _download_bar(stderr_console(quiet=quiet), doing) as download:
        yield download


class _Bar:
    """One task of a progress display, begun again for each image."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task: TaskID = progress.add_task("", total=None)

    def begin(self, name: str) -> None:
        self.progress.start()
        self.progress.reset(self.task, description=name, total=None)

    def move(self, done: int, total: int) -> None:
        self.progress.update(self.task, completed=done, total=total)


class _ImageBars:
    """The bar of the tiles of an image, and below it, where there are several, that of all images."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.image: TaskID = progress.add_task("", total=None, count="")
        self.all: TaskID = progress.add_task("all images", total=None, count="", visible=False)
        self.done = 0
        self.total: int | None = None

    def begin(self, name: str) -> None:
        self.progress.start()
        self.progress.reset(self.image, description=name, total=None, count="")

    def move(self, done: int, total: int) -> None:
        self.progress.update(self.image, completed=done, total=total, count=f"{done}/{total} tiles")
        self.progress.update(self.all, completed=self.done + done / total)

    def move_all(self, done: int, total: int | None) -> None:
        """total: None while they are counted."""
        self.done, self.total = done, total
        many = total is None or total > 1
        count = f"{done}/{'...' if total is None else total} images"
        self.progress.update(self.all, completed=done, total=total, count=count, visible=many)


class _Stages:
    """One task of a progress display that goes through stages, each with a clock of its own."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.stage = ""
        self.task: TaskID = progress.add_task("", total=None, unit="")

    def move(self, stage: str, unit: str, done: int, total: int) -> None:
        if stage != self.stage:
            self.stage = stage
            self.progress.reset(self.task, description=stage, unit=unit)
        self.progress.update(self.task, completed=done, total=total)


class _DownloadBar:
    """Called with (bytes done, bytes in all); the display appears with the first byte."""

    def __init__(self, progress: Progress, doing: str) -> None:
        self.progress = progress
        self.doing = doing
        self.tasks: list[TaskID] = []

    def __call__(self, done: int, total: int) -> None:
        if not self.tasks:
            self.progress.start()
            self.tasks.append(self.progress.add_task(self.doing, total=total))
        self.progress.update(self.tasks[0], completed=done, total=total)
        if done >= total:
            self.progress.stop()


@contextmanager
def _download_bar(console: Console, doing: str = "downloading") -> Iterator[_DownloadBar]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    progress = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=_hidden(console))
    try:
        yield _DownloadBar(progress, doing)
    finally:
        progress.stop()


def _times() -> tuple[TimeElapsedColumn, TimeRemainingColumn]:
    return TimeElapsedColumn(), TimeRemainingColumn()


def _hidden(console: Console) -> bool:
    return console.quiet or not console.is_terminal


def _figures(row: "StepReport", steps: Task) -> str:
    """steps: how many there are, and the time left as on a terminal; of one step there is none yet."""
    left_s = None if steps.finished else steps.time_remaining
    left = "" if left_s is None else f"  {timedelta(seconds=int(left_s))} left"
    speed = f"{row.images_per_s:.1f} images/s  waiting for data {row.waiting_share:.0%}"
    return f"step {row.step} of {int(steps.total or row.step)}{left}  {_named(row.figures)}  {speed}"


def _named(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
