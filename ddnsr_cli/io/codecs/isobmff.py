"""What lies in an AVIF or HEIC: items, each with its kind and its places in the file."""

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

MAX_ITEMS = 10_000
"""Those behind are not looked at."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One of the things in a file: an image, a part of one, metadata."""

    number: int
    kind: bytes
    """Four letters, such as av01, hvc1, grid, Exif, tmap."""

    places: tuple[tuple[int, int], ...]
    """Where its data lie, from and to; none where they are not simply in the file."""


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of what is in each box between two offsets, as far as they can be followed."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if length == 1 and start + 16 <= end:
            (length,), head = struct.unpack_from(">Q", data, start + 8), 16
        stop = end if length == 0 else start + length
        if not start + head <= stop:
            return
        yield kind, start + head, min(stop, end)
        start = stop


def items(data: bytes) -> list[Item]:
    """The items of a file, in its order; none where its tables cannot be read."""
    found: list[Item] = []
    with suppress(struct.error, IndexError, StopIteration, ValueError):
        start, end = next((start, end) for kind, start, end in boxes(data) if kind == b"meta")
        inner = {kind: (at, stop) for kind, at, stop in boxes(data, start + 4, end)}
        kinds, places = _kinds(data, *inner[b"iinf"]), _places(data, *inner[b"iloc"])
        found = [Item(number=number, kind=kind, places=places.get(number, ())) for number, kind in kinds.items()]
    return found


def _kinds(data: bytes, start: int, end: int) -> dict[int, bytes]:
    at = start + (6 if data[start] == 0 else 8)
    kinds: dict[int, bytes] = {}
    for kind, first, _ in boxes(data, at, end):
        if kind != b"infe" or data[first] < 2 or len(kinds) >= MAX_ITEMS:
            continue
        wide = data[first] >= 3
        number = int.from_bytes(data[first + 4 : first + (8 if wide else 6)], "big")
        kinds[number] = data[first + (10 if wide else 8) :][:4]
    return kinds


def _places(data: bytes, start: int, end: int) -> dict[int, tuple[tuple[int, int], ...]]:
    reader, version = _Numbers(data, start + 4, end), data[start]
    sizes = reader.next(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    found = {}
    for _ in range(min(reader.next(2 if version < 2 else 4), MAX_ITEMS)):
        number = reader.next(2 if version < 2 else 4)
        method = reader.next(2) & 15 if version else 0
        reader.next(2)
        base, extents = reader.next(base_size), []
        for _ in range(min(reader.next(2), MAX_ITEMS)):
            reader.next(index_size if version else 0)
            first = base + reader.next(offset_size)
            extents.append((first, first + reader.next(length_size)))
        found[number] = tuple(extents) if method == 0 else ()
    return found


class _Numbers:
    """Whole numbers of several sizes, one behind the other."""

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self._data = data
        self._at = at
        self._end = end

    def next(self, size: int) -> int:
        """The next number; size: in bytes. Raises ValueError at the end."""
        stop = self._at + size
        if stop > self._end:
            raise ValueError("its tables are cut short")
        number = int.from_bytes(self._data[self._at : stop], "big")
        self._at = stop
        return number
