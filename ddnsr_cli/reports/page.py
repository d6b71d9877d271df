"""A page: one file, no network, nothing but its own script, nothing half-written; images go inside."""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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

from ddnsr_cli.errors import DdnsrError, ImageWriteError, shown
from ddnsr_cli.files import atomic_path, is_folder, is_pipe, is_special, is_there, no_empty_folder
from ddnsr_cli.io.formats import MODEL_EXTENSIONS, READABLE_EXTENSIONS

OWN = "ddnsr_cli.reports"

_ALONE = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_OWN_HEADS = (b'<meta name="generator" content="ddnsr">', _ALONE.encode())  # the second: of pages of earlier versions
_HEAD_BYTES = 1024
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


@contextmanager
def results_at(
    pages: Sequence[Path], tables: Sequence[Path] = (), *, read: Sequence[Path] = (), overwrite: bool | None = None
) -> Iterator[None]:
    """Whether pages and tables may be written there, before the work; their folders are made, and go if nothing comes.

    read: files, and folders of images. overwrite: whether a page may replace what is none of ours; None: the command
    has no such option. Raises ImageWriteError.
    """
    places: dict[Path, Path] = {}
    for path in (*tables, *pages):
        refuse_special(path, to_pipe=path in tables)
        if is_pipe(path):
            continue
        if path.resolve() in places:
            raise ImageWriteError(f"{shown(path)} is named for two results. Give each a file of its own.")
        places[path.resolve()] = path
        refuse_to_lose(path, read)
    for page in pages:
        if not overwrite:
            refuse_foreign(page, "Give another name." if overwrite is None else "Give another name, or --overwrite.")
    with ExitStack() as stack:
        for path in places.values():
            stack.enter_context(_folder_of(path))
        yield


def refuse_special(path: Path, *, to_pipe: bool) -> None:
    """Raises ImageWriteError for a device, and for a pipe where none will do."""
    if is_special(path) and not (to_pipe and is_pipe(path)):
        raise ImageWriteError(
            f"{shown(path)} is a device or a pipe. Name a file{', or - for stdout' if to_pipe else ''}."
        )


def refuse_to_lose(path: Path, read: Sequence[Path]) -> None:
    """Raises ImageWriteError where a page or a table would replace what is read, or be called an image or weights.

    read: files, and folders of images.
    """
    place, extension = path.resolve(), path.suffix.lower()
    is_image = extension in READABLE_EXTENSIONS
    for other in (one.resolve() for one in read):
        if is_there(path) and (place == other or (is_image and other in place.parents)):
            raise ImageWriteError(f"{shown(path)} is read by this command. Write the result somewhere else.")
    if is_folder(path):
        raise ImageWriteError(f"{shown(path)} is a folder. Name a file.")
    if is_image or extension in MODEL_EXTENSIONS:
        kind = "an image" if is_image else "weights"
        raise ImageWriteError(f"{shown(path)} would be text under the name of {kind}. Give another name.")


def refuse_foreign(page: Path, way_out: str, *, error: type[DdnsrError] = ImageWriteError) -> None:
    """Raises `error` where a page would replace a file that is none of our pages. way_out: the end of the message."""
    if is_there(page) and not _is_own(page):
        raise error(f"{shown(page)} exists and is no page of ddnsr. {way_out}")


def _is_own(page: Path) -> bool:
    try:
        with page.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return any(mark in head for mark in _OWN_HEADS)


@contextmanager
def _folder_of(path: Path) -> Iterator[None]:
    with no_empty_folder(path.parent, alone=True):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as cause:
            why = cause.strerror or cause
            raise ImageWriteError(f"{shown(path.parent)} cannot be made ({why}). Name another folder.") from cause
        yield


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
