import numpy as np
import pytest

from ddnsr_cli.inference.tiling import ArraySource, Cut, Span, TileRow, fade


def test_a_fade_goes_smoothly_from_old_to_new():
    result = fade(np.zeros((3, 5, 64), np.float32), np.ones((3, 5, 64), np.float32), 2)
    ramp = result[0, 0]
    assert result.dtype == np.float32
    assert ramp[0] < 0.001
    assert ramp[-1] > 0.999
    assert (np.diff(ramp) > 0).all()
    np.testing.assert_allclose(ramp + ramp[::-1], np.ones(64), atol=1e-6)
    assert np.array_equal(result, np.broadcast_to(ramp, result.shape))


def test_a_fade_between_equal_values_is_exactly_those_values():
    values = 1e3 * np.random.default_rng(0).random((3, 37, 4), np.float32)
    assert np.array_equal(fade(values, values.copy(), 1), values)


def test_a_fade_of_no_length_is_empty():
    assert fade(np.zeros((3, 0, 4)), np.zeros((3, 0, 4)), 1).shape == (3, 0, 4)


COLS = Cut(12, (Span(0, 0, 11), Span(8, 9, 20)))
ROW = Span(2, 3, 7)


def tiles_of(image, above, *, exact=True):
    windows = [(span, image[:, 2:8, span.start : span.start + 12]) for span in COLS.spans]
    return TileRow(windows, ROW, COLS, scale=1, above=above, exact=exact)


def test_a_row_of_tiles_is_cropped_and_put_together():
    image = np.random.default_rng(0).random((3, 8, 20), np.float32)
    tiles = tiles_of(image, np.empty((3, 0, 20), np.float32))
    assert tiles.height == 4
    assert np.array_equal(tiles.part(0, 4), image[:, 3:7])


def test_parts_of_a_row_are_the_row_whatever_they_are_cut_at():
    image = np.random.default_rng(0).random((3, 8, 20), np.float32)
    tiles = tiles_of(image, np.zeros((3, 3, 20), np.float32))
    whole = tiles.part(0, 4)
    assert np.array_equal(np.concatenate([tiles.part(0, 1), tiles.part(1, 4)], axis=1), whole)
    assert np.array_equal(np.concatenate([tiles.part(top, top + 1) for top in range(4)], axis=1), whole)
    np.testing.assert_allclose(whole[:, 1], image[:, 4] / 2, rtol=1e-6)  # the middle of the fade from the row above
    assert np.array_equal(whole[:, 3], image[:, 6])


def test_a_row_held_in_16_bits_is_the_same_to_a_hundredth_of_a_level():
    image = 2 * np.random.default_rng(0).random((3, 8, 20), np.float32) - 0.5
    image[:, 3:5] = np.array([0.0, 1.0])[:, None]
    image[:, 5] = np.linspace(-3, 4, 20)
    rows = tiles_of(image, np.empty((3, 0, 20), np.float32), exact=False).part(0, 4)
    assert rows.dtype == np.float32
    assert np.array_equal(rows[:, :2], image[:, 3:5])
    wanted = image[:, 3:7].clip(-0.5, 1.5)
    assert 0 < np.abs(rows - wanted).max() <= 0.51 / 32_766
    np.testing.assert_allclose(rows[0, 2, [0, -1]], [-0.5, 1.5], rtol=1e-6)


def held_bytes(row):
    return sum((tile if tile.base is None else tile.base).nbytes for block in row._blocks for _, tile in block)


def high_row(rows):
    """One tile of 300 rows over the whole width of the image that is given, too."""
    image = np.random.default_rng(0).random((3, rows, 20), np.float32)
    span = Span(0, 0, rows)
    return TileRow([(Span(0, 0, 20), image)], span, Cut(20, (Span(0, 0, 20),)), scale=1, above=image[:, :0]), image


def test_parts_of_a_high_row_are_joined_from_its_blocks():
    tiles, image = high_row(300)
    for start, end in ((0, 300), (0, 1), (100, 128), (127, 129), (128, 256), (250, 300), (299, 300)):
        assert np.array_equal(tiles.part(start, end), image[:, start:end])


def test_rows_that_were_used_are_freed():
    tiles, image = high_row(300)
    full = held_bytes(tiles)
    tiles.drop(127)
    assert held_bytes(tiles) == full == 4 * 3 * 300 * 20
    tiles.drop(200)
    assert held_bytes(tiles) == 4 * 3 * (300 - 128) * 20
    assert np.array_equal(tiles.part(200, 300), image[:, 200:300])
    tiles.drop(300)
    assert held_bytes(tiles) == 4 * 3 * (300 - 256) * 20  # the last block is not full: it goes with its band


def test_a_row_in_16_bits_takes_half_the_memory():
    image = np.random.default_rng(0).random((3, 8, 20), np.float32)
    rows = [tiles_of(image, np.empty((3, 0, 20), np.float32), exact=exact) for exact in (True, False)]
    exact, narrow = (held_bytes(row) for row in rows)
    assert exact == 2 * narrow == 4 * 3 * 4 * 22  # two columns are in both tiles


def test_tiles_outlive_the_windows_that_they_are_cut_from():
    image = np.random.default_rng(0).random((3, 8, 20), np.float32)
    tiles, before = tiles_of(image, np.empty((3, 0, 20), np.float32)), image[:, 3:7].copy()
    image[:] = 0
    assert np.array_equal(tiles.part(0, 4), before)


def test_a_row_takes_the_middle_of_a_fade_half_from_each_tile():
    cols = Cut(6, (Span(0, 0, 6), Span(3, 3, 9)))
    windows = [(cols.spans[0], np.zeros((3, 2, 6), np.float32)), (cols.spans[1], np.ones((3, 2, 6), np.float32))]
    row = TileRow(windows, Span(0, 0, 2), cols, scale=1, above=np.empty((3, 0, 9), np.float32)).part(0, 2)
    np.testing.assert_allclose(row[0, 0], [0, 0, 0, 0.0669873, 0.5, 0.9330127, 1, 1, 1], atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 4, 4), (4, 4), (1, 3, 0, 4)])
def test_a_tensor_that_is_no_image_is_refused(shape):
    with pytest.raises(ValueError, match="An image is"):
        ArraySource(np.zeros(shape))


def test_a_source_gives_the_window_asked_for():
    lr = np.random.default_rng(0).random((1, 3, 9, 7), np.float32)
    source = ArraySource(lr)
    assert (source.height, source.width) == (9, 7)
    assert np.array_equal(source.read(2, 1, 5, 4), lr[0, :, 2:7, 1:5])
