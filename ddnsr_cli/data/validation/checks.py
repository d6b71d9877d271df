"""Checks of training data: they look at the images of both sets before a run spends days on them."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from ddnsr_cli.data.images import list_images
from ddnsr_cli.data.validation.comparisons import near_pairs, same_bytes
from ddnsr_cli.data.validation.image_stats import ImageFacts, Limits, examine_header, examine_pixels
from ddnsr_cli.data.validation.report import Checked, Finding, Report, Role, Severity, Trouble
from ddnsr_cli.errors import ConfigError, DataError

LEAST_TO_COMPARE = 8  # images of a set before its share of noisy ones says anything

Given = TypeVar("Given")
Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """How thoroughly images are looked at."""

    least_hr_px: int = 128
    """Shorter side that an HR image needs: that of a crop."""

    least_lr_px: int = 32
    """Shorter side that an LR image needs: that of a crop; 256 for the targets made from it."""

    sample: int = 1000
    """Images of a set that are decoded and measured, drawn by the seed; of all others the header, the size and
    whether the file repeats another byte by byte are checked."""

    repeat_bits: int = 6
    """Largest difference of two 64-bit image hashes that are called the same image. Of 486 unrelated
    images the nearest two differ in 14 bits."""

    swap_share: float = 0.3
    """By how much the share of noisy images in HR must exceed that in LR to call the sets swapped. Clean sets have
    up to 0.05, phone tiles 0.65."""

    limits: Limits = field(default_factory=Limits)
    """From which figure on an image is called noisy, blocky or up-scaled."""

    pairs_follow: bool = False
    """Whether the HR images have known LR partners, so that one HR image may come with several: of files that are the
    same nothing is said, as the pairs are compared."""

    threads: int = 0
    """Images looked at side by side; 0 takes one thread a core, 8 at most."""

    seed: int = 0
    """Draws the sample."""

    def __post_init__(self) -> None:
        if self.sample < 1 or self.threads < 0 or not 0 <= self.repeat_bits <= 16:
            raise ConfigError(f"sample is at least 1, threads at least 0, repeat_bits in 0 to 16, got {self}.")


def check_images(
    hr: Path | None,
    lr: Path | None,
    *,
    options: CheckOptions | None = None,
    on_image: Callable[[int, int], None] = lambda _done, _total: None,
) -> Report:
    """Everything that is wrong with two folders of images, or with one.

    hr: clean images, or None when the target is made from `lr`. lr: noisy ones, or None when they are made from `hr`.
    on_image: (images measured, images to
    measure), called from this thread. Raises DataError when a folder is missing or holds no images.
    """
    chosen = options or CheckOptions()
    folders = {role: folder for role, folder in ((Role.HR, hr), (Role.LR, lr)) if folder is not None}
    own: list[Finding] = []
    images = {role: list_images(folder, note=_own_to(own, role, folder)) for role, folder in folders.items()}
    if hr is not None and lr is not None and (same := _same_folder(hr, lr)):
        checked = {role: Checked(images=len(paths), decoded=0) for role, paths in images.items()}
        return Report(findings=(same,), checked=checked)
    facts = _all_facts(images, chosen, on_image)
    found = own
    found += [finding for role, rows in facts.items() for row in rows for finding in _of_image(row, role, chosen)]
    found += _repeats(facts, chosen)
    found += _swapped(folders, facts, chosen.swap_share)
    checked = {
        role: Checked(images=len(rows), decoded=sum(row.measured for row in rows)) for role, rows in facts.items()
    }
    return Report(findings=tuple(found), checked=checked)


def _own_to(findings: list[Finding], role: Role, folder: Path) -> Callable[[str], None]:
    """What takes a sentence on results of ours among the images of a folder as a finding."""

    def note(sentence: str) -> None:
        finding = Finding(
            severity=Severity.WARNING, trouble=Trouble.OWN, role=role, path=folder, sentence=f"{sentence}."
        )
        findings.append(finding)

    return note


def _same_folder(hr: Path, lr: Path) -> Finding | None:
    above, below = hr.resolve(), lr.resolve()
    if not (above.is_relative_to(below) or below.is_relative_to(above)):
        return None
    relation = "is the same folder as" if above == below else "and the other folder lie one inside the other:"
    sentence = f"{hr} {relation} {lr}. Give the clean and the noisy images in folders of their own."
    return Finding(severity=Severity.ERROR, trouble=Trouble.FOLDERS, role=Role.HR, path=hr, sentence=sentence)


def _all_facts(
    images: dict[Role, list[Path]], options: CheckOptions, on_image: Callable[[int, int], None]
) -> dict[Role, list[ImageFacts]]:
    """Facts of every image, in order; with measures for those of the sample."""
    facts = {role: list(_side_by_side(examine_header, paths, options.threads)) for role, paths in images.items()}
    samples = {role: _sample(rows, options) for role, rows in facts.items()}
    total, done = sum(map(len, samples.values())), 0
    for role, places in samples.items():
        rows = [facts[role][place] for place in places]
        measured = _side_by_side(lambda row: examine_pixels(row, options.limits), rows, options.threads)
        for place, row in zip(places, measured, strict=True):
            facts[role][place] = row
            done += 1
            on_image(done, total)
    return facts


def _sample(rows: Sequence[ImageFacts], options: CheckOptions) -> list[int]:
    readable = [place for place, row in enumerate(rows) if row.damage is None]
    if len(readable) <= options.sample:
        return readable
    drawn = np.random.default_rng(options.seed).choice(len(readable), options.sample, replace=False)
    return [readable[place] for place in drawn]


def _side_by_side(work: Callable[[Given], Found], items: Sequence[Given], threads: int) -> Iterator[Found]:
    """Results in the order of the items. Decoders and numpy let other threads run."""
    pool = ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1))
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for thousands of images


def _of_image(row: ImageFacts, role: Role, options: CheckOptions) -> Iterator[Finding]:
    if row.damage is not None:
        yield _finding(row, role, Trouble.UNREADABLE, row.damage)
        return
    least = options.least_hr_px if role is Role.HR else options.least_lr_px
    if min(row.height, row.width) < least:
        text = f"{row.path} has {row.width}x{row.height} pixels; a side needs {least}. Remove it."
        yield _finding(row, role, Trouble.SMALL, text)
    for trouble, remark in row.oddities:
        yield _finding(row, role, trouble, f"{row.path} {remark}")
    if role is Role.HR:
        for trouble, remark in row.flaws:
            yield _finding(row, role, trouble, f"{row.path} {remark}")
    if row.upscaled is not None:
        yield _finding(row, role, Trouble.UPSCALED, f"{row.path} {row.upscaled}")


def _finding(row: ImageFacts, role: Role, trouble: Trouble, sentence: str) -> Finding:
    hopeless = trouble in {Trouble.UNREADABLE, Trouble.SMALL}
    severity = Severity.ERROR if hopeless else Severity.WARNING
    return Finding(severity=severity, trouble=trouble, role=role, path=row.path, sentence=sentence)


def _repeats(facts: dict[Role, list[ImageFacts]], options: CheckOptions) -> list[Finding]:
    """Each image that repeats an earlier one, once. HR images come before LR ones."""
    rows = [(role, row) for role, of_role in facts.items() for row in of_role if row.damage is None]
    role_of = {row.path: role for role, row in rows}
    try:
        copies = list(same_bytes([row.path for _, row in rows]))
    except OSError as cause:
        raise DataError(f"An image could be opened but not read again ({cause}). Check the disk.") from cause
    sentences = {
        later: f"{later} has the same bytes as {earlier}{_across(role_of, later, earlier)}. Keep one of them."
        for later, earlier in copies
    }
    allowed = {later for later, _ in copies} if options.pairs_follow else set()
    hashed = [(row.path, row.hash) for _, row in rows if row.hash is not None]
    for later, earlier, bits in near_pairs([value for _, value in hashed], options.repeat_bits):
        path, other = hashed[later][0], hashed[earlier][0]
        across = _across(role_of, path, other)
        sentences.setdefault(path, f"{path} looks like {other}{across}: {bits} of 64 bits differ. Keep one of them.")
    return [
        Finding(severity=Severity.WARNING, trouble=Trouble.REPEATED, role=role_of[path], path=path, sentence=sentence)
        for path, sentence in sorted(sentences.items())
        if path not in allowed
    ]


def _across(role_of: dict[Path, Role], one: Path, other: Path) -> str:
    return "" if role_of[one] is role_of[other] else f" of the {role_of[other]} set"


def _swapped(folders: dict[Role, Path], facts: dict[Role, list[ImageFacts]], least_share: float) -> list[Finding]:
    noisy = {role: [row.noisy for row in rows if row.noisy is not None] for role, rows in facts.items()}
    if len(noisy) < 2 or min(map(len, noisy.values())) < LEAST_TO_COMPARE:
        return []
    share = {role: sum(values) / len(values) for role, values in noisy.items()}
    if share[Role.HR] - share[Role.LR] < least_share:
        return []
    sentence = (
        f"{folders[Role.HR]} and {folders[Role.LR]} look swapped: {share[Role.HR]:.0%} of the HR images are noisy and "
        f"{share[Role.LR]:.0%} of the LR ones. The clean images are the HR set."
    )
    return [
        Finding(
            severity=Severity.WARNING,
            trouble=Trouble.SWAPPED,
            role=Role.HR,
            path=folders[Role.HR],
            sentence=sentence,
        )
    ]
