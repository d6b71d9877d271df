"""`ddnsr upscale`: from image files to larger image files."""

import math
import os
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from ddnsr_cli.commands.ray_workers import ray_workers
from ddnsr_cli.commands.upscale.jobs import Job, folder_jobs, is_single, is_taken, sheet_of, single_job
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
from ddnsr_cli.errors import BatchError, DdnsrError, FolderWriteError, ImageWriteError, UnexpectedError, listed, shown
from ddnsr_cli.files import UNINTERRUPTED, StorePath, is_disk_full, is_folder
from ddnsr_cli.io.read import pixels_by_head
from ddnsr_cli.io.selection import OwnResults
from ddnsr_cli.processing.resize import OutputSize

__all__ = ["UpscaleListener", "UpscaleOptions", "upscale_images"]


SMALL_PX = 1 << 15
"""LR pixels up to which images are done side by side; see `_SideBySide`."""

SMALL_RESULT_PX = 16 * SMALL_PX
"""The same of the result."""

MOST_LANES = 4
SIDE_BY_SIDE = ("cpu", "cuda")
"""Kinds of devices that several threads may use at once."""

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
        run.show_progress()
        yield from _all(workers.outcomes(jobs), run, output, stop_at_first=single or options.fail_fast)


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
        engine = (start or start_engine)(options, listener)
        new = partial(Worker, options=options, resumes=resumes)
        if not resumes or options.fail_fast or options.dry_run or engine.upscaler.kind not in SIDE_BY_SIDE:
            yield new(engine, listener=listener)
            return
        with _closed(_SideBySide(engine, new, listener, options.size)) as side_by_side:
            yield side_by_side
        return

    def notify(to: str, text: str) -> None:
        getattr(listener, to)(text)

    with ray_workers(options.ray, options, partial(open_worker, resumes=resumes), notify, begins=Started) as workers:
        yield workers


_NewWorker = Callable[..., Worker]
"""Takes an engine, and as `listener` whom the work tells."""

_Report = Callable[[], None] | Outcome
"""What is to be said to the listener, or an outcome."""


class _StoppedError(BaseException):
    """The run is ending: no more is to be done."""


class _Lane:
    """A worker for a thread of its own. What it has to say is kept until the images before are done."""

    def __init__(
        self, engine: Engine, new: _NewWorker, listener: UpscaleListener, is_stopped: Callable[[], bool]
    ) -> None:
        self._reports: list[_Report] = []
        self._listener = listener
        self._is_stopped = is_stopped
        kept = {to: partial(self._keep, to) for to in ("image", "tile", "note", "detail", "failed", "download")}
        self._worker = new(engine, listener=replace(listener, **kept))

    def _keep(self, to: str, *words: object) -> None:
        if self._is_stopped():
            raise _StoppedError
        self._reports.append(partial(getattr(self._listener, to), *words))

    def done(self, job: Job) -> list[_Report]:
        """Do one image."""
        self._reports = []
        self._reports += self._worker.outcomes([job])
        return self._reports


@dataclass(frozen=True, kw_only=True)
class _QueuedJob:
    """A small image in work, or waiting for it."""

    job: Job
    reads: str
    writes: frozenset[str]

    report: "queue.SimpleQueue[list[_Report] | BaseException]" = field(default_factory=queue.SimpleQueue)
    """Takes one list, when the image is done."""


