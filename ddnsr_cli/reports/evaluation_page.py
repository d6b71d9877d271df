"""The page of an evaluation: one file that shows the images and their numbers, and needs no network."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.metrics.statistics import CLEAR_P, Interval, Paired
from ddnsr_cli.reports.page import (
    PageKind,
    Window,
    compressed,
    lossless,
    most_different,
    page_html,
    reduced,
    words,
    write_page,
)
from ddnsr_cli.reports.results import (
    BICUBIC,
    Evaluation,
    Metric,
    Summary,
    View,
    counted,
    figure,
    lead_model,
    read_views,
    summarize,
    worst_first,
    worst_median_best,
)

DETAIL_PX = 64
"""Side of the detail, HR pixels."""

DETAIL_ZOOM = 4
LEAST_SLIDER_PX, MOST_SLIDER_PX = 512, 1024
"""Longer sides are reduced under the slider, never in the details."""

MOST_OVERVIEW_PX = 256
SLIDER_QUALITY, OVERVIEW_QUALITY = 90, 75


PAGE = PageKind(
    package="ddnsr_cli.reports",
    body="eval_page.html",
    styles=("eval_page.css",),
    script="eval_page.js",
)

MOST_SLIDERS = 12
"""Images that are there in full: half of them the worst, then median and best ones."""

MOST_CARDS = 150
"""Images of which the details are there. All have their row in the tables."""


def card_html(evaluation: Evaluation, index: int, *, lead: str, slider: bool) -> str:
    """The card of the sample at `index`, with the id `p<index>`. lead: the model at the slider's right side.

    Raises ImageReadError and DataError as `read_views`.
    """
    sample = evaluation.samples[index]
    views = read_views(evaluation, sample)
    window = _detail(views)
    stage = _stage_html(views, lead) if slider and len(views) > 1 else ""
    figures = "".join(_detail_html(evaluation, sample.name, view, window) for view in views)
    return (
        f'<article class="card" id="p{index}" tabindex="-1"><h3>{words(sample.name)}</h3>{stage}'
        f'<div class="strip" tabindex="0" role="group" aria-label="Detail, {DETAIL_ZOOM} times as large">'
        f"{_overview_html(views[-1], window)}{figures}</div></article>\n"
    )


def _detail(views: list[View]) -> Window:
    """Where the networks differ most; with one network alone, where it differs from the other images."""
    networks = [view.pixels for view in views if view.model not in {None, BICUBIC}]
    pixels = networks if len(networks) > 1 else [view.pixels for view in views]
    return most_different(pixels, side_px=DETAIL_PX)


def _stage_html(views: list[View], lead: str) -> str:
    """All images on one place: two of them are seen, left and right of the handle."""
    height, width = views[0].pixels.shape[:2]
    names = [view.name for view in views]
    right = names.index(lead)
    left = 0 if right else len(views) - 1
    images = "".join(
        f'<img alt="{words(view.name)}" decoding="async"{_side(place, left, right)} '
        f'src="{compressed(reduced(view.pixels, most_px=MOST_SLIDER_PX), quality=SLIDER_QUALITY)}">'
        for place, view in enumerate(views)
    )
    return (
        f'<div class="stage">{_frame_open(height, width)}{images}<i class="handle"></i>'
        f'<b class="tag tag-left">{words(names[left])}</b><b class="tag tag-right">{words(names[right])}</b>'
        '<input type="range" min="0" max="1000" value="500" aria-label="Where the left image ends"></div>'
        f'<div class="views">{_select_html("Left", names, left)}{_select_html("Right", names, right)}</div></div>'
    )


def _frame_open(height: int, width: int) -> str:
    """As large as the images inside are; small ones are enlarged by a whole factor."""
    longer = max(height, width)
    shown = max(1, LEAST_SLIDER_PX // longer) * min(1, MOST_SLIDER_PX / longer)
    return f'<div class="frame" style="max-width:{width * shown:.0f}px;aspect-ratio:{width}/{height}">'


def _side(place: int, left: int, right: int) -> str:
    return ' class="left"' if place == left else ' class="right"' if place == right else ""


def _select_html(label: str, names: list[str], chosen: int) -> str:
    options = "".join(
        f"<option{' selected' if place == chosen else ''}>{words(name)}</option>" for place, name in enumerate(names)
    )
    return f'<label>{label} <select class="view-{label.lower()}">{options}</select></label>'


def _overview_html(view: View, window: Window) -> str:
    """The whole image, small, with the detail's place marked."""
    height, width = view.pixels.shape[:2]
    small = reduced(view.pixels, most_px=MOST_OVERVIEW_PX)
    mark = (
        f"left:{100 * window.left / width:.2f}%;top:{100 * window.top / height:.2f}%;"
        f"width:{100 * window.width / width:.2f}%;height:{100 * window.height / height:.2f}%"
    )
    return (
        f'<figure><div class="overview"><img alt="The whole image" width="{small.shape[1]}" '
        f'height="{small.shape[0]}" src="{compressed(small, quality=OVERVIEW_QUALITY)}">'
        f'<i class="mark" style="{mark}"></i></div><figcaption><b>Where</b><p>{width} x {height} pixels</p>'
        "</figcaption></figure>"
    )


