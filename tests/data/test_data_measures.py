import numpy as np
import pytest
from drawn_photos import jpeg, noisy, picture, resized

from ddnsr_cli.data.measures import Limits, block_jump, fine_detail, noise_floor

LIMITS = Limits()


@pytest.fixture(scope="module")
def clean():
    """Ten photos."""
    return [picture(seed) for seed in range(10)]


@pytest.mark.parametrize("sigma", [3, 5, 10])
def test_noise_is_seen_and_measured(clean, sigma):
    for photo in clean:
        calm, floor = noise_floor(photo, LIMITS), noise_floor(noisy(photo, sigma), LIMITS)
        assert (calm.luma_is_noise, calm.chroma_is_noise, floor.chroma_is_noise) == (False, False, True)
        assert floor.luma == pytest.approx(0.669 * sigma, rel=0.2)  # of three channels with the weights of luma


def test_noise_of_the_brightness_alone_is_seen(clean):
    for photo in clean:
        grain = np.random.default_rng(1).normal(0, 2, photo.shape[:2])[..., None]
        floor = noise_floor(np.clip(np.round(photo + grain), 0, 255).astype(np.uint8), LIMITS)
        assert (floor.luma_is_noise, floor.chroma_is_noise) == (True, False)


def test_texture_is_not_called_noise():
    y, x = np.mgrid[:256, :256]
    texture = 128 + (x / 8) * np.sin(x * 1.9) * np.sin(y * 2.3)  # from nothing on the left to 32 levels on the right
    photo = np.repeat(texture[..., None].round().astype(np.uint8), 3, axis=2)
    floor = noise_floor(photo[:, 40:], LIMITS)
    assert floor.luma > LIMITS.luma_noise
    assert not floor.luma_is_noise


def test_clipped_parts_do_not_hide_noise(clean):
    photo = noisy(clean[0], 6)
    photo[:128] = 255
    assert noise_floor(photo, LIMITS).chroma_is_noise
    assert noise_floor(np.full_like(photo, 255), LIMITS) is None


@pytest.mark.parametrize("shift", [(0, 0), (3, 5)])
def test_jpeg_blocks_are_seen_wherever_the_grid_lies(clean, shift):
    for photo in clean:
        soft = noisy(photo, 2)  # blocks show on what is not quite flat
        assert block_jump(soft) < LIMITS.block_jump
        assert block_jump(jpeg(soft, 30)[shift[0] :, shift[1] :]) > LIMITS.block_jump


def test_other_grids_are_not_jpeg():
    rng = np.random.default_rng(2)
    for side in (2, 4):
        coarse = rng.integers(100, 130, (256 // side, 256 // side, 3)).astype(np.uint8)
        assert block_jump(coarse.repeat(side, axis=0).repeat(side, axis=1)) < LIMITS.block_jump


def test_a_photo_scaled_up_twice_lacks_fine_detail(clean):
    for photo in clean:
        assert fine_detail(photo) > 2 * LIMITS.fine_detail
        assert fine_detail(noisy(resized(photo, 0.5), 6)) > 4 * LIMITS.fine_detail
        assert fine_detail(resized(noisy(resized(photo, 0.5), 6), 2)) < LIMITS.fine_detail


def test_small_pictures_are_not_judged(clean):
    assert fine_detail(clean[0][:63]) is None
    assert block_jump(clean[0][:31]) == 0
    assert noise_floor(clean[0][:16, :16], LIMITS) is None
