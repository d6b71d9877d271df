"""One image, from its file to the file of its result."""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ddnsr_cli.commands.upscale.engine import Engine
from ddnsr_cli.commands.upscale.jobs import Job, Settings, mark_result, mark_sheet, sheet_of
from ddnsr_cli.commands.upscale.options import UpscaleListener, UpscaleOptions, Written
from ddnsr_cli.errors import ImageReadError, shown
from ddnsr_cli.inference.memory import give_back_freed
from ddnsr_cli.inference.pipeline import Faithfulness, upscale_image
from ddnsr_cli.io.image import RasterImage, to_srgb
from ddnsr_cli.io.provenance import Source, source_of
from ddnsr_cli.io.read import read_image
from ddnsr_cli.io.write import without_idle_alpha, write_image
from ddnsr_cli.processing.contact_sheet import comparison


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """An image that was read, and how large its result will be."""

    job: Job
    source: Source
    image: RasterImage

    size: tuple[int, int]
    """Width and height of the result, pixels."""

    notes: tuple[str, ...]
    """What the user should hear before the work."""

    since: float
    """When work on it began, `time.perf_counter`."""


def prepare(job: Job, options: UpscaleOptions, scale: int) -> Prepared:
    """Read the image of a job and bring it into the form that the network takes. Raises ImageReadError."""
    give_back_freed()  # by the image before
    since = time.perf_counter()
    try:
        image, source = read_image(job.source, max_pixels=options.max_pixels), source_of(job.source)
    except OSError as error:
        raise ImageReadError(f"{shown(job.source)} went away while it was read ({error.strerror}).") from error
    if options.look.to_srgb:
        image = to_srgb(image)
    image = without_idle_alpha(image, job.target)
    size = options.size.pixels(image.width, image.height, scale)
    return Prepared(job=job, source=source, image=image, size=size, notes=image.notes, since=since)


def make(
    prepared: Prepared, engine: Engine, options: UpscaleOptions, settings: Settings, listener: UpscaleListener
) -> Written:
    """Enlarge an image and write the result, and its sheet if one is wanted. Raises ImageWriteError and others."""
    job, notes = prepared.job, _Notes(prepared.job.source, listener)
    notes.say(*prepared.notes)
    upscaled = upscale_image(prepared.image, engine.upscaler, options.look, prepared.size, listener)
    larger, faithfulness = upscaled.image, upscaled.faithfulness
    listener.detail(f"{shown(job.source)}: {_in_words(faithfulness)}")
    notes.say(*upscaled.notes)
    sheet = _write_sheet(prepared, larger, engine.model, settings) if options.compare else None
    mark = partial(mark_result, source=prepared.source, settings=settings)
    notes.say(*write_image(larger, job.target, options.write, finish=mark))
    return Written(
        input=job.source,
        output=job.target,
        width=larger.width,
        height=larger.height,
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

    def say(self, *notes: str) -> None:
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
