"""The plots of the realism report: the real set and the fake one on the same axes, or as bars one below the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ddnsr_cli.metrics.noise import BIN_LEVELS, PATCH_PX
from ddnsr_cli.metrics.realism import TILE_PX, Realism
from ddnsr_cli.reports.charts import Axis, Stroke, plot_html, value_axis
from ddnsr_cli.reports.history import Curve, Scale
from ddnsr_cli.reports.page import words

LEVELS = Axis(low=0, high=256, ticks=(0, 64, 128, 192, 256))
PERCENT = Axis(low=0, high=100, ticks=(0, 25, 50, 75, 100))
FREQUENCY = Axis(low=0, high=125, ticks=(0, 25, 50, 75, 100, 125))

Line = tuple[Sequence[float], Sequence[float | None]]
"""Where on the axis, and what there; None where nothing is known."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Two lines, and how to read them."""

    title: str
    hint: str
    across: Axis
    scale: Scale
    real: Line
    fake: Line

    def table(self) -> list[tuple[float, float | None, float | None]]:
        """(place, real, fake) wherever either is known."""
        ours, made = (dict(zip(*line, strict=True)) for line in (self.real, self.fake))
        known = [(place, ours.get(place), made.get(place)) for place in sorted(ours.keys() | made.keys())]
        return [row for row in known if row[1:] != (None, None)]


@dataclass(frozen=True, kw_only=True)
class Bars:
    """A few figures of both sets, each as two bars from zero."""

    title: str
    hint: str
    high: float
    """What fills the whole width."""

    digits: int
    rows: tuple[tuple[str, float | None, float | None], ...]
    """Name, real, fake; None where nothing is known."""


def plots_html(real: Realism, fake: Realism) -> str:
    """The section with all the plots that have something to show."""
    figures = [_figure_html(plot) for plot in plots(real, fake)]
    figures += [_bars_html(bars) for bars in _bars(real, fake)]
    return f'<h2>Plots</h2><div class="grid-of-panels">{"".join(figures)}</div>\n'


def plots(real: Realism, fake: Realism) -> tuple[Plot, ...]:
    """All plots, whether or not they have something to show."""
    return (
        Plot(
            title="Noise over brightness, levels",
            hint="Across: brightness, 0 black, 255 white. Only where at least three images have smooth parts.",
            across=LEVELS,
            scale=Scale.FROM_ZERO,
            real=_by_brightness(real),
            fake=_by_brightness(fake),
        ),
        Plot(
            title="Noise of every image, levels",
            hint="Across: share of the images in percent, those with the least noise first.",
            across=PERCENT,
            scale=Scale.FROM_ZERO,
            real=_each_noise(real),
            fake=_each_noise(fake),
        ),
        Plot(
            title="Spectrum of the noise, levels",
            hint="Across: frequency, in percent of the finest along a row; above 100 only diagonals. "
            "White noise is flat, coarse noise falls.",
            across=FREQUENCY,
            scale=Scale.FROM_ZERO,
            real=_spectrum(real.noise_spectrum, 2, PATCH_PX),
            fake=_spectrum(fake.noise_spectrum, 2, PATCH_PX),
        ),
        Plot(
            title="Spectrum of the images, levels",
            hint="Across: frequency, in percent of the finest. The subjects as well as the noise: a steeper fall is a "
            "softer image.",
            across=PERCENT,
            scale=Scale.DECADES,
            real=_spectrum(real.spectrum, 1, TILE_PX // 2),
            fake=_spectrum(fake.spectrum, 1, TILE_PX // 2),
        ),
    )


def _bars(real: Realism, fake: Realism) -> tuple[Bars, ...]:
    """The figures that do not run over anything."""
    return (
        Bars(
            title="Correlation of the noise",
            hint="0: each pixel, each channel has noise of its own; 1: all have the same.",
            high=1,
            digits=2,
            rows=(
                ("neighbors", real.neighbors, fake.neighbors),
                ("channels", real.channels, fake.channels),
            ),
        ),
        Bars(
            title="Mean color, levels",
            hint="Of the subjects as well as the camera.",
            high=255,
            digits=0,
            rows=tuple(zip(("red", "green", "blue"), real.mean_rgb, fake.mean_rgb, strict=True)),
        ),
    )


def _by_brightness(side: Realism) -> Line:
    return [(index + 0.5) * BIN_LEVELS for index in range(len(side.by_brightness))], side.by_brightness


def _each_noise(side: Realism) -> Line:
    shares = np.arange(0, 101, 5) if side.each_noise else np.empty(0)
    return shares.tolist(), np.percentile(side.each_noise or 0.0, shares).tolist()


def _spectrum(amplitudes: Sequence[float], first: int, finest: int) -> Line:
    """first, finest: number of the first amplitude's frequency, and of the finest along a row."""
    return [100 * (first + index) / finest for index in range(len(amplitudes))], amplitudes


def _figure_html(plot: Plot) -> str:
    lines = [
        (color, name, _curve(line)) for color, (name, line) in enumerate((("real", plot.real), ("fake", plot.fake)))
    ]
    strokes = [
        Stroke(color=color, label=name, curve=curve, line=curve.values)
        for color, name, curve in lines
        if len(curve.values)
    ]
    if not strokes:
        return ""
    up = value_axis(np.concatenate([stroke.curve.values for stroke in strokes]), plot.scale)
    keys = "".join(f'<li><i class="key c{stroke.color}"></i>{stroke.label}</li>' for stroke in strokes)
    hint = f"{plot.hint} Logarithmic." if up.log else plot.hint
    return (
        f'<figure class="panel"><div class="title"><h3>{words(plot.title)}</h3></div>'
        f"{plot_html(strokes, plot.across, up, f'{plot.title}, real and fake')}"
        f'<figcaption><ul>{keys}</ul><p class="hint">{words(hint)}</p></figcaption></figure>\n'
    )


def _bars_html(bars: Bars) -> str:
    known = [row for row in bars.rows if row[1:] != (None, None)]
    if not known:
        return ""
    rows = "".join(
        f"<dt>{name}</dt>{''.join(_bar_html(color, value, bars) for color, value in enumerate(values))}"
        for name, *values in known
    )
    keys = "".join(f'<li><i class="key c{color}"></i>{name}</li>' for color, name in enumerate(("real", "fake")))
    return (
        f'<figure class="panel"><div class="title"><h3>{words(bars.title)}</h3></div><dl class="bars">{rows}</dl>'
        f'<figcaption><ul>{keys}</ul><p class="hint">{words(bars.hint)}</p></figcaption></figure>\n'
    )


def _bar_html(color: int, value: float | None, bars: Bars) -> str:
    if value is None:
        return "<dd>unknown</dd>"
    share = min(max(value / bars.high, 0.0), 1.0)
    return f'<dd><i class="c{color}" style="width:{100 * share:.1f}%"></i> {value:.{bars.digits}f}</dd>'


def _curve(line: Line) -> Curve:
    known = [(place, value) for place, value in zip(*line, strict=True) if value is not None]
    places, values = zip(*known, strict=True) if known else ((), ())
    return Curve(steps=np.array(places).round().astype(np.int64), values=np.array(values, dtype=np.float64))
