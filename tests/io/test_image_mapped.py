"""Pixels of large images wait in a file."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from ddnsr_cli.inference.tiling import PixelSource
from ddnsr_cli.io.image import MOST_BYTES, let_go, mapped
from tests.helpers.image_files import noise

ROWS = MOST_BYTES // (1024 * 3) + 1


def of_files_in_memory():
    """Bytes of files that this process holds."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssFile:"))


@pytest.mark.parametrize(("kind", "channels"), [(np.uint8, 3), (np.uint16, 3), (np.uint8, 1)])
def test_pixels_are_the_same_in_a_file(kind, channels):
    pixels = noise(ROWS, 3072 // channels // np.dtype(kind).itemsize, channels, kind)
    there = mapped(pixels)
    assert there is not pixels
    assert (there.shape, there.dtype) == (pixels.shape, pixels.dtype)
    assert np.array_equal(there, pixels)
    let_go(there)
    assert np.array_equal(there, pixels)
    with pytest.raises(ValueError, match="read-only"):
        there[0, 0] = 0


def test_pixels_that_do_not_lie_in_order_are_put_in_order():
    pixels = noise(1024, ROWS, 3)
    turned = pixels.swapaxes(0, 1)
    assert np.array_equal(mapped(turned), turned)


def test_memory_holds_what_is_looked_at():
    there = mapped(noise(ROWS, 1024, 3))
    before = of_files_in_memory()
    there.sum()
    assert of_files_in_memory() - before > 0.8 * MOST_BYTES
    let_go(there)
    assert of_files_in_memory() - before < 0.2 * MOST_BYTES
    source = PixelSource(there)
    for top in range(0, ROWS - 16, 16):
        source.read(top, 0, 16, 1024)
    assert of_files_in_memory() - before < 0.2 * MOST_BYTES


def test_small_images_stay_in_memory():
    pixels = noise(ROWS - 1, 1024, 3)
    assert mapped(pixels) is pixels
    let_go(pixels)
    assert pixels.any()


def test_without_room_for_the_file_they_stay_in_memory(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    pixels = noise(ROWS, 1024, 3)
    assert mapped(pixels) is pixels
