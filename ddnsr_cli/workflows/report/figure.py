"""A panel as HTML: curves in SVG that stretch with the page, words in HTML that do not."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.workflows.report.axes import Axis, shown, shown_step, shown_ticks, step_axis, value_axis
from ddnsr_cli.workflows.report.curves import evenly, extremes, smoothed, smoothing_points
from ddnsr_cli.workflows.report.history import Curve, History
from ddnsr_cli.workflows.report.panels import Best, Panel
from ddnsr_cli.workflows.webpage.shell import words

BUCKETS = 300
"""Stretches of a curve of which the least and the greatest value are drawn."""

MOST_POINTS = 400
"""Points of a smoothed curve."""

BOX = 1000
"""Width and height of the drawing, in its own units."""

CURSOR = '<i class="cursor" hidden></i>'
"""The script moves it to the step that is read."""


@dataclass(frozen=True, kw_only=True)
class Stroke:
    """One curve as it is drawn."""

    colour: int
    label: str
    curve: Curve

    line: NDArray[np.float64]
    """The smoothed values; the curve's own where it is not smoothed."""

    @property
    def smooth(self) -> bool:
        """Whether the line is another than the curve."""
        return self.line is not self.curve.values


def panel_html(panel: Panel, history: History) -> str:
    """The panel's `<figure>`. At least one of its figures is in the history."""
    curves = {label: history.curves[name] for name, label in panel.figures.items() if name in history.curves}
    across = step_axis(history.step)
    up = value_axis(np.concatenate([curve.values for curve in curves.values()]), panel.scale)
    strokes = [
        Stroke(colour=colour, label=label, curve=curve, line=_line(curve.values, panel, up))
        for colour, (label, curve) in enumerate(curves.items())
    ]
    marker, told = _best(panel, strokes[0].curve, across, up)
    hints = " ".join(filter(None, (panel.hint, "Logarithmic." if up.log else "", told)))
    return (
        f'<figure class="panel"><div class="title"><h3>{words(panel.title)}</h3>'
        f'<output class="at">latest</output></div>'
        f"{plot_html(strokes, across, up, f'{panel.title} over the steps', marker + CURSOR)}"
        f"<figcaption><ul>{''.join(_legend_entry(stroke, across) for stroke in strokes)}</ul>"
        f'<p class="hint">{words(hints)}</p></figcaption></figure>\n'
    )


def plot_html(strokes: Sequence[Stroke], across: Axis, up: Axis, label: str, marks: str = "") -> str:
    """Curves between axes, with no title. label: what a screen reader says; marks: HTML to lay over the curves."""
    return (
        f'<div class="plot"><svg viewBox="0 0 {BOX} {BOX}" preserveAspectRatio="none" role="img" '
        f'aria-label="{words(label)}">'
        f"{_grid(up)}{''.join(_paths(stroke, across, up) for stroke in strokes)}</svg>"
        f"{_tick_labels(across, up)}{marks}</div>"
    )


def _line(values: NDArray[np.float64], panel: Panel, up: Axis) -> NDArray[np.float64]:
    """Smoothed values, as the eye would on this axis."""
    window = smoothing_points(len(values))
    if window == 1 or not panel.smooth:
        return values
    if up.log and values.min() > 0:
        line: NDArray[np.float64] = np.exp(smoothed(np.log(values), window))
        return line
    return smoothed(values, window)


def _paths(stroke: Stroke, across: Axis, up: Axis) -> str:
    """The curve with all its peaks, and over it the smoothed one; a short curve is drawn once."""
    curve, every = stroke.curve, extremes(stroke.curve.values, BUCKETS)
    raw = _path(curve.steps[every], curve.values[every], across, up)
    if not stroke.smooth:
        return f'<path class="line c{stroke.colour}" d="{raw}"/>'
    few = evenly(len(curve.values), MOST_POINTS)
    line = _path(curve.steps[few], stroke.line[few], across, up)
    return f'<path class="raw c{stroke.colour}" d="{raw}"/><path class="line c{stroke.colour}" d="{line}"/>'


def _path(steps: NDArray[np.int64], values: NDArray[np.float64], across: Axis, up: Axis) -> str:
    xs = (BOX * across.place(steps.astype(np.float64))).round(1)
    ys = (BOX * (1 - up.place(values))).round().astype(int)
    points = [f"{x:g} {y}" for x, y in zip(xs, ys, strict=True)]
    # A lone point is a line of no length: with round ends it shows as a dot.
    return f"M{points[0]}L{' '.join(points[1:] or points)}"


def _legend_entry(stroke: Stroke, across: Axis) -> str:
    """Label and latest value; the points that the read-out gives go along."""
    few = evenly(len(stroke.line), MOST_POINTS)
    values = [float(shown(value)) for value in stroke.line[few]]
    points = json.dumps([stroke.curve.steps[few].tolist(), values], separators=(",", ":"))
    return (
        f'<li data-points="{points}" data-last="{across.high:g}"><i class="key c{stroke.colour}"></i>'
        f"{words(stroke.label)} <output>{shown(stroke.curve.values[-1])}</output></li>"
    )


def _best(panel: Panel, curve: Curve, across: Axis, up: Axis) -> tuple[str, str]:
    """(a dot on the best point, a sentence about it), both empty where no value is the best."""
    if panel.best is None:
        return "", ""
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
        f'<span class="y" style="top:{100 * height:.1f}%">{text}</span>'
        for height, text in zip(heights, shown_ticks(up.ticks), strict=True)
    ]
    xs = [
        f'<span class="x" style="left:{100 * left:.1f}%">{shown_step(tick)}</span>'
        for left, tick in zip(lefts, across.ticks, strict=True)
    ]
    return "".join(ys + xs)


def _at(left: float, top: float) -> str:
    return f"left:{100 * left:.2f}%;top:{100 * top:.2f}%"
