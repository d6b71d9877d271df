"""Pretraining: the degrader learns to transfer simulated noise, alone at first, then beside the method's losses."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ddnsr_cli.data.config import NoiseInput
from ddnsr_cli.data.degradations import draw_noise_transfer
from ddnsr_cli.data.noise_patches import slow_part
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.degrader import DegraderConfig
from ddnsr_cli.nets.vgg19 import Tap, VGG19Features
from ddnsr_cli.training.options import track_options
from ddnsr_cli.training.reconstruction import FeatureNets
from ddnsr_cli.training.trainer import JointTrainer
from tests.helpers.random_vgg import random_vgg19

CPU = torch.device("cpu")
ALL = {"degrader", "disc_lr", "sr_net", "disc_hr"}


def crops(count, side, *, seed=0, flat=False):
    generator = torch.Generator().manual_seed(seed)
    if flat:
        return (torch.rand(count, 3, 1, 1, generator=generator) * 128 + 64).to(torch.uint8).expand(count, 3, side, side)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def trainer_of(*, features=4, **changes):
    plain = track_options(2)
    losses = replace(plain.losses, noise_transfer=changes.pop("noise_transfer", 0.0), perceptual=0.0)
    options = replace(
        plain,
        sr_net=RRDBConfig(features=4, blocks=1, growth=2),
        degrader=DegraderConfig(features=features, blocks=1),
        discriminator_features=4,
        lr_discriminator_features=4,
        stream=replace(plain.stream, batch=4, crop_px=32),
        losses=losses,
        **changes,
    )
    taps = (Tap(layer="conv3_4"), Tap(layer="conv2_2"))
    return JointTrainer(options, FeatureNets(lr=VGG19Features(random_vgg19("conv3_4"), taps), hr=None), CPU)


def test_what_is_drawn_follows_from_seed_and_step_alone():
    hr = crops(4, 32)
    first, same = (draw_noise_transfer(hr, seed=1, step=7, noise_input=NoiseInput.SMOOTH) for _ in range(2))
    assert torch.equal(first.lr_noisy, same.lr_noisy)
    assert torch.equal(first.lr_wanted, same.lr_wanted)
    for seed, step in ((2, 7), (1, 8)):
        assert not torch.equal(
            draw_noise_transfer(hr, seed=seed, step=step, noise_input=NoiseInput.SMOOTH).lr_noisy, first.lr_noisy
        )


def alike(one, other):
    return torch.corrcoef(torch.stack((one.flatten(), other.flatten())))[0, 1]


def test_noise_to_carry_lies_on_the_slow_part_of_another_image_or_on_all_of_it():
    hr = crops(6, 64)
    others = (F.avg_pool2d(hr.float(), 4) / 255).roll(1, dims=0)
    smooth, crop = (draw_noise_transfer(hr, seed=0, step=0, noise_input=kind) for kind in NoiseInput)
    assert torch.equal(smooth.lr_wanted, crop.lr_wanted)
    for drawn, base, rest in ((smooth, slow_part(others), others), (crop, others, slow_part(others))):
        noise, subject = drawn.lr_noisy - base, others - slow_part(others)
        assert alike(noise, crop.lr_noisy - others) > 0.9
        assert abs(alike(noise, subject)) < 0.1
        assert abs(alike(drawn.lr_noisy - rest, subject)) > 0.5


def test_the_noise_is_the_same_beside_another_image():
    hr = crops(6, 64, flat=True)
    drawn = draw_noise_transfer(hr, seed=0, step=0, noise_input=NoiseInput.CROP)
    shrunk = hr[..., ::4, ::4].float() / 255
    carried, wanted = drawn.lr_noisy - shrunk.roll(1, dims=0), drawn.lr_wanted - shrunk
    assert wanted.std() * 255 > 4
    for one, other in zip(carried, wanted, strict=True):
        assert alike(one, other) > 0.9
    assert torch.equal(drawn.lr_noisy * 255, (drawn.lr_noisy * 255).round())


def test_each_network_begins_in_its_turn():
    trainer = trainer_of(degrader_pretrain_steps=2, degrader_only_steps=2)
    for learning in ({"degrader"}, {"degrader"}, {"degrader", "disc_lr"}, {"degrader", "disc_lr"}, ALL):
        before = {name: weight.clone() for name, weight in trainer.nets.named_parameters()}
        trainer.train_step(crops(4, 8), crops(4, 32))
        moved = {name for name, weight in trainer.nets.named_parameters() if not torch.equal(weight, before[name])}
        assert {name.split(".")[0] for name in moved} == learning


def test_the_rate_of_each_network_rises_when_it_begins():
    trainer = trainer_of(degrader_pretrain_steps=2, degrader_only_steps=2)
    rise, rate = trainer.options.schedule.warmup_steps, trainer.options.schedule.learning_rate
    for _ in range(5):
        trainer.train_step(crops(4, 8), crops(4, 32))
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in trainer.optimizers.items()}
    learned = {"degrader": 5, "disc_lr": 3, "sr_net": 1, "disc_hr": 1}
    assert rates == pytest.approx({name: rate * steps / rise for name, steps in learned.items()})


def test_pretraining_looks_at_no_source_image():
    ours, theirs = (trainer_of(degrader_pretrain_steps=1) for _ in range(2))
    ours.train_step(crops(4, 8, seed=1), crops(4, 32))
    theirs.train_step(crops(4, 8, seed=2), crops(4, 32))
    weights = theirs.nets.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in ours.nets.state_dict().items())


def test_the_carry_loss_stays_when_it_has_a_weight():
    for weight in (0.0, 3.0):
        trainer = trainer_of(degrader_pretrain_steps=1, noise_transfer=weight)
        rows = [trainer.train_step(crops(4, 8), crops(4, 32)) for _ in range(2)]
        assert "noise_transfer" in rows[0]
        assert ("noise_transfer" in rows[1]) == (weight > 0)


def test_a_pretrained_degrader_transfers_noise():
    """Its start gives the finest detail of the noise only; blotches and levels are learned."""
    trainer = trainer_of(features=8, degrader_pretrain_steps=60)
    losses = [
        trainer.train_step(crops(4, 8), crops(4, 32, flat=True, seed=step))["noise_transfer"] for step in range(60)
    ]
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])
