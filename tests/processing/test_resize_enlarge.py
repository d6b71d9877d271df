"""Plain enlargement, and the way back."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.processing.resize import BILINEAR, enlarged_rows, shrunk


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


@pytest.mark.parametrize("how", [Image.Resampling.BICUBIC, BILINEAR])
@pytest.mark.parametrize("cuts", [[0, 1, 2, 3, 11, 23], list(range(24))])
def test_strips_leave_no_seams(planes, how, cuts):
    strips = [enlarged_rows(planes, top, bottom, scale=4, how=how) for top, bottom in pairwise(cuts)]
    assert np.array_equal(np.concatenate(strips, axis=1), enlarged_rows(planes, 0, 23, scale=4, how=how))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_shrinking_is_the_mean_of_each_square(planes, scale):
    larger = planes.repeat(scale, axis=1).repeat(scale, axis=2)
    larger[:, 0, 0] += 0.1
    larger = larger.clip(0, 1)
    expected = larger.reshape(3, 23, scale, 17, scale).mean((2, 4))
    np.testing.assert_allclose(shrunk(larger, scale), expected, atol=1e-6)


def test_shrinking_takes_what_is_written_not_what_lies_beyond_white():
    assert shrunk(np.array([[[3.0, 1.0], [-1.0, 0.0]]], np.float32), 2).item() == 0.5
