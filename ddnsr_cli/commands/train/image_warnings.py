"""The images of a run: looked at before it begins, sorted out, and those of no use reported once each."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ddnsr_cli.data.config import StreamConfig
from ddnsr_cli.data.images import list_images
from ddnsr_cli.data.targets import CLEANUP_SHRINK, ImageSet, Refusal, TargetOptions, target_sets, usable_part
from ddnsr_cli.data.validation.checks import CheckOptions, check_images
from ddnsr_cli.data.validation.report import Finding, Report, Severity, Trouble
from ddnsr_cli.errors import DataError
from ddnsr_cli.training.options import JointOptions

MOST_FINDINGS = 4  # of a kind, reported when a run begins
HOPELESS = {Trouble.UNREADABLE, Trouble.SMALL}
CALLED = {Severity.ERROR: "left out", Severity.WARNING: "warning"}

LEAST_IMAGES = 2  # a batch is not to be of one image alone


class ImageWarnings:
    """Tells of images: of each that cannot be used once, whoever finds it."""

    def __init__(self, note: Callable[[str], None], *, most: int | None = None) -> None:
        """note: takes one sentence for the user. most: tell so many of a kind, and count the rest. None: all."""
        self.note = note
        self._most = most
        self._reported: set[Path] = set()
        self._replaced: dict[Path, None] = {}  # in the order in which they were met

    @property
    def replaced(self) -> tuple[Path, ...]:
        """The images that training met and had to replace, each once, also those reported before the first step."""
        return tuple(self._replaced)

    def findings(self, findings: Sequence[Finding]) -> None:
        """What the checks found."""
        for sentence in _sentences(findings, self._most):
            self.note(sentence)
        self._reported |= {finding.path for finding in findings if finding.trouble in HOPELESS}

    def refusals(self, refusals: Iterable[Refusal]) -> None:
        """Images that were sorted out."""
        news = [refusal for refusal in refusals if refusal.path not in self._reported]
        told = news[: self._most]
        for refusal in told:
            self.refusal(refusal)
        if more := len(news) - len(told):
            self.note(f"{more} more images cannot be used; --check lists them all.")
        self._reported |= {refusal.path for refusal in news}

    def refusal(self, refusal: Refusal) -> None:
        """An image that turned out to be of no use."""
        if refusal.path not in self._reported:
            self._reported.add(refusal.path)
            self.note(refusal.reason)

    def replacement(self, refusal: Refusal) -> None:
        """An image that training met, could not use, and replaced by another."""
        self._replaced[refusal.path] = None
        self.refusal(refusal)


def _sentences(findings: Iterable[Finding], most: int | None) -> Iterator[str]:
    counts: Counter[Trouble] = Counter()
    for finding in findings:
        counts[finding.trouble] += 1
        if most is None or counts[finding.trouble] <= most:
            yield f"{CALLED[finding.severity]}: {finding.sentence}"
    for trouble, count in counts.items():
        if most is not None and count > most:
            yield f"{count - most} more images with the same trouble ({trouble}); --check lists them all."


def examine(
    folders: tuple[Path | None, Path | None],
    stream: StreamConfig,
    *,
    scale: int,
    warnings: ImageWarnings,
    on_image: Callable[[int, int], None],
    pairs_follow: bool = False,
) -> Report:
    """What the checks find in the images of (hr, lr); each finding is reported.

    Either folder may be None: its images are then made from the other's. scale: HR pixels per LR pixel along a side.
    on_image: (images measured, images to measure). pairs_follow: as in `CheckOptions`.
    Raises DataError when training on them makes no sense: no images, or the same folder twice.
    """
    hr, lr = folders
    lr_px = CLEANUP_SHRINK * stream.crop_px if hr is None else stream.crop_px // scale
    checks = CheckOptions(least_hr_px=stream.crop_px, least_lr_px=lr_px, seed=stream.seed, pairs_follow=pairs_follow)
    report = check_images(hr, lr, options=checks, on_image=on_image)
    for finding in report.errors:
        if finding.trouble is Trouble.FOLDERS:
            raise DataError(finding.sentence)
    warnings.findings(report.findings)
    return report


def image_sets(
    folders: tuple[Path | None, Path], target: TargetOptions, options: JointOptions, warnings: ImageWarnings
) -> tuple[ImageSet, tuple[ImageSet, ...]]:
    """(source, targets) of (hr, lr) without the images that are unreadable or too small, which are reported.

    Raises DataError when fewer than two are left on a side, or a folder is lacking.
    """
    hr_folder, lr_folder = folders
    crop_px, scale = options.stream.crop_px, options.sr_net.scale
    if target.needs_hr_folder and hr_folder is None:
        raise DataError(f"The target {target.kind} needs clean images. Give their folder with --hr.")
    lr = list_images(lr_folder)
    hr = list_images(hr_folder) if hr_folder is not None else []
    source, refused = usable_part(ImageSet(images=tuple(lr)), crop_px=crop_px // scale)
    parts = [usable_part(one, crop_px=crop_px) for one in target_sets(target, hr=hr, lr=lr)]
    warnings.refusals((*refused, *(refusal for _, more in parts for refusal in more)))
    targets = tuple(part for part, _ in parts)
    _refuse_one_image("--lr", (source,))
    _refuse_one_image("--hr" if target.needs_hr_folder else "--lr", targets)
    return source, targets


def _refuse_one_image(option: str, sets: Sequence[ImageSet]) -> None:
    if sum(len(one.images) for one in sets) < LEAST_IMAGES:
        raise DataError(
            f"Of the images of {option} only {sets[0].images[0]} can be used, and a batch is not to be of one image "
            f"alone. Give {LEAST_IMAGES} or more."
        )
