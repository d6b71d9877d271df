"""HR pictures and noisy photos as 8-bit RGB, and the noisy photo that a pair draws."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from ddnsr_cli.data.noise_patches import LEAST_NOISE_PX
from ddnsr_cli.errors import DataError, DdnsrError
from ddnsr_cli.files import sha256_of
from ddnsr_cli.inference.degrader import Levels
from ddnsr_cli.io.discovery import Found
from ddnsr_cli.io.formats import shown
from ddnsr_cli.io.image import rgb8
from ddnsr_cli.io.read import read_picture

Inside = TypeVar("Inside")


@dataclass(frozen=True, kw_only=True)
class DrawnPhoto:
    """The noisy photo of a pair."""

    relative: str
    sha256: str
    levels: Levels


class NoisePhotos:
    """The noisy photos to draw from. May be used from several threads at once."""

    def __init__(self, found: Sequence[Found], *, max_pixels: int) -> None:
        """found: in the order of their listing, which is the same everywhere."""
        self.found = list(found)
        self.max_pixels = max_pixels
        self.bad: dict[Path, DdnsrError] = {}
        """Photos that could not be used, as they were met."""

    @property
    def sha256(self) -> str:
        """A digest of names and sizes: what is drawn follows from the list."""
        lines = [f"{one.relative.as_posix()}\n{size_of(one.source)}\n" for one in self.found]
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def draw(
        self, rng: np.random.Generator, suits: Callable[[str, Levels], Inside | None]
    ) -> tuple[DrawnPhoto, Inside]:
        """The first photo, in an order drawn by `rng`, that can be read and in which `suits` finds something.

        suits: given the photo's relative path and its levels. Raises DataError when there is none.
        """
        unsuited = 0
        for index in rng.permutation(len(self.found)):
            one = self.found[index]
            levels = self._levels(one)
            if levels is None:
                continue
            relative = one.relative.as_posix()
            inside = suits(relative, levels)
            if inside is not None:
                return DrawnPhoto(relative=relative, sha256=sha256_of(one.source), levels=levels), inside
            unsuited += 1
        what = f"{unsuited} have no smooth part; try a larger --patch-variance" if unsuited else "none can be read"
        raise DataError(f"None of {len(self.found)} noisy photos is of use: {what}, or other photos.")

    def _levels(self, one: Found) -> Levels | None:
        if one.source in self.bad:
            return None
        try:
            levels = rgb8(read_picture(one.source, max_pixels=self.max_pixels))
            if min(levels.shape[:2]) < LEAST_NOISE_PX:
                size = f"{levels.shape[1]}x{levels.shape[0]}"
                raise DataError(f"{shown(one.source)} has {size} pixels; a noisy photo needs {LEAST_NOISE_PX} a side.")
        except DdnsrError as error:
            self.bad[one.source] = error
            return None
        return levels


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where the system does not tell: reading it will say why."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
