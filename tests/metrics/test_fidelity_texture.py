import pytest
import torch
import torch.nn.functional as F

from ddnsr_cli.metrics.fidelity import edge_gain, flat_noise


def noise(*shape, sigma, seed=0):
    return sigma / 255 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scene(flat_columns=48):
    """(1, 3, 64, 96): gray on the left, bars on the right."""
    image = torch.full((1, 3, 64, 96), 0.5)
    image[..., flat_columns:] = (torch.arange(96 - flat_columns) // 3 % 2) * 0.5 + 0.25
    return image


@pytest.mark.parametrize("sigma", [2.0, 8.0])
def test_white_noise_is_told_by_its_own_deviation(sigma):
    clean = scene()
    assert flat_noise(clean + noise(1, 3, 64, 96, sigma=sigma), clean).item() == pytest.approx(sigma, rel=0.05)


def test_only_flat_parts_count():
    clean = scene()
    busy = clean.clone()
    busy[..., 48:] += noise(1, 3, 64, 48, sigma=20)
    assert flat_noise(busy, clean).item() == 0
    assert flat_noise(busy, scene(flat_columns=0)).item() > 5  # there, nothing is flatter


def test_an_error_of_color_is_no_noise():
    clean = scene()
    shifted = clean + torch.tensor([0.02, -0.01, 0.03]).reshape(1, 3, 1, 1)
    assert flat_noise(shifted, clean).item() == pytest.approx(0, abs=1e-4)


def test_color_noise_counts_like_any_other():
    clean = scene()
    grain = noise(1, 3, 64, 96, sigma=6)
    grain[:, 1] = -(grain[:, 0] * 65.481 + grain[:, 2] * 24.966) / 128.553  # unseen in luma
    expected = 255 * grain.var(dim=(2, 3)).mean().sqrt().item()
    assert flat_noise(clean + grain, clean).item() == pytest.approx(expected, rel=0.05)


def test_white_hides_noise_and_is_left_out():
    clean = scene()
    clean[..., :24] = 1.0
    hidden = clean + noise(1, 3, 64, 96, sigma=8)
    hidden[..., :24] = 1.0
    assert flat_noise(hidden, clean).item() == pytest.approx(8, rel=0.08)
    assert flat_noise(torch.ones(1, 3, 16, 16), torch.ones(1, 3, 16, 16)).item() == 0  # all of it white: no matter


def test_the_reference_has_all_its_detail():
    clean = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(1))
    assert edge_gain(clean, clean).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("contrast", [0.0, 0.5, 1.3])
def test_detail_follows_contrast(contrast):
    clean = scene()
    assert edge_gain(0.5 + contrast * (clean - 0.5), clean).item() == pytest.approx(contrast, abs=1e-6)


def test_blur_takes_detail():
    clean = scene()
    soft = F.avg_pool2d(F.pad(clean, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    assert edge_gain(soft, clean).item() == pytest.approx(2 / 3, abs=1e-6)  # a step over 3 pixels, seen over 2


def test_noise_is_not_taken_for_detail():
    clean = scene()
    noisy = clean + noise(1, 3, 64, 96, sigma=25)
    assert edge_gain(noisy, clean).item() == pytest.approx(1, abs=0.03)
    steps = [(image[..., 2:] - image[..., :-2]).square().sum().item() for image in (noisy, clean)]
    assert steps[0] / steps[1] > 1.2  # the plain energy would have grown


def test_where_there_is_nothing_to_keep_nothing_is_lost():
    flat = torch.full((1, 3, 16, 16), 0.4)
    assert edge_gain(flat + noise(1, 3, 16, 16, sigma=3), flat).item() == 1


@pytest.mark.parametrize("figure", [flat_noise, edge_gain])
def test_one_value_an_image(figure):
    clean = scene().expand(3, -1, -1, -1)
    made = clean + noise(3, 3, 64, 96, sigma=5)
    together = figure(made, clean)
    assert together.dtype == torch.float64
    torch.testing.assert_close(together, torch.cat([figure(made[n : n + 1], clean[:1]) for n in range(3)]))
