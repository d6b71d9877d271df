"""The track 1 source set: the noise is as large and as colored as asked."""

import numpy as np
import pytest

pytest.importorskip("scipy")

from track1_source import Noise, noisy_small


def correlations(noise):
    spread = noise.var()
    return (
        (noise[:, 1:] * noise[:, :-1]).mean() / spread,
        (noise[1:] * noise[:-1]).mean() / spread,
        np.corrcoef(noise.reshape(-1, 3).T)[0, 1],
    )


@pytest.mark.parametrize(("neighbors", "channels"), [(0.35, 0.4), (0.0, 0.0), (0.6, 0.9)])
def test_noise_has_the_size_and_the_correlations_asked_for(neighbors, channels):
    wanted = Noise(sigma=8.0, neighbors=neighbors, channels=channels)
    noise = wanted.draw((400, 400), np.random.default_rng(0))
    assert noise.std() == pytest.approx(8, rel=0.02)
    assert correlations(noise) == pytest.approx((neighbors, neighbors, channels), abs=0.02)


def test_a_result_is_a_quarter_of_the_source_with_that_noise():
    source = np.full((400, 600, 3), 120, np.uint8)
    image = noisy_small(source, Noise(), np.random.default_rng(0))
    assert image.shape == (99, 149, 3)
    assert image.dtype == np.uint8
    assert image.std() == pytest.approx(8, rel=0.03)
    assert image.mean() == pytest.approx(120, abs=0.2)
