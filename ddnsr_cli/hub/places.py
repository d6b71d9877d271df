"""Where tensors lie in a safetensors file, read from its header alone, and the header of a file of our own.

The format: eight bytes, the length of the header (little-endian); the header, JSON; the data, to which offsets refer.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 1 << 20  # that of VGG19 has some 3 kB
VALUE_BYTES = {"F32": 4, "F16": 2}

Shapes = Mapping[str, tuple[int, ...]]
"""The shape that each wanted tensor must have, by its name."""


class LayoutError(ValueError):
    """A file is not laid out as expected. The message says what it has, to follow "with"."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """One tensor in a file. Offsets are in bytes of the data part; `stop` is not included."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def header_length(head: bytes, file_bytes: int) -> int:
    """What the first eight bytes tell. Raises LayoutError when a file of that size cannot hold such a header."""
    length = int.from_bytes(head[:LENGTH_BYTES], "little")
    if not 0 < length <= min(MAX_HEADER_BYTES, file_bytes - LENGTH_BYTES):
        raise LayoutError(f"a header of {length} bytes")
    return length


def read_places(header: bytes, shapes: Shapes, data_bytes: int) -> dict[str, Place]:
    """The places of the wanted tensors, in the order in which they lie. Others in the file are no matter.

    Raises LayoutError, saying what is wrong, when one is missing, of another shape or type, beyond the data, or shares
    bytes with another.
    """
    try:
        entries = json.loads(header)
    except (ValueError, RecursionError) as cause:
        raise LayoutError("a header that is no JSON") from cause
    if not isinstance(entries, dict):
        raise LayoutError("a header that is no table")
    found = {name: _place(name, entries.get(name), shape, data_bytes) for name, shape in shapes.items()}
    places = dict(sorted(found.items(), key=lambda item: item[1].start))
    stop = 0
    for name, place in places.items():
        if place.start < stop:
            raise LayoutError(f"{name} in bytes of another tensor")
        stop = place.stop
    return places


def _place(name: str, entry: object, shape: tuple[int, ...], data_bytes: int) -> Place:
    if not isinstance(entry, dict):
        raise LayoutError(f"no {name}")
    dtype, offsets = entry.get("dtype"), entry.get("data_offsets")
    if entry.get("shape") != list(shape):
        raise LayoutError(f"{name} not of the shape {shape}")
    if not isinstance(dtype, str) or dtype not in VALUE_BYTES:
        raise LayoutError(f"{name} of another type than {' or '.join(VALUE_BYTES)}")
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(type(offset) is int for offset in offsets)):
        raise LayoutError(f"{name} without offsets")
    start, stop = offsets
    if not (0 <= start <= stop <= data_bytes and stop - start == math.prod(shape) * VALUE_BYTES[dtype]):
        raise LayoutError(f"{name} at offsets that cannot be")
    return Place(dtype=dtype, shape=shape, start=start, stop=stop)


def runs_of(places: Mapping[str, Place]) -> list[tuple[int, int]]:
    """The stretches of data, each without a gap, in which the places lie: start and stop."""
    runs: list[tuple[int, int]] = []
    for place in places.values():
        if runs and runs[-1][1] == place.start:
            runs[-1] = (runs[-1][0], place.stop)
        else:
            runs.append((place.start, place.stop))
    return runs


def make_head(places: Mapping[str, Place], metadata: Mapping[str, str]) -> bytes:
    """Length and header of a file that holds these tensors alone, in this order. Equal arguments, equal bytes."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    start = 0
    for name, place in places.items():
        stop = start + place.stop - place.start
        entries[name] = {"dtype": place.dtype, "shape": list(place.shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data start at a multiple of 8, as the format's readers like it
    return len(text).to_bytes(LENGTH_BYTES, "little") + text
