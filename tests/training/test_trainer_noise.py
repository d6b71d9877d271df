"""The paper's own observation (appendix A), on a degrader that was trained: noise comes from the second input."""

from dataclasses import replace

import pytest
import torch

from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.degrader import DegraderConfig
from ddnsr_cli.nets.vgg19 import Tap, VGG19Features
from ddnsr_cli.training.options import ablated, track_options
from ddnsr_cli.training.reconstruction import FeatureNets
from ddnsr_cli.training.trainer import JointTrainer
from tests.helpers.random_vgg import random_vgg19

SIGMA = 8 / 255
STEPS = 40


def smooth(count, side, generator):
    """Images of a few slow waves, (count, 3, side, side) in [0.2, 0.8]."""
    coarse = torch.rand(count, 3, 3, 3, generator=generator)
    return 0.2 + 0.6 * torch.nn.functional.interpolate(coarse, size=side, mode="bicubic").clamp(0, 1)


def levels(image):
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def noisy(count, side, generator):
    clean = smooth(count, side, generator)
    return clean + SIGMA * torch.randn(clean.shape, generator=generator)


@pytest.fixture(scope="module")
def feature_nets(narrow_vgg):
    lr = VGG19Features(random_vgg19("conv3_4"), (Tap(layer="conv3_4"), Tap(layer="conv2_2")))
    return FeatureNets(lr=lr, hr=None)


def trained(letter, feature_nets):
    plain = ablated(track_options(1), letter)
    options = replace(
        plain,
        sr_net=RRDBConfig(features=4, blocks=1, growth=4),
        degrader=DegraderConfig(features=12, blocks=1),
        discriminator_features=4,
        lr_discriminator_features=8,
        degrader_only_steps=STEPS,
        stream=replace(plain.stream, batch=2, crop_px=64),
        losses=replace(plain.losses, color=20.0),
    )
    trainer = JointTrainer(options, feature_nets, torch.device("cpu"))
    generator = torch.Generator().manual_seed(5)
    for _ in range(STEPS):
        trainer.train_step(levels(noisy(2, 16, generator)), levels(smooth(2, 64, generator)))
    return trainer


@torch.no_grad()
def noise_in_flat_areas(trainer, *, zeros):
    """Standard deviation in the inner part of LR images made of flat HR ones, away from the border's padding."""
    real = noisy(8, 48, torch.Generator().manual_seed(6))
    seen = torch.zeros_like(real) if zeros else real
    fake = trainer.nets.degrader(torch.full((8, 3, 192, 192), 0.5), seen)[..., 12:-12, 12:-12]
    fine = fake - torch.nn.functional.avg_pool2d(fake, 5, 1, 2, count_include_pad=False)
    return (fine.var() * 25 / 24).sqrt().item()  # a mean of 25 takes a 25th of white noise away


@pytest.fixture(scope="module")
def dual(feature_nets):
    return trained("E", feature_nets)


def test_the_real_input_gives_noise_of_the_sources_level(dual):
    assert 0.6 * SIGMA < noise_in_flat_areas(dual, zeros=False) < 1.4 * SIGMA


def test_a_zero_input_gives_hardly_any(dual):
    assert noise_in_flat_areas(dual, zeros=True) < 0.05 * SIGMA


def test_a_degrader_trained_without_it_makes_hardly_any(feature_nets):
    single = trained("D", feature_nets)
    assert noise_in_flat_areas(single, zeros=True) < 0.05 * SIGMA
