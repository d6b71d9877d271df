"""The page of a training run: `report.html`, one file that needs no network."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image

from ddnsr_cli.errors import ImageReadError, TrainingError
from ddnsr_cli.io.read import read_rgb
from ddnsr_cli.reports.charts import SMOOTH_SHARE, panel_html, shown
from ddnsr_cli.reports.history import History, panels_for, read_history
from ddnsr_cli.reports.page import PageKind, data_uri, page_html, words, write_page

PAGE_NAME = "report.html"
MOST_SHEETS = 3
MOST_WIDTH_PX = 1600
QUALITY = 85
"""Of the copies in the page, WebP: half the bytes of a JPEG. The files beside the page have lost nothing."""

PAGE = PageKind(package="ddnsr_cli.reports", body="page.html", styles=("page.css",), script="page.js")

READING = (
    f"A bold curve is the mean of about 1/{SMOOTH_SHARE} of the run around each step; the pale one behind it is what "
    "was logged. Point at a curve to read it."
)


def samples_html(run: Path) -> str:
    """The newest sheet, and the two before it behind a fold; empty when there is none."""
    sheets = newest_sheets(run / "samples")
    if not sheets:
        return ""
    first, *older = (_sheet_html(step, path, _version_of(path)) for step, path in sheets)
    folded = f"<details><summary>Earlier samples</summary>{''.join(older)}</details>" if older else ""
    return f'<h2>Samples</h2><div class="card">{first}{folded}</div>\n'


def newest_sheets(folder: Path) -> list[tuple[int, Path]]:
    """(step, file) of the newest `step_N.png`, the newest first."""
    found = [(re.fullmatch(r"step_(\d+)", path.stem), path) for path in folder.glob("step_*.png")]
    return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)[:MOST_SHEETS]


def _version_of(path: Path) -> tuple[int, int] | None:
    """What tells a file from another that takes its place: a page is made again and again, of the same sheets."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=MOST_SHEETS)
def _sheet_html(step: int, path: Path, _version: tuple[int, int] | None) -> str:
    link = f'<a href="samples/{words(path.name)}">{words(path.name)}</a>'
    try:
        image = Image.fromarray(read_rgb(path))
    except ImageReadError:
        return f'<figure class="sheet"><figcaption>Step {step:,}: {link} cannot be read.</figcaption></figure>'
    width, height = image.size
    if width > MOST_WIDTH_PX:
        height = max(1, round(height * MOST_WIDTH_PX / width))
        image = image.resize((MOST_WIDTH_PX, height), Image.Resampling.LANCZOS)
    return (
        f'<figure class="sheet"><div><img alt="Sample sheet of step {step:,}" width="{image.width}" '
        f'height="{image.height}" src="{_data_uri(image)}"></div>'
        f"<figcaption>Step {step:,}. In full: {link}</figcaption></figure>"
    )


def _data_uri(image: Image.Image) -> str:
    buffer = BytesIO()
    image.save(buffer, format="WEBP", quality=QUALITY)
    return data_uri(buffer.getvalue(), "image/webp")


def write_run_report(run: Path) -> Path:
    """Write `report.html` in a run folder, whole or not at all, and return its path.

    Reads `options.json`, `log.jsonl` and the newest `samples/step_N.png`; a log or samples that are not there yet
    leave their place empty. The same files give the same page.
    Raises TrainingError when the folder is none of a run, or does not take the page.
    """
    options = _read_options(run)
    target, log = run / PAGE_NAME, run / "log.jsonl"
    try:
        history = read_history(log)
    except OSError as cause:
        raise TrainingError(f"{log} cannot be read ({cause.strerror or cause}). Check the folder.") from cause
    write_page(_page(run, options, history), target, error=TrainingError)
    return target


def _read_options(run: Path) -> Mapping[str, Any]:
    path = run / "options.json"
    try:
        options = json.loads(path.read_bytes())
    except (OSError, ValueError) as cause:
        raise TrainingError(f"{path} cannot be read ({cause}). Give the folder of a training run.") from cause
    if not isinstance(options, dict):
        raise TrainingError(f"{path} holds no options. Give the folder of a training run.")
    return options


def _page(run: Path, options: Mapping[str, Any], history: History) -> str:
    title = words(run.resolve().name)
    parts = {
        "title": title,
        "progress": _progress(options, history),
        "body": "".join((*_body(run, history), _options_html(options))),
    }
    return page_html(PAGE, parts, title=title)


def _progress(options: Mapping[str, Any], history: History) -> str:
    """Steps done, and of how many where the options tell."""
    schedule = options.get("schedule")
    steps = schedule.get("steps") if isinstance(schedule, dict) else None
    if not isinstance(steps, int) or steps < 1:
        return f"<p>{history.step:,} steps</p>"
    share = min(1.0, history.step / steps)
    return (
        f"<p>{history.step:,} of {steps:,} steps, {100 * share:.3g}%</p>"
        f'<progress value="{history.step}" max="{steps}" aria-label="Steps done"></progress>'
    )


def _body(run: Path, history: History) -> Iterator[str]:
    """The sections, in the order in which a person asks: how good, what does it look like, how does it learn."""
    panels = panels_for(history.curves)
    sections = {
        name: f'<h2>{words(name)}</h2><div class="grid-of-panels">'
        f"{''.join(panel_html(panel, history) for panel in group)}</div>\n"
        for name, group in groupby(panels, key=lambda panel: panel.section)
    }
    yield sections.pop("Validation", "")
    yield samples_html(run)
    yield from sections.values()
    yield _latest_html(history) if panels else "<p>No figures have been logged yet.</p>\n"


def _latest_html(history: History) -> str:
    rows = "".join(
        f"<tr><td><code>{words(name)}</code></td>"
        + "".join(
            f'<td class="n">{shown(value)}</td>' for value in (curve.values[-1], curve.values.min(), curve.values.max())
        )
        + f'<td class="n">{int(curve.steps[-1]):,}</td></tr>'
        for name, curve in history.curves.items()
    )
    lost = f" Lines of the log that could not be read: {history.left_out}." if history.left_out else ""
    head = "".join(f'<th class="n">{word}</th>' for word in ("latest", "least", "greatest", "at step"))
    return (
        f'<p class="note">{READING}{lost}</p>\n<h2>Latest figures</h2><div class="card wide">'
        f"<table><thead><tr><th>figure</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>\n"
    )


def _options_html(options: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{words(name)}</code></td><td>{words(json.dumps(value, ensure_ascii=False))}</td></tr>"
        for name, value in _dotted(options)
    )
    return (
        '<h2>Options</h2><div class="card"><details><summary>As saved in options.json</summary>'
        f'<div class="wide"><table><tbody>{rows}</tbody></table></div></details></div>\n'
    )


def _dotted(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, dict) and value:
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
