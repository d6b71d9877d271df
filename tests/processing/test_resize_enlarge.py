"""Plain enlargement, and the way back."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.processing import resize
from ddnsr_cli.processing.resize import enlarged_rows, shrunk, subtract_enlarged

CUTS = [[0, 1, 2, 3, 11, 23], list(range(24))]


@pytest.fixture
def planes():
    return np.random.default_rng(0).random((3, 23, 17), dtype=np.float32)


def at_once(planes, scale, how):
    size = (scale * planes.shape[2], scale * planes.shape[1])
    return np.stack([np.asarray(Image.fromarray(plane).resize(size, how)) for plane in planes])


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_it_is_the_bicubic_of_pillow(planes, scale):
    larger = enlarged_rows(planes, 0, 23, scale=scale)
    np.testing.assert_allclose(larger, at_once(planes, scale, Image.Resampling.BICUBIC), atol=1e-6)


@pytest.mark.parametrize("cuts", CUTS)
def test_strips_leave_no_seams(planes, cuts):
    strips = [enlarged_rows(planes, top, bottom, scale=4) for top, bottom in pairwise(cuts)]
    assert np.array_equal(np.concatenate(strips, axis=1), enlarged_rows(planes, 0, 23, scale=4))


def less_enlarged(planes, top, bottom, scale):
    """1 less the rows of the enlargement, made with no more rows than these and one around them."""
    first = max(0, top - 1)
    sr = np.ones((3, scale * (bottom - top), scale * 17), np.float32)
    subtract_enlarged(sr, planes[:, first : bottom + 1], top - first, scale=scale)
    return sr


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_what_is_subtracted_is_the_bilinear_enlargement_of_pillow(planes, scale):
    larger = at_once(planes, scale, Image.Resampling.BILINEAR)
    np.testing.assert_allclose(less_enlarged(planes, 0, 23, scale), 1 - larger, atol=1e-6)


@pytest.mark.parametrize("block_bytes", [1, 1000])
@pytest.mark.parametrize("cuts", CUTS)
def test_strips_that_something_is_subtracted_from_leave_no_seams(planes, cuts, block_bytes, monkeypatch):
    expected = less_enlarged(planes, 0, 23, 4)
    monkeypatch.setattr(resize, "BLOCK_BYTES", block_bytes)
    strips = [less_enlarged(planes, top, bottom, 4) for top, bottom in pairwise(cuts)]
    assert np.array_equal(np.concatenate(strips, axis=1), expected)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_shrinking_is_the_mean_of_each_square_whatever_is_done_at_a_time(planes, scale, monkeypatch):
    larger = planes.repeat(scale, axis=1).repeat(scale, axis=2)
    larger[:, 0, 0] += 0.1
    larger = larger.clip(0, 1)
    expected = larger.reshape(3, 23, scale, 17, scale).mean((2, 4))
    small = shrunk(larger, scale)
    np.testing.assert_allclose(small, expected, atol=1e-6)
    monkeypatch.setattr(resize, "BLOCK_BYTES", 1)
    assert np.array_equal(shrunk(larger, scale), small)


def test_shrinking_takes_what_is_written_not_what_lies_beyond_white():
    assert shrunk(np.array([[[3.0, 1.0], [-1.0, 0.0]]], np.float32), 2).item() == 0.5
