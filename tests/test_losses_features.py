import pytest
import torch

from ddnsr_cli.losses import content_loss, content_reference, cycle_loss, perceptual_loss


def squared_perceptual_loss(fake, real):
    return perceptual_loss(fake, real, squared=True)


SQUARED = [content_loss, cycle_loss, squared_perceptual_loss]
LOSSES = [*SQUARED, perceptual_loss]


def features(seed):
    return torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(seed))


def test_the_reference_of_content_is_the_mean_of_4_by_4_pixels():
    hr = torch.arange(64.0).reshape(1, 1, 8, 8)
    # Rows 0 to 3 of columns 0 to 3 average to 8 * 1.5 + 1.5.
    assert content_reference(hr).flatten().tolist() == [13.5, 17.5, 45.5, 49.5]


def test_values_by_hand():
    made, real = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 8.0]])
    for loss in SQUARED:
        assert loss(made, real).item() == (0 + 4 + 9 + 16) / 4
    assert perceptual_loss(made, real).item() == (0 + 2 + 3 + 4) / 4


@pytest.mark.parametrize("loss", LOSSES)
def test_norms_are_means(loss):
    made, real = features(1), features(2)
    larger = loss(torch.cat([made, made], dim=3), torch.cat([real, real], dim=3))
    torch.testing.assert_close(larger, loss(made, real))
    assert loss(real, real) == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_only_the_made_side_gets_a_gradient_and_goes_to_the_real_one(loss):
    made, real = features(1).requires_grad_(True), features(2).requires_grad_(True)
    loss(made, real).backward()
    assert real.grad is None
    assert torch.equal(-made.grad.sign(), (real - made).sign())


@pytest.mark.parametrize("loss", LOSSES)
def test_shapes_must_be_equal_not_only_compatible(loss):
    with pytest.raises(ValueError, match="same shape"):
        loss(features(1), features(2)[:1])
