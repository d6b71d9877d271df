"""Image formats: told by the first bytes when reading, by the name when writing; and what each can hold."""

import errno
import re
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ddnsr_cli.errors import FolderWriteError, ImageWriteError, printable, shown

HEAD_BYTES = 64
"""How much of a file `sniff` wants to see."""

READABLE = "PNG, JPEG, WebP, TIFF, AVIF, JPEG 2000, BMP, GIF, PPM, TGA, ICO and QOI"
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

READABLE_EXTENSIONS = frozenset(
    (*WRITABLE, ".jpe", ".jfif", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".dib", ".jp2", ".j2k", ".jpx", ".tga")
) | {".ico", ".qoi"}
"""Names that promise an image we can read."""

FOREIGN_EXTENSIONS = frozenset((".heic", ".heif", ".hif", ".jxl", ".psd", ".exr"))
"""Names that promise an image we cannot read: their owner is told, not left to wonder where it went."""

CAMERA_RAW_EXTENSIONS = frozenset(
    (".3fr", ".arw", ".cr2", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".nef", ".nrw", ".pef", ".srw")
)
"""Camera raw files that look like TIFF from outside; what a TIFF reader finds in them is a thumbnail."""

MODEL_EXTENSIONS = frozenset((".safetensors", ".pth", ".pt", ".ckpt", ".param", ".bin", ".onnx", ".pt2"))
"""Names that promise the weights of a network, given where an image is asked for."""

_BMP_HEADER_SIZES = (12, 16, 40, 52, 56, 64, 108, 124)
_TGA_KINDS, _TGA_BITS = (1, 2, 3, 9, 10, 11), (8, 15, 16, 24, 32)
_SAVE_AS = f"Save it as one of: {READABLE}."
_FRAME = "Take a frame out of it first."
_UNPACK, _DEVELOP = "Unpack it first.", "Develop it first, to TIFF or PNG."
_FETCH = "Fetch the image itself: what came was not it."
_FOREIGN: tuple[tuple[str, tuple[bytes, ...], str], ...] = (  # what it is, how it begins, the way out
    ("a JPEG XL image", (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"), _SAVE_AS),
    ("a JPEG XR image", (b"II\xbc",), _SAVE_AS),
    ("a Photoshop document", (b"8BPS",), _SAVE_AS),
    ("a GIMP document", (b"gimp xcf",), _SAVE_AS),
    ("an OpenEXR image", (b"v/1\x01",), _SAVE_AS),
    ("a Radiance image", (b"#?RADIANCE", b"#?RGBE"), _SAVE_AS),
    ("a FITS image", (b"SIMPLE  =",), _SAVE_AS),
    ("a DDS texture", (b"DDS ",), _SAVE_AS),
    ("a KTX texture", (b"\xabKTX ",), _SAVE_AS),
    ("an icon of macOS", (b"icns",), _SAVE_AS),
    ("a DjVu document", (b"AT&TFORM",), _SAVE_AS),
    ("a Windows metafile", (b"\xd7\xcd\xc6\x9a", b"\x01\0\x09\0\0\x03"), _SAVE_AS),
    ("a Windows cursor", tuple(b"\0\0\2\0" + bytes((count,)) for count in range(1, 32)), _SAVE_AS),
    (
        "a TGA without its suffix, as it seems",
        (b"\0\0\2" + bytes(5), b"\0\0\x0a" + bytes(5)),
        "Give it a name that ends in .tga.",
    ),
    ("an MNG animation", (b"\x8aMNG", b"\x8bJNG"), _SAVE_AS),
    ("a camera raw file of Fujifilm", (b"FUJIFILMCCD-RAW",), _DEVELOP),
    ("a camera raw file of Panasonic", (b"IIU\0",), _DEVELOP),
    ("a camera raw file of Olympus", (b"IIRO", b"IIRS", b"MMOR"), _DEVELOP),
    ("a camera raw file of Sigma", (b"FOVb",), _DEVELOP),
    ("a camera raw file of Minolta", (b"\0MRM",), _DEVELOP),
    ("a camera raw file of Canon", (b"\0\0\0\x18ftypcrx ", b"II\x1a\0\0\0HEAPCCDR"), _DEVELOP),
    ("a PostScript document", (b"%!PS", b"\x04%!PS", b"\xc5\xd0\xd3\xc6"), _SAVE_AS),
    ("a Git LFS pointer", (b"version https://git-lfs.github.com/spec/",), "Fetch the image behind it: git lfs pull."),
    ("a git-annex pointer", (b"/annex/objects/",), "Fetch the image behind it: git annex get."),
    ("a ZIP archive", (b"PK\3\4", b"PK\5\6"), _UNPACK),
    ("an archive", (b"\x1f\x8b", b"\xfd7zXZ\0", b"7z\xbc\xaf", b"Rar!\x1a", b"BZh", b"\x28\xb5\x2f\xfd"), _UNPACK),
    ("a video", (b"\x1a\x45\xdf\xa3", b"FLV\1", b"\0\0\1\xba", b"\0\0\1\xb3", b"\x30\x26\xb2\x75"), _FRAME),
    ("a sound or video", (b"OggS", b"ID3", b"fLaC"), "It holds no image."),
    ("a companion file of macOS (AppleDouble)", (b"\0\5\x16\7", b"\0\5\x16\0"), "The image has no `._` in its name."),
)
_POSTSCRIPT_STARTS, _POSTSCRIPT_TITLE = (b"%!PS", b"%!\n", b"%!\r"), b"%!PS-Adobe-"
_PAGE_STARTS = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<title")
_JSON = re.compile(rb"[\[{]\s*(?:[\"\]}\[{]|-?\d|true|false|null)")
_MEDIA_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"skip", b"pnot")
_CRUSHED_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI"
_HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))


