"""The realism report as HTML: verdict, checks, plots, samples, every figure."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddnsr_cli.metrics.realism import Realism
from ddnsr_cli.metrics.verdict import Verdict
from ddnsr_cli.workflows.report.realism_plots import plots, plots_html
from ddnsr_cli.workflows.webpage.shell import PageKind, data_uri, page_html, words

PAGE = PageKind(package="ddnsr_cli.workflows.report", body="realism.html", styles=("page.css", "realism.css"))

ENLARGED = 4
"""Pixels of the page per pixel of a sample."""

VERDICT_CLASS = {True: "close", False: "apart", None: ""}

LIMITS = (
    "Noise is measured in the smoothest twentieth of each picture, so that the subjects, which differ, do not count. "
    "Every figure is the median over the pictures. Where a picture has no smooth part its faintest texture counts as "
    "noise. Colour and contrast are not judged: they are the subjects'."
)

Row = tuple[str, str, str]
"""Name, real, fake, as HTML."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two sets, as the page shows it."""

    given: int
    """Pictures in the set; those measured may be fewer."""

    realism: Realism

    samples: tuple[NDArray[np.uint8], ...]
    """Parts of some pictures, (H, W, 3)."""

    left_out: tuple[str, ...]
    """A sentence for each picture that could not be measured."""


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
        "verdict": words(verdict.sentence),
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


def _samples_html(real: Side, fake: Side) -> str:
    sides = "".join(
        f'<figure class="panel"><h3>{name}</h3><div class="crops">'
        f"{''.join(_image(sample, name) for sample in side.samples)}</div></figure>"
        for name, side in (("Real LR", real), ("Fake LR", fake))
    )
    return (
        f'<h2>Samples</h2><div class="samples">{sides}</div><p class="note">Smooth parts of pictures drawn by chance, '
        f"{ENLARGED} times enlarged.</p>\n"
    )


def _image(sample: NDArray[np.uint8], name: str) -> str:
    large = Image.fromarray(sample.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1))
    buffer = BytesIO()
    large.save(buffer, format="PNG", optimize=True)
    uri = data_uri(buffer.getvalue(), "image/png")
    return f'<img alt="Part of a picture: {name}" width="{large.width}" height="{large.height}" src="{uri}">'


def _figures_html(real: Side, fake: Side) -> str:
    head = '<tr><th>figure</th><th class="n">real</th><th class="n">fake</th></tr>'
    all_rows = [_row("Pictures in the set", real.given, fake.given), *_set_rows(real.realism, fake.realism)]
    main, curves = (
        _table(name, head, "".join(_row_html(row) for row in rows))
        for name, rows in (("Sets", all_rows), ("Plotted", _plotted_rows(real.realism, fake.realism)))
    )
    return f"<h2>Figures</h2>{main}<details><summary>Figures behind the plots</summary>{curves}</details>\n"


def _set_rows(real: Realism, fake: Realism) -> list[Row]:
    quarters = [np.quantile(side.each_noise, (0.25, 0.75)) if side.each_noise else (None,) * 2 for side in (real, fake)]
    channels = zip(real.noise_rgb or (None,) * 3, fake.noise_rgb or (None,) * 3, strict=True)
    return [
        _row("Pictures measured", real.pictures, fake.pictures),
        _row("Pictures whose noise could be measured", real.measured, fake.measured),
        _row("Noise, levels of 255", real.noise, fake.noise),
        *(
            _row(f"Noise below which {share} of the pictures are", ours, made)
            for share, ours, made in zip(("a quarter", "three quarters"), *quarters, strict=True)
        ),
        *(_row(f"Noise in {name}", *pair) for name, pair in zip(("red", "green", "blue"), channels, strict=True)),
        _row("Correlation of neighbours", real.neighbours, fake.neighbours),
        _row("Correlation of channels", real.channels, fake.channels),
        ("Mean colour: red, green, blue", _colour(real.mean_rgb), _colour(fake.mean_rgb)),
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


def _colour(rgb: tuple[float, float, float]) -> str:
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
