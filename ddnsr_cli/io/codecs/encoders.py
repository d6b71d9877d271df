"""PNG and JPEG by libvips, from an image in memory or from rows that come one after the other."""

from collections.abc import Callable
from io import SEEK_CUR, SEEK_END, SEEK_SET
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from ddnsr_cli.io.image import ImageRows, RasterImage, Writable, as_vips, bands_of, libvips
from ddnsr_cli.io.metadata.exif import LONG, LONG8, SHORT, Layout, numbers_field, pack_fields, pack_header

Given = TypeVar("Given")
Answer = TypeVar("Answer")

_LAYOUT = Layout("<", big=True)
_WIDTH, _LENGTH, _BITS, _PHOTOMETRIC, _OFFSETS, _SAMPLES, _ROWS, _BYTES = 256, 257, 258, 262, 273, 277, 278, 279
_BLACK_IS_ZERO, _RGB = 1, 2
_STRIP_ROWS = 16


class Sink(Protocol):
    """What an image is written to."""

    def write(self, data: bytes, /) -> int:
        """Takes all of the bytes, and says how many these were."""


def save_png(image: Writable, file: Sink, *, level: int) -> None:
    """Pixels and alpha as a PNG with no word of metadata. Raises OSError as the file does, ValueError for the rest.

    level: 0 (stored) to 9 (smallest). An error that the bands of the image raise is raised as it is.
    """
    # Paeth at level 4 makes smaller files than the plain filter "up" at level 6, in two thirds of the time
    _save(image, file, "png", compression=level, filter="paeth")


def save_jpeg(image: Writable, file: Sink, *, quality: int) -> None:
    """Pixels of 8 bits as a JPEG of whole colors with no word of metadata. Raises as `save_png`."""
    # the colors not halved, as is usual: that would take away what the network made
    _save(image, file, "jpeg", Q=quality, subsample_mode="off")


def _save(image: Writable, file: Sink, encoder: str, **options: str | int) -> None:
    vips = libvips()
    failures = list[BaseException]()
    target = vips.TargetCustom()
    target.on_write(_guarded(file.write, failures, instead=-1))
    source = None
    try:
        if isinstance(image, ImageRows):
            # at hand until the end: the library does not keep what it reads from alive
            source = _source(_RowsAsTiff(image), failures)
            # fail_on: else the rest of an image would be made up, black, after an error or a stop signal
            pixels = vips.Image.tiffload_source(source, access="sequential", fail_on="error")
        else:
            pixels = _in_memory(image)
        getattr(pixels, f"{encoder}save_target")(target, keep="none", **options)
    except vips.Error as error:
        raise failures[0] if failures else ValueError(str(error)) from error
    if failures:
        raise failures[0]


def _in_memory(image: RasterImage) -> Any:  # noqa: ANN401 - pyvips has no types to name
    pixels = as_vips(image.pixels)
    return pixels if image.alpha is None else pixels.bandjoin(as_vips(image.alpha[..., None]))


def _guarded(
    work: Callable[[Given], Answer], failures: list[BaseException], *, instead: Answer
) -> Callable[[Given], Answer]:
    """`work` for the library, which knows no Python: an error waits in `failures`, and `instead` is the answer."""

    def run(given: Given) -> Answer:
        try:
            return work(given)
        except BaseException as error:  # noqa: BLE001 - it is raised again when the library has ended
            failures.append(error)
            return instead

    return run


def _source(rows: "_RowsAsTiff", failures: list[BaseException]) -> Any:  # noqa: ANN401 - as above
    source = libvips().SourceCustom()
    source.on_read(_guarded(rows.read, failures, instead=b""))
    source.on_seek(rows.seek)
    return source


class _RowsAsTiff:
    """Rows as the bytes of an uncompressed BigTIFF, made as they are asked for.

    libvips reads no other format that needs no work, holds every kind of sample, and can be told from where to read.
    Behind its head, which stays, it can be read but once and in order: so the library does, strip by strip.
    """

    def __init__(self, image: ImageRows) -> None:
        self._row_bytes = image.width * image.channels * image.depth_bits // 8
        self._head = self._made_head(image)
        self._size = len(self._head) + image.height * self._row_bytes
        self._bands = (memoryview(_bytes(band)) for band in bands_of(image, _STRIP_ROWS))
        self._band = memoryview(b"")
        self._band_at = len(self._head)
        self._place = 0

    def _made_head(self, image: ImageRows) -> bytes:
        heights = [min(_STRIP_ROWS, image.height - top) for top in range(0, image.height, _STRIP_ROWS)]
        lengths = [rows * self._row_bytes for rows in heights]

        def head(first: int) -> bytes:
            fields = [
                numbers_field(_LAYOUT, _WIDTH, LONG, image.width),
                numbers_field(_LAYOUT, _LENGTH, LONG, image.height),
                numbers_field(_LAYOUT, _BITS, SHORT, *[image.depth_bits] * image.channels),
                numbers_field(_LAYOUT, _PHOTOMETRIC, SHORT, _BLACK_IS_ZERO if image.is_gray else _RGB),
                numbers_field(_LAYOUT, _OFFSETS, LONG8, *[first + sum(lengths[:1]) * i for i in range(len(lengths))]),
                numbers_field(_LAYOUT, _SAMPLES, SHORT, image.channels),
                numbers_field(_LAYOUT, _ROWS, LONG, _STRIP_ROWS),
                numbers_field(_LAYOUT, _BYTES, LONG8, *lengths),
            ]
            header = pack_header(_LAYOUT)
            return header + pack_fields(fields, _LAYOUT, len(header))

        return head(len(head(0)))

    def read(self, most: int) -> bytes:
        """At most so many of the next bytes; none at the end."""
        if self._place < len(self._head):
            data = self._head[self._place : self._place + most]
        elif self._place >= self._size:
            data = b""
        else:
            self._advance()
            start = self._place - self._band_at
            data = bytes(self._band[start : start + most])
        self._place += len(data)
        return data

    def _advance(self) -> None:
        while self._place >= self._band_at + len(self._band):
            self._band_at += len(self._band)
            self._band = next(self._bands)
        if self._place < self._band_at:
            raise ValueError("rows that are gone were asked for again")

    def seek(self, offset: int, whence: int) -> int:
        """Go to a place in the file; what is there is made when it is read."""
        self._place = {SEEK_SET: 0, SEEK_CUR: self._place, SEEK_END: self._size}[whence] + offset
        return self._place


def _bytes(band: NDArray[Any]) -> bytes:
    return band.astype(band.dtype.newbyteorder("<"), copy=False).tobytes()
