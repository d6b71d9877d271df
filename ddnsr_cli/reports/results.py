"""The result of an evaluation: every model's scores on every image, their statistics, and how they are shown."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ddnsr_cli.config import SCALE
from ddnsr_cli.errors import DataError
from ddnsr_cli.io.read import read_rgb
from ddnsr_cli.metrics.statistics import Interval, Paired, compare_paired, corrected, mean_interval
from ddnsr_cli.reports.page import Rgb8

WORST = 10

BICUBIC = "bicubic"
"""The model that is no network: what every one has to beat."""

REFERENCE = "reference"
"""The name of the view that is the truth."""

_DECODERS = 4


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that compares an image with its reference, or judges it alone."""

    key: str
    """Its name in files: `psnr_rgb`, `psnr_y`, `ssim_rgb`, `ssim_y`, `lpips_alex`, `self_consistency_db`, ..."""

    title: str
    """Its name for people, with unit: `PSNR RGB (dB)`."""

    higher_is_better: bool
    """Of what is compared (`compared_as`)."""

    digits: int
    """Decimals worth printing."""

    ideal: float | None = None
    """The best value where it is neither the highest nor the lowest: the distance from it is compared, and lower is
    better. None: the values themselves are compared."""

    def compared(self, value: float) -> float:
        """A value as it is compared."""
        return value if self.ideal is None else abs(value - self.ideal)

    @property
    def compared_as(self) -> "Metric":
        """The metric whose values are compared: itself, or the distance from the ideal."""
        if self.ideal is None:
            return self
        return replace(self, title=f"{self.title}, distance from {self.ideal:g}", ideal=None)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image that all models were tried on."""

    name: str
    """Path below its folder, without extension, with `/`: unique among the samples."""

    lr: Path | None
    """The LR input; None when only finished images were given."""

    hr: Path | None
    """The reference; None without ground truth."""

    lr_px: tuple[int, int] | None = None
    """(height, width) that LR is cut to, and results accordingly; None: nothing is cut."""

    hr_px: tuple[int, int] | None = None
    """The same of the reference."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All results of one run."""

    models: tuple[str, ...]
    """In the order of the tables; the first is `bicubic` where there are LR inputs."""

    samples: tuple[Sample, ...]
    metrics: tuple[Metric, ...]

    values: Mapping[tuple[str, str], Mapping[str, float]]
    """(model, sample name) -> metric key -> value."""

    images: Mapping[tuple[str, str], Path]
    """(model, sample name) -> the SR image, an 8-bit PNG."""

    methodology: str
    """What was measured, in one paragraph: border, color, rounding, LPIPS net and version, sha256 of weights."""

    def column(self, model: str, key: str) -> list[float]:
        """One metric of one model, in the order of the samples."""
        return [self.values[model, sample.name][key] for sample in self.samples]

    def compared(self, model: str, metric: Metric) -> list[float]:
        """The same as it is compared."""
        return [metric.compared(value) for value in self.column(model, metric.key)]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What follows from an `Evaluation`."""

    means: Mapping[str, Mapping[str, Interval]]
    """Model -> metric key -> mean over the images."""

    against: str | None
    """The model that the others are compared with."""

    comparisons: Mapping[str, Mapping[str, Paired]]
    """Every other model -> metric key -> that model against `against`; empty without one."""

    worst_by: Metric
    """What decides which images are the worst: LPIPS where there is one, else the first metric."""

    worst: Mapping[str, tuple[str, ...]]
    """Model -> names of its worst images, the worst first, at most ten."""


def summarize(evaluation: Evaluation, *, against: str | None = None) -> Summary:
    """The summary of an evaluation. against: one of its models."""
    worst_by = _leading(evaluation.metrics)
    comparisons = {} if against is None else _comparisons(evaluation, against)
    return Summary(
        means={model: _means(evaluation, model) for model in evaluation.models},
        against=against,
        comparisons=comparisons,
        worst_by=worst_by,
        worst={model: _worst(evaluation, model, worst_by) for model in evaluation.models},
    )


def _leading(metrics: tuple[Metric, ...]) -> Metric:
    return next((metric for metric in metrics if metric.key.startswith("lpips")), metrics[0])


def _means(evaluation: Evaluation, model: str) -> dict[str, Interval]:
    return {metric.key: mean_interval(evaluation.column(model, metric.key)) for metric in evaluation.metrics}


def _comparisons(evaluation: Evaluation, against: str) -> dict[str, dict[str, Paired]]:
    """Model -> metric key -> that model against `against`; all models of a metric are one family."""
    others = [model for model in evaluation.models if model != against]
    by_model: dict[str, dict[str, Paired]] = {model: {} for model in others}
    for metric in evaluation.metrics:
        theirs, higher = evaluation.compared(against, metric), metric.higher_is_better
        family = [
            compare_paired(evaluation.compared(model, metric), theirs, higher_is_better=higher) for model in others
        ]
        for model, paired in zip(others, corrected(family, higher_is_better=higher), strict=True):
            by_model[model][metric.key] = paired
    return by_model


def _worst(evaluation: Evaluation, model: str, metric: Metric) -> tuple[str, ...]:
    sign = 1 if metric.higher_is_better else -1
    values = evaluation.compared(model, metric)
    named = sorted(zip((sign * value for value in values), (s.name for s in evaluation.samples), strict=True))
    return tuple(name for _, name in named[:WORST])


def figure(value: float, metric: Metric) -> str:
    """A value with the decimals that the metric is worth."""
    return f"{value:.{metric.digits}f}".replace("-", "\N{MINUS SIGN}")


def lead_model(evaluation: Evaluation, against: str | None) -> str:
    """The model whose images are looked at first: the first that is neither bicubic nor the one compared with."""
    others = [model for model in evaluation.models if model not in {BICUBIC, against}]
    return others[0] if others else evaluation.models[-1]


def worst_first(evaluation: Evaluation, model: str, metric: Metric) -> list[int]:
    """Indices of the samples from the model's worst value to its best."""
    sign = 1 if metric.higher_is_better else -1
    values = evaluation.compared(model, metric)
    return sorted(range(len(values)), key=lambda index: sign * values[index])