def _detail_html(evaluation: Evaluation, sample: str, view: View, window: Window) -> str:
    """The detail as it is, each pixel a square, with what the model scored on the whole image."""
    rows = ""
    if view.model is not None:
        values = evaluation.values[view.model, sample]
        rows = "".join(
            f"<dt>{words(metric.title)}</dt><dd>{figure(values[metric.key], metric)}</dd>"
            for metric in evaluation.metrics
        )
    return (
        f'<figure><img class="detail" alt="Detail, {words(view.name)}" '
        f'width="{DETAIL_ZOOM * window.width}" height="{DETAIL_ZOOM * window.height}" '
        f'src="{lossless(window.cut(view.pixels))}"><figcaption><b>{words(view.name)}</b><dl>{rows}</dl></figcaption>'
        "</figure>"
    )


def means_html(evaluation: Evaluation, summary: Summary) -> str:
    """Models by metrics: mean over the images and its interval, the best mean of a column in bold."""
    best = {metric.key: _best_models(evaluation, metric) for metric in evaluation.metrics}
    rows = {
        model: [_mean_html(means[metric.key], metric, best=model in best[metric.key]) for metric in evaluation.metrics]
        for model, means in summary.means.items()
    }
    return _table_html(evaluation.metrics, rows.items())


def _best_models(evaluation: Evaluation, metric: Metric) -> set[str]:
    means = {model: fmean(evaluation.compared(model, metric)) for model in evaluation.models}
    best = _best(means.values(), metric)
    return {model for model, mean in means.items() if mean == best}


def comparison_html(evaluation: Evaluation, summary: Summary) -> str:
    """Every other model less the one compared with: mean difference, its interval, and how often it wins."""
    rows = {
        model: [_difference_html(compared[metric.key], metric) for metric in evaluation.metrics]
        for model, compared in summary.comparisons.items()
    }
    return _table_html([metric.compared_as for metric in evaluation.metrics], rows.items())


