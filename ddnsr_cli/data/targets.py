"""Which pictures the HR crops of joint training come from: the target types of Track 2."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.data.photos import decode_rgb, stored_size
from ddnsr_cli.errors import ConfigError, DataError, ImageReadError

CLEANUP_SHRINK = 2
"""A noisy photo shrunk twice is "cleaned up": four pixels are averaged into one (the paper's X_clean)."""


class TargetType(StrEnum):
    """What a clean HR picture is."""

    DIV2K = "div2k"
    """The photos of the HR folder, as they are."""

    CLEANUP = "cleanup"
    """The noisy source photos, shrunk twice by antialiased bicubic: near the source in content and colour."""

    MIXED = "mixed"
    """Both of the above, half the crops each."""

    CANON = "canon"
    """Photos of another, better camera: the HR folder, as it is."""


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """Which target a run learns."""

    kind: TargetType = TargetType.DIV2K
    """Its type; a plain string, as JSON gives, is taken too."""

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "kind", TargetType(self.kind))
        except ValueError as cause:
            known = ", ".join(TargetType)
            raise ConfigError(f"There is no target type {self.kind!r}. Known: {known}.") from cause

    @property
    def needs_hr_folder(self) -> bool:
        """Whether the target takes photos other than the source's own."""
        return self.kind is not TargetType.CLEANUP


@dataclass(frozen=True, kw_only=True)
class PhotoSet:
    """Photos that crops are cut from."""

    photos: tuple[Path, ...]
    """Files, in an order that every machine gives."""

    shrink: int = 1
    """Each photo is shrunk this many times, by antialiased bicubic, before it is cut."""

    def least_px(self, crop_px: int) -> int:
        """Shorter side that a photo of the set needs for crops of `crop_px`, pixels of the file."""
        return crop_px * self.shrink


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A photo that cannot be used."""

    path: Path
    reason: str
    """One sentence that names the file."""


def target_sets(target: TargetOptions, *, hr: Sequence[Path], lr: Sequence[Path]) -> tuple[PhotoSet, ...]:
    """The sets that HR crops come from, in turn and in equal parts.

    `mixed` is half and half, not by photo count: a count depends on how a set was cut into files (a tile of 256 px
    gives one cleaned-up crop, a 2K photo hundreds), so the larger set would all but hide the other. The paper's
    authors pool the files.

    hr, lr: all photos of the HR folder (unused by `cleanup`) and of the source folder.
    """
    as_it_is = PhotoSet(photos=tuple(hr))
    cleaned_up = PhotoSet(photos=tuple(lr), shrink=CLEANUP_SHRINK)
    match target.kind:
        case TargetType.CLEANUP:
            return (cleaned_up,)
        case TargetType.MIXED:
            return (as_it_is, cleaned_up)
        case TargetType.DIV2K | TargetType.CANON:
            return (as_it_is,)


def usable_part(photo_set: PhotoSet, *, crop_px: int) -> tuple[PhotoSet, tuple[Refusal, ...]]:
    """The photos that are large enough by their headers, and the others with the reason.

    Raises DataError when none is left.
    """
    least = photo_set.least_px(crop_px)
    refused = [refusal for path in photo_set.photos if (refusal := _refusal(path, least)) is not None]
    out = {refusal.path for refusal in refused}
    usable = tuple(path for path in photo_set.photos if path not in out)
    if not usable:
        first = f" First: {refused[0].reason}" if refused else ""
        raise DataError(f"None of {len(refused)} photos has {least} pixels or more a side.{first}")
    return PhotoSet(photos=usable, shrink=photo_set.shrink), tuple(refused)


def _refusal(path: Path, least: int) -> Refusal | None:
    try:
        height, width = stored_size(path)
    except ImageReadError as error:
        return Refusal(path=path, reason=str(error))
    if min(height, width) >= least:
        return None
    return Refusal(path=path, reason=too_small(path, width=width, height=height, least_px=least))


def read_or_refuse(path: Path, least_px: int) -> NDArray[np.uint8] | Refusal:
    """The photo, or why it is of no use: it cannot be decoded, or its shorter side is below `least_px`."""
    try:
        photo = decode_rgb(path)
    except ImageReadError as error:
        return Refusal(path=path, reason=str(error))
    height, width = photo.shape[:2]
    if min(height, width) >= least_px:
        return photo
    return Refusal(path=path, reason=too_small(path, width=width, height=height, least_px=least_px))


def too_small(path: Path, *, width: int, height: int, least_px: int) -> str:
    """The sentence for a photo whose shorter side is below `least_px`."""
    return f"{path} has {width}x{height} pixels; a side needs {least_px}. Remove it."
