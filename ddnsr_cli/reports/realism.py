"""The realism report: how alike made LR images and real LR photos are, measured and as HTML."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddnsr_cli.errors import DataError, ImageReadError
from ddnsr_cli.io.read import read_rgb
from ddnsr_cli.metrics.noise import BIN_LEVELS, PATCH_PX
from ddnsr_cli.metrics.noise_transfer import NoiseTransfer
from ddnsr_cli.metrics.realism import (
    LEAST_PX,
    TILE_PX,
    ImageFigures,
    Realism,
    Verdict,
    compare,
    gather,
    measure_image,
)
from ddnsr_cli.reports.charts import Axis, Stroke, plot_html, value_axis
from ddnsr_cli.reports.history import Curve, Scale
from ddnsr_cli.reports.page import PageKind, data_uri, page_html, words, write_page

PAGE = PageKind(package="ddnsr_cli.reports", body="realism.html", styles=("page.css", "realism.css"))

ENLARGED = 4
"""Pixels of the page per pixel of a sample."""

VERDICT_CLASS = {True: "close", False: "apart", None: ""}

LIMITS = (
    "Noise is measured in the smoothest twentieth of each image, so that the subjects, which differ, do not count. "
    "Every figure is the median over the images. Where an image has no smooth part its faintest texture counts as "
    "noise. Color and contrast are not judged: they are the subjects'."
)

Row = tuple[str, str, str]
"""Name, real, fake, as HTML."""

Pixels = NDArray[np.uint8]

MOST_IMAGES = 100
"""Of a set: medians over so many stand still."""

WINDOW_PX = 512
"""Longest side of what is measured of an image."""

SAMPLES = 4
SAMPLE_PX = 64
SAMPLE_PLACES = 8
"""Of an image, drawn by chance; the smoothest is shown."""

LEVELS = Axis(low=0, high=256, ticks=(0, 64, 128, 192, 256))
PERCENT = Axis(low=0, high=100, ticks=(0, 25, 50, 75, 100))
FREQUENCY = Axis(low=0, high=125, ticks=(0, 25, 50, 75, 100, 125))

Line = tuple[Sequence[float], Sequence[float | None]]
"""Where on the axis, and what there; None where nothing is known."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two sets, as the page shows it."""

    given: int
    """Images in the set; those measured may be fewer."""

    realism: Realism

    samples: tuple[NDArray[np.uint8], ...]
    """Parts of some images, (H, W, 3)."""

    left_out: tuple[str, ...]
    """A sentence for each image that could not be measured."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Two lines, and how to read them."""

    title: str
    hint: str
    across: Axis
    scale: Scale
    real: Line
    fake: Line

    lacking: str = "too little of the images is neither black nor white."
    """Why a side may have no line."""

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


def realism_page(real: Side, fake: Side, verdict: Verdict) -> str:
    """The whole page; the same arguments give the same text."""
    body = (
        _checks_html(verdict),
        plots_html(real.realism, fake.realism),
        _samples_html(real, fake),
        _figures_html(real, fake),
        _left_out_html((*real.left_out, *fake.left_out)),
    )
    parts = {
        "close": VERDICT_CLASS[verdict.close],
        "verdict": words(_sentence(verdict)),
        "body": "".join(body),
    }
    return page_html(PAGE, parts, title="Fake LR against real LR")


def _checks_html(verdict: Verdict) -> str:
    rows = "".join(
        f'<tr><td>{words(check.name)}</td><td class="n">{_number(check.real)}</td>'
        f'<td class="n">{_number(check.fake)}</td><td class="n">{words(check.apart)}</td>'
        f"<td>{words(check.allowed)}</td><td>{words(check.fault or 'yes')}</td></tr>"
        for check in verdict.checks
    )
    head = (
        '<tr><th>figure</th><th class="n">real</th><th class="n">fake</th><th class="n">apart</th><th>allowed</th>'
        "<th>alike</th></tr>"
    )
    table = _table("Checks", head, rows) if verdict.checks else ""
    return f'<h2>Checks</h2>{table}<p class="note">{LIMITS}</p>\n'


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
            lacking="too few of the images have smooth parts of one brightness.",
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
    drawn = _strokes_html(plot, strokes) if strokes else ""
    missing = " or ".join(name for _, name, curve in lines if not len(curve.values))
    why = f'<p class="hint">{words(f"No line for {missing}: {plot.lacking}")}</p>' if missing else ""
    return f'<figure class="panel"><div class="title"><h3>{words(plot.title)}</h3></div>{drawn}{why}</figure>\n'


