"""The photos of a run: looked at before it begins, and sorted out."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ddnsr_cli.data.doctor import DoctorOptions, check_photos
from ddnsr_cli.data.photos import list_photos
from ddnsr_cli.data.report import Report, Trouble
from ddnsr_cli.data.stream import StreamConfig
from ddnsr_cli.data.targets import CLEANUP_SHRINK, PhotoSet, TargetOptions, target_sets, usable_part
from ddnsr_cli.errors import DataError
from ddnsr_cli.training.joint_options import JointOptions
from ddnsr_cli.workflows.teller import Teller

LEAST_PHOTOS = 2  # a batch is not to be of one photo alone


def examine(
    folders: tuple[Path | None, Path | None],
    stream: StreamConfig,
    *,
    scale: int,
    teller: Teller,
    on_photo: Callable[[int, int], None],
    most: int | None = None,
) -> Report:
    """What the data doctor finds in the photos of (hr, lr); each finding is told.

    Either folder may be None: its images are then made from the other's. scale: HR pixels per LR pixel along a side.
    on_photo: (photos measured, photos to measure). most: as `Teller.findings`.
    Raises DataError when training on them makes no sense: no photos, or the same folder twice.
    """
    hr, lr = folders
    lr_px = CLEANUP_SHRINK * stream.crop_px if hr is None else stream.crop_px // scale
    doctor = DoctorOptions(least_hr_px=stream.crop_px, least_lr_px=lr_px, seed=stream.seed)
    report = check_photos(hr, lr, options=doctor, on_photo=on_photo)
    for finding in report.errors:
        if finding.trouble is Trouble.FOLDERS:
            raise DataError(finding.sentence)
    teller.findings(report, most=most)
    return report


def photo_sets(
    folders: tuple[Path | None, Path], target: TargetOptions, options: JointOptions, teller: Teller
) -> tuple[PhotoSet, tuple[PhotoSet, ...]]:
    """(source, targets) of (hr, lr) without the photos that are unreadable or too small, which are told.

    Raises DataError when fewer than two are left on a side, or a folder is lacking.
    """
    hr_folder, lr_folder = folders
    crop_px, scale = options.stream.crop_px, options.sr_net.scale
    if target.needs_hr_folder and hr_folder is None:
        raise DataError(f"The target {target.kind} needs clean photos. Give their folder with --hr.")
    lr = list_photos(lr_folder)
    hr = list_photos(hr_folder) if hr_folder is not None else []
    source, refused = usable_part(PhotoSet(photos=tuple(lr)), crop_px=crop_px // scale)
    parts = [usable_part(one, crop_px=crop_px) for one in target_sets(target, hr=hr, lr=lr)]
    teller.refusals((*refused, *(refusal for _, more in parts for refusal in more)))
    targets = tuple(part for part, _ in parts)
    _refuse_one_photo("--lr", (source,))
    _refuse_one_photo("--hr" if target.needs_hr_folder else "--lr", targets)
    return source, targets


def _refuse_one_photo(option: str, sets: Sequence[PhotoSet]) -> None:
    if sum(len(one.photos) for one in sets) < LEAST_PHOTOS:
        raise DataError(
            f"Of the photos of {option} only {sets[0].photos[0]} can be used, and a batch is not to be of one photo "
            f"alone. Give {LEAST_PHOTOS} or more."
        )
