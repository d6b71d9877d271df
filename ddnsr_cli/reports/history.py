"""The figures of a run, read back from its log, and which of them stand together under which names."""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_STEPS = 1 << 53  # a damaged line may say anything
Point = tuple[int, float]


class Scale(StrEnum):
    """How a panel's values are laid out."""

    FITTED = "fitted"
    """From the least to the greatest value."""

    FROM_ZERO = "from zero"
    UNIT = "unit"
    """Always 0 to 1."""

    DECADES = "decades"
    """Logarithmic when the values span a decade, else fitted."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One figure over the steps: rising steps, finite values, at least one."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class History:
    """What a log tells."""

    step: int
    """Of the newest row; 0 for an empty log."""

    curves: dict[str, Curve]
    """By the name in the log, in the order of appearance."""

    left_out: int
    """Lines that hold no row, as a kill leaves them."""


def read_history(log: Path) -> History:
    """Read `log.jsonl`; a missing file is an empty log. Raises OSError as the file system does.

    A run that goes on from a save repeats the steps since: when a row's step is below the newest, what stood from
    there on was lost, and is left out. Values that are no finite numbers are left out too.
    """
    points: dict[str, list[Point]] = {}
    newest = left_out = 0
    for line in log.read_bytes().splitlines() if log.exists() else []:
        row = _row(line)
        if row is None:
            left_out += 1
            continue
        step = row["step"]
        if step < newest:
            _forget_from(step, points)
        newest = step
        _add(row, points)
    return History(step=newest, curves={name: _curve(seen) for name, seen in points.items() if seen}, left_out=left_out)


def _row(line: bytes) -> Mapping[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = row.get("step") if isinstance(row, dict) else None
    return row if type(step) is int and 0 <= step <= MOST_STEPS else None


def _forget_from(step: int, points: Mapping[str, list[Point]]) -> None:
    for seen in points.values():
        while seen and seen[-1][0] >= step:
            seen.pop()


def _add(row: Mapping[str, Any], points: dict[str, list[Point]]) -> None:
    step = row["step"]
    for name, value in row.items():
        if name == "step" or type(value) not in (int, float) or not _is_finite(value):
            continue
        seen = points.setdefault(name, [])
        if seen and seen[-1][0] == step:
            seen.pop()
        seen.append((step, float(value)))


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _curve(seen: list[Point]) -> Curve:
    steps, values = zip(*seen, strict=True)
    return Curve(steps=np.array(steps, np.int64), values=np.array(values, np.float64))


class Best(StrEnum):
    """Which value of a score is the best."""

    GREATEST = "greatest"
    LEAST = "least"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Curves that share one pair of axes."""

    section: str
    title: str
    figures: dict[str, str]
    """Name in the log -> label on the page. At most five: that many colors there are."""

    scale: Scale = Scale.FITTED
    best: Best | None = None
    """Marks the best point of the first figure."""

    smooth: bool = True
    """Long curves also as means; not those whose every point counts."""

    hint: str = ""
    """One sentence for the reader."""


def _beliefs(discriminator: str, figures: dict[str, str]) -> Panel:
    return Panel(
        section="Discriminators' beliefs",
        title=f"{discriminator}: D(real) and D(fake)",
        scale=Scale.UNIT,
        hint="Mean belief that an image is real. Both 0.5: it cannot tell them apart.",
        figures=figures,
    )


PANELS = (
    Panel(section="Validation", title="PSNR, dB", figures={"psnr_db": "PSNR"}, best=Best.GREATEST, smooth=False),
    Panel(section="Validation", title="SSIM", figures={"ssim": "SSIM"}, best=Best.GREATEST, smooth=False),
    Panel(
        section="Validation",
        title="LPIPS",
        figures={"lpips": "LPIPS"},
        best=Best.LEAST,
        smooth=False,
        hint="Lower is better.",
    ),
    Panel(
        section="Validation",
        title="Degrader: taken from the noise input",
        smooth=False,
        hint="Shares: noise should be carried whole, structure of the image not at all.",
        figures={
            "noise_carried_flat": "noise, flat parts",
            "noise_carried_textured": "noise, texture",
            "structure_leaked": "structure leaked",
        },
    ),
    Panel(
        section="Losses",
        title="Reconstruction network",
        scale=Scale.DECADES,
        hint="Each as weighted in the sum.",
        figures={
            "pixel": "pixel",
            "gradient": "gradient",
            "squared": "squared",
            "perceptual": "perceptual",
            "hr_adversarial": "adversarial",
        },
    ),
    Panel(
        section="Losses",
        title="Degrader",
        scale=Scale.DECADES,
        hint="Each as weighted in the sum.",
        figures={
            "content": "content",
            "cycle": "cycle",
            "lr_adversarial": "adversarial",
            "color": "color",
            "noise_transfer": "noise transfer",
        },
    ),
    Panel(
        section="Losses",
        title="Translation at LR size, there and back",
        scale=Scale.DECADES,
        hint="Each as weighted in the sum.",
        figures={"lr_cycle": "cycle", "clean_adversarial": "adversarial, of the way back"},
    ),
    Panel(
        section="Losses",
        title="Discriminators",
        scale=Scale.DECADES,
        figures={"disc_hr": "HR discriminator", "disc_lr": "LR discriminator", "disc_clean": "clean LR discriminator"},
    ),
    _beliefs("HR discriminator", {"disc_hr_real": "real HR", "disc_hr_fake": "super-resolved"}),
    _beliefs("LR discriminator", {"disc_lr_real": "real LR", "disc_lr_fake": "degraded"}),
    _beliefs("Clean LR discriminator", {"disc_clean_real": "bicubic LR", "disc_clean_fake": "real LR made clean"}),
    Panel(section="Schedule", title="Learning rate", scale=Scale.FROM_ZERO, figures={"rate": "rate"}, smooth=False),
    Panel(
        section="Schedule",
        title="Gradient norms",
        scale=Scale.DECADES,
        hint="Before clipping.",
        figures={
            "norm_sr_net": "reconstruction",
            "norm_degrader": "degrader",
            "norm_disc_hr": "HR discriminator",
            "norm_disc_lr": "LR discriminator",
        },
    ),
    Panel(
        section="Schedule",
        title="Gradient norms of the way back",
        scale=Scale.DECADES,
        hint="Before clipping.",
        figures={"norm_cleaner": "cleaner", "norm_disc_clean": "clean LR discriminator"},
    ),
    Panel(
        section="Schedule",
        title="Color drift",
        scale=Scale.FROM_ZERO,
        hint="Largest difference of a channel's mean, of 1.",
        figures={"color_drift": "results", "lr_color_drift": "fake LR"},
    ),
    Panel(section="Schedule", title="Images a second", scale=Scale.FROM_ZERO, figures={"images_per_s": "images/s"}),
    Panel(
        section="Schedule",
        title="Waiting for data",
        scale=Scale.UNIT,
        hint="Share of the time.",
        figures={"waiting": "waiting"},
    ),
)


def panels_for(names: Collection[str]) -> list[Panel]:
    """The panels that have something to show; a figure of no panel gets its own."""
    known = {name for panel in PANELS for name in panel.figures}
    others = [Panel(section="Other", title=name, figures={name: name}) for name in names if name not in known]
    return [panel for panel in (*PANELS, *others) if not panel.figures.keys().isdisjoint(names)]
