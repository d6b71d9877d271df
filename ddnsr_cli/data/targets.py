"""Which images the HR crops of joint training come from, and the folders of pairs and tracks by their names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.config import TargetType
from ddnsr_cli.errors import ConfigError, DataError, ImageReadError
from ddnsr_cli.files import is_folder
from ddnsr_cli.io.read import read_rgb, stored_size

CLEANUP_SHRINK = 2
"""A noisy image shrunk twice is "cleaned up": four pixels are averaged into one (the paper's X_clean)."""

SOURCE = {1: ("Corrupted-tr-x",), 2: ("DPEDiphone-tr-x",)}
CLEAN = {  # the challenge's own name first, then the other track's and DIV2K's: the same 800 images
    1: ("train-target", "Corrupted-tr-y", "DIV2K_train_HR"),
    2: ("train-target", "DPEDiphone-tr-y", "Corrupted-tr-y", "DIV2K_train_HR"),
}
CANON = ("canon",)
VALIDATION_LR = {1: ("Corrupted-va-x", "Corrupted-te-x"), 2: ("DPEDiphone-va", "DPEDiphone-crop-te-x")}
VALIDATION_HR = {"Corrupted-va-x": "Corrupted-va-y"}  # the only set with ground truth


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
        """Whether the target takes images other than the source's own."""
        return self.kind is not TargetType.CLEANUP


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images that crops are cut from."""

    images: tuple[Path, ...]
    """Files, in an order that every machine gives."""

    shrink: int = 1
    """Each image is shrunk this many times, by antialiased bicubic, before it is cut."""

    def least_px(self, crop_px: int) -> int:
        """Shorter side that an image of the set needs for crops of `crop_px`, pixels of the file."""
        return crop_px * self.shrink


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An image that cannot be used."""

    path: Path
    reason: str
    """One sentence that names the file."""


def target_sets(target: TargetOptions, *, hr: Sequence[Path], lr: Sequence[Path]) -> tuple[ImageSet, ...]:
    """The sets that HR crops come from, in turn and in equal parts.

    `mixed` is half and half, not by image count: a count depends on how a set was cut into files (a tile of 256 px
    gives one cleaned-up crop, a 2K image hundreds), so the larger set would all but hide the other. The paper's
    authors pool the files.

    hr, lr: all images of the HR folder (unused by `cleanup`) and of the source folder.
    """
    as_it_is = ImageSet(images=tuple(hr))
    cleaned_up = ImageSet(images=tuple(lr), shrink=CLEANUP_SHRINK)
    match target.kind:
        case TargetType.CLEANUP:
            return (cleaned_up,)
        case TargetType.MIXED:
            return (as_it_is, cleaned_up)
        case TargetType.DIV2K | TargetType.CANON:
            return (as_it_is,)


def usable_part(image_set: ImageSet, *, crop_px: int) -> tuple[ImageSet, tuple[Refusal, ...]]:
    """The images that are large enough by their headers, and the others with the reason.

    Raises DataError when none is left.
    """
    least = image_set.least_px(crop_px)
    refused = [refusal for path in image_set.images if (refusal := _refusal(path, least)) is not None]
    out = {refusal.path for refusal in refused}
    usable = tuple(path for path in image_set.images if path not in out)
    if not usable:
        first = f" First: {refused[0].reason}" if refused else ""
        advice = " Give larger images, or a smaller --crop."
        raise DataError(f"None of {len(refused)} images has {least} pixels or more a side.{first}{advice}")
    return ImageSet(images=usable, shrink=image_set.shrink), tuple(refused)


def _refusal(path: Path, least: int) -> Refusal | None:
    try:
        height, width = stored_size(path)
    except ImageReadError as error:
        return Refusal(path=path, reason=str(error))
    if min(height, width) >= least:
        return None
    return Refusal(path=path, reason=too_small(path, width=width, height=height, least_px=least))


def read_or_refuse(path: Path, least_px: int) -> NDArray[np.uint8] | Refusal:
    """The image, or why it is of no use: it cannot be decoded, or its shorter side is below `least_px`."""
    try:
        image = read_rgb(path)
    except ImageReadError as error:
        return Refusal(path=path, reason=str(error))
    height, width = image.shape[:2]
    if min(height, width) >= least_px:
        return image
    return Refusal(path=path, reason=too_small(path, width=width, height=height, least_px=least_px))


def too_small(path: Path, *, width: int, height: int, least_px: int) -> str:
    """The sentence for an image whose shorter side is below `least_px`."""
    return f"{path} has {width}x{height} pixels; a side needs {least_px}. Remove it."


@dataclass(frozen=True, kw_only=True)
class TrackFolders:
    """Where the images of a track are."""

    hr: Path | None
    """Clean HR images; None for a target that needs none."""

    lr: Path
    """Noisy LR images: the source."""

    val_lr: Path | None
    """LR images to validate on, when there are any."""

    val_hr: Path | None
    """Their HR partners, the same names; only for `Corrupted-va-x`."""


def find_track_folders(
    data: Path, track: int, target: TargetOptions, *, hr: Path | None = None, lr: Path | None = None
) -> TrackFolders:
    """The folders of a track, looked for in `data` and one folder below it. Of several names the first one wins.

    hr, lr: folders that are known, and not looked for.
    Raises ConfigError for a track other than 1 and 2, DataError that says what is missing and where to put it.
    """
    _check_place(data, track, SOURCE)
    hr_names = CANON if target.kind is TargetType.CANON else CLEAN[track]
    lr = lr or _find(data, SOURCE[track])
    hr = (hr or _find(data, hr_names)) if target.needs_hr_folder else None
    if lr is None or (hr is None and target.needs_hr_folder):
        lacking = [_lack("noisy LR images", "--lr", SOURCE[track])] if lr is None else []
        lacking += [_lack("clean HR images", "--hr", hr_names)] if hr is None and target.needs_hr_folder else []
        raise DataError(
            f"{data} lacks, for track {track} with target {target.kind}: {'; '.join(lacking)}."
            " Looked there and one folder below."
        )
    val_lr = _find(data, VALIDATION_LR[track])
    return TrackFolders(hr=hr, lr=lr, val_lr=val_lr, val_hr=_partner(val_lr))


def find_validation_folders(data: Path, track: int) -> tuple[Path, Path | None]:
    """The LR validation images of a track and, where the challenge gave one, their ground truth.

    Looked for in `data` and one folder below it. Raises ConfigError for a track other than 1 and 2, DataError.
    """
    _check_place(data, track, VALIDATION_LR)
    lr = _find(data, VALIDATION_LR[track])
    if lr is None:
        names = " or ".join(VALIDATION_LR[track])
        raise DataError(f"{data} lacks {names}, the LR validation images of track {track}. Give them with --lr.")
    return lr, _partner(lr)


def _check_place(data: Path, track: int, names: Mapping[int, Sequence[str]]) -> None:
    if track not in names:
        raise ConfigError(f"There is no track {track}. Give 1 or 2.")
    if not is_folder(data):
        raise DataError(f"{data} is not a folder. Give the folder that holds {names[track][0]} with --data.")


def find_pair_folders(folder: Path) -> tuple[Path, Path]:
    """The folders `lr` and `hr`, in any case, below `folder`: as `ddnsr degrade` writes them.

    Raises DataError when one is missing, or there are several that differ in case.
    """
    below = sorted(path for path in folder.iterdir() if path.is_dir()) if is_folder(folder) else []
    lr, hr = ([path for path in below if path.name.lower() == name] for name in ("lr", "hr"))
    if len(lr) != 1 or len(hr) != 1:
        raise DataError(
            f"{folder} is to hold one folder lr and one folder hr with pairs of the same names; it holds {len(lr)} and "
            f"{len(hr)}."
        )
    return lr[0], hr[0]


def _find(data: Path, names: tuple[str, ...]) -> Path | None:
    below = sorted(path for path in data.iterdir() if path.is_dir())
    places = (place / name for name in names for place in (data, *below))
    return next((place for place in places if place.is_dir()), None)


def _partner(val_lr: Path | None) -> Path | None:
    if val_lr is None or val_lr.name not in VALIDATION_HR:
        return None
    partner = val_lr.with_name(VALIDATION_HR[val_lr.name])
    return partner if partner.is_dir() else None


def _lack(what: str, option: str, names: tuple[str, ...]) -> str:
    return f"{what} (put them into {' or '.join(names)}, or give their folder with {option})"
