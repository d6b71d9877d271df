import numpy as np
import pytest

from ddnsr_cli.data.validation.image_stats import Limits, block_jump, fine_detail, noise_floor
from tests.helpers.drawn_images import drawn_image, jpeg, noisy, resized

LIMITS = Limits()


@pytest.fixture(scope="module")
def clean():
    """Ten images."""
    return [drawn_image(seed) for seed in range(10)]


@pytest.mark.parametrize("sigma", [3, 5, 10])
def test_noise_is_seen_and_measured(clean, sigma):
    for image in clean:
        calm, floor = noise_floor(image, LIMITS), noise_floor(noisy(image, sigma), LIMITS)
        assert (calm.luma_is_noise, calm.chroma_is_noise, floor.chroma_is_noise) == (False, False, True)
        assert floor.luma == pytest.approx(0.669 * sigma, rel=0.2)  # of three channels with the weights of luma


def test_noise_of_the_brightness_alone_is_seen(clean):
    for image in clean:
        grain = np.random.default_rng(1).normal(0, 2, image.shape[:2])[..., None]
        floor = noise_floor(np.clip(np.round(image + grain), 0, 255).astype(np.uint8), LIMITS)
        assert (floor.luma_is_noise, floor.chroma_is_noise) == (True, False)


Y, X = np.mgrid[:256, :256]
GRAIN = np.random.default_rng(4).normal(0, 1, (256, 256))


def gray_image(levels):
    return np.repeat(np.clip(levels, 20, 235)[..., None].round().astype(np.uint8), 3, axis=2)


def test_grain_is_called_noise_and_three_kinds_of_texture_are_not():
    growing = 1.3 * GRAIN + 30 * (X / 256) * np.sin(X * 0.5) * np.sin(Y * 0.4)  # no patches alike
    patched = 4 * np.where(X < 26, np.sin(X * 1.35) * np.sin(Y * 1.35), np.sin(X * 2) * np.sin(Y * 2))  # alike but fine
    even = 5 * np.sin(X * 0.5) * np.sin(Y * 0.7)  # alike, and nothing fine
    calls = [
        noise_floor(gray_image(128 + levels), LIMITS).luma_is_noise for levels in (2 * GRAIN, growing, patched, even)
    ]
    assert calls == [True, False, False, False]


def test_a_gradient_is_not_called_noise():
    for slope in (X, Y):
        assert noise_floor(gray_image(25 + 0.8 * slope), LIMITS).luma < 0.4


def test_clipped_parts_do_not_hide_noise(clean):
    image = noisy(clean[0], 6)
    image[:128] = 255
    assert noise_floor(image, LIMITS).chroma_is_noise
    assert noise_floor(np.full_like(image, 255), LIMITS) is None


@pytest.mark.parametrize("shift", [(0, 0), (3, 5)])
def test_jpeg_blocks_are_seen_wherever_the_grid_lies(clean, shift):
    for image in clean:
        soft = noisy(image, 2)  # blocks show on what is not quite flat
        assert block_jump(soft) < LIMITS.block_jump
        assert block_jump(jpeg(soft, 30)[shift[0] :, shift[1] :]) > LIMITS.block_jump


def test_other_grids_are_not_jpeg():
    rng = np.random.default_rng(2)
    for side in (2, 4):
        coarse = rng.integers(100, 130, (256 // side, 256 // side, 3)).astype(np.uint8)
        assert block_jump(coarse.repeat(side, axis=0).repeat(side, axis=1)) < LIMITS.block_jump


def test_an_image_scaled_up_twice_lacks_fine_detail(clean):
    for image in clean:
        assert fine_detail(image) > 2 * LIMITS.fine_detail
        assert fine_detail(noisy(resized(image, 0.5), 6)) > 4 * LIMITS.fine_detail
        assert fine_detail(resized(noisy(resized(image, 0.5), 6), 2)) < LIMITS.fine_detail


def test_fine_detail_does_not_depend_on_brightness(clean):
    faint = clean[0] // 32
    assert fine_detail(faint + 240) == pytest.approx(fine_detail(faint), rel=1e-3)


def test_small_images_are_not_judged(clean):
    assert fine_detail(clean[0][:63]) is None
    assert block_jump(clean[0][:31]) == 0
    assert noise_floor(clean[0][:16, :16], LIMITS) is None
