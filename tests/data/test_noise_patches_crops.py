from collections import Counter

import numpy as np
import pytest

from ddnsr_cli.data.noise_patches import NoiseCrop, NoiseImage, draw_crop, pair_rng


def counted(height, width):
    """Every pixel tells its place: row, column, and a check of both."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, rows ^ columns], axis=2).astype(np.uint8)


def whole(image, crop):
    return NoiseImage(image, crop).read(0, 0, crop.height, crop.width)


def test_the_draws_of_a_pair_follow_from_seed_path_and_variant_alone():
    def drawn(*key):
        return tuple(pair_rng(*key).integers(0, 1 << 30, 4))

    keys = [(seed, path, variant) for seed in (0, 1) for path in ("a.png", "b/a.png") for variant in (1, 2)]
    assert len({drawn(*key) for key in keys}) == len(keys)
    assert [drawn(*key) for key in reversed(keys)] == [drawn(*key) for key in keys][::-1]
    assert drawn(1, "1", 11) != drawn(11, "1", 1)


def test_the_draws_stay_what_they_are():
    # A change would make other pairs of the same seed.
    assert pair_rng(0, "a/b.png", 1).integers(0, 1000, 3).tolist() == [426, 846, 936]


def test_a_path_that_is_no_text_draws_too():
    pair_rng(0, "a\udcff.png", 1)


def test_a_large_image_is_cropped_anywhere_up_to_its_last_pixel():
    image = counted(20, 30)
    rng = np.random.default_rng(0)
    places = Counter()
    for _ in range(600):
        crop = draw_crop(rng, image, height=17, width=28)
        assert np.array_equal(whole(image, crop), image[crop.top : crop.top + 17, crop.left : crop.left + 28])
        places[crop.top, crop.left] += 1
    assert set(places) == {(top, left) for top in range(4) for left in range(3)}
    assert min(places.values()) > 20


@pytest.mark.parametrize(("height", "width"), [(9, 40), (40, 9), (33, 47)])
def test_a_small_image_goes_on_mirrored(height, width):
    image = counted(9, 7)
    wide = np.pad(image, ((0, 80), (0, 80), (0, 0)), mode="reflect")
    rng = np.random.default_rng(0)
    for _ in range(20):
        crop = draw_crop(rng, image, height=height, width=width)
        assert np.array_equal(whole(image, crop), wide[crop.top : crop.top + height, crop.left : crop.left + width])


def test_no_pixel_is_made_up():
    image = np.random.default_rng(0).integers(0, 256, (12, 50, 3)).astype(np.uint8)
    known = {tuple(pixel) for pixel in image.reshape(-1, 3)}
    crop = draw_crop(np.random.default_rng(1), image, height=40, width=30)
    assert {tuple(pixel) for pixel in whole(image, crop).reshape(-1, 3)} <= known


def test_windows_are_parts_of_the_whole():
    image = counted(15, 11)
    noise = NoiseImage(image, NoiseCrop(top=4, left=9, height=40, width=50))
    whole = noise.read(0, 0, 40, 50)
    for top, left, height, width in [(0, 0, 1, 1), (39, 49, 1, 1), (7, 3, 20, 30)]:
        assert np.array_equal(noise.read(top, left, height, width), whole[top : top + height, left : left + width])


def test_an_image_of_one_pixel_is_flat():
    crop = draw_crop(np.random.default_rng(0), counted(1, 1), height=3, width=2)
    assert whole(counted(1, 1), crop).shape == (3, 2, 3)
