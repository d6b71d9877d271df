import math

import numpy as np
import pytest
import torch

from ddnsr_cli.metrics.fidelity import luma, psnr_db, ssim


def images(*size, seed=0):
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed))


def noisy(image, sigma, seed=1):
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    return (image + sigma * noise).clamp(0, 1)


def test_one_gray_level_off_is_48_13_db():
    hr = images(1, 3, 20, 20) * 254 / 255
    assert psnr_db(hr + 1 / 255, hr, crop_px=0).item() == pytest.approx(20 * math.log10(255), abs=1e-3)


@pytest.mark.parametrize(("error", "expected"), [(1.0, 0.0), (0.1, 20.0), (0.01, 40.0)])
def test_psnr_of_known_errors(error, expected):
    black = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    assert psnr_db(black + error, black, crop_px=0).item() == pytest.approx(expected, abs=1e-9)


def test_identical_images_are_infinitely_near():
    hr = images(2, 3, 16, 16)
    assert psnr_db(hr, hr.clone(), crop_px=2).tolist() == [math.inf, math.inf]


def test_psnr_is_over_all_channels_not_their_mean_psnr():
    hr = torch.zeros(1, 3, 4, 4)
    sr = hr.clone()
    sr[:, 0] = 0.3
    assert psnr_db(sr, hr, crop_px=0).item() == pytest.approx(-10 * math.log10(0.03), abs=1e-5)


def test_identical_images_have_ssim_one():
    hr = images(2, 3, 16, 16)
    torch.testing.assert_close(ssim(hr, hr.clone(), crop_px=0), torch.ones(2, dtype=torch.float64))


def test_the_negative_has_ssim_below_zero():
    hr = images(1, 1, 24, 24)
    assert ssim(1 - hr, hr, crop_px=0).item() < -0.9


def test_ssim_of_two_flat_images_is_its_luminance_term():
    dark, light = torch.full((1, 3, 12, 12), 0.2), torch.full((1, 3, 12, 12), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.04 + 0.36 + 1e-4)
    assert ssim(dark, light, crop_px=0).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("metric", [psnr_db, ssim])
def test_both_are_symmetric(metric):
    a, b = images(2, 3, 16, 20), images(2, 3, 16, 20, seed=2)
    torch.testing.assert_close(metric(a, b, crop_px=1), metric(b, a, crop_px=1))


@pytest.mark.parametrize("metric", [psnr_db, ssim])
def test_both_fall_with_noise(metric):
    hr = images(1, 3, 32, 32)
    scores = [metric(noisy(hr, sigma), hr, crop_px=0).item() for sigma in (0.01, 0.03, 0.1, 0.3)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4


@pytest.mark.parametrize("metric", [psnr_db, ssim])
def test_the_border_is_ignored_and_nothing_but_the_border(metric):
    hr = images(1, 3, 24, 28)
    sr = noisy(hr, 0.05)
    framed = sr.clone()
    framed[..., :3, :] = framed[..., -3:, :] = 1 - hr[..., :3, :]
    framed[..., :, :3] = framed[..., :, -3:] = 0
    assert torch.equal(metric(framed, hr, crop_px=3), metric(sr, hr, crop_px=3))
    assert not torch.equal(metric(framed, hr, crop_px=2), metric(sr, hr, crop_px=2))
    cut = metric(sr[..., 3:-3, 3:-3], hr[..., 3:-3, 3:-3], crop_px=0)
    assert torch.equal(metric(sr, hr, crop_px=3), cut)


@pytest.mark.parametrize("metric", [psnr_db, ssim])
def test_one_value_an_image_in_double_precision(metric):
    hr = images(3, 3, 16, 16)
    sr = torch.cat([noisy(hr[:1], 0.02), noisy(hr[1:2], 0.2), hr[2:]])
    together = metric(sr, hr, crop_px=0)
    assert together.shape == (3,)
    assert together.dtype == torch.float64
    alone = [metric(sr[n : n + 1], hr[n : n + 1], crop_px=0) for n in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("metric", [psnr_db, ssim])
def test_other_shapes_are_refused_with_both_shapes(metric):
    with pytest.raises(ValueError, match=r"\(1, 3, 16, 16\) and \(1, 3, 16, 15\)"):
        metric(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 15), crop_px=0)


@pytest.mark.parametrize(("metric", "side"), [(psnr_db, 9), (ssim, 19)])
def test_a_border_that_leaves_too_little_is_refused(metric, side):
    small = torch.zeros(1, 3, 32, side - 1)
    with pytest.raises(ValueError, match="less 4 pixels on each side"):
        metric(small, small, crop_px=4)
    enough = torch.zeros(1, 3, 32, side)
    assert not metric(enough, enough, crop_px=4).isnan().any()


@pytest.mark.parametrize(("channels", "size"), [(3, (40, 53)), (1, (11, 11)), (3, (16, 30))])
@pytest.mark.parametrize("sigma", [0.02, 0.2])
def test_both_equal_scikit_image(channels, size, sigma):
    metrics = pytest.importorskip("skimage.metrics")
    hr = images(1, channels, *size).double()
    sr = noisy(hr, sigma)
    a, b = (image[0].permute(1, 2, 0).numpy() for image in (sr, hr))
    similarity = metrics.structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, channel_axis=2
    )
    assert ssim(sr, hr, crop_px=0).item() == pytest.approx(similarity, abs=1e-10)
    expected = metrics.peak_signal_noise_ratio(b, a, data_range=1.0)
    assert psnr_db(sr, hr, crop_px=0).item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    ("rgb", "level"),
    [
        ((1, 1, 1), 235),
        ((0, 0, 0), 16),
        ((1, 0, 0), 81.481),
        ((0, 1, 0), 144.553),
        ((0, 0, 1), 40.966),
        ((0.5, 0.5, 0.5), 125.5),
    ],
)
def test_luma_of_known_colors(rgb, level):
    color = torch.tensor(rgb, dtype=torch.float64).reshape(1, 3, 1, 1).expand(2, 3, 4, 5)
    torch.testing.assert_close(luma(color), torch.full((2, 1, 4, 5), level / 255, dtype=torch.float64))


def test_luma_equals_scikit_image():
    color = pytest.importorskip("skimage.color")
    rgb = images(1, 3, 6, 7).double()
    expected = color.rgb2ycbcr(rgb[0].permute(1, 2, 0).numpy())[..., 0] / 255
    assert np.abs(luma(rgb)[0, 0].numpy() - expected).max() < 1e-10
