"""PNG of every depth and color type."""

import numpy as np
import pytest

from tests.helpers.image_files import interlaced_png, packed_rows, png, smooth
from tests.helpers.round_trip import check

HEIGHT, WIDTH = 9, 13
COLOR_TYPES = {1: 0, 3: 2, 2: 4, 4: 6}
RNG = np.random.default_rng(4)


def blocks(levels, channels):
    """(H, W, C) of whole numbers below `levels`, in blocks, so that flat areas are there."""
    small = RNG.integers(0, levels, (-(-HEIGHT // 3), -(-WIDTH // 3), channels))
    return small.repeat(3, axis=0).repeat(3, axis=1)[:HEIGHT, :WIDTH]


def file(samples, bits, color_type, chunks=(), *, interlaced=False):
    if interlaced:
        return interlaced_png(samples, bits=bits, color_type=color_type, chunks=chunks)
    rows = packed_rows(samples, bits)
    return png(WIDTH, HEIGHT, bits=bits, color_type=color_type, rows=rows, chunks=chunks)


def full(levels, bits):
    """Levels of a few bits as samples of 8, others as they are."""
    return levels.astype(np.uint16) if bits == 16 else (levels * (255 // ((1 << bits) - 1))).astype(np.uint8)


interlacing = pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])


@interlacing
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_gray(enlarged, bits, interlaced):
    levels = blocks(1 << bits, 1)
    check(enlarged(file(levels, bits, 0, interlaced=interlaced)), full(levels, bits))


@interlacing
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [3, 2, 4], ids=["RGB", "LA", "RGBA"])
def test_color_and_alpha(enlarged, bits, channels, interlaced):
    levels = blocks(1 << bits, channels)
    if channels in {2, 4}:
        levels[:4, :, -1], levels[4:8, :, -1] = 0, (1 << bits) - 1
    check(enlarged(file(levels, bits, COLOR_TYPES[channels], interlaced=interlaced)), full(levels, bits))


@interlacing
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparent", ["opaque", "one clear", "degrees"])
def test_palette(enlarged, bits, transparent, interlaced):
    indexes = blocks(1 << bits, 1)
    palette = RNG.integers(0, 256, (1 << bits, 3)).astype(np.uint8)
    palette[:2] = (255, 0, 0), (0, 0, 255)
    alpha = {"opaque": [], "one clear": [255, 0], "degrees": [128, 0]}[transparent]
    chunks = [(b"PLTE", palette.tobytes())] + ([(b"tRNS", bytes(alpha))] if alpha else [])
    expected = palette[indexes[..., 0]]
    if alpha:
        every = np.array([*alpha, *[255] * (len(palette) - len(alpha))], np.uint8)
        expected = np.dstack([expected, every[indexes[..., 0]]])
    check(enlarged(file(indexes, bits, 3, chunks, interlaced=interlaced)), expected)


def test_a_palette_of_grays_is_gray(enlarged):
    indexes = blocks(4, 1)
    chunks = [(b"PLTE", bytes([0, 0, 0, 99, 99, 99, 180, 180, 180, 255, 255, 255, 1, 2, 3]))]  # the last is not used
    check(enlarged(file(indexes, 8, 3, chunks)), np.array([0, 99, 180, 255], np.uint8)[indexes])


@pytest.mark.parametrize(("channels", "bits"), [(1, 1), (1, 2), (1, 4), (1, 8), (1, 16), (3, 8), (3, 16)])
def test_one_clear_color(enlarged, channels, bits):
    levels = blocks(1 << bits, channels)
    clear = (levels == levels[0, 0]).all(axis=2)
    key = b"".join(int(level).to_bytes(2, "big") for level in levels[0, 0])
    white = 65535 if bits == 16 else 255
    expected = np.dstack([full(levels, bits), np.where(clear, 0, white)]).astype(full(levels, bits).dtype)
    check(enlarged(file(levels, bits, COLOR_TYPES[channels], [(b"tRNS", key)])), expected)


def test_an_animation_gives_its_first_image_and_it_is_said(enlarged):
    """Frames are counted where they are, whatever the header promises."""
    control, frame = (b"acTL", (9).to_bytes(4, "big") + bytes(4)), (b"fcTL", bytes(26))
    image = smooth(HEIGHT, WIDTH)
    rows, later = packed_rows(image, 8), [frame, (b"fdAT", bytes(8))] * 2
    first = png(WIDTH, HEIGHT, bits=8, color_type=2, rows=rows, chunks=[control, frame], late_chunks=later)
    check(enlarged(first), image, note="only the first of 3 frames was read")
    check(enlarged(file(image, 8, 2, [control, frame])), image)
