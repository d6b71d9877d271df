"""A panel as HTML: curves in SVG that stretch with the page, words in HTML that do not."""

import json
from html import escape

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.workflows.report.axes import Axis, shown, shown_step, shown_ticks, step_axis, value_axis
from ddnsr_cli.workflows.report.curves import evenly, extremes, smoothed, smoothing_points
from ddnsr_cli.workflows.report.history import Curve, History
from ddnsr_cli.workflows.report.panels import Best, Panel

BUCKETS = 300
"""Stretches of a curve of which the least and the greatest value are drawn."""

MOST_POINTS = 400
"""Points of a smoothed curve."""

BOX = 1000
"""Width and height of the drawing, in its own units."""


def panel_html(panel: Panel, history: History) -> str:
    """The panel's `<figure>`. At least one of its figures is in the history."""
    curves = {name: history.curves[name] for name in panel.figures if name in history.curves}
    across = step_axis(history.step)
    up = value_axis(np.concatenate([curve.values for curve in curves.values()]), panel.scale)
    drawn = "".join(_paths(index, curve, across, up) for index, curve in enumerate(curves.values()))
    legend = "".join(
        _legend_entry(index, panel.figures[name], curve, across) for index, (name, curve) in enumerate(curves.items())
    )
    marker, told = _best(panel, curves, across, up)
    hints = " ".join(filter(None, (panel.hint, "Logarithmic." if up.log else "", told)))
    return (
        f'<figure class="panel"><h3>{escape(panel.title)}</h3>'
        f'<div class="plot"><svg viewBox="0 0 {BOX} {BOX}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(panel.title)} over the steps">{_grid(up)}{drawn}</svg>{marker}'
        f'{_tick_labels(across, up)}<i class="cursor" hidden></i></div>'
        f'<figcaption><output class="at">latest</output><ul>{legend}</ul>'
        f'<p class="hint">{escape(hints)}</p></figcaption></figure>\n'
    )


def _paths(index: int, curve: Curve, across: Axis, up: Axis) -> str:
    """The curve itself, and over it the smoothed one; a short curve is drawn once."""
    window = smoothing_points(len(curve.values))
    every = extremes(curve.values, BUCKETS)
    raw = _path(curve.steps[every], curve.values[every], across, up)
    if window == 1:
        return f'<path class="line c{index}" d="{raw}"/>'
    few = evenly(len(curve.values), MOST_POINTS)
    line = _path(curve.steps[few], smoothed(curve.values, window)[few], across, up)
    return f'<path class="raw c{index}" d="{raw}"/><path class="line c{index}" d="{line}"/>'


def _path(steps: NDArray[np.int64], values: NDArray[np.float64], across: Axis, up: Axis) -> str:
    xs = (BOX * across.place(steps.astype(np.float64))).round(1)
    ys = (BOX * (1 - up.place(values))).round().astype(int)
    points = [f"{x:g} {y}" for x, y in zip(xs, ys, strict=True)]
    # A lone point is a line of no length: with round ends it shows as a dot.
    return f"M{points[0]}L{' '.join(points[1:] or points)}"


def _legend_entry(index: int, label: str, curve: Curve, across: Axis) -> str:
    """Label and latest value; the points that the read-out gives go along."""
    few = evenly(len(curve.values), MOST_POINTS)
    values = smoothed(curve.values, smoothing_points(len(curve.values)))[few]
    points = json.dumps([curve.steps[few].tolist(), [float(shown(value)) for value in values]], separators=(",", ":"))
    return (
        f'<li data-points="{points}" data-last="{across.high:g}"><i class="key c{index}"></i>{escape(label)} '
        f"<output>{shown(curve.values[-1])}</output></li>"
    )


def _best(panel: Panel, curves: dict[str, Curve], across: Axis, up: Axis) -> tuple[str, str]:
    """(a dot on the best point, a sentence about it), both empty where no value is the best."""
    if panel.best is None:
        return "", ""
    curve = next(iter(curves.values()))
    index = int(curve.values.argmax() if panel.best is Best.GREATEST else curve.values.argmin())
    step, value = int(curve.steps[index]), float(curve.values[index])
    left = float(across.place(np.array([float(step)]))[0])
    top = 1 - float(up.place(np.array([value]))[0])
    return f'<b class="best" style="{_at(left, top)}"></b>', f"Best: {shown(value)} at step {step:,}."


def _grid(up: Axis) -> str:
    heights = BOX * (1 - up.place(np.array(up.ticks)))
    return f'<path class="grid" d="{"".join(f"M0 {height:.0f}H{BOX}" for height in heights)}"/>'


def _tick_labels(across: Axis, up: Axis) -> str:
    heights = 1 - up.place(np.array(up.ticks))
    lefts = across.place(np.array(across.ticks))
    ys = [
        f'<span class="y" style="top:{100 * height:.1f}%">{label}</span>'
        for height, label in zip(heights, shown_ticks(up), strict=True)
    ]
    xs = [
        f'<span class="x" style="left:{100 * left:.1f}%">{shown_step(tick)}</span>'
        for left, tick in zip(lefts, across.ticks, strict=True)
    ]
    return "".join(ys + xs)


def _at(left: float, top: float) -> str:
    return f"left:{100 * left:.2f}%;top:{100 * top:.2f}%"
