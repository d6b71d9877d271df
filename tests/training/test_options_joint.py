"""Options of the joint step beyond the paper's: a degrader alone, tied colors, number formats; and its economy."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddnsr_cli.config import Precision
from ddnsr_cli.errors import ConfigError
from ddnsr_cli.losses import COLOR_PX, color_loss
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.degrader import DegraderConfig
from ddnsr_cli.nets.lpips import LPIPS, TRUNKS, squeezenet_features
from ddnsr_cli.nets.vgg19 import Tap, VGG19Features
from ddnsr_cli.training.options import (
    FeatureLayers,
    HalvingSchedule,
    LossWeights,
    ablated,
    small_helpers,
    track_options,
    without_discriminator,
)
from ddnsr_cli.training.reconstruction import FeatureNets, LpipsDifference, VggDifference
from ddnsr_cli.training.trainer import JointTrainer
from tests.helpers.random_vgg import random_vgg19

CPU = torch.device("cpu")
CONTENT, CYCLE = Tap(layer="conv3_4"), Tap(layer="conv2_2")
BF16_LOSSES = 0.05  # relative, of sums of products of three digits; seen: 0.012


@pytest.fixture(scope="module")
def vgg_state(narrow_vgg):
    return random_vgg19("conv3_4")


@pytest.fixture
def feature_nets(vgg_state):
    """New ones for each test: some count their forward passes."""
    hr = VggDifference(VGG19Features(vgg_state, (CONTENT,)))
    return FeatureNets(lr=VGG19Features(vgg_state, (CONTENT, CYCLE)), hr=hr)


def small(options, **changes):
    return replace(
        options,
        sr_net=RRDBConfig(features=4, blocks=1, growth=2),
        degrader=DegraderConfig(features=4, blocks=1),
        discriminator_features=4,
        lr_discriminator_features=4,
        stream=replace(options.stream, batch=2, crop_px=32),
        schedule=replace(options.schedule, warmup_steps=0),
        **changes,
    )


TRACK_1, TRACK_2 = small(track_options(1)), small(track_options(2))


def levels(seed=0):
    generator = torch.Generator().manual_seed(seed)
    sides = (8, 32)
    return [torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=generator) for side in sides]


def copied(trainer):
    return {name: tensor.clone() for name, tensor in trainer.train_state({}).tensors.items()}


def moved(trainer, before):
    """Which parts of the state changed."""
    now = trainer.train_state({}).tensors
    names = {name for name in now if name not in before or not torch.equal(now[name], before[name])}
    return {".".join(name.split(".")[:2]) for name in names}


def test_lite_is_half_as_wide_beside_the_reconstruction_network():
    lite = small_helpers(track_options(2))
    assert lite.degrader == DegraderConfig(features=32, blocks=4)
    assert (lite.discriminator_features, lite.lr_discriminator_features) == (32, 64)


SR_FIGURES = {"pixel", "perceptual", "hr_adversarial", "disc_hr", "disc_hr_real", "disc_hr_fake", "color_drift"}
SR_FIGURES |= {"norm_sr_net", "norm_disc_hr"}
LEADING = {"nets.degrader", "nets.disc_lr", "adam.degrader", "adam.disc_lr", "ema.degrader"}


@pytest.mark.parametrize("options", [TRACK_1, TRACK_2])
def test_while_the_degrader_leads_it_and_its_discriminator_move_alone(feature_nets, options):
    trainer = JointTrainer(replace(options, degrader_only_steps=2), feature_nets, CPU)
    everything = None
    for step in range(3):
        before = copied(trainer)
        figures = trainer.train_step(*levels(step))
        if step < 2:
            assert moved(trainer, before) == LEADING
            assert not SR_FIGURES & figures.keys()
            assert {"content", "cycle", "lr_adversarial", "disc_lr", "lr_color_drift", "rate"} <= figures.keys()
        everything = moved(trainer, before)
    assert everything == LEADING | {"nets.sr_net", "nets.disc_hr", "adam.sr_net", "adam.disc_hr", "ema.sr_net"}
    assert figures.keys() >= SR_FIGURES


def test_without_a_lead_all_move_from_the_start(feature_nets):
    trainer = JointTrainer(TRACK_2, feature_nets, CPU)
    before = copied(trainer)
    assert trainer.train_step(*levels()).keys() >= SR_FIGURES
    assert moved(trainer, before) >= {"nets.sr_net", "nets.disc_hr"}


def test_the_rate_rises_and_is_halved():
    schedule = HalvingSchedule(learning_rate=0.8, warmup_steps=4, milestones=(6, 7))
    assert [schedule.rate_at(step) for step in range(9)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.4, 0.2, 0.2])
    assert HalvingSchedule(learning_rate=0.8, warmup_steps=0, milestones=()).rate_at(0) == 0.8


@pytest.mark.parametrize(
    "wrong",
    [{"learning_rate": float("nan")}, {"learning_rate": float("inf")}, {"milestones": (3, 2)}, {"milestones": (-1,)}],
)
def test_schedules_without_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match="learning_rate > 0"):
        HalvingSchedule(**wrong)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_loss_weights_without_sense_are_refused(weight):
    with pytest.raises(ConfigError, match="color"):
        LossWeights(color=weight)


@pytest.mark.parametrize("wrong", [{"content": "conv9_9"}, {"cycle": "lpips-alex"}])
def test_unknown_layers_are_refused(wrong):
    with pytest.raises(ConfigError, match="is none of them"):
        FeatureLayers(**wrong)


def drawn_image(seed, side=16):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 1000), shift=st.floats(-0.5, 0.5))
def test_the_color_loss_is_the_shift_of_an_image(seed, shift):
    reference = drawn_image(seed)
    assert color_loss(reference + shift, reference).item() == pytest.approx(abs(shift), abs=1e-6)


@given(seed=st.integers(0, 1000))
def test_the_color_loss_does_not_see_noise_of_mean_zero_in_each_square(seed):
    reference = drawn_image(seed)
    squares = drawn_image(seed + 1).unfold(2, COLOR_PX, COLOR_PX).unfold(3, COLOR_PX, COLOR_PX)
    noise = squares - squares.mean(dim=(-2, -1), keepdim=True)
    noise = noise.permute(0, 1, 2, 4, 3, 5).reshape(reference.shape)
    assert color_loss(reference + noise, reference).item() == pytest.approx(0, abs=1e-6)
    assert color_loss(reference + noise.roll(COLOR_PX // 2, -1), reference).item() > 1e-4  # in others it does


def test_the_color_loss_moves_the_made_image_towards_the_reference():
    made, reference = drawn_image(1).requires_grad_(), drawn_image(2).requires_grad_()
    color_loss(made, reference).backward()
    assert reference.grad is None
    nearer = made.detach() - 5 * made.grad
    assert color_loss(nearer, reference) < color_loss(made, reference)


def test_colors_are_tied_only_when_asked_for(feature_nets):
    assert LossWeights().color == 0
    lr, hr = (level.float() / 255 for level in levels())
    plain = JointTrainer(TRACK_2, feature_nets, CPU)
    tied = JointTrainer(replace(TRACK_2, losses=replace(TRACK_2.losses, color=20.0)), feature_nets, CPU)
    terms = [trainer.degrader_losses(lr, hr, trainer.make(lr, hr, lr)) for trainer in (plain, tied)]
    assert "color" not in terms[0]
    assert terms[1].keys() - terms[0].keys() == {"color"}


def squeeze_lpips():
    """LPIPS on SqueezeNet with random weights."""
    torch.manual_seed(0)
    state = {f"features.{name}": tensor for name, tensor in squeezenet_features().state_dict().items()}
    state |= {f"lin{n}.weight": torch.rand(1, c, 1, 1) for n, c in enumerate(TRUNKS["squeeze"].channels)}
    return LPIPS("squeeze", state)


@pytest.mark.parametrize("kind", ["lpips", "vgg", "vgg squared"])
def test_a_difference_of_images_gives_a_gradient_to_the_made_one_alone(kind, vgg_state):
    if kind == "lpips":
        difference = LpipsDifference(squeeze_lpips())
    else:
        difference = VggDifference(VGG19Features(vgg_state, (CONTENT,)), squared=kind == "vgg squared")
    made, truth = drawn_image(1, 32).requires_grad_(), drawn_image(2, 32).requires_grad_()
    loss = difference(made, truth)
    loss.backward()
    assert loss.ndim == 0
    assert made.grad.abs().sum() > 0
    assert truth.grad is None
    assert difference(truth, truth).item() == pytest.approx(0, abs=1e-6)


def test_lpips_as_perceptual_loss_trains_the_reconstruction(feature_nets):
    options = small(replace(track_options(2), layers=FeatureLayers(perceptual="lpips-squeeze")))
    trainer = JointTrainer(options, replace(feature_nets, hr=LpipsDifference(squeeze_lpips())), CPU)
    lr, hr = (level.float() / 255 for level in levels())
    terms = trainer.sr_losses(hr, trainer.make(lr, hr, lr))
    terms["perceptual"].backward()
    owners = {name.split(".")[0] for name, p in trainer.nets.named_parameters() if p.grad is not None}
    assert owners == {"sr_net"}


def figures_of(trainer, steps=3):
    return [trainer.train_step(*levels(step)) for step in range(steps)]


def losses(figures):
    """Without norms and drifts, which are differences of near numbers."""
    return {name: value for name, value in figures.items() if "norm" not in name and "drift" not in name}


def away_from_its_start(trainer):
    """A degrader that does not yet shrink exactly: at the start its losses are mere rounding."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in trainer.nets.degrader.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return trainer


