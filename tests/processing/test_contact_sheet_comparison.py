"""Sheets of parts before and after."""

import numpy as np
import pytest

from ddnsr_cli.io.image import Metadata, RasterImage
from ddnsr_cli.processing.contact_sheet import CELL_PX, GAP_PX, comparison
from ddnsr_cli.processing.resize import resize


def drawn_image(width, height, *, channels=3, kind=np.uint8, alpha=False, metadata=None):
    random = np.random.default_rng(0)
    white = np.iinfo(kind).max
    pixels = random.integers(0, white, (height, width, channels), dtype=kind)
    pixels[: height // 2] = white // 2  # a flat half
    opacity = random.integers(0, white, (height, width), dtype=kind) if alpha else None
    return RasterImage(pixels=pixels, alpha=opacity, metadata=metadata or Metadata())


def cells(sheet, rows):
    """The images of a sheet of two columns, row by row: [[before, after], ...]."""
    height = sheet.shape[0]
    tops = [height - (CELL_PX + GAP_PX) * (rows - row) for row in range(rows)]
    lefts = (GAP_PX, 2 * GAP_PX + CELL_PX)
    return [[sheet[top : top + CELL_PX, left : left + CELL_PX].astype(int) for left in lefts] for top in tops]


def test_a_large_image_shows_three_parts_the_one_with_most_detail_first():
    before = drawn_image(512, 512)
    sheet = comparison(before, resize(before, 2048, 2048), "net")
    deviations = [[cell.std() for cell in row] for row in cells(sheet.pixels, 3)]
    assert min(deviations[0]) > 30
    assert deviations[2] == [0, 0]


def test_before_and_after_show_the_same_place():
    ramp = np.broadcast_to((np.arange(400) * 255 // 400).astype(np.uint8)[:, None, None], (400, 400, 3))
    before = RasterImage(pixels=np.ascontiguousarray(ramp))
    for left, right in cells(comparison(before, resize(before, 1600, 1600), "net").pixels, 3):
        assert np.abs(left - right).max() <= 2


@pytest.mark.parametrize(
    "case",
    [{"channels": 1}, {"kind": np.uint16}, {"alpha": True}, {"channels": 1, "kind": np.uint16, "alpha": True}],
)
def test_every_kind_of_image_becomes_8_bit_color(case):
    before = drawn_image(60, 50, **case)
    sheet = comparison(before, resize(before, 240, 200), "net")
    assert sheet.pixels.dtype == np.uint8
    assert sheet.pixels.shape[2] == 3


@pytest.mark.parametrize("size", [(1, 1), (7, 900), (33, 21), (3000, 3)])
def test_every_size_is_shown(size):
    before = drawn_image(40, 30)
    comparison(before, resize(before, *size), "net")


def test_a_tiny_input_and_a_huge_result():
    before = drawn_image(2, 2)
    comparison(before, resize(before, 1200, 1200), "net")


def test_the_profile_goes_along_with_colors_only():
    for channels, expected in ((3, b"profile"), (1, None)):
        before = drawn_image(40, 30, channels=channels, metadata=Metadata(icc=b"profile"))
        assert comparison(before, resize(before, 160, 120), "net").metadata.icc == expected
