"""Figures and names as the pages write them, and the order in which pictures are shown."""

from collections.abc import Sequence

from ddnsr_cli.workflows.evaluation.scores import Evaluation, Metric

BICUBIC = "bicubic"
"""The model that is no network: what every one has to beat."""


def figure(value: float, metric: Metric) -> str:
    """A value with the decimals that the metric is worth."""
    return f"{value:.{metric.digits}f}".replace("-", "\N{MINUS SIGN}")


def lead_model(evaluation: Evaluation, against: str | None) -> str:
    """The model whose pictures are looked at first: the first that is neither bicubic nor the one compared with."""
    others = [model for model in evaluation.models if model not in {BICUBIC, against}]
    return others[0] if others else evaluation.models[-1]


def worst_first(evaluation: Evaluation, model: str, metric: Metric) -> list[int]:
    """Indices of the subjects from the model's worst value to its best."""
    sign = 1 if metric.higher_is_better else -1
    values = evaluation.column(model, metric.key)
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