class _SideBySide:
    """Small images of a folder several at a time, each by its share of the threads; the others one after another.

    The threads of one network wait for each other at every layer, which on a small image takes as long as the work, and
    while an image is read or written none of them works, nor does a GPU. Results are the same, byte for byte, and so is
    what is reported, in the same order.
    """

    def __init__(self, engine: Engine, new: _NewWorker, listener: UpscaleListener, size: OutputSize) -> None:
        """size: of the results."""
        self._engine = engine
        self._size = size
        self._new = new
        self._listener = listener
        self._alone = new(engine, listener=listener)
        self._queue: queue.SimpleQueue[_QueuedJob | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lanes: int | None = None
        self._is_stopped = False

    @property
    def model(self) -> tuple[str, str]:
        """Name and SHA-256 of the weights."""
        return self._alone.model

    def outcomes(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """What happens to each image, in order."""
        ahead: deque[_QueuedJob] = deque()
        for number, job in enumerate(jobs):
            # the first alone: it brings the notes on the network
            small = number > 0 and self._is_small(job) and self._opened() > 1
            queued = _queued(job)
            while ahead and (not small or len(ahead) >= 2 * self._opened() or _meets(queued, ahead)):
                yield from _outcomes_of(ahead.popleft())
            if small:
                ahead.append(queued)
                self._queue.put(queued)
            else:
                yield from self._alone.outcomes([job])
        while ahead:
            yield from _outcomes_of(ahead.popleft())

    def _is_small(self, job: Job) -> bool:
        """Whether neither the image nor its result is large: each lane looks at free memory by itself."""
        pixels = None if job.is_in_store else pixels_by_head(job.source)
        return pixels is not None and pixels <= SMALL_PX and self._result_px(pixels) <= SMALL_RESULT_PX

    def _result_px(self, pixels: int) -> float:
        """Of an image of so many pixels; infinite where that depends on its sides."""
        size, scale = self._size, self._engine.upscaler.scale
        if size.megapixels is not None:
            return size.megapixels * 1e6
        is_by_scale = size == OutputSize(scale=size.scale)
        return pixels * (size.scale or scale) ** 2 if is_by_scale else math.inf

    def _opened(self) -> int:
        """How many images are done at a time; their threads start when it is asked first."""
        if self._lanes is None:
            threads = self._engine.upscaler.threads
            # one more than threads: now and then one waits for the disk
            wanted = min(MOST_LANES, threads + 1, self._engine.upscaler.fit(SMALL_PX)) if threads > 1 else 1
            self._lanes = wanted if wanted > 1 and self._open(wanted) else 1
        return self._lanes

    def _open(self, lanes: int) -> bool:
        """Whether all of them are ready."""
        ours = self._engine.upscaler
        threads = ours.threads
        share, here = max(1, threads // lanes), queue.SimpleQueue[bool]()

        def run() -> None:
            try:
                upscaler = ours.beside(share)
            except (MemoryError, RuntimeError):  # there is room for one only
                here.put(False)
                return
            lane = _Lane(replace(self._engine, upscaler=upscaler), self._new, self._listener, lambda: self._is_stopped)
            here.put(True)
            self._serve(lane)

        with UNINTERRUPTED:
            with suppress(RuntimeError):  # the system gives no more threads
                for _ in range(lanes):
                    thread = threading.Thread(target=run, daemon=True)
                    thread.start()
                    self._threads.append(thread)
            ready = [here.get() for _ in self._threads]
            ours.use_threads(threads)  # in this thread, and in those to come
        return len(self._threads) == lanes and all(ready)

    def _serve(self, lane: _Lane) -> None:
        while (queued := self._queue.get()) is not None and not self._is_stopped:
            try:
                queued.report.put(lane.done(queued.job))
            except BaseException as error:  # noqa: BLE001 - it is raised where the image is waited for
                queued.report.put(error)

    def close(self) -> None:
        """End at once what is in work."""
        self._is_stopped = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()


def _outcomes_of(queued: _QueuedJob) -> Iterator[Outcome]:
    """Wait for an image, hand on its notes, and give its outcomes."""
    reports = queued.report.get()
    if isinstance(reports, BaseException):
        raise reports
    for report in reports:
        if isinstance(report, tuple):
            yield report
        else:
            report()


@contextmanager
def _closed(workers: _SideBySide) -> Iterator[_SideBySide]:
    try:
        yield workers
    finally:
        try:
            with UNINTERRUPTED:
                workers.close()
        finally:
            workers.close()


def _queued(job: Job) -> _QueuedJob:
    """A job, and which files it reads and writes, however they are named."""
    reads, *writes = (os.path.realpath(path).casefold() for path in (job.source, job.target, sheet_of(job.target)))
    return _QueuedJob(job=job, reads=reads, writes=frozenset(writes))


def _meets(queued: _QueuedJob, others: Iterable[_QueuedJob]) -> bool:
    """Whether one writes what another reads or writes."""
    return any(
        queued.reads in other.writes or other.reads in queued.writes or queued.writes & other.writes for other in others
    )


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

    def show_progress(self) -> None:
        """So many images are done of so many, those that were finished before not counted."""
        if self.listener.images is not None:
            skipped = self.counts[Skipped]
            total = None if self._total is None else max(self._total, self.images) - skipped
            self.listener.images(self.images - skipped, total)

    def take(self, event: Event) -> None:
        """Count an event, and say what is worth a note at its first time."""
        self.counts[type(event)] += 1
        if not isinstance(event, Started):
            self.show_progress()
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
        for note in self._own.notes:
            self.listener.note(note)
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
    refuse_in_place(job, options)
    for target, _ in job.outputs(options):
        if not options.overwrite and is_taken(target):
            raise ImageWriteError(f"{shown(target)} exists. Add --overwrite, or give another output with -o.")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _in_words(seconds: float) -> str:
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return _counted(round(seconds), "second")