def _strokes_html(plot: Plot, strokes: Sequence[Stroke]) -> str:
    up = value_axis(np.concatenate([stroke.curve.values for stroke in strokes]), plot.scale)
    keys = "".join(f'<li><i class="key c{stroke.color}"></i>{stroke.label}</li>' for stroke in strokes)
    hint = f"{plot.hint} Logarithmic." if up.log else plot.hint
    return (
        f"{plot_html(strokes, plot.across, up, f'{plot.title}, {_labels(strokes)}')}"
        f'<figcaption><ul>{keys}</ul><p class="hint">{words(hint)}</p></figcaption>'
    )


def _labels(strokes: Sequence[Stroke]) -> str:
    return " and ".join(stroke.label for stroke in strokes)


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


def _samples_html(real: Side, fake: Side) -> str:
    sides = "".join(
        f'<figure class="panel"><h3>{name}</h3><div class="crops">'
        f"{''.join(_image(sample, name) for sample in side.samples)}</div></figure>"
        for name, side in (("Real LR", real), ("Fake LR", fake))
    )
    return (
        f'<h2>Samples</h2><div class="samples">{sides}</div><p class="note">Smooth parts of images drawn by chance, '
        f"{ENLARGED} times enlarged.</p>\n"
    )


def _image(sample: NDArray[np.uint8], name: str) -> str:
    large = Image.fromarray(sample.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1))
    buffer = BytesIO()
    large.save(buffer, format="PNG", optimize=True)
    uri = data_uri(buffer.getvalue(), "image/png")
    return f'<img alt="Part of an image: {name}" width="{large.width}" height="{large.height}" src="{uri}">'


def _figures_html(real: Side, fake: Side) -> str:
    head = '<tr><th>figure</th><th class="n">real</th><th class="n">fake</th></tr>'
    all_rows = [_row("Images in the set", real.given, fake.given), *_set_rows(real.realism, fake.realism)]
    main, curves = (
        _table(name, head, "".join(_row_html(row) for row in rows))
        for name, rows in (("Sets", all_rows), ("Plotted", _plotted_rows(real.realism, fake.realism)))
    )
    return f"<h2>Figures</h2>{main}<details><summary>Figures behind the plots</summary>{curves}</details>\n"


def _set_rows(real: Realism, fake: Realism) -> list[Row]:
    quarters = [np.quantile(side.each_noise, (0.25, 0.75)) if side.each_noise else (None,) * 2 for side in (real, fake)]
    channels = zip(real.noise_rgb or (None,) * 3, fake.noise_rgb or (None,) * 3, strict=True)
    return [
        _row("Images measured", real.images, fake.images),
        _row("Images whose noise could be measured", real.measured, fake.measured),
        _row("Noise, levels of 255", real.noise, fake.noise),
        *(
            _row(f"Noise below which {share} of the images are", ours, made)
            for share, ours, made in zip(("a quarter", "three quarters"), *quarters, strict=True)
        ),
        *(_row(f"Noise in {name}", *pair) for name, pair in zip(("red", "green", "blue"), channels, strict=True)),
        _row("Correlation of neighbors", real.neighbors, fake.neighbors),
        _row("Correlation of channels", real.channels, fake.channels),
        ("Mean color: red, green, blue", _color(real.mean_rgb), _color(fake.mean_rgb)),
        _row("Contrast: deviation of the brightness, levels", real.contrast, fake.contrast),
    ]


def _plotted_rows(real: Realism, fake: Realism) -> list[Row]:
    return [
        _row(f"{plot.title}, at {place:.0f}", ours, made)
        for plot in plots(real, fake)
        for place, ours, made in plot.table()
    ]


def _row_html(row: Row) -> str:
    name, real, fake = row
    return f'<tr><td>{name}</td><td class="n">{real}</td><td class="n">{fake}</td></tr>'


