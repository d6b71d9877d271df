"""What a result was made from: a source by size and hash, and a short note inside the result that can tell it.

The note is out of sight of whoever looks at the image or at its metadata. It stands at the end of the file: in PNG,
WebP and AVIF as a chunk of its own that readers pass over, in JPEG, TIFF and BMP behind the image, where cameras put
such things as well. PNG's chunk is marked as not to be copied by a program that changes the image, and other programs
do not write what they do not know: after an edit the note is gone.
"""

import json
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ddnsr_cli.files import StorePath, is_special, sha256_of

MOST_BYTES = 8192
"""Longer notes are not found again."""

_MANIFEST_NAME = re.compile(r"manifest(-\d+-of-\d+)?\.jsonl")
_LONGEST_LINE = 1 << 16
_MARK = b"ddnsr-note:"
_END = b":ddnsr-note"
_PNG_END = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
_TAIL_BYTES = MOST_BYTES + len(_MARK + _END + _PNG_END) + 64


@dataclass(frozen=True, kw_only=True)
class Source:
    """An input file as it was when it was read."""

    bytes: int
    sha256: str


def source_of(path: Path) -> Source:
    """Raises OSError as the file system does."""
    return Source(bytes=path.stat().st_size, sha256=sha256_of(path))


def is_unchanged(path: Path, source: Source, result: Path, *, digest: Callable[[Path], str] = sha256_of) -> bool:
    """Whether an input is what it was: of the same size, and untouched since `result` was made or of the same hash.

    Not to be touched means neither written nor put in place: a rename keeps the time of writing, not that of change.
    digest: of a file, asked only when it was touched. Raises OSError as the file system does.
    """
    status = path.stat()
    if status.st_size != source.bytes:
        return False
    return _touched_ns(status) < result.stat().st_mtime_ns or digest(path) == source.sha256


def _touched_ns(status: os.stat_result) -> int:
    return max(status.st_mtime_ns, status.st_ctime_ns)


def was_written(path: Path, before: os.stat_result) -> bool:
    """Whether a file is another than it was before, by size and time. Raises OSError as the file system does."""
    now = path.stat()
    return (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns)


def date_back(result: Path, before: os.stat_result) -> None:
    """Make a result no newer than the file that it was made of, so that `is_unchanged` looks at that file."""
    with suppress(OSError):
        os.utime(result, ns=(_touched_ns(before),) * 2)


def add_stamp(path: Path, note: Callable[[int], bytes]) -> None:
    """Put a note into a finished image file of ours, whose format its extension tells.

    note: gives the note for the size in bytes that the file will have with it; its length must not depend on that.
    Raises ValueError where the note is too long, OSError as the file system does.
    """
    with path.open("r+b") as file:
        before = file.seek(0, os.SEEK_END)
        length = len(_framed(path, note(before)))
        framed = _framed(path, note(before + length))
        if len(framed) != length or length > MOST_BYTES:
            raise ValueError(f"A note must be of one length and at most {MOST_BYTES} bytes, got {length}.")
        _APPEND.get(path.suffix.lower(), _append)(file, framed)


def read_stamp(path: Path) -> bytes | None:
    """The note in an image file; None where there is none. Raises OSError as the file system does."""
    if not isinstance(path, StorePath) and is_special(path):  # to read it might never end
        return None
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read()
    end = tail.rfind(_END)
    start = tail.rfind(
        _MARK, 0, max(0, end)
    )  # not behind it: with a checksum that begins with a colon it looks the same
    return tail[start + len(_MARK) : end] if start >= 0 else None


def mark_as(path: Path, kind: str) -> None:
    """Put a note into an image file of ours that says no more than what it is. Raises OSError as the file system does.

    kind: not "result", whose note says what it was made from.
    """
    note = json.dumps({"kind": kind}).encode()
    add_stamp(path, lambda _size: note)


def made_as(path: Path) -> str | None:
    """As what ddnsr made a file, by its note: "result", "sheet" or another kind; None: it is none of ours, or cannot be
    read.

    The note need not fit the file to the byte any more: a result whose metadata were changed is one all the same.
    """
    try:
        raw = read_stamp(path)
        note = json.loads(raw) if raw is not None else None
    except OSError:
        return None
    except (ValueError, RecursionError):
        return "result"
    kind = note.get("kind") if isinstance(note, dict) else None
    return None if raw is None else kind if isinstance(kind, str) else "result"


def holds_pairs(folder: Path, names: Iterable[str]) -> bool:
    """Whether a folder is one that `ddnsr degrade` made, by the manifest in it. names: of all that is in it."""
    return any(_is_manifest(folder / name) for name in names if _MANIFEST_NAME.fullmatch(name))


def _is_manifest(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            record = json.loads(file.readline(_LONGEST_LINE))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and record.keys() >= {"hr_source_sha256", "lr_sha256"}


def _framed(path: Path, note: bytes) -> bytes:
    marked = _MARK + note + _END
    return _FRAMES.get(path.suffix.lower(), bytes)(marked)


def _png_chunk(marked: bytes) -> bytes:
    kind = b"ddNS"  # by its letters: ancillary, private, not safe to copy
    return struct.pack(">I", len(marked)) + kind + marked + struct.pack(">I", zlib.crc32(kind + marked))


def _webp_chunk(marked: bytes) -> bytes:
    return b"DDNS" + struct.pack("<I", len(marked)) + marked + bytes(len(marked) % 2)


def _avif_box(marked: bytes) -> bytes:
    return struct.pack(">I", 8 + len(marked)) + b"free" + marked


def _append(file: BinaryIO, framed: bytes) -> None:
    file.seek(0, os.SEEK_END)
    file.write(framed)


def _before_png_end(file: BinaryIO, framed: bytes) -> None:
    file.seek(-len(_PNG_END), os.SEEK_END)
    file.write(framed + _PNG_END)


def _into_riff(file: BinaryIO, framed: bytes) -> None:
    _append(file, framed)
    size = file.tell() - 8
    file.seek(4)
    file.write(struct.pack("<I", size))


_FRAMES: dict[str, Callable[[bytes], bytes]] = {".png": _png_chunk, ".webp": _webp_chunk, ".avif": _avif_box}
_APPEND: dict[str, Callable[[BinaryIO, bytes], None]] = {".png": _before_png_end, ".webp": _into_riff}