def sniff(head: bytes) -> str | None:
    """The format that a file's first bytes tell: "PNG", "JPEG", "WEBP", "TIFF", "AVIF", "BMP", "GIF", "PPM", "ICO",
    "JPEG2000", "QOI", or "HEIC". None: not an image we know.

    TGA has no signature, so any file could pass for one: see `is_tga`.
    """
    return next((name for name, test in _TESTS.items() if test(head)), None)


def is_tga(path: Path, head: bytes) -> bool:
    """Whether a file is called a TGA and its header could be that of one."""
    if path.suffix.lower() != ".tga" or len(head) < 18:
        return False
    palette, kind, width, height, bits = head[1], head[2], *struct.unpack_from("<HHB", head, 12)
    return palette in (0, 1) and kind in _TGA_KINDS and min(width, height) > 0 and bits in _TGA_BITS


def foreign_kind(head: bytes) -> tuple[str, str] | None:
    """What a file is that is known but cannot be read, in words, and the way out; None: nothing we know.

    head: its first bytes, a thousand or so.
    """
    if head.startswith(_CRUSHED_PNG):
        return "a PNG crushed for iOS (CgBI)", "Restore it with: pngcrush -revert-iphone-optimizations."
    known = next(((name, way) for name, starts, way in _FOREIGN if head.startswith(starts)), None)
    return known or _media_kind(head) or _text_kind(head)


def _media_kind(head: bytes) -> tuple[str, str] | None:
    if head[4:8] in _MEDIA_BOXES or (head.startswith(b"RIFF") and head[8:12] == b"AVI "):
        return "a video, or another kind of media", _FRAME
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return "a sound", "It holds no image."
    if b"%PDF-" in head:
        return "a PDF document", f"Take its images out, or render its pages, as one of: {READABLE}."
    return ("a DICOM image", _SAVE_AS) if head[128:132] == b"DICM" else None


def _text_kind(head: bytes) -> tuple[str, str] | None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16, as Windows writes texts
        head = head.replace(b"\0", b"")[2:]
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    lowered = text.lower()
    if text.startswith(_POSTSCRIPT_STARTS) or _POSTSCRIPT_TITLE in text:  # behind blank lines, or what a printer takes
        return "a PostScript document", _SAVE_AS
    if b"<svg" in lowered:
        return "an SVG drawing", _SAVE_AS
    if lowered.startswith(_PAGE_STARTS) or b"<html" in lowered or b"<!doctype html" in lowered:
        return "a web page (HTML)", _FETCH
    if lowered.startswith(b"<?xml"):
        return "an XML text", _FETCH
    return ("a JSON text", _FETCH) if _JSON.match(text) else None


def format_of(path: Path) -> str | None:
    """The format that a name asks to be written: a value of `WRITABLE`, or None for any other extension."""
    return WRITABLE.get(path.suffix.lower())


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


def _is_ico(head: bytes) -> bool:
    # four bytes are too weak a sign: the first image must lie behind the directory and have a size
    if len(head) < 22 or not head.startswith(b"\0\0\1\0"):
        return False
    count, planes, size, offset = struct.unpack_from("<H4xH2xII", head, 4)
    return 0 < count < 256 and planes in (0, 1) and size > 0 and offset >= 6 + 16 * count


