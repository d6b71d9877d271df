"""From single values to what is told: means with their intervals, models against one, the worst pictures."""

from collections.abc import Mapping
from dataclasses import dataclass

from ddnsr_cli.metrics.statistics import Interval, Paired, compare_paired, mean_interval
from ddnsr_cli.workflows.evaluation.scores import Evaluation, Metric

WORST = 10


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What follows from an `Evaluation`."""

    means: Mapping[str, Mapping[str, Interval]]
    """Model -> metric key -> mean over the pictures."""

    against: str | None
    """The model that the others are compared with."""

    comparisons: Mapping[str, Mapping[str, Paired]]
    """Every other model -> metric key -> that model against `against`; empty without one."""

    worst_by: Metric
    """What decides which pictures are the worst: LPIPS where there is one, else the first metric."""

    worst: Mapping[str, tuple[str, ...]]
    """Model -> names of its worst pictures, the worst first, at most ten."""


def summarise(evaluation: Evaluation, *, against: str | None = None) -> Summary:
    """The summary of an evaluation. against: one of its models."""
    worst_by = _leading(evaluation.metrics)
    comparisons = {}
    if against is not None:
        others = (model for model in evaluation.models if model != against)
        comparisons = {model: _compared(evaluation, model, against) for model in others}
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


def _compared(evaluation: Evaluation, model: str, against: str) -> dict[str, Paired]:
    return {
        metric.key: compare_paired(
            evaluation.column(model, metric.key),
            evaluation.column(against, metric.key),
            higher_is_better=metric.higher_is_better,
        )
        for metric in evaluation.metrics
    }


def _worst(evaluation: Evaluation, model: str, metric: Metric) -> tuple[str, ...]:
    sign = 1 if metric.higher_is_better else -1
    values = evaluation.column(model, metric.key)
    named = sorted(zip((sign * value for value in values), (s.name for s in evaluation.subjects), strict=True))
    return tuple(name for _, name in named[:WORST])
