import pytest
import torch

from ddnsr_cli.losses import noise_transfer_loss

CLEAN = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
NOISE = 0.04 * torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_noise_carried_whole_costs_nothing():
    assert noise_transfer_loss(CLEAN + NOISE, CLEAN + NOISE, CLEAN).item() == pytest.approx(0, abs=1e-7)


def test_noise_left_out_costs_its_size_and_its_level():
    lost = noise_transfer_loss(CLEAN, CLEAN + NOISE, CLEAN).item()
    levels = 0.04 * (1 + 3**-0.5 + 1 / 2)  # of the noise, of its brightness, of its means over 2 x 2
    assert lost == pytest.approx(NOISE.abs().mean().item() + levels, rel=0.05)


def test_where_noise_cannot_be_known_its_level_still_counts():
    """Other noise of the right level costs less than half of it: the difference alone would have it the other way."""
    other = NOISE.roll((6, 4), dims=(2, 3))
    costs = [noise_transfer_loss(CLEAN + made, CLEAN + NOISE, CLEAN).item() for made in (other, 0.5 * other)]
    assert (CLEAN + other - CLEAN - NOISE).abs().mean() > (0.5 * other - NOISE).abs().mean()
    assert costs[0] < costs[1]


def test_noise_of_another_kind_costs_more_than_noise_of_the_same():
    gray = NOISE[:, :1].expand_as(NOISE)
    coarse = torch.nn.functional.interpolate(NOISE[..., ::2, ::2], scale_factor=2)
    other = NOISE.roll((6, 4), dims=(2, 3))
    same = noise_transfer_loss(CLEAN + other, CLEAN + NOISE, CLEAN)
    for unlike in (gray.roll((6, 4), dims=(2, 3)), coarse.roll((6, 4), dims=(2, 3))):
        assert noise_transfer_loss(CLEAN + unlike, CLEAN + NOISE, CLEAN) > 1.2 * same


def test_only_the_made_image_gets_a_gradient():
    made, wanted = (CLEAN.clone().requires_grad_() for _ in range(2))
    noise_transfer_loss(made, wanted + NOISE, CLEAN).backward()
    assert torch.isfinite(made.grad).all()  # where it equals the clean image, too
    assert made.grad.abs().sum() > 0
    assert wanted.grad is None


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ"):
        noise_transfer_loss(CLEAN, CLEAN[:1], CLEAN)
