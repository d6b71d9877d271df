"""Which picture formats there are: told by the first bytes when reading, by the name when writing."""

import struct
from collections.abc import Callable
from pathlib import Path

HEAD_BYTES = 64
"""How much of a file `sniff` wants to see."""

READABLE = "PNG, JPEG, WebP, TIFF, AVIF, BMP, GIF, PPM and PGM"
"""The formats that can be read, for messages."""

WRITABLE = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
    ".bmp": "BMP",
}
"""Extension, in small letters, to the format that is written."""

READABLE_EXTENSIONS = frozenset((*WRITABLE, ".jpe", ".jfif", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".dib"))
"""Names that promise a picture we can read."""

FOREIGN_EXTENSIONS = frozenset((".heic", ".heif", ".jxl", ".jp2", ".psd", ".tga"))
"""Names that promise a picture we cannot read: their owner is told, not left to wonder where it went."""

CAMERA_RAW_EXTENSIONS = frozenset(
    (".3fr", ".arw", ".cr2", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".nef", ".nrw", ".pef", ".srw")
)
"""Camera raw files that look like TIFF from outside; what a TIFF reader finds in them is a thumbnail."""

_BMP_HEADER_SIZES = (12, 16, 40, 52, 56, 64, 108, 124)
_HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))


def sniff(head: bytes) -> str | None:
    """The format that a file's first bytes tell: "PNG", "JPEG", "WEBP", "TIFF", "AVIF", "BMP", "GIF", "PPM".

    "HEIC" is told too, though it cannot be read, so that the message can name it. None: not a picture we know.
    TGA has no signature, so any file could pass for one: it is left out on purpose.
    """
    return next((name for name, test in _TESTS.items() if test(head)), None)


def format_of(path: Path) -> str | None:
    """The format that a name asks to be written: a value of `WRITABLE`, or None for any other extension."""
    return WRITABLE.get(path.suffix.lower())


def shown(path: Path) -> str:
    """A path fit for a message of one line: control characters and undecodable bytes become question marks."""
    return "".join(char if char.isprintable() else "?" for char in str(path))


def _is_bmp(head: bytes) -> bool:
    # two letters are too weak a sign: the four reserved zeros and the size of the second header must fit as well
    if len(head) < 18 or not head.startswith(b"BM") or head[6:10] != bytes(4):
        return False
    return struct.unpack_from("<I", head, 14)[0] in _BMP_HEADER_SIZES


def _brands(head: bytes) -> frozenset[bytes]:
    """The brands that an ISO media file names in its first box: the major one, then the compatible ones."""
    if head[4:8] != b"ftyp":
        return frozenset()
    end = min(struct.unpack(">I", head[:4])[0], len(head))
    return frozenset((head[8:12], *(head[at : at + 4] for at in range(16, end, 4))))


def _is_avif(head: bytes) -> bool:
    return not _brands(head).isdisjoint((b"avif", b"avis"))


def _is_heic(head: bytes) -> bool:
    return not _is_avif(head) and not _brands(head).isdisjoint(_HEIC_BRANDS)


def _is_pnm(head: bytes) -> bool:
    return len(head) > 2 and head[:1] == b"P" and head[1] in b"123456" and head[2] in b" \t\r\n#"


_TESTS: dict[str, Callable[[bytes], bool]] = {
    "PNG": lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"),
    "JPEG": lambda head: head.startswith(b"\xff\xd8\xff"),
    "WEBP": lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP",
    "TIFF": lambda head: head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    "AVIF": _is_avif,
    "HEIC": _is_heic,
    "GIF": lambda head: head.startswith((b"GIF87a", b"GIF89a")),
    "BMP": _is_bmp,
    "PPM": _is_pnm,
}
