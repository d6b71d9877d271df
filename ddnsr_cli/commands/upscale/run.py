"""`ddnsr upscale`: from image files to larger image files."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from ddnsr_cli.commands.ray_workers import ray_workers
from ddnsr_cli.commands.upscale.jobs import Job, folder_jobs, is_single, listed, sheet_of, single_job
from ddnsr_cli.commands.upscale.options import (
    Event,
    Failed,
    Planned,
    Skipped,
    Started,
    Summary,
    UpscaleListener,
    UpscaleOptions,
    Written,
)
from ddnsr_cli.commands.upscale.worker import Engine, Outcome, Worker, open_worker, refuse_in_place, start_engine
from ddnsr_cli.errors import BatchError, DdnsrError, FolderWriteError, ImageWriteError, UnexpectedError, shown
from ddnsr_cli.files import StorePath, is_disk_full, is_folder, is_there
from ddnsr_cli.io.selection import OwnResults

__all__ = ["UpscaleListener", "UpscaleOptions", "upscale_images"]


StartEngine = Callable[[UpscaleOptions, UpscaleListener], Engine]
"""As `start_engine`."""


def upscale_images(
    inputs: Sequence[Path],
    output: Path | None,
    options: UpscaleOptions,
    listener: UpscaleListener,
    *,
    start: StartEngine | None = None,
) -> Iterator[Event]:
    """Up-scale files and folders one by one in the order found, and tell what happens. The last event is a Summary.

    A single named file raises its own error. Of several images each failure is reported to the listener and the rest
    go on, unless `fail_fast` or the disk is full; at the end BatchError names them. Several images go on where an
    earlier run was ended: what is finished is skipped, what was made otherwise is remade, what is not ours is left
    alone and fails.
    start: gives the network; None loads it.
    """
    single, own = is_single(inputs, options), OwnResults(again=options.selection.again)
    if single:
        job = single_job(inputs[0], output, options)
        _refuse_to_lose(job, options)
        jobs: Iterable[Job] = [job]
    else:
        jobs = folder_jobs(inputs, output, options, own)
    with _workers(options, listener, start, resumes=not single) as workers:
        run = _Run(workers.model, options, listener, own=own)
        if not single and listener.images is not None:
            run.count(inputs, output)
        outcomes = workers.outcomes(run.shown(jobs))
        yield from _all(outcomes, run, output, stop_at_first=single or options.fail_fast)


class _Workers(Protocol):
    """Whoever does the images."""

    @property
    def model(self) -> tuple[str, str]:
        """Name and SHA-256 of the weights."""

    def outcomes(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """What happens to the images; each job is taken when there is somebody to do it."""


@contextmanager
def _workers(
    options: UpscaleOptions, listener: UpscaleListener, start: StartEngine | None, *, resumes: bool
) -> Iterator[_Workers]:
    if options.ray is None:
        yield Worker((start or start_engine)(options, listener), options, listener, resumes=resumes)
        return

    def say(to: str, text: str) -> None:
        getattr(listener, to)(text)

    with ray_workers(options.ray, options, partial(open_worker, resumes=resumes), say, begins=Started) as workers:
        yield workers


def _all(outcomes: Iterable[Outcome], run: "_Run", output: Path | None, *, stop_at_first: bool) -> Iterator[Event]:
    failed: list[Path] = []
    closed: set[str] = set()
    worst: type[DdnsrError] = BatchError
    for job, outcome in outcomes:
        if not isinstance(outcome, DdnsrError):
            run.take(outcome)
            yield outcome
            continue
        failure = outcome
        failed.append(job.source)
        event = Failed(
            input=job.source, output=job.target, error=" ".join(str(failure).split()), exit_code=failure.exit_code
        )
        run.take(event)
        yield event
        if stop_at_first or is_disk_full(failure) or _is_closed(output, job, failure):  # work would come to nothing
            yield run.summary()
            raise failure from failure.__cause__
        if not (isinstance(failure, FolderWriteError) and str(failure) in closed):
            run.listener.failed(failure)
        closed.add(str(failure))
        if isinstance(failure, UnexpectedError):
            worst = UnexpectedError
    run.note_totals()
    yield run.summary()
    if failed:
        raise worst(f"{len(failed)} of {run.images} images failed: {listed(failed)}.")


def _is_closed(output: Path | None, job: Job, failure: DdnsrError) -> bool:
    """Whether nothing can be written to the folder of all results."""
    if output is None or not isinstance(failure, FolderWriteError):
        return False
    return job.target.parent == output or not is_folder(output) or not os.access(output, os.W_OK)


class _Run:
    """The images of one call, and what became of them."""

    def __init__(
        self, model: tuple[str, str], options: UpscaleOptions, listener: UpscaleListener, *, own: OwnResults
    ) -> None:
        self.listener = listener
        self.counts: Counter[type[Event]] = Counter()
        self._model = model
        self._options = options
        self._own = own
        self._since = time.perf_counter()
        self._remade: Counter[str] = Counter()
        self._planned_seconds = 0.0
        self._total: int | None = None

    @property
    def images(self) -> int:
        """How many there were so far."""
        return sum(count for kind, count in self.counts.items() if kind is not Started)

    def count(self, inputs: Sequence[Path], output: Path | None) -> None:
        """Count the images beside the work: 100,000 of them take a while, and the first does not wait for it.

        Not those of a store: each would be asked for twice.
        """
        if any(isinstance(path, StorePath) for path in inputs):
            return

        def run() -> None:
            own = OwnResults(again=self._options.selection.again)
            with suppress(DdnsrError, OSError):  # whoever does the work meets it, too
                self._total = sum(1 for _ in folder_jobs(inputs, output, self._options, own))

        threading.Thread(target=run, daemon=True).start()

    def shown(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """The jobs; before each, it is shown how far the work is."""
        for job in jobs:
            self._show_progress()
            yield job

    def _show_progress(self) -> None:
        """So many images are done of so many, those that were finished before not counted."""
        if self.listener.images is not None:
            skipped = self.counts[Skipped]
            total = None if self._total is None else max(self._total, self.images) - skipped
            self.listener.images(self.images - skipped, total)

    def take(self, event: Event) -> None:
        """Count an event, and say what is worth a note at its first time."""
        self.counts[type(event)] += 1
        if isinstance(event, Planned):
            self._planned_seconds += event.seconds
        if isinstance(event, Started | Planned) and event.remade is not None:
            self._remade[event.remade] += 1
            if self._remade[event.remade] == 1:
                was = f"{shown(event.output)} was made {event.remade}"
                self.listener.note(f"{was}: it is remade, and so are others like it")

    def note_totals(self) -> None:
        """What a user wants to hear after the last image."""
        if not self.images:
            self.listener.note("no image is in this shard")
        if self._own.note:
            self.listener.note(self._own.note)
        if skipped := self.counts[Skipped]:
            results = _counted(skipped, "result")
            self.listener.note(f"{results} there already, finished, and left as found (--overwrite remakes them)")
        for why, times in self._remade.items():
            if times > 1:
                self.listener.note(f"{times} results made {why} were remade")
        if self._options.dry_run:
            results = _counted(self.counts[Planned], "result")
            self.listener.note(f"nothing was written; {results} would be, in about {_in_words(self._planned_seconds)}")

    def summary(self) -> Summary:
        """What became of all images so far."""
        return Summary(
            written=self.counts[Written],
            planned=self.counts[Planned],
            skipped=self.counts[Skipped],
            failed=self.counts[Failed],
            seconds=time.perf_counter() - self._since,
            model=self._model[0],
            model_sha256=self._model[1],
        )


def _refuse_to_lose(job: Job, options: UpscaleOptions) -> None:
    refuse_in_place(job)
    for target in (job.target, sheet_of(job.target)) if options.compare else (job.target,):
        if is_there(target) and not options.overwrite:
            raise ImageWriteError(f"{shown(target)} exists. Add --overwrite, or give another output with -o.")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _in_words(seconds: float) -> str:
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