def _is_qoi(head: bytes) -> bool:
    return len(head) > 13 and head.startswith(b"qoif") and head[12] in (3, 4) and head[13] in (0, 1)


def _is_pnm(head: bytes) -> bool:
    return len(head) > 2 and head[:1] == b"P" and head[1] in b"123456" and head[2] in b" \t\r\n#"


_TESTS: dict[str, Callable[[bytes], bool]] = {
    "PNG": lambda head: head.startswith(b"\x89PNG\r\n\x1a\n") and not head.startswith(_CRUSHED_PNG),
    "JPEG": lambda head: head.startswith(b"\xff\xd8\xff"),
    "WEBP": lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP",
    "TIFF": lambda head: head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    "AVIF": _is_avif,
    "HEIC": _is_heic,
    "GIF": lambda head: head.startswith((b"GIF87a", b"GIF89a")),
    "BMP": _is_bmp,
    "PPM": _is_pnm,
    "JPEG2000": lambda head: head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")),
    "ICO": _is_ico,
    "QOI": _is_qoi,
}


@dataclass(frozen=True, kw_only=True)
class _Limits:
    """What a format can hold; None: no limit that matters."""

    side_px: int | None = None
    pixels: int | None = None
    alpha: bool = True
    deep: bool = False


_LIMITS = {
    "PNG": _Limits(deep=True),
    "TIFF": _Limits(deep=True),
    "BMP": _Limits(side_px=32_767, alpha=False),  # 4 GiB of pixels is as far as its sizes go
    "JPEG": _Limits(side_px=65_500, alpha=False),  # the format ends at 65,535, the library that writes it here
    "WebP": _Limits(side_px=16_383),
    "AVIF": _Limits(side_px=32_768, pixels=16_384**2),  # larger ones can be written, but usual readers refuse them
}


def holds_alpha(path: Path) -> bool:
    """Whether the format that `path` names has a place for transparency; True for a name that cannot be written."""
    file_format = format_of(path)
    return file_format is None or _LIMITS[file_format].alpha


def check_format(path: Path, *, width: int, height: int, has_alpha: bool, depth_bits: int) -> tuple[str, ...]:
    """Whether the format that `path` names can hold an image; looks at the name only.

    Gives notes about what will be lost. Raises ImageWriteError, with a format that would do, where it cannot.
    """
    name, file_format = shown(path), format_of(path)
    if file_format is None:
        what = f"{name}: {printable(path.suffix)} cannot be written" if path.suffix else f"{name} has no extension"
        raise ImageWriteError(f"{what}. Use one of: {' '.join(WRITABLE)}.")
    limits = _LIMITS[file_format]
    if has_alpha and not limits.alpha:
        raise ImageWriteError(f"{name}: {file_format} holds no transparency, and the image has some. Use .png.")
    too_long = limits.side_px is not None and max(width, height) > limits.side_px
    too_many = limits.pixels is not None and width * height > limits.pixels
    if too_long or too_many:
        most = f"{limits.side_px:,} pixels a side" + (f", {limits.pixels:,} in all" if limits.pixels else "")
        raise ImageWriteError(f"{name}: {width} x {height} is too large, {file_format} holds {most}. Use .png or .tif.")
    if depth_bits > 8 and not limits.deep:
        return (f"{file_format} is written with 8 bits a sample: 16 are rounded to 8; .png and .tif keep them",)
    return ()


def check_writable(path: Path, *, width: int, height: int, has_alpha: bool, depth_bits: int) -> tuple[str, ...]:
    """Whether an image can be written to `path`, before any work is done; makes the folder if it is missing.

    Gives notes about what will be lost. Raises ImageWriteError where the format cannot hold the image, the path
    is a folder, or nothing can be written there.
    """
    notes = check_format(path, width=width, height=height, has_alpha=has_alpha, depth_bits=depth_bits)
    name, folder = shown(path), shown(path.parent)
    try:
        if path.is_dir():
            raise ImageWriteError(f"{name} is a folder. Name a file, such as {name}/result.png.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):  # the only sure test: permissions, read-only and full disks
            pass
    except OSError as error:
        reason = error.strerror or error
        if error.errno == errno.ENAMETOOLONG:  # the names of other results may do
            raise ImageWriteError(f"{name} is too long a name for a file. Rename the source, or shorten -o.") from error
        raise FolderWriteError(f"Nothing can be written to {folder} ({reason}). Choose another with -o.") from error
    return notes
