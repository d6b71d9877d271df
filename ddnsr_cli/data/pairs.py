"""Folders of LR and HR photos, matched by name."""

from dataclasses import dataclass
from pathlib import Path

from ddnsr_cli.data.images import list_photos
from ddnsr_cli.errors import DataError
from ddnsr_cli.io.read import image_size


@dataclass(frozen=True, kw_only=True)
class PhotoPair:
    """Two files of one scene."""

    name: str
    """Path below both folders, without the suffix."""
    lr: Path
    hr: Path


def match_pairs(lr_folder: Path, hr_folder: Path, *, scale: int) -> list[PhotoPair]:
    """Pairs by name (suffixes may differ), sorted.

    Raises DataError naming the file when a partner is missing or doubled, or when an HR photo is not exactly
    `scale` times as large as its LR partner.
    """
    lr, hr = photos_by_name(lr_folder), photos_by_name(hr_folder)
    if alone := sorted(lr.keys() ^ hr.keys()):
        path, other = (lr[alone[0]], hr_folder) if alone[0] in lr else (hr[alone[0]], lr_folder)
        raise DataError(f"{path} has no partner in {other} ({len(alone)} such). Partners have the same name.")
    pairs = [PhotoPair(name=name, lr=lr[name], hr=hr[name]) for name in sorted(lr)]
    for pair in pairs:
        _check_sizes(pair, scale)
    return pairs


def photos_by_name(folder: Path) -> dict[str, Path]:
    """The photos of a folder by their path below it, without the suffix, sorted.

    Raises DataError when two have the same name, or there is none.
    """
    names: dict[str, Path] = {}
    for path in list_photos(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in names:
            raise DataError(f"{path} and {names[name]} have the same name. Keep one of them.")
        names[name] = path
    return names


def _check_sizes(pair: PhotoPair, scale: int) -> None:
    lr, hr = image_size(pair.lr), image_size(pair.hr)
    if hr != (lr[0] * scale, lr[1] * scale):
        times = f"{scale} times " if scale != 1 else ""
        raise DataError(
            f"{pair.hr} has {hr[1]}x{hr[0]} pixels; {times}{pair.lr} has {lr[1] * scale}x{lr[0] * scale}."
            " Crop or remove the pair."
        )