def _row(name: str, real: float | None, fake: float | None) -> Row:
    return words(name), _number(real), _number(fake)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def _color(rgb: tuple[float, float, float]) -> str:
    red, green, blue = (round(level) for level in rgb)
    return f'<i class="swatch" style="background:rgb({red},{green},{blue})"></i> {red}, {green}, {blue}'


def _table(name: str, head: str, rows: str) -> str:
    """Scrolls sideways on a narrow page, by the keyboard too."""
    return (
        f'<div class="card wide" role="region" aria-label="{name}" tabindex="0">'
        f"<table><thead>{head}</thead><tbody>{rows}</tbody></table></div>"
    )


def _left_out_html(sentences: tuple[str, ...]) -> str:
    if not sentences:
        return ""
    entries = "".join(f"<li>{words(sentence)}</li>" for sentence in sentences)
    return f"<h2>Left out</h2><ul>{entries}</ul>\n"


def measure_realism(paths: Sequence[Path], *, seed: int = 0) -> Realism:
    """Measure a set of LR images, real or made.

    At most 100 images, and of each a window of 512 by 512 pixels at most, are drawn by `seed` and the names of the
    files: their order and their folder do not matter. Files that cannot be read, or are below 32 pixels on a side,
    are left out. Raises DataError when no image is left.
    """
    return _side(paths, seed).realism


def realism_report(
    real: Sequence[Path],
    fake: Sequence[Path],
    page: Path,
    *,
    seed: int = 0,
    transfer: NoiseTransfer | None = None,
    method: str = "learned",
) -> str:
    """Compare made LR images with real ones on an HTML page, and return its verdict, and what to try next.

    Measures both as `measure_realism` does. transfer: of the degrader that made the LR images.
    method: by which `ddnsr degrade` made them. The page is one file
    that needs no network, and is written whole or not at all; the same arguments give the same page. Raises DataError
    when a set has no image that can be measured, ImageWriteError when the page cannot be written.
    """
    ours, made = _side(real, seed), _side(fake, seed)
    verdict = compare(ours.realism, made.realism, transfer, method=method)
    write_page(realism_page(ours, made, verdict), page)
    return _sentence(verdict)


def _sentence(verdict: Verdict) -> str:
    return f"{verdict.sentence} {verdict.advice}".strip()


def _side(paths: Sequence[Path], seed: int) -> Side:
    figures: list[ImageFigures] = []
    samples: list[Pixels] = []
    left_out: list[str] = []
    for path in sorted(paths, key=lambda path: (_draw(seed, path), path.as_posix())):
        if len(figures) == MOST_IMAGES:
            break
        try:
            image = read_rgb(path)
        except ImageReadError as error:
            left_out.append(str(error))
            continue
        if min(image.shape[:2]) < LEAST_PX:
            left_out.append(f"{path} is below {LEAST_PX} pixels on a side.")
            continue
        rng = np.random.default_rng(_draw(seed, path))
        figures.append(measure_image(_part(image, WINDOW_PX, rng)))
        if len(samples) < SAMPLES:
            samples.append(_smooth_part(image, rng))
    if not figures:
        first = f" The first: {left_out[0]}" if left_out else ""
        raise DataError(f"None of {len(paths)} LR images can be measured.{first}")
    return Side(given=len(paths), realism=gather(figures), samples=tuple(samples), left_out=tuple(left_out))


def _draw(seed: int, path: Path) -> int:
    """A number by chance that belongs to the seed and the file's name."""
    return int.from_bytes(sha256(f"{seed}/{path.name}".encode(errors="surrogateescape")).digest()[:8], "big")


def _part(image: Pixels, most_px: int, rng: np.random.Generator) -> Pixels:
    """A window of at most `most_px` by `most_px`, anywhere."""
    top, left = (int(rng.integers(0, max(0, length - most_px) + 1)) for length in image.shape[:2])
    return image[top : top + most_px, left : left + most_px]


def _smooth_part(image: Pixels, rng: np.random.Generator) -> Pixels:
    """The least varied of some places, where noise is best seen; black and white ones only if there are no others."""
    parts = [_part(image, SAMPLE_PX, rng) for _ in range(SAMPLE_PLACES)]
    return min(parts, key=lambda part: (not 30 < part.mean() < 225, part.std()))
