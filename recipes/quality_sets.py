"""Test sets of `quality.py`: small images made from larger ones kept aside, and real ones, in the folders of the data.

The data folder holds `track1_val/HR`, `track1_val/challenge`, `bench` and `track2_val`; sets whose folders are not
there are refused. Of a larger image the window with the most texture is taken, so that every image costs about alike.
"""

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, laplace

from ddnsr_cli.data.images import list_images
from ddnsr_cli.errors import ConfigError, DataError
from ddnsr_cli.io.read import read_rgb

Rgb8 = NDArray[np.uint8]
Levels = NDArray[np.float32]
"""(H, W, 3), levels from 0 to 255, neither rounded nor clipped."""

SCALE = 4
MOST_HR_PX, MOST_LR_PX = 448, 128
GRID_PX = 16
MOST_LAPLACIAN = 60.0
SEED = 20200417


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """How an LR image is made: blur, shrinking by antialiased bicubic in float, noise, rounding, JPEG."""

    blur: float = 0.0
    """Standard deviation of the Gaussian, HR pixels."""

    noise: float = 0.0
    """Standard deviation of white Gaussian noise, levels of 255. One image has the same noise in all sets, but for
    its strength."""

    jpeg: int | None = None
    """Pillow's quality."""


MADE = {
    "clean": Degradation(),
    "noise8": Degradation(noise=8),
    "noise15": Degradation(noise=15),
    "noise25": Degradation(noise=25),
    "jpeg60": Degradation(jpeg=60),
    "jpeg30": Degradation(jpeg=30),
    "mixed": Degradation(blur=1.5, noise=5, jpeg=70),
}
REAL_PAIRS, REAL = "track2", "real"
SETS = (*MADE, REAL_PAIRS, REAL)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One image of a set; what it holds is read when it is asked for."""

    set: str
    name: str
    make: Callable[[], "Shown"]

    @property
    def key(self) -> str:
        """`SET/NAME`."""
        return f"{self.set}/{self.name}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """The pixels of a case."""

    lr: Rgb8

    truth: Rgb8 | None = None
    """Four times as large as `lr`."""

    clean: Rgb8 | None = None
    """As large as `lr`, without its noise."""


def find_cases(data: Path, sets: list[str], *, limit: int | None, seed: int = SEED) -> list[Case]:
    """The cases of the sets, at most `limit` of each: which ones goes by hashes of names, so that more contain fewer.

    Raises ConfigError for an unknown set, DataError where a folder is missing or empty.
    """
    if unknown := [name for name in sets if name not in SETS]:
        raise ConfigError(f"There is no set {', '.join(unknown)}. There are {', '.join(SETS)}.")
    return [case for name in sets for case in _drawn(_each_once(_cases(data, name, seed)), limit)]


def _each_once(cases: list[Case]) -> list[Case]:
    """Raises DataError where two are of one name: one result would be taken for the other's."""
    for name, count in Counter(case.key for case in cases).items():
        if count > 1:
            raise DataError(f"{count} images would be {name}: their files have one name. Rename all but one.")
    return cases


def _drawn(cases: list[Case], limit: int | None) -> list[Case]:
    drawn = sorted(cases, key=lambda case: sha256(case.name.encode()).digest())[:limit]
    return sorted(drawn, key=lambda case: case.name)


def _cases(data: Path, name: str, seed: int) -> list[Case]:
    if name == REAL:
        parts = ("track1_val/challenge", "track2_val/ntire2020", "track2_val/dped_iphone3gs")
        paths = [path for part in parts for path in list_images(data / part)]
        return [Case(set=name, name=path.stem, make=_real(path)) for path in paths]
    if name == REAL_PAIRS:
        parts = ("track2_val/polyu", "track2_val/cc", "track2_val/renoir")
        paths = [path for part in parts for path in list_images(data / part) if path.stem.endswith("_noisy")]
        return [Case(set=name, name=f"{path.parent.name}_{path.stem}", make=_pair(path)) for path in paths]
    paths = [*list_images(data / "track1_val/HR"), *list_images(data / "bench")]
    return [
        Case(set=name, name=path.stem, make=_made(path, MADE[name], (seed, index))) for index, path in enumerate(paths)
    ]


def _made(path: Path, how: Degradation, seed: tuple[int, int]) -> Callable[[], Shown]:
    def make() -> Shown:
        image = read_rgb(path)
        truth = _cut(image, _most_textured(image, MOST_HR_PX))
        return Shown(lr=degraded(truth, how, np.random.default_rng(seed)), truth=truth)

    return make


def _pair(noisy: Path) -> Callable[[], Shown]:
    def make() -> Shown:
        clean = read_rgb(noisy.with_stem(noisy.stem.removesuffix("_noisy") + "_clean"))
        window = _most_textured(clean, MOST_LR_PX)
        return Shown(lr=_cut(read_rgb(noisy), window), clean=_cut(clean, window))

    return make


def _real(path: Path) -> Callable[[], Shown]:
    def make() -> Shown:
        image = read_rgb(path)
        return Shown(lr=_cut(image, _most_textured(image, MOST_LR_PX)))

    return make


def degraded(truth: Rgb8, how: Degradation, rng: np.random.Generator) -> Rgb8:
    """The LR partner of an image: (H, W, 3) to (H/4, W/4, 3)."""
    levels = truth.astype(np.float32)
    if how.blur:
        levels = gaussian_filter(levels, (how.blur, how.blur, 0))
    height, width = (length // SCALE for length in truth.shape[:2])
    planes = (Image.fromarray(np.ascontiguousarray(levels[..., channel])) for channel in range(3))
    small = np.stack([np.asarray(plane.resize((width, height), Image.Resampling.BICUBIC)) for plane in planes], axis=2)
    noise = rng.normal(size=small.shape)
    lr: Rgb8 = np.rint(small + how.noise * noise).clip(0, 255).astype(np.uint8)
    return lr if how.jpeg is None else _through_jpeg(lr, how.jpeg)


def _through_jpeg(lr: Rgb8, quality: int) -> Rgb8:
    buffer = io.BytesIO()
    Image.fromarray(lr).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer))


def _cut(image: Rgb8, window: tuple[slice, slice]) -> Rgb8:
    return np.ascontiguousarray(image[window])


def _most_textured(image: Rgb8, most_px: int) -> tuple[slice, slice]:
    """The window of at most that many pixels a side, multiples of 4, with the greatest mean absolute Laplacian."""
    height, width = (min(most_px, length // SCALE * SCALE) for length in image.shape[:2])
    rough = np.minimum(np.abs(laplace(image.mean(axis=2))), MOST_LAPLACIAN)
    corners = np.pad(rough.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    tops = np.arange(0, image.shape[0] - height + 1, GRID_PX)[:, None]
    lefts = np.arange(0, image.shape[1] - width + 1, GRID_PX)[None]
    sums = corners[tops + height, lefts + width] - corners[tops, lefts + width]
    sums = sums - corners[tops + height, lefts] + corners[tops, lefts]
    top, left = (int(place) * GRID_PX for place in np.unravel_index(int(sums.argmax()), sums.shape))
    return slice(top, top + height), slice(left, left + width)
