"""Sharpened targets: flat parts stay, edges gain contrast, and the filter is what an independent one computes."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.data import astronaut

from ddnsr_cli.data.sharpen import sharpened


def by_scipy(image):
    """Real-ESRGAN's unsharp mask of (H, W, 3) in [0, 1], in float64: amount 0.5, sigma 8, threshold 10 levels."""
    radius = [min(24, side - 1) for side in image.shape[:2]]

    def blurred(plane):
        return gaussian_filter(plane, 8, mode="mirror", radius=[*radius, 0], axes=(0, 1, 2))

    image = image.astype(np.float64)
    detail = image - blurred(image)
    mask = blurred((np.abs(detail) > 10 / 255).astype(np.float64))
    return mask * np.clip(image + 0.5 * detail, 0, 1) + (1 - mask) * image


def as_tensor(image):
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]


@pytest.mark.parametrize(("height", "width"), [(64, 96), (20, 70), (16, 16)])
def test_the_filter_is_that_of_an_independent_implementation(height, width):
    image = astronaut()[100 : 100 + height, 180 : 180 + width] / 255
    ours = sharpened(as_tensor(image))[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(ours, by_scipy(image), atol=1e-9)
    assert np.abs(ours - image).max() > 0.05


def test_flat_parts_and_weak_noise_stay_as_they_are():
    flat = torch.full((1, 3, 40, 40), 0.37)
    torch.testing.assert_close(sharpened(flat), flat)
    noise = 0.5 + 4 / 255 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    assert torch.equal(sharpened(noise), noise)


def test_the_contrast_of_an_edge_grows_and_stays_within_bounds():
    edge = torch.full((1, 3, 48, 48), 0.3)
    edge[..., 24:] = 0.6
    made = sharpened(edge)
    assert (made[..., 24] - made[..., 23] > 0.3 + 0.05).all()
    torch.testing.assert_close(made[..., 0], edge[..., 0], atol=0.02, rtol=0)
    bright = edge.clone()
    bright[..., 24:], bright[..., :24] = 1.0, 0.0
    assert torch.equal(sharpened(bright), bright)  # nowhere to go


def test_images_of_a_batch_are_sharpened_each_by_itself():
    batch = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sharpened(batch), torch.cat([sharpened(one[None]) for one in batch]))
