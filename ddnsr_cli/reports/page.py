"""A page: one file, no network, nothing but its own script, nothing half-written; images go inside."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddnsr_cli.errors import DdnsrError, ImageWriteError
from ddnsr_cli.files import atomic_path

OWN = "ddnsr_cli.reports"

_ALONE = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_SERVED = "default-src 'none'; img-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; base-uri 'none'"

Rgb8 = NDArray[np.uint8]

GRID_PX = 4
"""Windows lie on LR pixels."""

BAND_PX = 64
"""Rows that are worked on at a time."""


@dataclass(frozen=True, kw_only=True)
class PageKind:
    """The files of one kind of page; they lie in the package that fills them."""

    package: str

    body: str
    """Its `<body>`, with blanks such as `$heading`; `$script` is the script's."""

    styles: tuple[str, ...]
    """Put after the style that all pages have."""

    script: str | None = None

    served: bool = False
    """A server stands behind it, which the page may ask."""


def page_html(kind: PageKind, parts: Mapping[str, str], *, title: str) -> str:
    """The page, its blanks filled from `parts`. The same arguments give the same text.

    The page's policy lets nothing run but its script, and nothing be loaded but `data:`, or from its own server. Title
    and parts are HTML: what is to be read as words must have been through `words`.
    """
    policy = _SERVED if kind.served else _ALONE
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


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part of an image. Lengths are HR pixels."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, image: Rgb8) -> Rgb8:
        """The part of an image (H, W, 3) that lies in the window, without a copy."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


def most_different(images: Sequence[Rgb8], *, side_px: int) -> Window:
    """The square window in which images of one scene differ most from one another: the greatest sum of variances.

    images: (H, W, 3), all of one size. side_px: of the window, HR pixels; shorter where the image is.
    Of several such windows it is the topmost, then the leftmost: images that are all the same give (0, 0).
    """
    height, width = images[0].shape[:2]
    window_height, window_width = min(side_px, height), min(side_px, width)
    sums = _window_sums(_variance(images), window_height, window_width)
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return Window(top=int(top) * GRID_PX, left=int(left) * GRID_PX, height=window_height, width=window_width)


def _variance(images: Sequence[Rgb8]) -> NDArray[np.float64]:
    """(H, W): the variance over the images times the square of their number, summed over the colors; exact."""
    found = np.empty(images[0].shape[:2], np.float64)
    for top in range(0, len(found), BAND_PX):  # in whole numbers all images at once would take gigabytes
        bands = np.stack([image[top : top + BAND_PX] for image in images]).astype(np.int64)
        spread = len(images) * (bands * bands).sum(axis=0) - bands.sum(axis=0) ** 2
        found[top : top + BAND_PX] = spread.sum(axis=2)
    return found


def _window_sums(values: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Sums of `values` (H, W) over every window that starts at a multiple of GRID_PX and lies inside."""
    corners = np.pad(values.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    below = corners[height::GRID_PX] - corners[: len(corners) - height : GRID_PX]
    sums: NDArray[np.float64] = below[:, width::GRID_PX] - below[:, : below.shape[1] - width : GRID_PX]
    return sums


def lossless(image: Rgb8) -> str:
    """An image (H, W, 3) as WebP that has lost nothing: a tenth smaller than PNG. For small ones."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="WEBP", lossless=True)
    return data_uri(buffer.getvalue(), "image/webp")


def compressed(image: Rgb8, *, quality: int) -> str:
    """An image (H, W, 3) as JPEG with colors at full resolution, which keep the look of colored noise."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality, subsampling=0, optimize=True)
    return data_uri(buffer.getvalue(), "image/jpeg")


def reduced(image: Rgb8, *, most_px: int) -> Rgb8:
    """The image with its longer side at `most_px` where it is longer: Lanczos, antialiased."""
    height, width = image.shape[:2]
    longer = max(height, width)
    if longer <= most_px:
        return image
    size = max(1, round(width * most_px / longer)), max(1, round(height * most_px / longer))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
