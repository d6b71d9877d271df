import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.data import degradations
from ddnsr_cli.data.degradations import Compression, add_gaussian, shrink_bicubic, whole_levels
from tests.helpers.drawn_images import drawn_image


def by_pillow(hr):
    """An independent antialiased bicubic, in floats."""
    size = hr.shape[1] // 4, hr.shape[0] // 4
    planes = [Image.fromarray(hr[..., c].astype(np.float32)).resize(size, Image.Resampling.BICUBIC) for c in range(3)]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)


def test_shrinking_is_antialiased_bicubic():
    hr = drawn_image(0, 200)[:, :176]
    assert np.abs(shrink_bicubic(hr) - by_pillow(hr)).max() < 0.01


@pytest.mark.parametrize("band", [1, 3, 64])
def test_bands_do_not_show(monkeypatch, band):
    hr = np.random.default_rng(0).integers(0, 256, (76, 40, 3)).astype(np.uint8)
    monkeypatch.setattr(degradations, "BAND_LR_PX", 1000)
    whole = shrink_bicubic(hr)
    monkeypatch.setattr(degradations, "BAND_LR_PX", band)
    assert np.array_equal(shrink_bicubic(hr), whole)


def test_a_margin_too_small_is_visible(monkeypatch):
    hr = np.random.default_rng(0).integers(0, 256, (76, 40, 3)).astype(np.uint8)
    whole = shrink_bicubic(hr)
    monkeypatch.setattr(degradations, "BAND_LR_PX", 3)
    monkeypatch.setattr(degradations, "MARGIN_LR_PX", 1)
    assert not np.array_equal(shrink_bicubic(hr), whole)


def test_noise_is_white_and_of_the_strength_asked_for():
    lr = np.full((200, 300, 3), 128, np.float32)
    noise = add_gaussian(lr, 8, np.random.default_rng(0)) - 128
    assert noise.std() == pytest.approx(8, rel=0.02)
    for shift in ((1, 0), (0, 1)):
        assert abs(np.corrcoef(noise.ravel(), np.roll(noise, shift, (0, 1)).ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02


def test_levels_are_clipped_and_rounded_once():
    levels = np.array([-3.0, 0.4, 0.6, 254.4, 254.6, 300], np.float32)
    assert whole_levels(levels).tolist() == [0, 0, 1, 254, 255, 255]


@pytest.mark.parametrize("side", [0, 1])
def test_what_webp_cannot_hold_is_compressed_as_jpeg(side):
    levels = np.random.default_rng(0).integers(0, 256, (3, 8, 16380)).astype(np.uint8)
    levels = levels if side else levels.transpose(0, 2, 1)
    for before, holds in ((3, True), (4, False)):
        phase = (0, before) if side else (before, 0)
        webp, jpeg = (Compression(quality=50, webp=kind, phase=phase).of(levels) for kind in (True, False))
        assert webp.shape == levels.shape
        assert np.array_equal(webp, jpeg) != holds
