"""The simulated camera: what a real one does to light, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("scipy")

from camera import Camera, linear_from_srgb, main, srgb_from_linear, take_image
from mosaic import bayer, demosaic

from ddnsr_cli.errors import ConfigError

STILL = replace(Camera(), shrink=(4.0, 4.0), electrons=(600.0, 601.0), jpeg_quality=(97, 97))


def flat(level):
    return np.full((512, 512, 3), level, np.uint8)


def shot(image, camera=STILL, seed=0):
    return take_image(image, camera, np.random.default_rng(seed))


@pytest.fixture
def images(tmp_path):
    y, x = np.mgrid[:96, :128]
    for number in range(3):
        rgb = np.stack([x + 20 * number, y + 40, 128 + 60 * np.sin(x / (4 + number))], axis=2)
        path = tmp_path / f"clean/{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rgb.clip(0, 255).astype(np.uint8)).save(path)
    return tmp_path / "clean"


def run(images, out, *words):
    main(["--images", str(images), "--out", str(out), *words])
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def test_the_same_seed_gives_the_same_bytes(images, tmp_path):
    first = run(images, tmp_path / "a", "--seed", "3", "--shots", "2")
    assert sorted(first) == ["0_0.png", "0_1.png", "1_0.png", "1_1.png", "2_0.png", "2_1.png"]
    assert run(images, tmp_path / "b", "--seed", "3", "--shots", "2") == first
    assert len(set(first.values())) == len(first)
    assert run(images, tmp_path / "c", "--seed", "4", "--shots", "2")["0_0.png"] != first["0_0.png"]


def test_an_image_is_taken_the_same_whatever_lies_beside_it(images, tmp_path):
    all_three = run(images, tmp_path / "a")
    (images / "0.png").unlink()
    assert run(images, tmp_path / "b")["1_0.png"] == all_three["1_0.png"]


def test_images_that_look_the_same_are_taken_differently(images, tmp_path):
    (images / "copy.png").write_bytes((images / "0.png").read_bytes())
    taken = run(images, tmp_path / "a")
    assert taken["copy_0.png"] != taken["0_0.png"]


def test_images_have_a_third_to_a_quarter_of_the_sides():
    sizes = [shot(flat(90), Camera(), seed).shape for seed in range(8)]
    assert all(512 / 4 - 4 <= side <= 512 / 3 and side % 2 == 0 for size in sizes for side in size[:2])
    assert len(set(sizes)) > 1


@pytest.mark.parametrize("level", [60, 118, 200])
def test_gray_stays_gray_and_as_bright(level):
    means = shot(flat(level)).mean(axis=(0, 1))
    assert np.abs(means - level).max() < 2.5  # the mean of a curved function of noise is a little lower


def test_noise_in_mid_tones_is_of_the_intended_size_and_correlates():
    for seed in range(6):
        image = shot(flat(118), Camera(), seed).astype(float)
        error = image - image.mean(axis=(0, 1))
        assert 2.5 < error.std() < 12
        across = (error[:, 1:] * error[:, :-1]).mean() / error.var()
        assert 0.1 < across < 0.8  # white noise has 0
        assert 0.2 < np.corrcoef(error[..., 0].ravel(), error[..., 1].ravel())[0, 1] < 0.95


def test_light_is_counted_so_noise_grows_with_it():
    deviations = [linear_from_srgb(shot(flat(level)) / 255).std() for level in (60, 118, 200)]
    assert deviations == sorted(deviations)
    assert deviations[2] > 1.5 * deviations[0]


def test_few_electrons_are_noisier_than_many():
    few, many = (shot(flat(118), replace(STILL, electrons=(e, e + 1))).std() for e in (250.0, 4000.0))
    assert few > 2 * many


def test_with_much_light_and_no_blur_only_the_sampling_is_left():
    """Then the image is the image, averaged over pixels."""
    clear = replace(STILL, electrons=(1e7, 1.1e7), read_noise=0.0, levels=65535, blur=(0.01, 0.02))
    y, x = np.mgrid[:512, :512]
    image = np.stack([x / 2, y / 2, 128 + 50 * np.sin(x / 60)], axis=2).clip(0, 255).astype(np.uint8)
    taken = shot(image, clear).astype(float)
    height, width = taken.shape[:2]
    plain = image[: 4 * height, : 4 * width].reshape(height, 4, width, 4, 3).mean(axis=(1, 3))
    assert np.abs(taken - plain)[2:-2, 2:-2].mean() < 3  # half a pixel of shift and JPEG


def test_tone_curve_and_back():
    levels = np.arange(256) / 255
    np.testing.assert_allclose(srgb_from_linear(linear_from_srgb(levels)), levels, atol=1e-12)


def test_demosaicing_restores_what_has_no_detail():
    color = np.broadcast_to([0.2, 0.5, 0.7], (12, 16, 3))
    np.testing.assert_allclose(demosaic(bayer(color)), color, atol=1e-12)


def test_demosaicing_restores_gray_slopes():
    y, x = np.mgrid[:12, :16]
    slope = np.repeat((0.02 * x + 0.03 * y)[..., None], 3, axis=2)
    inner = (slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(demosaic(bayer(slope))[inner], slope[inner], atol=1e-12)


def test_each_pixel_keeps_the_color_its_filter_lets_through():
    rgb = np.random.default_rng(0).random((8, 8, 3))
    filled = demosaic(bayer(rgb))
    np.testing.assert_array_equal(filled[::2, ::2, 0], rgb[::2, ::2, 0])
    np.testing.assert_array_equal(filled[1::2, 1::2, 2], rgb[1::2, 1::2, 2])
    np.testing.assert_array_equal(filled[::2, 1::2, 1], rgb[::2, 1::2, 1])


def test_fewer_electrons_are_more_noise(tmp_path):
    (tmp_path / "gray").mkdir()
    Image.fromarray(flat(118)).save(tmp_path / "gray/a.png")
    spread = {}
    for low, high in ((40, 60), (900, 1000)):
        out = tmp_path / f"{low}"
        run(tmp_path / "gray", out, "--electrons", str(low), str(high))
        spread[low] = np.asarray(Image.open(out / "a_0.png"), float).std(axis=(0, 1)).mean()
    assert spread[40] > 3 * spread[900]


@pytest.mark.parametrize("words", [("0", "10"), ("20", "10"), ("10", "inf")])
def test_electrons_are_a_range(images, tmp_path, words):
    with pytest.raises(ConfigError, match="--electrons takes two numbers above 0"):
        run(images, tmp_path / "out", "--electrons", *words)
    assert not (tmp_path / "out").exists()
