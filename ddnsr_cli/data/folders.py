"""Folders by their names: those of pairs, and of the NTIRE 2020 challenge on real-world super-resolution."""

from dataclasses import dataclass
from pathlib import Path

from ddnsr_cli.data.targets import TargetOptions, TargetType
from ddnsr_cli.errors import ConfigError, DataError

SOURCE = {1: ("Corrupted-tr-x",), 2: ("DPEDiphone-tr-x",)}
CLEAN = {  # the challenge's own name first, then the other track's and DIV2K's: the same 800 photos
    1: ("train-target", "Corrupted-tr-y", "DIV2K_train_HR"),
    2: ("train-target", "DPEDiphone-tr-y", "Corrupted-tr-y", "DIV2K_train_HR"),
}
CANON = ("canon",)
VALIDATION_LR = {1: ("Corrupted-va-x", "Corrupted-te-x"), 2: ("DPEDiphone-va", "DPEDiphone-crop-te-x")}
VALIDATION_HR = {"Corrupted-va-x": "Corrupted-va-y"}  # the only set with ground truth


@dataclass(frozen=True, kw_only=True)
class TrackFolders:
    """Where the photos of a track are."""

    hr: Path | None
    """Clean HR photos; None for a target that needs none."""

    lr: Path
    """Noisy LR photos: the source."""

    val_lr: Path | None
    """LR photos to validate on, when there are any."""

    val_hr: Path | None
    """Their HR partners, the same names; only for `Corrupted-va-x`."""


def find_track_folders(data: Path, track: int, target: TargetOptions) -> TrackFolders:
    """The folders of a track, looked for in `data` and one folder below it. Of several names the first one wins.

    Raises ConfigError for a track other than 1 and 2, DataError that says what is missing and where to put it.
    """
    if track not in SOURCE:
        raise ConfigError(f"There is no track {track}. Give 1 or 2.")
    if not data.is_dir():
        raise DataError(f"{data} is not a folder. Give the folder that holds {SOURCE[track][0]} with --data.")
    hr_names = CANON if target.kind is TargetType.CANON else CLEAN[track]
    lr, hr = _find(data, SOURCE[track]), _find(data, hr_names) if target.needs_hr_folder else None
    if lr is None or (hr is None and target.needs_hr_folder):
        lacking = [_lack("noisy LR photos", "--lr", SOURCE[track])] if lr is None else []
        lacking += [_lack("clean HR photos", "--hr", hr_names)] if hr is None and target.needs_hr_folder else []
        raise DataError(
            f"{data} lacks, for track {track} with target {target.kind}: {'; '.join(lacking)}."
            " Looked there and one folder below."
        )
    val_lr = _find(data, VALIDATION_LR[track])
    return TrackFolders(hr=hr, lr=lr, val_lr=val_lr, val_hr=_partner(val_lr))


def find_pair_folders(folder: Path) -> tuple[Path, Path]:
    """The folders `lr` and `hr`, in any case, below `folder`: as `ddnsr degrade` writes them.

    Raises DataError when one is missing, or there are several that differ in case.
    """
    below = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
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
