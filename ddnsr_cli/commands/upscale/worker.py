"""Images from their files to the results, by a network that is loaded once."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypedDict

import numpy as np

from ddnsr_cli.commands.ray_workers import Notify
from ddnsr_cli.commands.upscale.jobs import (
    Job,
    Kind,
    Settings,
    State,
    is_taken,
    mark_result,
    mark_sheet,
    settings_of,
    sheet_of,
    state_of,
)
from ddnsr_cli.commands.upscale.options import (
    Event,
    Planned,
    Skipped,
    Started,
    UpscaleListener,
    UpscaleOptions,
    Written,
)
from ddnsr_cli.errors import (
    DdnsrError,
    DeviceError,
    ImageReadError,
    ImageWriteError,
    OutOfMemoryError,
    UnexpectedError,
    printable,
    shown,
)
from ddnsr_cli.files import StorePath, no_empty_folder, temporary_folder
from ddnsr_cli.inference.engine import (
    Runner,
    Window,
    check_int8,
    choose_openvino,
    format_without_torch,
    load_torch,
    thread_count,
)
from ddnsr_cli.inference.memory import give_back_freed, is_out_of_memory, keep_one_heap, save_addresses
from ddnsr_cli.inference.openvino import openvino_runner
from ddnsr_cli.inference.pipeline import (
    Faithfulness,
    check_memory,
    network_runs,
    result_bytes,
    upscale_image,
    upscale_rows,
)
from ddnsr_cli.inference.tiling import PixelSource, TilePlan, as_pixels
from ddnsr_cli.inference.upscaler import Upscaler
from ddnsr_cli.io.formats import check_format, check_writable
from ddnsr_cli.io.image import RasterImage, mapped, to_srgb
from ddnsr_cli.io.provenance import Source, date_back, made_as, source_of, was_written
from ddnsr_cli.io.read import fetched, read_image
from ddnsr_cli.io.write import WriteOptions, takes_rows, without_idle_alpha, write_image
from ddnsr_cli.nets.arrays import Weights
from ddnsr_cli.nets.config import SrConfig
from ddnsr_cli.processing.contact_sheet import comparison
from ddnsr_cli.processing.resize import resize
from ddnsr_cli.weights.arrays import read_arrays
from ddnsr_cli.weights.registry import read_registry
from ddnsr_cli.weights.resolve import FoundWeights, find_weights

MOST_FREED_PX = 1 << 17
"""LR pixels of images done before what they left in the heap is given back."""

LEAST_MEASURED_PX = 128
"""Least side of the tile by which time is estimated, LR pixels."""

LONG_RUN_S = 10.0
"""What takes longer is not measured twice: compiling is a small part of it."""

_PROC = Path("/proc/self")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A network, and which one it is."""

    upscaler: Upscaler

    model: str
    """How the user calls it."""

    sha256: str
    """Of its weights file."""


def start_engine(options: UpscaleOptions, listener: UpscaleListener) -> Engine:
    """Find the weights, fetch them if need be, and bring the network to the device.

    Raises WeightsError, HubError and DeviceError as the parts do.
    """
    save_addresses()
    int8, engine = options.dtype == "int8", options.engine
    if int8:
        check_int8(engine)
        engine = "openvino"
    quick = format_without_torch(options.device, options.dtype, engine)
    device = "cpu" if quick is not None else _device_of_torch(options, listener)
    if int8 and device != "cpu":
        raise DeviceError(f"int8 is for processors, not for {device}. Add --device cpu, or leave --dtype int8 out.")
    by_openvino = quick is not None or choose_openvino(device, engine, note=listener.note)
    registry, on_gpu = read_registry(), device != "cpu"
    weights = find_weights(
        options.model, registry=registry, on_gpu=on_gpu, offline=options.offline, on_progress=listener.download
    )
    if options.model is None and (other := registry.default_of("rrdb", on_gpu=not on_gpu).name) != weights.name:
        listener.note(f"{device} runs {weights.name}; -m {other} is {'quicker' if on_gpu else 'crisper and slower'}.")
    if weights.terms:
        listener.note(weights.terms)
    read = None if quick is None else read_arrays(weights.path)
    upscaler = None if read is None else _without_torch(*read, weights.name, options, narrow=quick == "bf16")
    if upscaler is None:
        upscaler = _with_torch(weights, options, device, by_openvino=by_openvino and read is None)
    if by_openvino and not upscaler.by_openvino and engine == "openvino":
        listener.note(f"OpenVINO does not run {weights.name}: PyTorch does its work.")
    elif int8 and upscaler.dtype != "int8":
        listener.note(f"int8 is for RRDB networks that bear it: {weights.name} is run in {upscaler.dtype}.")
    by = "OpenVINO" if upscaler.by_openvino else "PyTorch"
    listener.detail(f"model {weights.name} ({weights.path}), on {device}, in {upscaler.dtype}, by {by}")
    return Engine(upscaler=upscaler, model=weights.name, sha256=weights.sha256)