def values_html(evaluation: Evaluation, lead: Metric, order: Sequence[int], cards: frozenset[int]) -> str:
    """A table a metric, rows an image, columns a model; the script shows one table at a time, and sorts.

    lead: the metric shown first. order: of the rows. cards: the images that have a card, which their names link to.
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
    for text, first in (("image", "ascending"), *((model, worst) for model in evaluation.models)):
        yield f'<th scope="col" aria-sort="none" data-first="{first}"><button type="button">{words(text)}</button></th>'


def _values_row(evaluation: Evaluation, metric: Metric, index: int, *, linked: bool) -> str:
    sample = evaluation.samples[index].name
    values = [evaluation.values[model, sample][metric.key] for model in evaluation.models]
    compared = [float(metric.compared(value)) for value in values]
    best = _best(compared, metric)
    cells = "".join(
        f'<td data-value="{key!r}"{_bold(key == best)}>{figure(value, metric)}</td>'
        for value, key in zip(values, compared, strict=True)
    )
    name = f'<a href="#p{index}">{words(sample)}</a>' if linked else words(sample)
    return f'<tr data-image="{index}"><th scope="row">{name}</th>{cells}</tr>'


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


def _mean_html(interval: Interval, metric: Metric, *, best: bool) -> str:
    return f"<td{_bold(best)}>{figure(interval.mean, metric)}{_range_html(interval, metric)}</td>"


def _difference_html(paired: Paired, metric: Metric) -> str:
    interval = paired.difference
    plus = "+" if interval.mean > 0 else ""
    return (
        f"<td>{plus}{figure(interval.mean, metric)}{_range_html(interval, metric)}"
        f"<small>wins {paired.win_rate:.0%}, p {paired.family_p:.2g}</small><small>{_verdict(paired)}</small></td>"
    )


def _verdict(paired: Paired) -> str:
    word = paired.verdict
    return word if word == "not clear" else f'<em class="{word}">{word}</em>'


def _range_html(interval: Interval, metric: Metric) -> str:
    """The ends; nothing where one image tells of no other."""
    if math.isnan(interval.low):
        return ""
    return f"<small>{figure(interval.low, metric)} to {figure(interval.high, metric)}</small>"


def _best(values: Iterable[float], metric: Metric) -> float:
    return (max if metric.higher_is_better else min)(values)


def _bold(best: bool) -> str:
    return ' class="best"' if best else ""


def _better(metric: Metric) -> str:
    if metric.ideal is not None:
        return f"nearer to {metric.ideal:g}"
    return "higher" if metric.higher_is_better else "lower"


def write_eval_page(evaluation: Evaluation, page: Path, *, against: str | None) -> None:
    """Write the page, whole or not at all. The same evaluation gives the same bytes.

    against: the model that the others are compared with, image by image; None for no comparison.
    Images are sorted from the worst, by LPIPS where there is one (else by the first metric) of the first model that
    is neither bicubic nor `against`.
    Raises ConfigError for an unknown `against`; ImageReadError and DataError for images that cannot be read or do
    not fit each other; ImageWriteError when the page cannot be written.
    """
    if against is not None and against not in evaluation.models:
        raise ConfigError(f"No model is called {against}. Compare with one of: {', '.join(evaluation.models)}.")
    summary, lead = summarize(evaluation, against=against), lead_model(evaluation, against)
    order = worst_first(evaluation, lead, summary.worst_by)
    cards, sliders = worst_median_best(order, MOST_CARDS), set(worst_median_best(order, MOST_SLIDERS))
    parts = {
        "heading": f"{counted(len(evaluation.models), 'model')} on {counted(len(order), 'image')}",
        "means": means_html(evaluation, summary),
        "comparison": _comparison_section(evaluation, summary),
        "methodology": words(evaluation.methodology),
        "embedding": _embedding_note(len(cards), len(sliders), len(order)),
        "lead": str(evaluation.models.index(lead)),
        "order": f"At first sorted by {words(summary.worst_by.title)} of {words(lead)}, the worst first.",
        "values": values_html(evaluation, summary.worst_by, order, frozenset(cards)),
        "cards": "".join(card_html(evaluation, index, lead=lead, slider=index in sliders) for index in cards),
    }
    write_page(page_html(PAGE, parts, title=f"Evaluation: {parts['heading']}"), page)


def _comparison_section(evaluation: Evaluation, summary: Summary) -> str:
    if summary.against is None:
        return ""
    name, others = words(summary.against), len(summary.comparisons)
    by_holm = f", corrected by Holm for {others} models" if others > 1 else ""
    return (
        f'<h2>Against {name}</h2><p class="note">Each model less {name} on the same image: mean difference with its '
        "95% bootstrap interval, the share of images on which it wins, and Wilcoxon's "
        f"p{by_holm}; better or worse where the interval leaves out 0 and p is below {CLEAR_P}.</p>"
        f'<div class="card">{comparison_html(evaluation, summary)}</div>'
    )


def _embedding_note(cards: int, sliders: int, samples: int) -> str:
    """What of the images is inside the page, and that no number was measured on it."""
    some = "" if cards == samples else f" Of {samples:,} images, {cards} are shown: the worst, median and best ones."
    full = "Every image has" if sliders == samples else f"{sliders} images, the worst, median and best ones, have"
    return (
        f"All numbers were measured on whole images without loss. Here, details are exact, {DETAIL_ZOOM} times "
        f"enlarged without smoothing; they show the place where the models differ most. Whole images are compressed "
        f"(JPEG, quality {SLIDER_QUALITY}, at most {MOST_SLIDER_PX} pixels a side).{some} {full} a slider."
    )
