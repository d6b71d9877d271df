"""What the pages share: one file, no network, nothing half-written."""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from string import Template

from ddnsr_cli.errors import ImageWriteError
from ddnsr_cli.files import atomic_path


def page_html(name: str, parts: Mapping[str, str]) -> str:
    """The page `name.html` with `name.css` and `name.js` inside, and its other blanks filled from `parts`.

    The page's policy lets nothing run but that script, and nothing be loaded but `data:`. Parts are HTML: what is to
    be read as words must have been escaped.
    """
    script = _asset(f"{name}.js")
    digest = b64encode(sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    style = _asset("base.css") + _asset(f"{name}.css")
    return Template(_asset(f"{name}.html")).substitute(parts, policy=policy, style=style, script=script)


def write_page(html: str, page: Path) -> None:
    """Write the page whole or not at all. Raises ImageWriteError where the place does not take it."""
    try:
        with atomic_path(page) as temporary:
            temporary.write_text(html, encoding="utf-8")
    except OSError as cause:
        reason = cause.strerror or cause
        raise ImageWriteError(
            f"{page} could not be written ({reason}). Check the folder and the free space."
        ) from cause


def _asset(name: str) -> str:
    return (files("ddnsr_cli.workflows.evaluation.pages") / name).read_text(encoding="utf-8")
