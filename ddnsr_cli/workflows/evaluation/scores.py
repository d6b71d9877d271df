"""The result of an evaluation: every model's scores on every picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that compares a picture with its reference, or judges it alone."""

    key: str
    """Its name in files: `psnr_rgb`, `psnr_y`, `ssim_rgb`, `ssim_y`, `lpips_alex`, `self_consistency_db`, ..."""

    title: str
    """Its name for people, with unit: `PSNR RGB (dB)`."""

    higher_is_better: bool
    digits: int
    """Decimals worth printing."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One picture that all models were tried on."""

    name: str
    """Path below its folder, without extension, with `/`: unique among the subjects."""

    lr: Path | None
    """The LR input; None when only finished pictures were given."""

    hr: Path | None
    """The reference; None without ground truth."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All results of one run."""

    models: tuple[str, ...]
    """In the order of the tables; the first is `bicubic` where there are LR inputs."""

    subjects: tuple[Subject, ...]
    metrics: tuple[Metric, ...]

    values: Mapping[tuple[str, str], Mapping[str, float]]
    """(model, subject name) -> metric key -> value."""

    pictures: Mapping[tuple[str, str], Path]
    """(model, subject name) -> the SR picture, an 8-bit PNG."""

    definition: str
    """What was measured, in one paragraph: border, colour, rounding, LPIPS net and version, sha256 of weights."""

    def column(self, model: str, key: str) -> list[float]:
        """One metric of one model, in the order of the subjects."""
        return [self.values[model, subject.name][key] for subject in self.subjects]
