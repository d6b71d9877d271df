"""The tables of the page: means, the comparison with one model, every picture's values."""

import math
from collections.abc import Iterable, Iterator, Sequence

from ddnsr_cli.metrics.statistics import Interval, Paired
from ddnsr_cli.workflows.evaluation.pages.shown import figure
from ddnsr_cli.workflows.evaluation.scores import Evaluation, Metric
from ddnsr_cli.workflows.evaluation.summary import Summary
from ddnsr_cli.workflows.webpage.shell import words

CLEAR_P = 0.05
"""A difference is called clear below."""


def means_html(evaluation: Evaluation, summary: Summary) -> str:
    """Models by metrics: mean over the pictures and its interval, the best mean of a column in bold."""
    best = {
        metric.key: _best((means[metric.key].mean for means in summary.means.values()), metric)
        for metric in evaluation.metrics
    }
    rows = {
        model: [_mean_html(means[metric.key], metric, best[metric.key]) for metric in evaluation.metrics]
        for model, means in summary.means.items()
    }
    return _table_html(evaluation.metrics, rows.items())


def comparison_html(evaluation: Evaluation, summary: Summary) -> str:
    """Every other model less the one compared with: mean difference, its interval, and how often it wins."""
    rows = {
        model: [_difference_html(compared[metric.key], metric) for metric in evaluation.metrics]
        for model, compared in summary.comparisons.items()
    }
    return _table_html(evaluation.metrics, rows.items())


def values_html(evaluation: Evaluation, lead: Metric, order: Sequence[int], cards: frozenset[int]) -> str:
    """A table a metric, rows a picture, columns a model; the script shows one table at a time, and sorts.

    lead: the metric shown first. order: of the rows. cards: the pictures that have a card, which their names link to.
    """
    return "".join(
        f'<table class="values{" lead" if metric is lead else ""}" data-title="{words(metric.title)}">'
        f"<caption>{words(metric.title)}: {_better(metric)} is better</caption>"
        f"<thead><tr>{''.join(_sorting_heads(evaluation, metric))}</tr></thead><tbody>"
        f"{''.join(_values_row(evaluation, metric, index, linked=index in cards) for index in order)}</tbody></table>\n"
        for metric in evaluation.metrics
    )


def _sorting_heads(evaluation: Evaluation, metric: Metric) -> Iterator[str]:
    """Heads with buttons; `data-first` is the order after a first press: names rising, values from the worst."""
    worst = "ascending" if metric.higher_is_better else "descending"
    for text, first in (("picture", "ascending"), *((model, worst) for model in evaluation.models)):
        yield f'<th scope="col" aria-sort="none" data-first="{first}"><button type="button">{words(text)}</button></th>'


def _values_row(evaluation: Evaluation, metric: Metric, index: int, *, linked: bool) -> str:
    subject = evaluation.subjects[index].name
    values = [evaluation.values[model, subject][metric.key] for model in evaluation.models]
    best = _best(values, metric)
    cells = "".join(
        f'<td data-value="{float(value)!r}"{_bold(value, best)}>{figure(value, metric)}</td>' for value in values
    )
    name = f'<a href="#p{index}">{words(subject)}</a>' if linked else words(subject)
    return f'<tr data-picture="{index}"><th scope="row">{name}</th>{cells}</tr>'


def _table_html(metrics: Sequence[Metric], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """rows: (model, a cell a metric)."""
    heads = "".join(
        f'<th scope="col">{words(metric.title)}<small>{_better(metric)} is better</small></th>' for metric in metrics
    )
    body = "".join(f'<tr><th scope="row">{words(model)}</th>{"".join(cells)}</tr>' for model, cells in rows)
    return (
        '<div class="wide" tabindex="0" role="group" aria-label="Table"><table><thead><tr><th scope="col">model</th>'
        f"{heads}</tr></thead><tbody>{body}</tbody></table></div>\n"
    )


def _mean_html(interval: Interval, metric: Metric, best: float) -> str:
    return f"<td{_bold(interval.mean, best)}>{figure(interval.mean, metric)}{_range_html(interval, metric)}</td>"


def _difference_html(paired: Paired, metric: Metric) -> str:
    interval = paired.difference
    plus = "+" if interval.mean > 0 else ""
    chance = "" if paired.p_value is None else f", p {paired.p_value:.2g}"
    return (
        f"<td>{plus}{figure(interval.mean, metric)}{_range_html(interval, metric)}"
        f"<small>wins {paired.win_rate:.0%}{chance}</small><small>{_verdict(paired, metric)}</small></td>"
    )


def _verdict(paired: Paired, metric: Metric) -> str:
    """A word where the interval leaves out 0 and p does not speak against it, as it does for a handful of pictures."""
    interval, chance = paired.difference, paired.p_value
    if not (interval.low > 0 or interval.high < 0) or (chance is not None and chance >= CLEAR_P):
        return "not clear"
    word = "better" if (interval.mean > 0) == metric.higher_is_better else "worse"
    return f'<em class="{word}">{word}</em>'


def _range_html(interval: Interval, metric: Metric) -> str:
    """The ends; nothing where one picture tells of no other."""
    if math.isnan(interval.low):
        return ""
    return f"<small>{figure(interval.low, metric)} to {figure(interval.high, metric)}</small>"


def _best(values: Iterable[float], metric: Metric) -> float:
    return (max if metric.higher_is_better else min)(values)


def _bold(value: float, best: float) -> str:
    return ' class="best"' if value == best else ""


def _better(metric: Metric) -> str:
    return "higher" if metric.higher_is_better else "lower"