@pytest.mark.parametrize("options", [TRACK_1, TRACK_2])
def test_bfloat16_gives_the_losses_of_float32_nearly(feature_nets, options):
    full, half = (
        figures_of(away_from_its_start(JointTrainer(replace(options, precision=precision), feature_nets, CPU)))
        for precision in (Precision.FP32, Precision.BF16)
    )
    assert full != half  # it was at work
    for ours, theirs in zip(full, half, strict=True):
        assert losses(theirs) == pytest.approx(losses(ours), rel=BF16_LOSSES)


def test_on_a_cpu_auto_is_float32(feature_nets):
    auto, full = (
        figures_of(JointTrainer(replace(TRACK_2, precision=precision), feature_nets, CPU), steps=1)
        for precision in (Precision.AUTO, Precision.FP32)
    )
    assert auto == full


class Forwards:
    """Counts the forward passes of modules, by name."""

    def __init__(self, **modules):
        self.counts = Counter()
        for name, module in modules.items():
            module.register_forward_hook(lambda *_, name=name: self.counts.update([name]))


ECONOMY = {
    "whole method": (TRACK_1, {"degrader": 2, "sr_net": 2, "disc_lr": 3, "disc_hr": 3, "vgg_lr": 4, "vgg_hr": 2}),
    "track 2": (TRACK_2, {"degrader": 2, "sr_net": 2, "disc_lr": 3, "disc_hr": 3, "vgg_lr": 4, "vgg_hr": 2}),
    "degrader only": (replace(TRACK_1, degrader_only_steps=9), {"degrader": 2, "sr_net": 1, "disc_lr": 3, "vgg_lr": 4}),
    "no content": (ablated(TRACK_1, "A"), {"degrader": 2, "sr_net": 2, "disc_lr": 3, "disc_hr": 3, "vgg_lr": 2,
                                           "vgg_hr": 2}),
    "no cycle": (ablated(TRACK_1, "C"), {"degrader": 1, "sr_net": 1, "disc_lr": 3, "disc_hr": 3, "vgg_lr": 2,
                                         "vgg_hr": 2}),
    "l2": (without_discriminator(TRACK_2), {"degrader": 2, "sr_net": 2, "disc_lr": 3, "vgg_lr": 4}),
}  # fmt: skip
"""Forward passes that the method needs: a discriminator sees the real image once and the made one twice, once for
each side of the game; VGG19 sees each image once, the real ones too."""


