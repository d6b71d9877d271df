"""`ddnsr upscale`: from picture files to larger picture files."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ddnsr_cli.checkpoint import load_sr_net
from ddnsr_cli.device import DtypeName, choose_device, choose_dtype
from ddnsr_cli.errors import BatchError, ConfigError, DdnsrError, ImageReadError, ImageWriteError, OutOfMemoryError
from ddnsr_cli.files import is_folder, is_there
from ddnsr_cli.images.alpha import fill_transparent
from ddnsr_cli.images.edges import held_near, spread
from ddnsr_cli.images.formats import format_of, shown
from ddnsr_cli.images.limits import check_writable, holds_alpha
from ddnsr_cli.images.listing import find_images
from ddnsr_cli.images.names import Found, OutputNames
from ddnsr_cli.images.picture import Picture, Pixels
from ddnsr_cli.images.read import MAX_PIXELS, read_picture
from ddnsr_cli.images.resize import OutputSize, resize
from ddnsr_cli.images.tensors import to_pixels, to_tensor
from ddnsr_cli.images.tiles import TileConfig
from ddnsr_cli.images.write import WriteOptions, write_picture
from ddnsr_cli.inference import Upscaler
from ddnsr_cli.memory import free_host_bytes
from ddnsr_cli.registry import read_registry
from ddnsr_cli.tiling import TensorSource
from ddnsr_cli.weights import find_weights

BESIDE_SUFFIX = "_x4"  # only when a result lies beside its source: in a folder of its own it keeps the name
MOST_NAMES = 20  # in one message; each failure was told when it happened
CANVAS_SHARE = 0.8  # of free memory: what a result may take before we refuse to begin
RESIZE_BYTES = 18  # a sample of a resized result while it is made: four times float32, once or twice itself


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions:
    """What to do with every picture."""

    model: str | None = None
    """As `find_weights` takes; None: the bundled default."""

    device: str = "auto"
    dtype: DtypeName = "auto"
    tiles: TileConfig = field(default_factory=TileConfig)

    tta: bool = False
    """Average the results of the eight flips and turns: eight times slower, a little better."""

    size: OutputSize = field(default_factory=OutputSize)
    write: WriteOptions = field(default_factory=WriteOptions)

    format: str | None = None
    """Extension of the results without a dot; None: that of the output file, else png."""

    suffix: str | None = None
    """Put after the stem of each result; None: `_x4` beside the source, nothing elsewhere."""

    overwrite: bool = False
    max_pixels: int = MAX_PIXELS
    """Largest input, pixels."""

    offline: bool = False


@dataclass(frozen=True, kw_only=True)
class UpscaleListener:
    """Whom the work tells."""

    image: Callable[[str], None]
    """A picture begins."""

    tile: Callable[[int, int], None]
    """(tiles done, tiles in all) of the picture."""

    note: Callable[[str], None]
    """One sentence for the user."""

    detail: Callable[[str], None]
    """One sentence for the curious."""

    failed: Callable[[DdnsrError], None]
    """One picture of several could not be done."""

    download: Callable[[int, int], None]
    """(bytes done, bytes in all) of the weights."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """One finished result."""

    source: Path
    target: Path
    width: int
    height: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture to do."""

    source: Path
    target: Path


def upscale_images(
    inputs: Sequence[Path], output: Path | None, options: UpscaleOptions, listener: UpscaleListener
) -> Iterator[Written]:
    """Up-scale files and folders, one result at a time, in the order found.

    A single named file raises its own error. Of several pictures each failure is told to the listener and the rest
    go on; at the end BatchError names them. Results that exist are skipped when there are several pictures.
    """
    names = _names(output, options)
    if len(inputs) == 1 and not is_folder(inputs[0]):
        (found,) = find_images(inputs)
        job = _single_job(found, output, names, options)
        _refuse_to_lose(job, options)
        yield _upscale_file(job, _engine(options, listener), options, listener)
        return
    if output is not None and not is_folder(output) and (is_there(output) or format_of(output)):
        raise ImageWriteError(
            f"{shown(output)} names a file, and there may be several pictures. Give a folder with -o."
        )
    pictures = find_images(inputs, results=names)
    first = next(pictures, None)
    if first is None:
        raise ImageReadError(f"{_listed(inputs)}: no picture is in there. Name a picture, or a folder that holds some.")
    jobs = (Job(source=one.source, target=names.target(one)) for one in itertools.chain([first], pictures))
    yield from _batch(jobs, _engine(options, listener), options, listener)


def upscale_picture(picture: Picture, engine: Upscaler, listener: UpscaleListener) -> Picture:
    """The picture enlarged by the network's scale: same depth, gray stays gray, alpha and metadata kept."""
    pixels = picture.pixels if picture.alpha is None else fill_transparent(picture.pixels, picture.alpha)
    larger = _run(pixels, engine, listener)
    alpha = None if picture.alpha is None else _larger_alpha(picture.alpha, engine, listener)
    return replace(picture, pixels=larger, alpha=alpha)


def _names(output: Path | None, options: UpscaleOptions) -> OutputNames:
    default = "" if output is not None else BESIDE_SUFFIX
    return OutputNames(
        folder=output,
        suffix=default if options.suffix is None else options.suffix,
        extension=options.format or "png",
    )


def _single_job(found: Found, output: Path | None, names: OutputNames, options: UpscaleOptions) -> Job:
    """-o names the file when it has an extension and is no folder; else the folder."""
    if output is None or not output.suffix or is_folder(output):
        return Job(source=found.source, target=names.target(found))
    if options.format is not None and format_of(output) != format_of(Path(f"x.{options.format}")):
        raise ConfigError(f"-o {shown(output)} and --format {options.format} disagree. Drop one of them.")
    return Job(source=found.source, target=output)