def _device_of_torch(options: UpscaleOptions, listener: UpscaleListener) -> str:
    load_torch()
    from ddnsr_cli.inference.device import choose_device

    return str(choose_device(options.device, note=listener.note))


def _without_torch(
    config: SrConfig, arrays: Weights, name: str, options: UpscaleOptions, *, narrow: bool
) -> Upscaler | None:
    """The network run by OpenVINO; None where that does not run it.

    Importing PyTorch, which is left out here, takes longer than to enlarge a small image.
    """

    def in_fp32() -> Runner:
        from ddnsr_cli.inference.net_upscaler import runner_in_fp32

        return runner_in_fp32(config, arrays, tta=options.tta, name=name)

    threads = thread_count()
    int8 = options.dtype == "int8"
    runner = openvino_runner(
        config, arrays, narrow=narrow, int8=int8, threads=threads, tta=options.tta, name=name, in_fp32=in_fp32
    )
    return None if runner is None else Upscaler(runner, config.traits, tiles=options.tiles, name=name)


def _with_torch(weights: FoundWeights, options: UpscaleOptions, device: str, *, by_openvino: bool) -> Upscaler:
    load_torch()
    import torch

    from ddnsr_cli.inference.device import choose_dtype
    from ddnsr_cli.inference.net_upscaler import NetUpscaler
    from ddnsr_cli.weights.checkpoint import load_sr_net

    net, _ = load_sr_net(weights.path)
    return NetUpscaler(
        net,
        device=torch.device(device),
        dtype=choose_dtype(torch.device(device), options.dtype),
        tiles=options.tiles,
        tta=options.tta,
        name=weights.name,
        openvino="int8" if by_openvino and options.dtype == "int8" else by_openvino,
    )


@dataclass(frozen=True, kw_only=True)
class TileCost:
    """What one tile took."""

    seconds_per_lr_px: float
    """Of a tile, its halo included."""

    writing_seconds_per_px: float
    """Of the result; 0 where it could not be tried."""

    tile_bytes: int
    """Peak of the host's memory, or of the device's where the network runs there."""

    def seconds(self, plan: TilePlan, runs: int, result_px: int) -> float:
        """For an image cut as `plan` says, over which the network goes so often, with so many pixels of result."""
        tile_px = plan.rows.size * plan.cols.size
        return runs * plan.tiles * tile_px * self.seconds_per_lr_px + result_px * self.writing_seconds_per_px


