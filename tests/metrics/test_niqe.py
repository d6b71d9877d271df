"""NIQE: values of an independent implementation, and what it is to rise with."""

import numpy as np
import pytest
from skimage import data

from ddnsr_cli.metrics.niqe import PristineModel, niqe
from ddnsr_cli.weights.feature_weights import load_niqe_model

MODEL = load_niqe_model()


@pytest.mark.parametrize(
    ("name", "value"), [("chelsea", 2.62553), ("astronaut", 3.06558), ("coffee", 4.11525), ("rocket", 6.96917)]
)
def test_values_of_another_implementation(name, value):
    """With SciPy's filters and gamma function and PyTorch's bicubic; its value for Set14's baboon is the published."""
    assert niqe(getattr(data, name)(), MODEL, crop_px=0) == pytest.approx(value, rel=1e-5)


def test_the_border_is_left_out():
    image = data.chelsea().copy()
    inner = image[6:-6, 6:-6].copy()
    image[:6] = image[:, -6:] = 255
    assert niqe(image, MODEL, crop_px=6) == niqe(inner, MODEL, crop_px=0)


def test_noise_and_blur_make_it_worse():
    image = data.chelsea()
    noisy = (image + np.random.default_rng(0).normal(0, 20, image.shape)).clip(0, 255).astype(np.uint8)
    blurred = np.mean([np.roll(image, (down, across), (0, 1)) for down in range(5) for across in range(5)], axis=0)
    good = niqe(image, MODEL, crop_px=4)
    assert niqe(noisy, MODEL, crop_px=4) > 2 * good
    assert niqe(blurred.astype(np.uint8), MODEL, crop_px=4) > 2 * good


def test_blocks_without_contrast_do_not_count():
    image = data.chelsea()[:288, :384]
    framed = np.full((288, 480, 3), 128, np.uint8)
    framed[:, :384] = image
    assert niqe(framed, MODEL, crop_px=0) == pytest.approx(niqe(image, MODEL, crop_px=0), rel=0.02)
    assert np.isnan(niqe(np.full((96, 96, 3), 128, np.uint8), MODEL, crop_px=0))


def test_less_than_a_block_is_refused():
    niqe(data.chelsea()[:104, :104], MODEL, crop_px=4)
    with pytest.raises(ValueError, match="holds no 96 x 96 block"):
        niqe(data.chelsea()[:103, :104], MODEL, crop_px=4)


def test_a_model_of_another_size_is_refused():
    with pytest.raises(ValueError, match="36 features"):
        PristineModel(mean=np.zeros(35), covariance=np.zeros((36, 36)))
