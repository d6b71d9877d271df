"""One HR image and its LR partners: read, crop, degrade, write, and what the manifest says of them."""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor

from ddnsr_cli.commands.degrade.manifest import HR, LR, PairRecord, PairSettings, PlannedPair
from ddnsr_cli.commands.degrade.methods import Learned, Made, Method, NoiseSource, NoisyImages, prepare_method
from ddnsr_cli.commands.degrade.options import DegradeOptions
from ddnsr_cli.commands.ray_workers import Failure, Notify
from ddnsr_cli.config import SCALE, options_to_json
from ddnsr_cli.data.degradations import shrink_bicubic, whole_levels
from ddnsr_cli.data.images import shrunk
from ddnsr_cli.data.noise_patches import base_of, pair_rng
from ddnsr_cli.errors import DataError, DdnsrError, ImageWriteError, OutOfMemoryError, UnexpectedError, shown
from ddnsr_cli.files import atomic_path, sha256_of
from ddnsr_cli.inference.degrader import Levels, LevelsInMemory, as_levels, as_tensor
from ddnsr_cli.inference.memory import is_out_of_memory
from ddnsr_cli.io.discovery import Found
from ddnsr_cli.io.formats import check_writable
from ddnsr_cli.io.image import Metadata, RasterImage, rgb8
from ddnsr_cli.io.read import read_image
from ddnsr_cli.io.write import write_image
from ddnsr_cli.metrics.noise_transfer import NoiseTransfer, Trial, measure_noise_transfer

LEAST_HR_PX = 32
"""Shorter side of an HR image: its LR partner has 8 pixels, below which nothing is to be learned."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One HR image and the pairs wanted of it."""

    source: Path
    pairs: tuple[PlannedPair, ...]


