"""Charts as HTML: axes and their ticks, curves made light, SVG that stretches with the page."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.reports.history import Best, Curve, History, Panel, Scale
from ddnsr_cli.reports.page import words

DECADE = 10.0
MOST_DECADES = 6
"""Of a logarithmic axis; what lies below is drawn at its foot."""

SMOOTH_FROM = 40
"""Points from which on a curve is smoothed."""

SMOOTH_SHARE = 40
"""A smoothed point is the mean of about 1/40 of the curve."""

BUCKETS = 300
"""Stretches of a curve of which the least and the greatest value are drawn."""

MOST_POINTS = 400
"""Points of a smoothed curve."""

FEW_POINTS = 12
"""Of a curve, up to which each is marked: one alone, or two side by side, would hardly be seen."""

LEAST_DECIMAL = 1e-3
"""Ticks of an axis that is all below are written with powers of ten: 1.5e-6."""

BOX = 1000
"""Width and height of the drawing, in its own units."""

CURSOR = '<i class="cursor" hidden></i>'
"""The script moves it to the step that is read."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A range of values with ticks inside."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def place(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where values lie: 0 at `low`, 1 at `high`; what is outside is at the end."""
        inside = values.clip(self.low, self.high)
        if self.log:
            low, high, inside = math.log(self.low), math.log(self.high), np.log(inside)
        else:
            low, high = self.low, self.high
        return (inside - low) / (high - low)


def value_axis(values: NDArray[np.float64], scale: Scale) -> Axis:
    """An axis that holds all the finite `values`, of which there is at least one."""
    low, high = float(values.min()), float(values.max())
    if scale is Scale.UNIT:
        return Axis(low=0.0, high=1.0, ticks=(0.0, 0.25, 0.5, 0.75, 1.0))
    if scale is Scale.DECADES and low >= 0 and high > 0:
        least = max(float(values[values > 0].min()), high / DECADE**MOST_DECADES)
        if high >= DECADE * least:
            return _log_axis(least / 1.1, high * 1.1)
    if scale is Scale.FROM_ZERO and low >= 0:
        high = high or 1.0
        return Axis(low=0.0, high=1.05 * high, ticks=ticks(0.0, 1.05 * high))
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return Axis(low=low - margin, high=high + margin, ticks=ticks(low - margin, high + margin))


def step_axis(last: int) -> Axis:
    """From step 0 to the last; with whole steps for ticks."""
    high = float(max(last, 1))
    return Axis(low=0.0, high=high, ticks=tuple(tick for tick in ticks(0.0, high) if tick == int(tick)))


def ticks(low: float, high: float) -> tuple[float, ...]:
    """At most six round values in [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    gap = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / gap - 1e-9), math.floor(high / gap + 1e-9)
    return tuple(float(f"{index * gap:.12g}") for index in range(first, last + 1))


def _log_axis(low: float, high: float) -> Axis:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [float(f"{factor}e{power}") for power in decades for factor in factors]
        inside = tuple(value for value in found if low <= value <= high)
        if len(inside) <= 5:
            break
    return Axis(low=low, high=high, ticks=inside[:: 1 + len(inside) // 6], log=True)


def shown(value: float, digits: int = 4) -> str:
    """A figure with four digits that count, written as JavaScript does: 0.04931, 24.31, 1250, 0.000025, 1e-7."""
    rounded = float(f"{value:.{digits}g}")
    if rounded and abs(rounded) < 1e-6:
        return f"{rounded:.{digits}g}".replace("e-0", "e-")
    return np.format_float_positional(rounded, trim="-")


def shown_ticks(values: Sequence[float]) -> list[str]:
    """Ticks of one axis, which are round, with as many more digits as they have."""
    write = _powers if all(abs(value) < LEAST_DECIMAL for value in values) else shown
    texts = ([write(value, digits) for value in values] for digits in range(4, 18))
    return next(row for row in texts if all(float(text) == value for text, value in zip(row, values, strict=True)))


def _powers(value: float, digits: int) -> str:
    """0, 2.5e-5, 1e-7."""
    number, _, power = f"{value:.{digits - 1}e}".partition("e")
    return f"{number.rstrip('0').rstrip('.')}e{int(power)}" if value else "0"


def shown_step(step: float) -> str:
    """A step on an axis: 500, 12k, 1.5M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if step >= size:
            return f"{step / size:g}{letter}"
    return f"{step:g}"


def smoothing_points(points: int) -> int:
    """How many points a mean takes in: odd, 1 for short curves."""
    return 1 if points < SMOOTH_FROM else max(3, points // SMOOTH_SHARE | 1)


def smoothed(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Means over `window` points, an odd number, around each.

    At the end over what there is before, so that the last point is not the noise of one row; at the start over only
    a few after, so that a steep fall keeps its height.
    """
    reach = window // 2
    middle = np.arange(len(values))
    first = (middle - reach).clip(min=0)
    last = (middle + np.minimum(reach, middle + reach // 4)).clip(max=len(values) - 1)
    sums = np.concatenate(([0.0], np.cumsum(values)))
    means: NDArray[np.float64] = (sums[last + 1] - sums[first]) / (last + 1 - first)
    return means


def extremes(values: NDArray[np.float64], buckets: int) -> NDArray[np.intp]:
    """Indices of the least and the greatest value of each of `buckets` equal stretches, and of both ends, rising."""
    if len(values) <= 2 * buckets:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), buckets + 1).astype(np.intp)
    kept = [[a + values[a:b].argmin(), a + values[a:b].argmax()] for a, b in pairwise(edges)]
    return np.unique(np.append(np.array(kept), (0, len(values) - 1)))


def evenly(points: int, most: int) -> NDArray[np.intp]:
    """At most `most` indices of `points`, evenly spaced, both ends among them."""
    return np.unique(np.linspace(0, points - 1, min(points, most)).round().astype(np.intp))


@dataclass(frozen=True, kw_only=True)
class Stroke:
    """One curve as it is drawn."""

    color: int
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
        Stroke(color=color, label=label, curve=curve, line=_line(curve.values, panel, up))
        for color, (label, curve) in enumerate(curves.items())
    ]
    marker, best = _best(panel, strokes[0].curve, across, up)
    hints = " ".join(filter(None, (panel.hint, "Logarithmic." if up.log else "", best)))
    return (
        f'<figure class="panel"><div class="title"><h3>{words(panel.title)}</h3>'
        f'<output class="at">latest</output></div>'
        f"{plot_html(strokes, across, up, f'{panel.title} over the steps', marker + CURSOR)}"
        f"<figcaption><ul>{''.join(_legend_entry(stroke, across) for stroke in strokes)}</ul>"
        f'<p class="hint">{words(hints)}</p></figcaption></figure>\n'
    )


def plot_html(strokes: Sequence[Stroke], across: Axis, up: Axis, label: str, marks: str = "") -> str:
    """Curves between axes, with no title. label: what a screen reader says; marks: HTML to lay over the curves."""
    longest = max(map(len, shown_ticks(up.ticks)), default=0)
    return (
        f'<div class="plot" style="--label:{longest}ch">'
        f'<svg viewBox="0 0 {BOX} {BOX}" preserveAspectRatio="none" role="img" '
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
    """The curve with all its peaks, and over it the smoothed one; a short curve is drawn once, with its points."""
    curve, every = stroke.curve, extremes(stroke.curve.values, BUCKETS)
    points = _points(curve.steps[every], curve.values[every], across, up)
    raw = _path(points)
    if not stroke.smooth:
        line = f'<path class="line c{stroke.color}" d="{raw}"/>'
        return line + (_dots(points, stroke.color) if len(points) <= FEW_POINTS else "")
    few = evenly(len(curve.values), MOST_POINTS)
    line = _path(_points(curve.steps[few], stroke.line[few], across, up))
    return f'<path class="raw c{stroke.color}" d="{raw}"/><path class="line c{stroke.color}" d="{line}"/>'


def _points(steps: NDArray[np.int64], values: NDArray[np.float64], across: Axis, up: Axis) -> list[str]:
    xs = (BOX * across.place(steps.astype(np.float64))).round(1)
    ys = (BOX * (1 - up.place(values))).round().astype(int)
    return [f"{x:g} {y}" for x, y in zip(xs, ys, strict=True)]


def _path(points: Sequence[str]) -> str:
    # A lone point is a line of no length: with round ends it shows as a dot.
    return f"M{points[0]}L{' '.join(points[1:] or points)}"


def _dots(points: Sequence[str], color: int) -> str:
    return f'<path class="dots c{color}" d="{"".join(_path([point]) for point in points)}"/>'


def _legend_entry(stroke: Stroke, across: Axis) -> str:
    """Label and latest value; the points that the read-out gives go along."""
    few = evenly(len(stroke.line), MOST_POINTS)
    values = [float(shown(value)) for value in stroke.line[few]]
    points = json.dumps([stroke.curve.steps[few].tolist(), values], separators=(",", ":"))
    return (
        f'<li data-points="{points}" data-last="{across.high:g}"><i class="key c{stroke.color}"></i>'
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
