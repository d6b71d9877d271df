"""The realism report: how alike made LR pictures and real LR photos are."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.data.photos import decode_rgb
from ddnsr_cli.errors import DataError, ImageReadError
from ddnsr_cli.metrics.realism import LEAST_PX, PictureFigures, Realism, gather, measure_picture
from ddnsr_cli.metrics.verdict import compare
from ddnsr_cli.workflows.report.realism_page import Side, realism_page
from ddnsr_cli.workflows.webpage.shell import write_page

Pixels = NDArray[np.uint8]

MOST_PICTURES = 100
"""Of a set: medians over so many stand still."""

WINDOW_PX = 512
"""Longest side of what is measured of a picture."""

SAMPLES = 4
SAMPLE_PX = 64
SAMPLE_PLACES = 8
"""Of a picture, drawn by chance; the smoothest is shown."""


def measure_realism(paths: Sequence[Path], *, seed: int = 0) -> Realism:
    """Measure a set of LR pictures, real or made.

    At most 100 pictures, and of each a window of 512 by 512 pixels at most, are drawn by `seed` and the names of the
    files: their order and their folder do not matter. Files that cannot be read, or are below 32 pixels on a side,
    are left out. Raises DataError when no picture is left.
    """
    return _side(paths, seed).realism


def realism_report(real: Sequence[Path], fake: Sequence[Path], page: Path, *, seed: int = 0) -> str:
    """Compare made LR pictures with real ones on an HTML page, and return its verdict: one sentence.

    Measures both as `measure_realism` does. The page is one file that needs no network, and is written whole or not at
    all; the same pictures, seed and file names give the same page. Raises DataError when a set has no picture that can
    be measured, ImageWriteError when the page cannot be written.
    """
    ours, made = _side(real, seed), _side(fake, seed)
    verdict = compare(ours.realism, made.realism)
    write_page(realism_page(ours, made, verdict), page)
    return verdict.sentence


def _side(paths: Sequence[Path], seed: int) -> Side:
    figures: list[PictureFigures] = []
    samples: list[Pixels] = []
    left_out: list[str] = []
    for path in sorted(paths, key=lambda path: (_draw(seed, path), path.as_posix())):
        if len(figures) == MOST_PICTURES:
            break
        try:
            picture = decode_rgb(path)
        except ImageReadError as error:
            left_out.append(str(error))
            continue
        if min(picture.shape[:2]) < LEAST_PX:
            left_out.append(f"{path} is below {LEAST_PX} pixels on a side.")
            continue
        rng = np.random.default_rng(_draw(seed, path))
        figures.append(measure_picture(_part(picture, WINDOW_PX, rng)))
        if len(samples) < SAMPLES:
            samples.append(_smooth_part(picture, rng))
    if not figures:
        first = f" The first: {left_out[0]}" if left_out else ""
        raise DataError(f"None of {len(paths)} LR pictures can be measured.{first}")
    return Side(given=len(paths), realism=gather(figures), samples=tuple(samples), left_out=tuple(left_out))


def _draw(seed: int, path: Path) -> int:
    """A number by chance that belongs to the seed and the file's name."""
    return int.from_bytes(sha256(f"{seed}/{path.name}".encode(errors="surrogateescape")).digest()[:8], "big")


def _part(picture: Pixels, most_px: int, rng: np.random.Generator) -> Pixels:
    """A window of at most `most_px` by `most_px`, anywhere."""
    top, left = (int(rng.integers(0, max(0, length - most_px) + 1)) for length in picture.shape[:2])
    return picture[top : top + most_px, left : left + most_px]


def _smooth_part(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """The least varied of some places, where noise is best seen; black and white ones only if there are no others."""
    parts = [_part(picture, SAMPLE_PX, rng) for _ in range(SAMPLE_PLACES)]
    return min(parts, key=lambda part: (not 30 < part.mean() < 225, part.std()))
