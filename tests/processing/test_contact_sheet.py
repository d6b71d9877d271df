import hashlib

import numpy as np
import pytest

from ddnsr_cli.processing.contact_sheet import GAP_PX, GROUND, LEAST_CELL_PX, sheet


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def cell(grid, *, row, column, side, rows):
    """A cell of `side` pixels, counted from the bottom, where the grid has no captions."""
    top = grid.shape[0] - (rows - row) * (side + GAP_PX)
    left = GAP_PX + column * (side + GAP_PX)
    return grid[top : top + side, left : left + side]


def test_every_image_is_there_and_each_lr_pixel_is_a_square():
    lr, sr = noise(40, 40, 1), noise(160, 160, 2)
    grid = sheet([[lr, sr], [sr, lr]], ["real LR", "SR of it"])
    assert grid.dtype == np.uint8
    assert grid.shape[1] == 2 * 160 + 3 * GAP_PX
    for row, column, image, factor in [(0, 0, lr, 4), (0, 1, sr, 1), (1, 0, sr, 1), (1, 1, lr, 4)]:
        shown = cell(grid, row=row, column=column, side=160, rows=2)
        np.testing.assert_array_equal(shown, np.kron(image, np.ones((factor, factor, 1), np.uint8)))


def test_what_is_no_image_and_no_caption_is_ground():
    grid = sheet([[noise(160, 160)] * 2], ["", ""])
    seen = np.ones(grid.shape[:2], bool)
    for column in range(2):
        left = GAP_PX + column * (160 + GAP_PX)
        seen[-160 - GAP_PX : -GAP_PX, left : left + 160] = False
    assert (grid[seen] == GROUND).all()


def inked(grid, column, *, side):
    """Whether each pixel of the caption over a column is darker than half."""
    left = GAP_PX + column * (side + GAP_PX)
    return grid[: -side - GAP_PX, left : left + side].max(axis=2) < 128


def test_a_caption_stands_over_the_middle_of_its_own_column():
    grid = sheet([[noise(160, 160)] * 3], ["", "SR of fake LR", ""])
    ink = inked(grid, 1, side=160)
    assert not inked(grid, 0, side=160).any()
    assert not inked(grid, 2, side=160).any()
    assert ink.sum() > 100
    assert abs(np.nonzero(ink.any(axis=0))[0].mean() - 80) < 4
    assert not ink[0].any()
    assert not ink[-1].any()


def test_other_words_give_other_pixels():
    first, second = (sheet([[noise(160, 160)]], [label]) for label in ("real LR", "fake LR"))
    assert (first != second).any()


def test_a_caption_too_wide_is_cut_inside_its_column():
    wide = sheet([[noise(160, 160)] * 2], ["a caption far too wide for one column\nof the sheet", ""])
    assert not inked(wide, 1, side=160).any()
    assert inked(wide, 0, side=160).sum() > 100
    gap = wide[: -160 - GAP_PX, 160 + GAP_PX : 160 + 2 * GAP_PX]
    assert (gap == GROUND).all()


@pytest.mark.parametrize("side", [16, 48, 100])
def test_small_images_are_enlarged_until_a_caption_is_legible(side):
    image = noise(side, side)
    grid = sheet([[image]], ["HR"])
    shown = grid.shape[1] - 2 * GAP_PX
    assert shown >= LEAST_CELL_PX
    assert shown % side == 0
    np.testing.assert_array_equal(
        cell(grid, row=0, column=0, side=shown, rows=1)[:: shown // side, :: shown // side], image
    )


def test_same_input_same_bytes():
    digests = {
        hashlib.sha256(sheet([[noise(32, 32), noise(128, 128)]], ["LR", "HR"]).tobytes()).hexdigest() for _ in range(3)
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        ([], ["a"]),
        ([[]], []),
        ([[noise(8, 8)]], ["a", "b"]),
        ([[noise(8, 8), noise(8, 8)], [noise(8, 8)]], ["a", "b"]),
        ([[noise(8, 8), noise(12, 12)]], ["a", "b"]),
        ([[noise(8, 8), noise(16, 32)]], ["a", "b"]),
        ([[noise(8, 8)[..., 0]]], ["a"]),
        ([[noise(8, 8).astype(np.float32)]], ["a"]),
        ([[noise(8, 0)]], ["a"]),
    ],
    ids=["no rows", "no columns", "too few", "ragged", "not whole", "other shape", "gray", "floats", "empty"],
)
def test_what_makes_no_grid_is_refused(rows, labels):
    with pytest.raises(ValueError, match=r"\d"):
        sheet(rows, labels)
