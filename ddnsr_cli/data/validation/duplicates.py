"""Photos that repeat others: the same bytes, or nearly the same image."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddnsr_cli.files import sha256_of

HASH_SIDE = 8  # 8 x 8 coefficients: 64 bits
SMALL_PX = 32
LEAST_CONTRAST = 2.0  # levels; the hash of an empty sky is made of its noise
SAMPLE_BYTES = 65536


def image_hash(photo: NDArray[np.uint8]) -> int | None:
    """64 bits that survive resizing, compression and noise: signs of the lowest DCT coefficients of the brightness.

    photo: (H, W, 3). None for an image too dull to tell from others.
    """
    gray = Image.fromarray(photo).convert("L").resize((SMALL_PX, SMALL_PX), Image.Resampling.BOX)
    small = np.asarray(gray, dtype=np.float64)
    if small.std() < LEAST_CONTRAST:
        return None
    waves = np.cos(np.pi * np.outer(np.arange(HASH_SIDE), np.arange(SMALL_PX) + 0.5) / SMALL_PX)
    coefficients = (waves @ small @ waves.T).ravel()
    bits = coefficients > np.median(coefficients[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near_pairs(hashes: Sequence[int], most_bits: int) -> Iterator[tuple[int, int, int]]:
    """(index, earlier index, bits that differ) for every hash with another before it at most `most_bits` away.

    Each index comes once, with one earlier. Not all pairs are compared: two hashes that differ in at most
    `most_bits` bits agree in one of `most_bits + 1` pieces.
    """
    first_with: dict[int, int] = {}
    for index, value in enumerate(hashes):
        first_with.setdefault(value, index)
    values = np.array(list(first_with), dtype=np.uint64)
    owner = list(first_with.values())
    for index, value in enumerate(hashes):
        if first_with[value] != index:
            yield index, first_with[value], 0
    for later, (bits, earlier) in _some_earlier(values, most_bits).items():
        yield owner[later], owner[earlier], bits


def _some_earlier(values: NDArray[np.uint64], most_bits: int) -> dict[int, tuple[int, int]]:
    """Position -> (bits that differ, earlier position) of each of these different values that has one near."""
    found: dict[int, tuple[int, int]] = {}
    for shift, mask in _pieces(most_bits + 1):
        for members in _groups(values >> shift & mask):
            for place in range(1, len(members)):
                later = int(members[place])
                if later in found:  # a long series of like photos would take minutes
                    continue
                bits = _bits_between(values[members[:place]], values[later])
                closest = int(bits.argmin())
                if bits[closest] <= most_bits:
                    found[later] = (int(bits[closest]), int(members[closest]))
    return found


def _pieces(count: int) -> list[tuple[np.uint64, np.uint64]]:
    """(shift, mask) of pieces that together are the 64 bits."""
    edges = [64 * piece // count for piece in range(count + 1)]
    return [(np.uint64(low), np.uint64((1 << (high - low)) - 1)) for low, high in pairwise(edges)]


def _groups(keys: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """Positions with the same key, ascending, for keys that occur more than once."""
    order = np.argsort(keys, kind="stable")
    borders = np.flatnonzero(np.diff(keys[order])) + 1
    yield from (group for group in np.split(order, borders) if len(group) > 1)


def _bits_between(values: NDArray[np.uint64], value: np.uint64) -> NDArray[np.int64]:
    different = np.bitwise_xor(values, value).view(np.uint8).reshape(-1, 8)
    bits: NDArray[np.int64] = np.unpackbits(different, axis=1).sum(1, dtype=np.int64)
    return bits


def same_bytes(paths: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """(file, earlier file) of the same content. Reads whole only files of equal size and equal middle.

    Raises OSError when a file cannot be read.
    """
    alike: dict[tuple[int, bytes], list[Path]] = defaultdict(list)
    sizes: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        sizes[path.stat().st_size].append(path)
    for size, group in sizes.items():
        if len(group) > 1:
            for path in group:
                alike[size, _middle(path, size)].append(path)
    for group in alike.values():
        first: dict[str, Path] = {}
        for path in group if len(group) > 1 else ():
            earlier = first.setdefault(sha256_of(path), path)
            if earlier != path:
                yield path, earlier


def _middle(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, (size - SAMPLE_BYTES) // 2))
        return file.read(SAMPLE_BYTES)