def _engine(options: UpscaleOptions, listener: UpscaleListener) -> Upscaler:
    device = choose_device(options.device)
    weights = find_weights(
        options.model, registry=read_registry(), offline=options.offline, on_progress=listener.download
    )
    net, _ = load_sr_net(weights.path)
    engine = Upscaler(
        net,
        device=device,
        dtype=choose_dtype(device, options.dtype),
        tiles=options.tiles,
        tta=options.tta,
        name=weights.name,
    )
    listener.detail(
        f"model {weights.name} ({weights.path}), on {device}, in {str(engine.dtype).removeprefix('torch.')}"
    )
    return engine


def _batch(
    jobs: Iterator[Job], engine: Upscaler, options: UpscaleOptions, listener: UpscaleListener
) -> Iterator[Written]:
    failed: list[Path] = []
    done = skipped = 0
    for job in jobs:
        if is_there(job.target) and not options.overwrite and not _is_same_file(job):
            skipped += 1
            continue
        try:
            yield _upscale_file(job, engine, options, listener)
            done += 1
        except DdnsrError as error:
            failed.append(job.source)
            listener.failed(error)
    if skipped:
        listener.note(f"{skipped} results were there already and were left as they are (--overwrite makes them anew)")
    if failed:
        raise BatchError(f"{len(failed)} of {done + skipped + len(failed)} pictures failed: {_listed(failed)}.")


def _listed(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - MOST_NAMES} more" if len(paths) > MOST_NAMES else ""
    return ", ".join(shown(path) for path in paths[:MOST_NAMES]) + more


def _upscale_file(job: Job, engine: Upscaler, options: UpscaleOptions, listener: UpscaleListener) -> Written:
    start = time.perf_counter()
    _refuse_to_lose(job, options)
    picture = _without_idle_alpha(read_picture(job.source, max_pixels=options.max_pixels), job.target)
    width, height = options.size.pixels(picture.width, picture.height, engine.scale)
    _check_memory(job, picture, (width, height), engine.scale)
    lost = check_writable(
        job.target, width=width, height=height, has_alpha=picture.has_alpha, depth_bits=picture.depth_bits
    )
    _tell(job, (*picture.notes, *lost), listener)
    listener.image(shown(Path(job.source.name)))
    plan = engine.plan(picture.height, picture.width)
    listener.detail(f"{shown(job.source)}: {width}x{height} pixels, {plan.tiles} tiles of {plan.window_px} pixels")
    larger = upscale_picture(picture, engine, listener)
    if (larger.width, larger.height) != (width, height):
        larger = resize(larger, width, height)
    left_out = write_picture(larger, job.target, options.write)
    _tell(job, [note for note in left_out if note not in lost], listener)
    return Written(
        source=job.source, target=job.target, width=width, height=height, seconds=time.perf_counter() - start
    )


def _without_idle_alpha(picture: Picture, target: Path) -> Picture:
    """An alpha channel that is opaque everywhere is no loss where the format holds none: screenshots have such."""
    if picture.alpha is None or holds_alpha(target) or picture.alpha.min() < np.iinfo(picture.alpha.dtype).max:
        return picture
    return replace(picture, alpha=None)


def _check_memory(job: Job, picture: Picture, size: tuple[int, int], scale: int) -> None:
    """Refuse a result that memory cannot hold: the system would end this program, or others, half-way."""
    channels = picture.pixels.shape[2] + picture.has_alpha
    width, height = size
    need = picture.pixels.itemsize * channels * picture.width * picture.height * scale**2
    if size != (picture.width * scale, picture.height * scale):
        need += channels * (RESIZE_BYTES * width * height + 4 * width * picture.height * scale)  # the pass across
    if need > CANVAS_SHARE * free_host_bytes():
        raise OutOfMemoryError(
            f"{shown(job.source)}: a result of {width} x {height} pixels needs {need / 1e9:.1f} GB of memory, more than"
            " is free. Ask for a smaller one, crop the picture, or use a machine with more."
        )


def _tell(job: Job, notes: Sequence[str], listener: UpscaleListener) -> None:
    for note in notes:
        listener.note(f"{shown(job.source)}: {note}")


def _refuse_to_lose(job: Job, options: UpscaleOptions) -> None:
    if _is_same_file(job):
        raise ImageWriteError(f"{shown(job.target)} is the picture to read. Give another output with -o.")
    if is_there(job.target) and not options.overwrite:
        raise ImageWriteError(f"{shown(job.target)} exists. Add --overwrite, or give another output with -o.")


def _is_same_file(job: Job) -> bool:
    return is_there(job.target) and is_there(job.source) and job.target.samefile(job.source)


def _run(pixels: Pixels, engine: Upscaler, listener: UpscaleListener) -> Pixels:
    """Network over a picture, band by band into an array of the picture's own type."""
    height, width, channels = pixels.shape
    canvas: Pixels = np.empty((height * engine.scale, width * engine.scale, channels), pixels.dtype)
    source = TensorSource(to_tensor(pixels))
    for band in engine.bands(source, on_tile=listener.tile, on_note=listener.note):
        rows = to_pixels(band.rows, dtype=pixels.dtype, gray=channels == 1)
        canvas[band.top : band.top + len(rows)] = rows
    return canvas


def _larger_alpha(alpha: Pixels, engine: Upscaler, listener: UpscaleListener) -> Pixels:
    """The alpha channel by the same network: edges as sharp as the picture's, flat areas as they were."""
    if alpha.min() == alpha.max():
        return spread(alpha, engine.scale)
    return held_near(_run(alpha[..., None], engine, listener)[..., 0], alpha, engine.scale)
