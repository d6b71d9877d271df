"""A page: one file, no network, nothing but its own script, nothing half-written."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from ddnsr_cli.errors import DdnsrError, ImageWriteError
from ddnsr_cli.files import atomic_path

OWN = "ddnsr_cli.workflows.webpage"


@dataclass(frozen=True, kw_only=True)
class PageKind:
    """The files of one kind of page; they lie in the package that fills them."""

    package: str

    body: str
    """Its `<body>`, with blanks such as `$heading`; `$script` is the script's."""

    styles: tuple[str, ...]
    """Put after the style that all pages have."""

    script: str | None = None


def page_html(kind: PageKind, parts: Mapping[str, str], *, title: str) -> str:
    """The page, its blanks filled from `parts`. The same arguments give the same text.

    The page's policy lets nothing run but its script, and nothing be loaded but `data:`. Title and parts are HTML: what
    is to be read as words must have been through `words`.
    """
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    script = ""
    if kind.script is not None:
        script = _text(kind.package, kind.script)
        policy += f"; script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"
    body = Template(_text(kind.package, kind.body).strip()).substitute(parts, script=script)
    style = _text(OWN, "base.css") + "".join(_text(kind.package, name) for name in kind.styles)
    return Template(_text(OWN, "shell.html")).substitute(title=title, policy=policy, style=style.strip(), body=body)


def write_page(html: str, page: Path, *, error: type[DdnsrError] = ImageWriteError) -> None:
    """Write the page whole or not at all. Raises `error` where the place does not take it."""
    try:
        with atomic_path(page) as temporary:
            temporary.write_text(html, encoding="utf-8")
    except OSError as cause:
        reason = cause.strerror or cause
        raise error(f"{page} could not be written ({reason}). Check the folder and the free space.") from cause


def words(text: str) -> str:
    """Any text, a file's name of odd bytes too, as words in HTML."""
    return escape(text.encode(errors="replace").decode())


def data_uri(content: bytes, kind: str) -> str:
    """A file inside the page. kind: its MIME type, as `image/png`."""
    return f"data:{kind};base64,{b64encode(content).decode()}"


def _text(package: str, name: str) -> str:
    return (files(package) / name).read_text(encoding="utf-8")
