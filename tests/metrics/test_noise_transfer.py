"""What a degrader carries of noise and prints of structure, on degraders that are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage import data

from ddnsr_cli.metrics.noise_transfer import Trial, measure_noise_transfer
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig, start_as_area, start_with_noise


def as_tensor(pixels):
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def trial():
    """Noise of 8 levels on an image; another image as clean noise input."""
    coffee, cat = as_tensor(data.coffee()[:384, :384]), as_tensor(data.chelsea()[:288, :384])
    hr, other = coffee[..., :288, :384], F.avg_pool2d(cat, 4)
    noise = 8 / 255 * torch.randn(other.shape, generator=torch.Generator().manual_seed(0))
    return Trial(hr=hr, noisy=other + noise, clean=other)


def shrunk(hr):
    return F.avg_pool2d(hr, 4)


def finest(image):
    return image - F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_what_is_printed_as_a_share_is_told_as_that_share(trial, share):
    found = measure_noise_transfer(lambda hr, image: shrunk(hr) + share * image, [trial])
    assert (found.carried_flat, found.carried_textured, found.leaked) == pytest.approx((share,) * 3, abs=0.03)


def test_noise_of_its_own_is_neither_carried_nor_leaked(trial):
    own = 8 / 255 * torch.randn(trial.noisy.shape, generator=torch.Generator().manual_seed(1))
    found = measure_noise_transfer(lambda hr, _image: shrunk(hr) + own, [trial])
    assert (found.carried_flat, found.carried_textured, found.leaked) == (0, 0, 0)


def test_structure_that_is_distorted_has_leaked_too(trial):
    """Printed upside down in brightness, it is the other image all the same."""
    found = measure_noise_transfer(lambda hr, image: shrunk(hr) - 0.4 * image, [trial])
    assert found.leaked == pytest.approx(0.4, abs=0.03)


def test_noise_dropped_in_textured_places_is_seen(trial):
    luma = shrunk(trial.hr).mean(dim=1, keepdim=True)
    mean = F.avg_pool2d(F.pad(luma, (3,) * 4, mode="replicate"), 7, stride=1)
    textured = F.avg_pool2d(F.pad(luma**2, (3,) * 4, mode="replicate"), 7, stride=1) - mean**2
    kept = textured <= textured.median()
    found = measure_noise_transfer(lambda hr, image: shrunk(hr) + kept * finest(image), [trial])
    assert found.carried_textured < 0.3
    assert found.carried_flat > 0.8


def test_a_start_with_noise_prints_any_image_before_it_has_learned_anything(trial):
    net = Degrader(DegraderConfig(features=8, blocks=1)).requires_grad_(False)
    start_as_area(net, torch.Generator().manual_seed(0))
    assert measure_noise_transfer(net, [trial]).leaked == 0
    start_with_noise(net)
    assert measure_noise_transfer(net, [trial]).leaked > 0.7


def test_all_trials_count(trial):
    flat = torch.full_like(trial.clean, 0.5)
    found = measure_noise_transfer(
        lambda hr, image: shrunk(hr) + finest(image), [trial, Trial(hr=trial.hr, noisy=flat, clean=flat)]
    )
    alone = measure_noise_transfer(lambda hr, image: shrunk(hr) + finest(image), [trial])
    assert found == alone  # an image without detail adds nothing
    nothing = measure_noise_transfer(lambda hr, _image: shrunk(hr), [Trial(hr=trial.hr, noisy=flat, clean=flat)])
    assert (nothing.carried_flat, nothing.leaked) == (0, 0)


def test_what_is_made_of_a_clean_image_counts_against_the_image_itself(trial):
    """Of which nothing comes where the degrader is given its slow part."""
    given = replace(trial, clean_input=F.avg_pool2d(F.pad(trial.clean, (15,) * 4, mode="replicate"), 31, stride=1))
    found = measure_noise_transfer(lambda hr, image: shrunk(hr) + image, [given])
    assert found.leaked < 0.05
    assert found.carried_flat == pytest.approx(1, abs=0.03)
