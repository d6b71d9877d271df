"""Sharpened targets: flat parts stay, edges gain contrast, and the filter is what an independent one computes."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.data import astronaut

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.training.paired import sharpened
from ddnsr_cli.training.paired_options import SharpenConfig

PLAIN = SharpenConfig()


def by_scipy(image, amount=0.5, sigma=8, threshold=10):
    """The unsharp mask of (H, W, 3) in [0, 1], in float64; Real-ESRGAN's where nothing else is given."""
    radius = [min(round(3 * sigma), side - 1) for side in image.shape[:2]]

    def blurred(plane):
        return gaussian_filter(plane, sigma, mode="mirror", radius=[*radius, 0], axes=(0, 1, 2))

    image = image.astype(np.float64)
    detail = image - blurred(image)
    mask = blurred((np.abs(detail) > threshold / 255).astype(np.float64))
    return mask * np.clip(image + amount * detail, 0, 1) + (1 - mask) * image


def as_tensor(image):
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]


@pytest.mark.parametrize(("height", "width"), [(64, 96), (20, 70), (16, 16)])
def test_the_filter_is_that_of_an_independent_implementation(height, width):
    image = astronaut()[100 : 100 + height, 180 : 180 + width] / 255
    ours = sharpened(as_tensor(image), PLAIN)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(ours, by_scipy(image), atol=1e-9)
    assert np.abs(ours - image).max() > 0.05


def test_amount_sigma_and_threshold_are_those_asked_for():
    image = astronaut()[100:164, 180:244] / 255
    ours = sharpened(as_tensor(image), SharpenConfig(amount=0.8, sigma_px=1.5, threshold=3))
    np.testing.assert_allclose(ours[0].permute(1, 2, 0).numpy(), by_scipy(image, 0.8, 1.5, 3), atol=1e-9)


@pytest.mark.parametrize("wrong", [{"amount": 0.0}, {"sigma_px": -1.0}, {"threshold": 255.0}, {"amount": float("nan")}])
def test_settings_that_make_no_mask_are_refused(wrong):
    with pytest.raises(ConfigError, match="above 0 and a threshold"):
        SharpenConfig(**wrong)


def test_flat_parts_and_weak_noise_stay_as_they_are():
    flat = torch.full((1, 3, 40, 40), 0.37)
    torch.testing.assert_close(sharpened(flat, PLAIN), flat)
    noise = 0.5 + 4 / 255 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    assert torch.equal(sharpened(noise, PLAIN), noise)


def test_the_contrast_of_an_edge_grows_and_stays_within_bounds():
    edge = torch.full((1, 3, 48, 48), 0.3)
    edge[..., 24:] = 0.6
    made = sharpened(edge, PLAIN)
    assert (made[..., 24] - made[..., 23] > 0.3 + 0.05).all()
    torch.testing.assert_close(made[..., 0], edge[..., 0], atol=0.02, rtol=0)
    bright = edge.clone()
    bright[..., 24:], bright[..., :24] = 1.0, 0.0
    assert torch.equal(sharpened(bright, PLAIN), bright)  # nowhere to go


def test_images_of_a_batch_are_sharpened_each_by_itself():
    batch = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sharpened(batch, PLAIN), torch.cat([sharpened(one[None], PLAIN) for one in batch]))
