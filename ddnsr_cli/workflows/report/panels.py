"""Which figures of a log stand together on the page, under which names."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from ddnsr_cli.workflows.report.axes import Scale


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
    """Name in the log -> label on the page. At most five: that many colours there are."""

    scale: Scale = Scale.FITTED
    best: Best | None = None
    """Marks the best point of the first figure."""

    smooth: bool = True
    """Long curves also as means; not those whose every point counts."""

    hint: str = ""
    """One sentence for the reader."""


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
        section="Losses",
        title="Reconstruction network",
        scale=Scale.DECADES,
        hint="Each as weighted in the sum.",
        figures={
            "pixel": "pixel",
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
            "colour": "colour",
            "carry": "carry",
        },
    ),
    Panel(
        section="Losses",
        title="Discriminators",
        scale=Scale.DECADES,
        figures={"disc_hr": "HR discriminator", "disc_lr": "LR discriminator"},
    ),
    Panel(
        section="Discriminators' beliefs",
        title="HR discriminator: D(real) and D(fake)",
        scale=Scale.UNIT,
        hint="Mean belief that a picture is real. Both 0.5: it cannot tell them apart.",
        figures={"disc_hr_real": "real HR", "disc_hr_fake": "super-resolved"},
    ),
    Panel(
        section="Discriminators' beliefs",
        title="LR discriminator: D(real) and D(fake)",
        scale=Scale.UNIT,
        hint="Mean belief that a picture is real. Both 0.5: it cannot tell them apart.",
        figures={"disc_lr_real": "real LR", "disc_lr_fake": "degraded"},
    ),
    Panel(section="Course", title="Learning rate", scale=Scale.FROM_ZERO, figures={"rate": "rate"}, smooth=False),
    Panel(
        section="Course",
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
        section="Course",
        title="Colour drift",
        scale=Scale.FROM_ZERO,
        hint="Largest difference of a channel's mean, of 1.",
        figures={"colour_drift": "results", "lr_colour_drift": "fake LR"},
    ),
    Panel(section="Course", title="Images a second", scale=Scale.FROM_ZERO, figures={"images_per_s": "images/s"}),
    Panel(
        section="Course",
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
