import numpy as np
import pytest
from scipy import ndimage

from ddnsr_cli.data import degradations
from ddnsr_cli.data.degradations import REACH, bell, circular_low_pass, filtered, generalized_gaussian, plateau

AXIS = np.arange(-REACH, REACH + 1)


def image(height=70, width=45, seed=0):
    return np.random.default_rng(seed).random((3, height, width), dtype=np.float32)


@pytest.mark.parametrize("shape", [(70, 45), (21, 300), (6, 5), (1, 1)])
@pytest.mark.parametrize("band", [512, 16])
def test_filtering_is_scipys_convolution(monkeypatch, shape, band):
    monkeypatch.setattr(degradations, "BAND_ROWS", band)
    given, kernel = image(*shape), generalized_gaussian(bell((2.5, 0.8), 0.7), 0.8)
    expected = [ndimage.convolve(plane.astype(float), kernel.astype(float), mode="mirror") for plane in given]
    assert np.abs(filtered(given, kernel) - np.stack(expected)).max() < 1e-5


def moments(kernel):
    """Variance down, variance across, covariance."""
    y, x = np.meshgrid(AXIS, AXIS, indexing="ij")
    return [float((kernel * product).sum()) for product in (y * y, x * x, x * y)]


@pytest.mark.parametrize("angle", [0.0, 0.4, np.pi / 2, 2.5])
def test_a_gaussian_has_the_moments_of_its_axes(angle):
    kernel = generalized_gaussian(bell((2.0, 0.9), angle))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    (xx, xy), (_, yy) = turn @ np.diag([4.0, 0.81]) @ turn.T
    assert moments(kernel) == pytest.approx([yy, xx, xy], abs=0.02)
    assert kernel.sum() == pytest.approx(1)


def test_a_generalized_gaussian_has_longer_tails_or_a_flatter_top():
    row = {beta: generalized_gaussian(bell((2.0, 2.0), 0.0), beta)[REACH] for beta in (0.5, 1.0, 4.0)}
    tail = {beta: line[-1] / line[REACH] for beta, line in row.items()}
    top = {beta: line[REACH + 1] / line[REACH] for beta, line in row.items()}
    assert tail[0.5] == pytest.approx(np.exp(-0.5 * 5))  # 10 pixels are 5 sigma
    assert tail[4.0] < tail[1.0] < tail[0.5]
    assert top[0.5] < top[1.0] < top[4.0]
    assert top[4.0] == pytest.approx(np.exp(-0.5 / 4**4))


def test_a_plateau_falls_by_a_power_of_its_distance():
    row = plateau(bell((2.0, 2.0), 0.0), 1.5)[REACH]
    assert row[REACH + 2] / row[REACH] == pytest.approx(0.5)
    assert row[REACH + 4] / row[REACH] == pytest.approx(1 / 9)


@pytest.mark.parametrize("angle", [0.0, 0.5, np.pi / 4])
@pytest.mark.parametrize("cutoff", [0.4, 0.7])
def test_a_low_pass_passes_waves_below_its_cutoff_in_any_direction(angle, cutoff):
    y, x = np.meshgrid(np.arange(96.0), np.arange(96.0), indexing="ij")
    swing = {}
    for share in (cutoff - 0.2, cutoff + 0.2):
        wave = np.sin(np.pi * share * (x * np.cos(angle) + y * np.sin(angle)))[None].astype(np.float32)
        inner = np.s_[:, 24:72, 24:72]
        swing[share] = filtered(wave, circular_low_pass(cutoff))[inner].std() / wave[inner].std()
    below, above = swing.values()
    assert below == pytest.approx(1, abs=0.12)
    assert above < 0.12


def test_a_low_pass_is_the_same_all_around():
    kernel = circular_low_pass(0.5)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert np.allclose(kernel, kernel.T)
    assert np.allclose(kernel, kernel[::-1, ::-1])
    assert kernel[REACH + 3, REACH + 4] == pytest.approx(kernel[REACH, REACH + 5])
    assert kernel.min() < 0