@pytest.mark.parametrize("name", ECONOMY)
def test_no_network_runs_more_often_than_the_method_needs(feature_nets, name):
    options, wanted = ECONOMY[name]
    trainer = JointTrainer(options, feature_nets, CPU)
    seen = Forwards(**trainer.learners, vgg_lr=feature_nets.lr, vgg_hr=feature_nets.hr.vgg)
    trainer.train_step(*levels())
    assert dict(seen.counts) == wanted


@pytest.mark.parametrize("options", [TRACK_1, replace(TRACK_2, degrader_only_steps=9)])
def test_vgg_sees_no_image_twice(feature_nets, options):
    images = {"lr": [], "hr": []}
    feature_nets.lr.register_forward_pre_hook(lambda _, given: images["lr"].append(given[0].detach().clone()))
    feature_nets.hr.vgg.register_forward_pre_hook(lambda _, given: images["hr"].append(given[0].detach().clone()))
    trainer = JointTrainer(options, feature_nets, CPU)
    trainer.train_step(*levels())
    for seen in images.values():
        assert not any(torch.equal(one, other) for n, one in enumerate(seen) for other in seen[:n])


def test_compiling_leaves_names_and_state_alone(feature_nets, monkeypatch):
    """That the compiled networks compute the same takes a minute: tests/bench/training.py --compile tells."""
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda net: compiled.append(net) or net)
    trainer = JointTrainer(replace(TRACK_2, compiled=True), feature_nets, CPU)
    assert compiled == [trainer.nets.degrader, trainer.nets.sr_net]
    plain = JointTrainer(TRACK_2, feature_nets, CPU)
    assert trainer.train_state({}).tensors.keys() == plain.train_state({}).tensors.keys()
    assert figures_of(trainer, steps=1) == figures_of(plain, steps=1)


def test_a_degrader_that_has_nothing_to_learn_by_is_refused():
    for other in ({}, {"noise_transfer": 1000.0}):
        with pytest.raises(ConfigError, match="nothing to learn by"):
            replace(track_options(1), losses=LossWeights(content=0, lr_adversarial=0, cycle=0, **other))
    assert replace(track_options(1), losses=LossWeights(content=0, lr_adversarial=0, cycle=0, color=1)).losses.color


def test_a_degrader_of_a_single_input_cannot_learn_to_carry_noise():
    options = replace(track_options(1), dual_input=False)
    for changes in ({"degrader_pretrain_steps": 5}, {"losses": replace(options.losses, noise_transfer=1.0)}):
        with pytest.raises(ConfigError, match=r"single input.*--degrader-pretrain-steps"):
            replace(options, **changes)
