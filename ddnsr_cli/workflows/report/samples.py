"""The newest sample sheets of a run, inside the page."""

import re
from io import BytesIO
from pathlib import Path

from PIL import Image

from ddnsr_cli.data.photos import decode_rgb
from ddnsr_cli.errors import ImageReadError
from ddnsr_cli.workflows.webpage.shell import data_uri, words

MOST_SHEETS = 3
MOST_WIDTH_PX = 1600
QUALITY = 85
"""Of the copies in the page, WebP: half the bytes of a JPEG. The files beside the page have lost nothing."""


def samples_html(run: Path) -> str:
    """The newest sheet, and the two before it behind a fold; empty when there is none."""
    sheets = newest_sheets(run / "samples")
    if not sheets:
        return ""
    first, *older = (_sheet_html(step, path) for step, path in sheets)
    folded = f"<details><summary>Earlier samples</summary>{''.join(older)}</details>" if older else ""
    return f'<h2>Samples</h2><div class="card">{first}{folded}</div>\n'


def newest_sheets(folder: Path) -> list[tuple[int, Path]]:
    """(step, file) of the newest `step_N.png`, the newest first."""
    found = [(re.fullmatch(r"step_(\d+)", path.stem), path) for path in folder.glob("step_*.png")]
    return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)[:MOST_SHEETS]


def _sheet_html(step: int, path: Path) -> str:
    link = f'<a href="samples/{words(path.name)}">{words(path.name)}</a>'
    try:
        image = Image.fromarray(decode_rgb(path))
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
