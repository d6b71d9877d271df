"""One picture, from its file to the file of its result."""

import time
import zlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ddnsr_cli.errors import ImageReadError
from ddnsr_cli.images.consistency import MOST_DRIFT_LEVELS, SQUARE_PX
from ddnsr_cli.images.formats import shown
from ddnsr_cli.images.grain import add_grain
from ddnsr_cli.images.limits import holds_alpha
from ddnsr_cli.images.noise import noise_of
from ddnsr_cli.images.picture import Picture
from ddnsr_cli.images.read import read_picture
from ddnsr_cli.images.resize import resize
from ddnsr_cli.images.srgb import to_srgb
from ddnsr_cli.images.write import write_picture
from ddnsr_cli.memory import give_back_freed
from ddnsr_cli.workflows.upscaling.compare import comparison
from ddnsr_cli.workflows.upscaling.engine import Engine
from ddnsr_cli.workflows.upscaling.events import Written
from ddnsr_cli.workflows.upscaling.finished import Settings, Source, mark_result, mark_sheet, sheet_of, source_of
from ddnsr_cli.workflows.upscaling.jobs import Job
from ddnsr_cli.workflows.upscaling.options import LookOptions, UpscaleListener, UpscaleOptions
from ddnsr_cli.workflows.upscaling.pixels import Faithfulness, enlarge_picture

NO_NOISE = "it is too small, or too much of it is black or white, to tell its noise: no grain was added"


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A picture that was read, and how large its result will be."""

    job: Job
    source: Source
    picture: Picture

    size: tuple[int, int]
    """Width and height of the result, pixels."""

    notes: tuple[str, ...]
    """What the user should hear before the work."""

    since: float
    """When work on it began, `time.perf_counter`."""


def prepare(job: Job, options: UpscaleOptions, scale: int) -> Prepared:
    """Read the picture of a job and bring it into the form that the network takes. Raises ImageReadError."""
    give_back_freed()  # by the picture before
    since = time.perf_counter()
    try:
        picture, source = read_picture(job.source, max_pixels=options.max_pixels), source_of(job.source)
    except OSError as error:
        raise ImageReadError(f"{shown(job.source)} went away while it was read ({error.strerror}).") from error
    if options.look.to_srgb:
        picture = to_srgb(picture)
    picture = _without_idle_alpha(picture, job.target)
    size = options.size.pixels(picture.width, picture.height, scale)
    return Prepared(job=job, source=source, picture=picture, size=size, notes=picture.notes, since=since)


def make(
    prepared: Prepared, engine: Engine, options: UpscaleOptions, settings: Settings, listener: UpscaleListener
) -> Written:
    """Enlarge a picture and write the result, and its sheet if one is wanted. Raises ImageWriteError and others."""
    job, told = prepared.job, _Told(prepared.job.source, listener)
    told.say(*prepared.notes)
    larger, faithfulness = enlarge_picture(prepared.picture, engine.upscaler, options.look, listener)
    listener.detail(f"{shown(job.source)}: {_in_words(faithfulness)}")
    if (faithfulness.drift_levels or 0) > MOST_DRIFT_LEVELS:
        told.say(_has_left(faithfulness.drift_levels or 0, engine.model))
    if (larger.width, larger.height) != prepared.size:
        larger = resize(larger, *prepared.size)
    if options.look.grain and not _add_grain(larger, prepared.picture, options.look):
        told.say(NO_NOISE)
    sheet = _write_sheet(prepared, larger, engine.model, settings) if options.compare else None
    mark = partial(mark_result, source=prepared.source, settings=settings)
    told.say(*write_picture(larger, job.target, options.write, finish=mark))
    return Written(
        input=job.source,
        output=job.target,
        width=larger.width,
        height=larger.height,
        seconds=time.perf_counter() - prepared.since,
        consistency_db=faithfulness.consistency_db,
        drift_levels=faithfulness.drift_levels,
        sheet=sheet,
        notes=tuple(told.sentences),
    )


class _Told:
    """What the user was told about a picture: nothing twice."""

    def __init__(self, source: Path, listener: UpscaleListener) -> None:
        self._source = source
        self._listener = listener
        self.sentences: list[str] = []

    def say(self, *notes: str) -> None:
        for note in notes:
            if note not in self.sentences:
                self.sentences.append(note)
                self._listener.note(f"{shown(self._source)}: {note}")


def _write_sheet(prepared: Prepared, larger: Picture, model: str, settings: Settings) -> Path:
    """Written before the result: where the result is, the sheet is, whenever the program was ended."""
    sheet = sheet_of(prepared.job.target)
    mark = partial(mark_sheet, source=prepared.source, settings=settings)
    write_picture(comparison(prepared.picture, larger, model), sheet, finish=mark)
    return sheet


def _add_grain(larger: Picture, picture: Picture, look: LookOptions) -> bool:
    """Grain as the input's noise asks for; another picture gets another grain. False: that noise is not to be told."""
    noise = noise_of(picture.pixels)
    if noise is None:
        return False
    content = zlib.crc32(np.ascontiguousarray(picture.pixels).data)
    add_grain(larger.pixels, noise, amount=look.grain, seed=(look.seed, content))
    return True


def _in_words(faithfulness: Faithfulness) -> str:
    near, drift = faithfulness.consistency_db, faithfulness.drift_levels
    consistency = "consistency exact" if near is None else f"consistency {near:.1f} dB"
    return consistency if drift is None else f"{consistency}, drift {drift:.1f} levels"


def _has_left(drift_levels: float, model: str) -> str:
    return (
        f"{model} left the picture: squares of {SQUARE_PX} x {SQUARE_PX} pixels changed by {drift_levels:.1f} levels "
        f"(more than {MOST_DRIFT_LEVELS:g} is no work of noise). Look at the result, or choose another model with -m"
    )


def _without_idle_alpha(picture: Picture, target: Path) -> Picture:
    """An alpha channel that is opaque everywhere is no loss where the format holds none: screenshots have such."""
    if picture.alpha is None or holds_alpha(target) or picture.alpha.min() < np.iinfo(picture.alpha.dtype).max:
        return picture
    return replace(picture, alpha=None)