def measure_tile(image: RasterImage, engine: Engine, target: Path, options: UpscaleOptions) -> TileCost:
    """Run the network over one tile of an image, and write what comes out into a temporary folder, in vain.

    A small image is repeated until it is `LEAST_MEASURED_PX` long: of an icon all the time is spent beside the pixels.
    """
    upscaler = engine.upscaler
    plan = upscaler.plan(image.height, image.width)
    rows, cols = (np.arange(max(LEAST_MEASURED_PX, side)) % side for side in (plan.rows.size, plan.cols.size))
    part = replace(image, pixels=image.pixels[rows][:, cols], alpha=None)
    plan = upscaler.plan(part.height, part.width)
    source, made, seconds = PixelSource(part.pixels), list[Window](), 0.0

    def run() -> None:
        nonlocal seconds
        start = time.perf_counter()
        made[:] = [band.rows for band in upscaler.bands(source)]
        seconds = time.perf_counter() - start

    if options.look.strength > 0:
        if upscaler.kind != "cpu":  # the first run on a device chooses its kernels
            run()
        peak, sr = _peak_bytes(upscaler, run), np.concatenate(made, axis=1)
        if upscaler.kind == "cpu" and seconds < LONG_RUN_S:  # where the first may have compiled the network
            run()
        pixels = as_pixels(sr.mean(axis=0, keepdims=True) if part.is_gray else sr, part.pixels.dtype)
        larger = replace(part, pixels=pixels)
    else:
        peak, larger = 0, resize(part, upscaler.scale * part.width, upscaler.scale * part.height)
    return TileCost(
        seconds_per_lr_px=seconds / (plan.tiles * plan.rows.size * plan.cols.size),
        writing_seconds_per_px=_writing_seconds(larger, target, options.write) / (larger.width * larger.height),
        tile_bytes=peak,
    )


def _writing_seconds(image: RasterImage, target: Path, options: WriteOptions) -> float:
    with suppress(OSError, ImageWriteError), temporary_folder("ddnsr-") as folder:
        start = time.perf_counter()
        write_image(image, folder / f"tile{target.suffix}", options)
        return time.perf_counter() - start
    return 0.0


def _peak_bytes(upscaler: Upscaler, work: Callable[[], None]) -> int:
    """What `work` takes at its peak beyond what was in use; 0 where the system does not tell."""
    if upscaler.kind == "cuda":
        import torch

        device = upscaler.device
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device)
    before = None
    if sys.platform == "linux":
        with suppress(OSError):
            (_PROC / "clear_refs").write_text("5")  # the high-water mark starts again
            before = _status_bytes("VmRSS")
    work()
    return 0 if before is None else max(0, _status_bytes("VmHWM") - before)