def worst_median_best(order: Sequence[int], most: int) -> list[int]:
    """At most `most` of an order that goes from worst to best: half of them the worst, then median and best ones.

    The order is kept.
    """
    if len(order) <= most:
        return list(order)
    worst = (most + 1) // 2
    best = (most - worst) // 2
    median = most - worst - best
    first = max(worst, (len(order) - median) // 2)
    return [*order[:worst], *order[first : first + median], *order[len(order) - best :]]


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """One image of a sample."""

    name: str
    """The model's, or REFERENCE."""

    model: str | None
    """None for the reference."""

    pixels: Rgb8
    """(H, W, 3), of the same size in all views of a sample."""


def read_views(evaluation: Evaluation, sample: Sample) -> list[View]:
    """The images of all models, and the reference last where there is one.

    A reference of the LR's size is enlarged to the others', each pixel becoming a square.
    Raises ImageReadError for an image that cannot be read, DataError when sizes do not fit: both name the file.
    """
    sources: list[tuple[str | None, Path]] = [
        (model, evaluation.images[model, sample.name]) for model in evaluation.models
    ]
    if sample.hr is not None:
        sources.append((None, sample.hr))
    with ThreadPoolExecutor(_DECODERS) as pool:
        images = list(pool.map(read_rgb, (path for _, path in sources)))
    if sample.hr_px is not None:
        images[-1] = images[-1][: sample.hr_px[0], : sample.hr_px[1]]
    first = sources[0][1], images[0]
    return [
        View(name=model or REFERENCE, model=model, pixels=_fitted(path, image, *first))
        for (model, path), image in zip(sources, images, strict=True)
    ]


def _fitted(path: Path, image: Rgb8, first_path: Path, first: Rgb8) -> Rgb8:
    height, width = first.shape[:2]
    if (SCALE * image.shape[0], SCALE * image.shape[1]) == (height, width):
        image = image.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    if image.shape != first.shape:
        raise DataError(
            f"{path} has {image.shape[1]} x {image.shape[0]} pixels, but {first_path} has {width} x {height}. "
            "All images of a sample must have one size."
        )
    return image


def counted(number: int, noun: str) -> str:
    """`1 image`, `1,200 images`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
