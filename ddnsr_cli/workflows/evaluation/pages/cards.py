"""A picture's card on the page: the slider, the details side by side, the figures."""

from ddnsr_cli.workflows.evaluation.pages.detail import Window, most_different
from ddnsr_cli.workflows.evaluation.pages.embed import compressed, lossless, reduced
from ddnsr_cli.workflows.evaluation.pages.scene import View, read_views
from ddnsr_cli.workflows.evaluation.pages.shown import BICUBIC, figure
from ddnsr_cli.workflows.evaluation.scores import Evaluation
from ddnsr_cli.workflows.webpage.shell import words

DETAIL_PX = 64
"""Side of the detail, HR pixels."""

DETAIL_ZOOM = 4
LEAST_SLIDER_PX, MOST_SLIDER_PX = 512, 1024
"""Longer sides are reduced under the slider, never in the details."""

MOST_OVERVIEW_PX = 256
SLIDER_QUALITY, OVERVIEW_QUALITY = 90, 75


def card_html(evaluation: Evaluation, index: int, *, lead: str, slider: bool) -> str:
    """The card of the subject at `index`, with the id `p<index>`. lead: the model at the slider's right side.

    Raises ImageReadError and DataError as `read_views`.
    """
    subject = evaluation.subjects[index]
    views = read_views(evaluation, subject)
    window = _detail(views)
    stage = _stage_html(views, lead) if slider and len(views) > 1 else ""
    figures = "".join(_detail_html(evaluation, subject.name, view, window) for view in views)
    return (
        f'<article class="card" id="p{index}" tabindex="-1"><h3>{words(subject.name)}</h3>{stage}'
        f'<div class="strip" tabindex="0" role="group" aria-label="Detail, {DETAIL_ZOOM} times as large">'
        f"{_overview_html(views[-1], window)}{figures}</div></article>\n"
    )


def _detail(views: list[View]) -> Window:
    """Where the networks differ most; with one network alone, where it differs from the other pictures."""
    networks = [view.pixels for view in views if view.model not in {None, BICUBIC}]
    pixels = networks if len(networks) > 1 else [view.pixels for view in views]
    return most_different(pixels, side_px=DETAIL_PX)


def _stage_html(views: list[View], lead: str) -> str:
    """All pictures on one place: two of them are seen, left and right of the handle."""
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
        '<input type="range" min="0" max="1000" value="500" aria-label="Where the left picture ends"></div>'
        f'<div class="views">{_select_html("Left", names, left)}{_select_html("Right", names, right)}</div></div>'
    )


def _frame_open(height: int, width: int) -> str:
    """As large as the pictures inside are; small ones are enlarged by a whole factor."""
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
    """The whole picture, small, with the detail's place marked."""
    height, width = view.pixels.shape[:2]
    small = reduced(view.pixels, most_px=MOST_OVERVIEW_PX)
    mark = (
        f"left:{100 * window.left / width:.2f}%;top:{100 * window.top / height:.2f}%;"
        f"width:{100 * window.width / width:.2f}%;height:{100 * window.height / height:.2f}%"
    )
    return (
        f'<figure><div class="overview"><img alt="The whole picture" width="{small.shape[1]}" '
        f'height="{small.shape[0]}" src="{compressed(small, quality=OVERVIEW_QUALITY)}">'
        f'<i class="mark" style="{mark}"></i></div><figcaption><b>Where</b><p>{width} x {height} pixels</p>'
        "</figcaption></figure>"
    )


def _detail_html(evaluation: Evaluation, subject: str, view: View, window: Window) -> str:
    """The detail as it is, each pixel a square, with what the model scored on the whole picture."""
    rows = ""
    if view.model is not None:
        values = evaluation.values[view.model, subject]
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