@dataclass(frozen=True, kw_only=True)
class WrittenPair:
    """One finished pair."""

    source: Path
    hr: Path
    lr: Path

    width: int
    """Of the LR image, pixels."""

    height: int
    record: PairRecord
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job: its pairs up to a failure, if there was one."""

    job: Job
    written: tuple[WrittenPair, ...] = ()
    notes: tuple[str, ...] = ()
    error: DdnsrError | None = None


class PairMaker:
    """Makes the pairs of one HR image after the other. May be used from several threads at once."""

    def __init__(
        self, method: Method, settings: PairSettings, *, folder: Path, model: str | None, max_pixels: int
    ) -> None:
        """folder: of the pairs. model: name of the degrader, for the manifest. max_pixels: largest HR image."""
        self.method = method
        self.settings = settings
        self.folder = folder
        self.model = model
        self.max_pixels = max_pixels

    def make(self, job: Job, check: Callable[[], None], on_share: Callable[[float], None]) -> Outcome:
        """All pairs of a job. Failures of the image are part of the outcome.

        check: called between tiles; may raise to give up. on_share: called with the parts of the job that are done.
        """
        written: list[WrittenPair] = []
        notes: tuple[str, ...] = ()
        reported = 0.0

        def on_tile(done: int, tiles: int) -> None:
            nonlocal reported
            check()
            now = (len(written) + done / tiles) / len(job.pairs)
            on_share(now - reported)
            reported = now

        error: DdnsrError | None = None
        try:
            hr, notes = self._hr(job)
            digest = sha256_of(job.source)
            for pair in job.pairs:
                written.append(self._pair(job, pair, hr, digest, on_tile))
                on_tile(0, 1)
        except DdnsrError as failure:
            error = failure
        except Exception as failure:  # noqa: BLE001  # of one image: the others go on
            error = _as_error(job.source, failure)
        on_share(1.0 - reported)
        return Outcome(job=job, written=tuple(written), notes=notes, error=error)

    def _hr(self, job: Job) -> tuple[RasterImage, tuple[str, ...]]:
        """The HR image as 8-bit RGB, shrunk if it is to be, cut to a multiple of the scale."""
        image = read_image(job.source, max_pixels=self.max_pixels)
        notes = list(image.notes)
        if image.alpha is not None and image.alpha.min() < np.iinfo(image.alpha.dtype).max:
            notes.append("its transparency is left out of the pair")
        levels = rgb8(image)
        if self.settings.cleanup > 1:
            levels = shrunk(levels, self.settings.cleanup)
        scale = self.settings.scale
        height, width = (length // scale * scale for length in levels.shape[:2])
        if min(height, width) < LEAST_HR_PX:
            least = LEAST_HR_PX * self.settings.cleanup
            raise DataError(f"{shown(job.source)} has {image.width}x{image.height} pixels; a side needs {least}.")
        # Colors keep their meaning, and nothing else goes along: a data set is given away.
        metadata = Metadata(icc=image.metadata.icc)
        return RasterImage(pixels=levels[:height, :width], metadata=metadata), tuple(notes)

    def _pair(
        self, job: Job, pair: PlannedPair, hr: RasterImage, digest: str, on_tile: Callable[[int, int], None]
    ) -> WrittenPair:
        start = time.perf_counter()
        rng = pair_rng(self.settings.seed, pair.hr_source, pair.variant)
        levels: Levels = hr.pixels.astype(np.uint8, copy=False)
        made = self.method(levels, rng, on_tile)
        hr_path, lr_path = (self.folder / side / pair.name for side in (HR, LR))
        for path in (hr_path, lr_path):
            check_writable(path, width=hr.width, height=hr.height, has_alpha=False, depth_bits=8)
        first = self.folder / HR / job.pairs[0].name
        if first == hr_path:
            write_image(hr, hr_path)
        else:
            _link(first, hr_path)
        write_image(RasterImage(pixels=made.lr, metadata=hr.metadata), lr_path)
        return WrittenPair(
            source=job.source,
            hr=hr_path,
            lr=lr_path,
            width=hr.width // self.settings.scale,
            height=hr.height // self.settings.scale,
            record=self._record(pair, made, digest, (sha256_of(hr_path), sha256_of(lr_path))),
            seconds=time.perf_counter() - start,
        )

    def _record(self, pair: PlannedPair, made: Made, digest: str, results: tuple[str, str]) -> PairRecord:
        crop, drawn = made.crop, made.drawn
        return PairRecord(
            **options_to_json(self.settings),
            name=pair.name,
            hr_source=pair.hr_source,
            hr_source_sha256=digest,
            hr_source_bytes=pair.hr_source_bytes,
            variant=pair.variant,
            model=self.model,
            noise_source=drawn.relative if drawn else None,
            noise_sha256=drawn.sha256 if drawn else None,
            kernel_source=made.kernel_source,
            noise_crop=(crop.top, crop.left, crop.height, crop.width) if crop else None,
            hr_sha256=results[0],
            lr_sha256=results[1],
        )


@dataclass(frozen=True, kw_only=True)
class RemoteOutcome:
    """An outcome on its way between processes."""

    written: tuple[WrittenPair, ...]
    notes: tuple[str, ...]
    failure: Failure | None

    bad: tuple[tuple[Path, Failure], ...]
    """Noisy images that the worker could not use so far."""

    def restored(self, job: Job) -> Outcome:
        """As it was where it was made."""
        error = self.failure.restored() if self.failure else None
        return Outcome(job=job, written=self.written, notes=self.notes, error=error)


class RemotePairMaker:
    """Makes pairs in a process of its own."""

    def __init__(self, options: DegradeOptions, notify: Notify, *, noisy: Sequence[Found], folder: Path) -> None:
        """noisy: the images to draw from. folder: of the pairs. Raises as `prepare_method`."""
        self._images = NoisyImages(noisy, max_pixels=options.max_pixels) if noisy else None
        prepared = prepare_method(self._images, options, lambda _done, _total: None, partial(notify, "note"))
        self.model = prepared.model or options.method, prepared.settings.model_sha256 or ""
        if prepared.prepare is not None:
            prepared.prepare(folder, partial(notify, "note"))
        self._maker = PairMaker(
            prepared.method, prepared.settings, folder=folder, model=prepared.model, max_pixels=options.max_pixels
        )

    def work(self, job: Job) -> Iterator[RemoteOutcome]:
        """All pairs of a job: one event."""
        outcome = self._maker.make(job, lambda: None, lambda _share: None)
        bad = self._images.bad.items() if self._images else ()
        yield RemoteOutcome(
            written=outcome.written,
            notes=outcome.notes,
            failure=Failure.of(outcome.error) if outcome.error else None,
            bad=tuple((path, Failure.of(error)) for path, error in bad),
        )

    @staticmethod
    def failure(job: Job, error: Exception) -> DdnsrError:
        """What is wrong with an image is part of its outcome; this is what nobody foresaw."""
        return _as_error(job.source, error)


def _as_error(source: Path, failure: Exception) -> DdnsrError:
    """An error that no part of the work has put into words."""
    error: DdnsrError
    if isinstance(failure, OSError):
        error = ImageWriteError(f"{shown(source)}: {failure.strerror or failure}. Check folders and disk.")
    elif is_out_of_memory(failure):
        error = OutOfMemoryError(f"{shown(source)} needs more memory than there is. Use fewer --workers.")
    else:
        error = UnexpectedError(f"{shown(source)}: unexpected {type(failure).__name__}: {failure}")
    error.__cause__ = failure
    return error


def _link(first: Path, other: Path) -> None:
    """The same image under another name: one file where the system has links, else a copy."""
    with atomic_path(other) as temporary:
        temporary.unlink()
        try:
            os.link(first, temporary)
        except OSError:
            shutil.copyfile(first, temporary)


TRIALS = 8
SIDE_PX = 64
"""Of the windows, LR pixels."""


def transfer_of(
    method: Learned, hr: Iterable[Path], *, seed: int, max_pixels: int, cleanup: int = 1
) -> NoiseTransfer | None:
    """Tried on a window of each of the first HR images that are large enough; None without one, or without images.

    The clean images are other HR images, shrunk and upside down. cleanup: how many times HR images are shrunk first.
    """
    rng = np.random.default_rng(seed)
    windows = list(islice(_windows(hr, rng, max_pixels, cleanup), TRIALS))
    noise = method.noise
    if noise is None or not windows:
        return None

    def degrade(hr: Tensor, given: Tensor) -> Tensor:
        return as_tensor(method.engine.lr(*(LevelsInMemory(_levels(image)) for image in (hr, given))))

    return measure_noise_transfer(degrade, (_trial(noise, windows, at, rng) for at in range(len(windows))))


def _windows(paths: Iterable[Path], rng: np.random.Generator, max_pixels: int, cleanup: int) -> Iterator[Levels]:
    side = SCALE * SIDE_PX
    for path in paths:
        with suppress(DdnsrError):  # reported when it was to be degraded
            levels = rgb8(read_image(path, max_pixels=max_pixels))
            if min(levels.shape[:2]) >= side * cleanup:
                levels = shrunk(levels, cleanup)
                height, width = levels.shape[:2]
                top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
                yield levels[top : top + side, left : left + side]


def _trial(noise: NoiseSource, windows: Sequence[Levels], at: int, rng: np.random.Generator) -> Trial:
    hr, side = windows[at], SIDE_PX
    noisy = noise.draw(hr, rng)[1].read(0, 0, side, side)
    clean = whole_levels(shrink_bicubic(windows[(at + 1) % len(windows)]))[::-1, ::-1]
    given = noise.of(clean, hr, rng)
    # of a clean image that would be passed over nothing comes into the result
    levels = given.read(0, 0, side, side) if given else whole_levels(base_of(shrink_bicubic(hr)))
    return Trial(hr=as_tensor(hr), noisy=as_tensor(noisy), clean=as_tensor(clean), clean_input=as_tensor(levels))


def _levels(image: Tensor) -> Levels:
    return as_levels(image[0])
