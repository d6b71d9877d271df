import math

import pytest
import torch
import torch.nn.functional as F

from ddnsr_cli.losses import gan_disc_loss, gan_gen_loss, relativistic_disc_loss, relativistic_gen_loss

LOG2 = math.log(2)


def logits(seed, shape=(6, 1)):
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def bce(values, target):
    return F.binary_cross_entropy_with_logits(values, torch.full_like(values, target))


def descends(loss, values):
    """How `loss` wants each of `values` to move: 1 up, -1 down."""
    (gradient,) = torch.autograd.grad(loss, values)
    return gradient.neg().sign()


def test_a_guessing_discriminator_costs_log_2_a_term():
    zeros = torch.zeros(4, 1)
    assert gan_disc_loss(zeros, zeros).item() == pytest.approx(2 * LOG2)
    assert gan_gen_loss(zeros).item() == pytest.approx(LOG2)
    level = torch.full((4, 1), 7.0)  # relativistic: only differences count
    assert relativistic_disc_loss(level, level).item() == pytest.approx(2 * LOG2)
    assert relativistic_gen_loss(level, level).item() == pytest.approx(2 * LOG2)


def test_values_by_hand():
    # sigmoid(log 3) = 3/4: the discriminator gives real 3/4 and made 1/4.
    real, fake = torch.tensor([math.log(3)]), torch.tensor([-math.log(3)])
    assert gan_disc_loss(real, fake).item() == pytest.approx(-2 * math.log(3 / 4))
    assert gan_gen_loss(fake).item() == pytest.approx(-math.log(1 / 4))
    # The difference is 2 log 3 = log 9, whose sigmoid is 9/10.
    assert relativistic_disc_loss(real, fake).item() == pytest.approx(-2 * math.log(9 / 10))
    assert relativistic_gen_loss(real, fake).item() == pytest.approx(-2 * math.log(1 / 10))


def test_equal_binary_cross_entropy():
    real, fake = logits(1), logits(2)
    torch.testing.assert_close(gan_disc_loss(real, fake), bce(real, 1.0) + bce(fake, 0.0))
    torch.testing.assert_close(gan_gen_loss(fake), bce(fake, 1.0))
    above, below = real - fake.mean(), fake - real.mean()
    torch.testing.assert_close(relativistic_disc_loss(real, fake), bce(above, 1.0) + bce(below, 0.0))
    torch.testing.assert_close(relativistic_gen_loss(real, fake), bce(above, 0.0) + bce(below, 1.0))


@pytest.mark.parametrize("loss", [gan_disc_loss, relativistic_disc_loss])
def test_the_discriminator_raises_real_and_lowers_made(loss):
    real, fake = logits(1).requires_grad_(True), logits(2).requires_grad_(True)
    assert (descends(loss(real, fake), real) == 1).all()
    assert (descends(loss(real, fake), fake) == -1).all()


def test_the_maker_raises_made():
    real, fake = logits(1), logits(2).requires_grad_(True)
    assert (descends(gan_gen_loss(fake), fake) == 1).all()
    assert (descends(relativistic_gen_loss(real, fake), fake) == 1).all()


def test_real_logits_are_constants_for_the_maker():
    real, fake = logits(1).requires_grad_(True), logits(2).requires_grad_(True)
    relativistic_gen_loss(real, fake).backward()
    assert real.grad is None
    assert fake.grad.abs().min() > 0


def test_the_inner_mean_carries_a_gradient():
    # Without it the discriminator's first term would not see `fake` at all.
    real, fake = logits(1), logits(2).requires_grad_(True)
    (gradient,) = torch.autograd.grad(relativistic_disc_loss(real, fake), fake)
    own = torch.sigmoid(fake - real.mean()) / fake.numel()
    through_mean = torch.sigmoid(fake.mean() - real).mean() / fake.numel()
    torch.testing.assert_close(gradient, (own + through_mean).detach())


@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
def test_large_logits_give_finite_losses_and_gradients(size):
    real, fake = torch.tensor([-size]).requires_grad_(True), torch.tensor([size]).requires_grad_(True)
    loss = gan_disc_loss(real, fake)
    loss.backward()
    assert loss.item() == pytest.approx(2 * size)
    assert (real.grad.item(), fake.grad.item()) == (-1, 1)  # no flat ground where the discriminator is wholly wrong
    assert gan_gen_loss(-fake).item() == pytest.approx(size)


def test_shapes_may_differ_and_are_means():
    patches = logits(3, (2, 1, 4, 5))
    torch.testing.assert_close(gan_gen_loss(patches), gan_gen_loss(patches.flatten()))
    torch.testing.assert_close(gan_gen_loss(torch.cat([patches, patches])), gan_gen_loss(patches))
    assert relativistic_disc_loss(patches, logits(4, (7, 1))).shape == ()


def test_the_mean_over_a_larger_batch_can_be_given():
    # Two processes with half the batch each, who know the whole batch's means, average to the loss of one process.
    real, fake = logits(1), logits(2)
    means = {half.data_ptr(): whole.mean() for whole in (real, fake) for half in whole.chunk(2)}
    for loss in (relativistic_disc_loss, relativistic_gen_loss):
        halves = [
            loss(ours, theirs, average=lambda half: means[half.data_ptr()])
            for ours, theirs in zip(real.chunk(2), fake.chunk(2), strict=True)
        ]
        torch.testing.assert_close(torch.stack(halves).mean(), loss(real, fake))
        alone = [loss(ours, theirs) for ours, theirs in zip(real.chunk(2), fake.chunk(2), strict=True)]
        assert not torch.isclose(torch.stack(alone).mean(), loss(real, fake))


def test_coarse_logits_are_judged_in_float32():
    coarse = logits(1).bfloat16()
    assert gan_gen_loss(coarse).dtype == torch.float32
    torch.testing.assert_close(gan_gen_loss(coarse), gan_gen_loss(coarse.float()))