def _status_bytes(name: str) -> int:
    lines = (_PROC / "status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """An image that was read, and how large its result will be."""

    job: Job
    source: Source
    before: os.stat_result
    """Of the file, before it was read."""

    image: RasterImage

    size: tuple[int, int]
    """Width and height of the result, pixels."""

    notes: tuple[str, ...]
    """What the user should hear before the work."""

    since: float
    """When work on it began, `time.perf_counter`."""


def _status(path: Path) -> os.stat_result:
    """Raises ImageReadError where there is no such file, as a list may name some; OSError."""
    try:
        return path.stat()
    except FileNotFoundError as error:
        raise ImageReadError(f"{shown(path)} does not exist. Check the name.") from error


def prepare(job: Job, options: UpscaleOptions, scale: int) -> Prepared:
    """Read the image of a job and bring it into the form that the network takes. Raises ImageReadError."""
    since = time.perf_counter()
    try:
        before = _status(job.source)
        image, source = read_image(job.source, max_pixels=options.max_pixels), source_of(job.source)
        if was_written(job.source, before):  # what was read is not what the note would tell of
            raise ImageReadError(f"{shown(job.source)} was changed while it was read. Try again when it is finished.")
    except OSError as error:
        raise ImageReadError(f"{shown(job.source)} went away while it was read ({error.strerror}).") from error
    if options.look.to_srgb:
        image = to_srgb(image)
    image = without_idle_alpha(image, job.target)
    pixels = mapped(image.pixels)
    is_in_file = pixels is not image.pixels
    image = replace(image, pixels=pixels)
    if is_in_file:  # what they took is free now
        give_back_freed()
    size = options.size.pixels(image.width, image.height, scale)
    return Prepared(job=job, source=source, before=before, image=image, size=size, notes=image.notes, since=since)


def in_rows(prepared: Prepared, options: UpscaleOptions, upscaler: Upscaler) -> bool:
    """Whether a result is written while it is made: nothing in it needs the whole image, which then is never in memory.

    A result of another size or with alpha does, and so do the sheet beside it and formats that are written at once.
    Small ones side by side are quicker to write whole.
    """
    if upscaler.is_beside:
        return False
    image, scale = prepared.image, upscaler.scale
    native = prepared.size == (image.width * scale, image.height * scale)
    return native and not image.has_alpha and not options.compare and takes_rows(prepared.job.target)


def _was_written_meanwhile(prepared: Prepared) -> bool:
    with suppress(OSError):  # it is gone
        return was_written(prepared.job.source, prepared.before)
    return False


def make(
    prepared: Prepared, engine: Engine, options: UpscaleOptions, settings: Settings, listener: UpscaleListener
) -> Written:
    """Enlarge an image and write the result, and its sheet if one is wanted. Raises ImageWriteError and others."""
    job, notes = prepared.job, _Notes(prepared.job.source, listener)
    notes.add(*prepared.notes)
    mark = partial(mark_result, source=prepared.source, settings=settings)
    write = partial(write_image, path=job.target, options=options.write, finish=mark)
    sheet = None
    if in_rows(prepared, options, engine.upscaler):
        lost, faithfulness, sentences = upscale_rows(prepared.image, engine.upscaler, options.look, listener, write)
        notes.add(*sentences)
    else:
        upscaled = upscale_image(prepared.image, engine.upscaler, options.look, prepared.size, listener)
        faithfulness = upscaled.faithfulness
        notes.add(*upscaled.notes)
        sheet = _write_sheet(prepared, upscaled.image, engine.model, settings) if options.compare else None
        lost = write(upscaled.image)
    notes.add(*lost)
    if _was_written_meanwhile(prepared):
        for path in (job.target, *([] if sheet is None else [sheet])):
            date_back(path, prepared.before)
        notes.add("it was changed meanwhile, and the result is of what it was before; the same command does it again")
    listener.detail(f"{shown(job.source)}: {_in_words(faithfulness)}")
    return Written(
        input=job.source,
        output=job.target,
        width=prepared.size[0],
        height=prepared.size[1],
        seconds=time.perf_counter() - prepared.since,
        consistency_db=faithfulness.consistency_db,
        drift_levels=faithfulness.drift_levels,
        sheet=sheet,
        notes=tuple(notes.sentences),
    )


class _Notes:
    """Notes for the user on an image: nothing twice."""

    def __init__(self, source: Path, listener: UpscaleListener) -> None:
        self._source = source
        self._listener = listener
        self.sentences: list[str] = []

    def add(self, *notes: str) -> None:
        for note in notes:
            if note not in self.sentences:
                self.sentences.append(note)
                self._listener.note(f"{shown(self._source)}: {note}")


def _write_sheet(prepared: Prepared, larger: RasterImage, model: str, settings: Settings) -> Path:
    """Written before the result: where the result is, the sheet is, whenever the program was ended."""
    sheet = sheet_of(prepared.job.target)
    mark = partial(mark_sheet, source=prepared.source, settings=settings)
    write_image(comparison(prepared.image, larger, model), sheet, finish=mark)
    return sheet


def _in_words(faithfulness: Faithfulness) -> str:
    near, drift = faithfulness.consistency_db, faithfulness.drift_levels
    consistency = "consistency exact" if near is None else f"consistency {near:.1f} dB"
    return consistency if drift is None else f"{consistency}, drift {drift:.1f} levels"


Outcome = tuple[Job, Event | DdnsrError]
"""An image, and one event of it, or the error that it ended with."""


class Worker:
    """Does one image after another by one network."""

    def __init__(self, engine: Engine, options: UpscaleOptions, listener: UpscaleListener, *, resumes: bool) -> None:
        """resumes: what an earlier run has finished is skipped."""
        self.engine = engine
        self._options = options
        self._addresses: dict[str, str] = {}
        self._listener = replace(
            listener,
            note=lambda text: listener.note(self._addressed(text)),
            detail=lambda text: listener.detail(self._addressed(text)),
        )
        self._resumes = resumes
        self._tile: TileCost | None = None
        self._freed_px = 0

    @property
    def model(self) -> tuple[str, str]:
        """Name and SHA-256 of the weights."""
        return self.engine.model, self.engine.sha256

    def outcomes(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """What happens to each image, in order."""
        for job in jobs:
            try:
                for event in self.work(job):
                    yield job, event
            except Exception as error:  # noqa: BLE001  # a bug that one image meets does not stop the others either
                yield job, self.failure(job, error)

    def work(self, job: Job) -> Iterator[Event]:
        """Do one image. Raises what belongs to it."""
        refuse_in_place(job, self._options)
        settings = settings_of(self._options, self.engine.sha256, job.target)
        state, why = self._found(job, settings)
        if state is State.FINISHED:
            yield Skipped(input=job.source, output=job.target)
            return
        if not self._options.dry_run:
            yield Started(input=job.source, output=job.target, remade=why)
        if not job.is_in_store:
            yield self._done(job, settings, why)
            return
        with self._brought_here(job) as here:
            yield self._brought_back(self._done(here, settings, why), here, job)

    def _done(self, job: Job, settings: Settings, why: str | None) -> Planned | Written:
        self._give_back_freed()
        prepared = prepare(job, self._options, self.engine.upscaler.scale)
        self._freed_px += prepared.image.width * prepared.image.height
        scale, rows = self.engine.upscaler.scale, self._is_in_rows(prepared)
        check_memory(prepared.image, prepared.size, scale, name=shown(job.source), in_rows=rows)
        with no_empty_folder(job.target.parent, alone=not self._resumes):
            return self._planned(prepared, why) if self._options.dry_run else self._made(prepared, settings)

    def _give_back_freed(self) -> None:
        """Give back what the images before left: after many small ones, else each would get its memory anew."""
        if self._freed_px >= MOST_FREED_PX:
            give_back_freed()
            self._freed_px = 0

    @contextmanager
    def _brought_here(self, job: Job) -> Iterator[Job]:
        """The job with files of a temporary folder in place of objects. What is said of those is said of these."""
        with temporary_folder("ddnsr-") as folder:
            images, results = folder / "images", folder / "results"
            images.mkdir()
            here = Job(source=fetched(job.source, images), target=_local(job.target, results))
            addresses = {str(results): str(job.target.parent), str(images): str(job.source.parent)}
            self._addresses.update(addresses)
            try:
                yield here
            except DdnsrError as error:
                raise type(error)(self._addressed(str(error))) from error.__cause__
            finally:
                self._addresses.clear()

    def _addressed(self, text: str) -> str:
        for place, address in self._addresses.items():
            text = text.replace(place, address)
        return text

    def _brought_back(self, event: Planned | Written, here: Job, job: Job) -> Planned | Written:
        """The event of the objects, once they are there; the sheet before the result, as `_write_sheet` has it."""
        if isinstance(event, Planned) or not isinstance(job.target, StorePath):
            return replace(event, input=job.source, output=job.target)
        sheet = None if event.sheet is None else sheet_of(job.target)
        for file, target in ((event.sheet, sheet), (here.target, job.target)):
            if file is not None and isinstance(target, StorePath):
                _put(file, target)
        return replace(event, input=job.source, output=job.target, sheet=sheet)

    @staticmethod
    def failure(job: Job, error: Exception) -> DdnsrError:
        """An error as that of the image that it belongs to."""
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

    def _is_in_rows(self, prepared: Prepared) -> bool:
        return in_rows(prepared, self._options, self.engine.upscaler)

    def _found(self, job: Job, settings: Settings) -> tuple[State, str | None]:
        """What an earlier run left of this job. Raises ImageWriteError where that is not ours to replace."""
        outputs = job.outputs(self._options)
        if not self._resumes or self._options.overwrite:
            for path, kind in outputs:
                self._refuse_loss(job, path, kind)
            return State.ABSENT, None
        states = [(path, *state_of(job.source, path, settings, kind=kind)) for path, kind in outputs]
        for (target, kind), (_, state, _) in zip(outputs, states, strict=True):
            if state is State.FOREIGN:
                self._refuse_loss(job, target, kind)
                raise ImageWriteError(
                    f"{shown(target)} exists and is no result of ddnsr, or was changed since. Move it away, or add "
                    "--overwrite."
                )
        for _, state, why in states:
            if state is State.OUTDATED:
                return state, why
        finished = all(state is State.FINISHED for _, state, _ in states)
        return (State.FINISHED if finished else State.ABSENT), None

    def _refuse_loss(self, job: Job, path: Path, kind: Kind) -> None:
        """Raises ImageWriteError where an image to read, or what belongs to another image, would be lost."""
        if not (path in job.inputs or self._options.compare) or not is_taken(path):
            return
        made = made_as(path)
        if made is None and path in job.inputs:
            raise ImageWriteError(
                f"{shown(path)} is an image to read itself, no {kind} of ddnsr. Move it away, or give another -o."
            )
        if self._options.compare and made in ("result", "sheet") and made != kind:
            raise ImageWriteError(
                f"{shown(path)} is the {made} of another image. Leave --compare out, or give another -o."
            )

    def _made(self, prepared: Prepared, settings: Settings) -> Written:
        job, image = prepared.job, prepared.image
        lost = check_writable(job.target, **_write_needs(prepared))
        self._listener.image(shown(Path(job.source.name)))
        plan = self.engine.upscaler.plan(image.height, image.width)
        width, height = prepared.size
        tiles = network_runs(image, self._options.look) * plan.tiles
        self._listener.detail(f"{shown(job.source)}: {width}x{height} pixels, {tiles} tiles of {plan.window_px} pixels")
        noted = replace(prepared, notes=(*prepared.notes, *lost))
        return make(noted, self.engine, self._options, settings, self._listener)

    def _planned(self, prepared: Prepared, why: str | None) -> Planned:
        image, (width, height), job = prepared.image, prepared.size, prepared.job
        check_format(job.target, **_write_needs(prepared))
        upscaler, reading = self.engine.upscaler, time.perf_counter() - prepared.since
        if self._tile is None:
            self._tile = measure_tile(image, self.engine, job.target, self._options)
        plan = upscaler.plan(image.height, image.width)
        runs = network_runs(image, self._options.look)
        seconds = reading + self._tile.seconds(plan, runs, width * height)
        return Planned(
            input=job.source,
            output=job.target,
            remade=why,
            width=width,
            height=height,
            tiles=runs * plan.tiles,
            seconds=seconds,
            memory_bytes=result_bytes(image, prepared.size, upscaler.scale, in_rows=self._is_in_rows(prepared))
            + self._tile.tile_bytes,
        )


def refuse_in_place(job: Job, options: UpscaleOptions) -> None:
    """Raises ImageWriteError where the result or its sheet would take the place of the source."""
    for path, _ in job.outputs(options):
        if job.is_source(path):
            raise ImageWriteError(f"{shown(path)} is the image to read. Give another output with -o.")


def _local(target: Path, folder: Path) -> Path:
    return folder / target.name if isinstance(target, StorePath) else target


def _put(file: Path, target: StorePath) -> None:
    """Raises ImageWriteError."""
    try:
        target.put(file)
    except OSError as error:
        reason = printable(error.strerror or str(error))
        raise ImageWriteError(f"{shown(target)} cannot be put ({reason}). Check address and permissions.") from error


def open_worker(options: UpscaleOptions, notify: Notify, *, resumes: bool) -> Worker:
    """A worker with its network, in a process of its own. notify: for image, note, detail. Raises as `start_engine`."""
    keep_one_heap()
    listener = UpscaleListener(
        image=partial(notify, "image"),
        tile=lambda _done, _total: None,  # thousands of messages for a bar
        note=partial(notify, "note"),
        detail=partial(notify, "detail"),
        failed=lambda _error: None,
        download=lambda _done, _total: None,
    )
    return Worker(start_engine(options, listener), options, listener, resumes=resumes)


class WriteNeeds(TypedDict):
    """What a format has to hold, as `check_format` takes it."""

    width: int
    height: int
    has_alpha: bool
    depth_bits: int


def _write_needs(prepared: Prepared) -> WriteNeeds:
    width, height = prepared.size
    image = prepared.image
    return {"width": width, "height": height, "has_alpha": image.has_alpha, "depth_bits": image.depth_bits}
