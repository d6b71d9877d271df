"""`ddnsr upscale`: from image files to larger image files."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from ddnsr_cli.commands.upscale.jobs import (
    Job,
    Settings,
    State,
    folder_jobs,
    is_single,
    listed,
    settings_of,
    sheet_of,
    single_job,
    state_of,
)
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
from ddnsr_cli.commands.upscale.worker import (
    Engine,
    Prepared,
    TileCost,
    in_rows,
    make,
    measure_tile,
    prepare,
    start_engine,
)
from ddnsr_cli.errors import (
    BatchError,
    DdnsrError,
    FolderWriteError,
    ImageWriteError,
    OutOfMemoryError,
    UnexpectedError,
    shown,
)
from ddnsr_cli.files import is_disk_full, is_folder, is_there
from ddnsr_cli.inference.memory import is_out_of_memory
from ddnsr_cli.inference.pipeline import check_memory, result_bytes
from ddnsr_cli.io.formats import check_format, check_writable
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
    engine = (start or start_engine)(options, listener)
    run = _Run(engine, options, listener, own=own, resumes=not single)
    if not single and listener.images is not None:
        run.count(inputs, output)
    yield from _all(jobs, run, output, stop_at_first=single or options.fail_fast)


def _all(jobs: Iterable[Job], run: "_Run", output: Path | None, *, stop_at_first: bool) -> Iterator[Event]:
    failed: list[Path] = []
    closed: set[str] = set()
    worst: type[DdnsrError] = BatchError
    for job in jobs:
        run.show_progress()
        try:
            for event in run.work(job):
                run.counts[type(event)] += 1
                yield event
        except Exception as error:  # noqa: BLE001  # a bug that one image meets does not stop the others either
            failure = _failure(job, error)
            run.counts[Failed] += 1
            failed.append(job.source)
            yield Failed(
                input=job.source, output=job.target, error=" ".join(str(failure).split()), exit_code=failure.exit_code
            )
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


def _failure(job: Job, error: Exception) -> DdnsrError:
    """An error as what is told of the image that it belongs to."""
    if isinstance(error, DdnsrError):
        return error
    if is_out_of_memory(error):
        failure: DdnsrError = OutOfMemoryError(
            f"{shown(job.source)} needs more memory than there is. Ask for a smaller result, or free some."
        )
    else:
        failure = UnexpectedError(f"{shown(job.source)}: unexpected {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


class Asked(TypedDict):
    """What a format has to hold, as `check_format` takes it."""

    width: int
    height: int
    has_alpha: bool
    depth_bits: int


class _Run:
    """The images of one call, and what became of them."""

    def __init__(
        self, engine: Engine, options: UpscaleOptions, listener: UpscaleListener, *, own: OwnResults, resumes: bool
    ) -> None:
        self.listener = listener
        self.counts: Counter[type[Event]] = Counter()
        self._engine = engine
        self._options = options
        self._own = own
        self._resumes = resumes
        self._since = time.perf_counter()
        self._remade: Counter[str] = Counter()
        self._tile: TileCost | None = None
        self._planned_seconds = 0.0
        self._total: int | None = None

    @property
    def images(self) -> int:
        """How many there were so far."""
        return sum(count for kind, count in self.counts.items() if kind is not Started)

    def count(self, inputs: Sequence[Path], output: Path | None) -> None:
        """Count the images beside the work: 100,000 of them take a while, and the first does not wait for it."""

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

    def work(self, job: Job) -> Iterator[Event]:
        """Do one image. Raises what belongs to it."""
        _refuse_in_place(job)
        settings = settings_of(self._options, self._engine.sha256, job.target)
        state, why = self._found(job, settings)
        if state is State.FINISHED:
            yield Skipped(input=job.source, output=job.target)
            return
        if not self._options.dry_run:
            yield Started(input=job.source, output=job.target, remade=why)
        prepared = prepare(job, self._options, self._engine.upscaler.scale)
        scale, rows = self._engine.upscaler.scale, self._is_in_rows(prepared)
        check_memory(prepared.image, prepared.size, scale, name=shown(job.source), in_rows=rows)
        yield self._planned(prepared, why) if self._options.dry_run else self._made(prepared, settings)

    def _is_in_rows(self, prepared: Prepared) -> bool:
        return in_rows(prepared, self._options, self._engine.upscaler.scale)

    def _found(self, job: Job, settings: Settings) -> tuple[State, str | None]:
        """What an earlier run left of this job. Raises ImageWriteError where that is not ours to replace."""
        if not self._resumes or self._options.overwrite:
            return State.ABSENT, None
        states = [(job.target, *state_of(job.source, job.target, settings))]
        if self._options.compare:
            sheet = sheet_of(job.target)
            states.append((sheet, *state_of(job.source, sheet, settings, kind="sheet")))
        for target, state, _ in states:
            if state is State.FOREIGN:
                raise ImageWriteError(
                    f"{shown(target)} exists and is no result of ddnsr, or was changed since. Move it away, or add "
                    "--overwrite."
                )
        for target, state, why in states:
            if state is State.OUTDATED:
                self._remade[why] += 1
                if self._remade[why] == 1:
                    self.listener.note(f"{shown(target)} was made {why}: it is remade, and so are others like it")
                return state, why
        finished = all(state is State.FINISHED for _, state, _ in states)
        return (State.FINISHED if finished else State.ABSENT), None

    def _made(self, prepared: Prepared, settings: Settings) -> Event:
        job, image = prepared.job, prepared.image
        lost = check_writable(job.target, **_asked(prepared))
        self.listener.image(shown(Path(job.source.name)))
        plan = self._engine.upscaler.plan(image.height, image.width)
        width, height = prepared.size
        self.listener.detail(
            f"{shown(job.source)}: {width}x{height} pixels, {plan.tiles} tiles of {plan.window_px} pixels"
        )
        noted = replace(prepared, notes=(*prepared.notes, *lost))
        return make(noted, self._engine, self._options, settings, self.listener)

    def _planned(self, prepared: Prepared, why: str | None) -> Event:
        image, (width, height), job = prepared.image, prepared.size, prepared.job
        check_format(job.target, **_asked(prepared))
        upscaler = self._engine.upscaler
        if self._tile is None:
            self._tile = measure_tile(image, self._engine, job.target, self._options)
        plan = upscaler.plan(image.height, image.width)
        seconds = self._tile.seconds(plan, width * height) + time.perf_counter() - prepared.since
        self._planned_seconds += seconds
        return Planned(
            input=job.source,
            output=job.target,
            remade=why,
            width=width,
            height=height,
            tiles=plan.tiles,
            seconds=seconds,
            memory_bytes=result_bytes(image, prepared.size, upscaler.scale, in_rows=self._is_in_rows(prepared))
            + self._tile.tile_bytes,
        )

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
            model=self._engine.model,
            model_sha256=self._engine.sha256,
        )


def _asked(prepared: Prepared) -> Asked:
    width, height = prepared.size
    image = prepared.image
    return {"width": width, "height": height, "has_alpha": image.has_alpha, "depth_bits": image.depth_bits}


def _refuse_to_lose(job: Job, options: UpscaleOptions) -> None:
    _refuse_in_place(job)
    for target in (job.target, sheet_of(job.target)) if options.compare else (job.target,):
        if is_there(target) and not options.overwrite:
            raise ImageWriteError(f"{shown(target)} exists. Add --overwrite, or give another output with -o.")


def _refuse_in_place(job: Job) -> None:
    if job.is_in_place:
        raise ImageWriteError(f"{shown(job.target)} is the image to read. Give another output with -o.")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _in_words(seconds: float) -> str:
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
