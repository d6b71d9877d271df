"""The joint step: each network learns from its own loss only, and every option of the method does what it says."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ddnsr_cli.errors import ConfigError, TrainingError
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.degrader import DegraderConfig
from ddnsr_cli.nets.vgg19 import Tap, VGG19Features
from ddnsr_cli.training.options import (
    JointOptions,
    JointPreset,
    ablated,
    track_options,
    with_preset,
    without_discriminator,
)
from ddnsr_cli.training.reconstruction import FeatureNets, VggDifference
from ddnsr_cli.training.reconstruction_options import Discriminator
from ddnsr_cli.training.trainer import JointTrainer
from tests.helpers.random_vgg import random_vgg19

CPU = torch.device("cpu")
CONTENT, CYCLE = Tap(layer="conv3_4"), Tap(layer="conv2_2")


@pytest.fixture(scope="module")
def feature_nets(narrow_vgg):
    state = random_vgg19("conv3_4")
    return FeatureNets(lr=VGG19Features(state, (CONTENT, CYCLE)), hr=VggDifference(VGG19Features(state, (CONTENT,))))


def small(options: JointOptions) -> JointOptions:
    return replace(
        options,
        sr_net=RRDBConfig(features=4, blocks=1, growth=2),
        degrader=DegraderConfig(features=4, blocks=1),
        discriminator_features=4,
        lr_discriminator_features=4,
        stream=replace(options.stream, batch=2, crop_px=32),
    )


TRACK_1, TRACK_2 = small(track_options(1)), small(replace(track_options(2)))
SETTINGS = {
    "track 1": TRACK_1,
    "track 2": TRACK_2,
    "l2": without_discriminator(TRACK_2),
    "paper": with_preset(TRACK_1, JointPreset.PAPER),
    "cyclegan-lr": with_preset(TRACK_1, JointPreset.CYCLEGAN_LR),
    **{f"ablation {letter}": ablated(TRACK_1, letter) for letter in "ABCDE"},
}


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    lr, hr = torch.rand(2, 3, 8, 8, generator=generator), torch.rand(2, 3, 32, 32, generator=generator)
    return lr, hr


def levels(image):
    return (image * 255).round().to(torch.uint8)


def gradients(trainer, loss):
    trainer.nets.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in trainer.nets.named_parameters() if p.grad is not None}


def joint_and_separate(trainer):
    """Gradients of the sum of all losses, and of each network's own, computed apart."""
    lr, hr = batch()

    def terms():
        made = trainer.make(lr, hr, lr)
        discriminators, _ = trainer.discriminator_losses(lr, hr, made)
        return {"degrader": trainer.degrader_losses(lr, hr, made), "sr_net": trainer.sr_losses(hr, made)} | {
            name: {name: loss} for name, loss in discriminators.items()
        }

    joint = gradients(trainer, sum(loss for losses in terms().values() for loss in losses.values()))
    separate = {}
    for owner in terms():
        found = gradients(trainer, sum(terms()[owner].values()))
        back = {"cleaner"} if owner == "degrader" and trainer.nets.cleaner is not None else set()
        assert {name.split(".")[0] for name in found} == {owner} | back
        separate |= found
    return joint, separate


@pytest.mark.parametrize("name", SETTINGS)
def test_the_joint_backward_equals_separate_gradients(feature_nets, name):
    joint, separate = joint_and_separate(JointTrainer(SETTINGS[name], feature_nets, CPU))
    assert joint.keys() == separate.keys()
    for parameter, gradient in separate.items():
        torch.testing.assert_close(joint[parameter], gradient, rtol=1e-4, atol=1e-6)


def test_dnsr_learns_its_degrader_by_the_loss_of_the_reconstruction_network_too(feature_nets):
    trainer = JointTrainer(with_preset(TRACK_2, JointPreset.DNSR), feature_nets, CPU)
    lr, hr = batch()
    made = trainer.make(lr, hr, lr)
    assert torch.equal(made.lr_fake, trainer.make(lr, hr, torch.zeros_like(lr)).lr_fake)  # a single input
    terms = trainer.sr_losses(hr, made)
    assert terms.keys() == {"pixel"}
    torch.testing.assert_close(terms["pixel"], (made.sr_fake - hr).abs().mean())
    found = gradients(trainer, terms["pixel"])
    assert {name.split(".")[0] for name in found} == {"degrader", "sr_net"}
    assert all(gradient.abs().sum() > 0 for name, gradient in found.items() if name.startswith("degrader.conv_last"))


def test_cyclegan_translates_what_bicubic_made_there_and_back_and_from_real_images_there_and_back(feature_nets):
    trainer = JointTrainer(SETTINGS["cyclegan-lr"], feature_nets, CPU)
    lr, hr = batch()
    bicubic = F.interpolate(hr, scale_factor=0.25, mode="bicubic", antialias=True)
    torch.testing.assert_close(trainer.make(lr, hr, lr).lr_fake, bicubic)  # at the start nothing is translated
    for net in (trainer.nets.degrader, trainer.nets.cleaner):
        torch.nn.init.normal_(net.merge[-1].weight, std=0.02)
    made, zeros = trainer.make(lr, hr, lr), torch.zeros_like(lr)
    noisy, clean = (lambda x, net=net: net.translate(x, zeros) for net in (trainer.nets.degrader, trainer.nets.cleaner))
    assert torch.equal(made.lr_fake, noisy(bicubic))
    there_and_back = (noisy(clean(lr)) - lr).abs().mean() + (clean(noisy(bicubic)) - bicubic).abs().mean()
    terms = trainer.degrader_losses(lr, hr, made)
    assert terms.keys() == {"lr_adversarial", "clean_adversarial", "lr_cycle"}
    torch.testing.assert_close(terms["lr_cycle"], 10 * there_and_back)
    torch.testing.assert_close(terms["clean_adversarial"], F.softplus(-trainer.nets.disc_clean(clean(lr))).mean())
    losses, _ = trainer.discriminator_losses(lr, hr, made)
    disc = trainer.nets.disc_clean
    wanted = F.softplus(-disc(bicubic)).mean() + F.softplus(disc(clean(lr).detach())).mean()
    torch.testing.assert_close(losses["disc_clean"], wanted)


def test_the_lr_cycle_is_there_without_discriminators_too(feature_nets):
    options = SETTINGS["cyclegan-lr"]
    trainer = JointTrainer(replace(options, losses=replace(options.losses, lr_adversarial=0.0)), feature_nets, CPU)
    lr, hr = batch()
    assert trainer.degrader_losses(lr, hr, trainer.make(lr, hr, lr)).keys() == {"lr_cycle"}


def test_the_lr_cycle_is_of_a_degrader_that_shrinks_by_bicubic_first():
    with pytest.raises(ConfigError, match="cyclegan-lr"):
        replace(TRACK_1, losses=replace(TRACK_1.losses, lr_cycle=1.0))


def test_the_paper_shortens_no_gradient_averages_nothing_and_starts_from_noise(feature_nets):
    paper, ours = with_preset(TRACK_1, JointPreset.PAPER), TRACK_1
    lr, hr = (levels(image) for image in batch())
    trainer = JointTrainer(paper, feature_nets, CPU)
    figures = [trainer.train_step(lr, hr) for _ in range(3)]
    for name, average in trainer.averages.items():
        for key, value in trainer.learners[name].state_dict().items():
            assert torch.equal(average.state_dict()[key], value)
    assert [step["rate"] for step in figures] == [1e-4] * 3
    lr_image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    nearest = lr_image.repeat_interleave(4, 2).repeat_interleave(4, 3)

    def distance(options):
        return (JointTrainer(options, feature_nets, CPU).nets.sr_net(lr_image) - nearest).abs().mean()

    assert distance(ours) < 0.1 < distance(paper)


@pytest.mark.parametrize(("clip_norm", "shortened"), [(0.0, False), (1e-3, True)])
def test_gradients_are_shortened_where_that_is_asked_for(feature_nets, clip_norm, shortened):
    trainer = JointTrainer(replace(TRACK_1, clip_norm=clip_norm), feature_nets, CPU)
    norm = trainer.train_step(*(levels(image) for image in batch()))["norm_sr_net"]
    left = torch.stack([p.grad.norm() for p in trainer.nets.sr_net.parameters() if p.grad is not None]).norm()
    assert norm > 1e-3
    assert float(left) == pytest.approx(1e-3 if shortened else norm, rel=1e-2)


def test_a_missing_detach_would_show(feature_nets):
    trainer = JointTrainer(TRACK_1, feature_nets, CPU)
    lr, hr = batch()
    made = trainer.make(lr, hr, lr)
    leak = trainer.nets.sr_net(made.lr_fake)  # not detached
    found = gradients(trainer, sum(trainer.sr_losses(hr, replace(made, sr_fake=leak)).values()))
    assert "degrader" in {name.split(".")[0] for name in found}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_network_moves_and_every_figure_is_reported(feature_nets, name):
    options = SETTINGS[name]
    trainer = JointTrainer(options, feature_nets, CPU)
    before = {key: value.clone() for key, value in trainer.nets.named_parameters()}
    figures = trainer.train_step(*map(levels, batch()))
    moved = {key.split(".")[0] for key, value in trainer.nets.named_parameters() if not torch.equal(value, before[key])}
    assert moved == set(trainer.learners)
    wanted = {term for term, weight in vars(options.losses).items() if weight}
    assert wanted <= figures.keys()
    assert not {"content", "lr_adversarial", "cycle"} - wanted & figures.keys()
    assert ("disc_hr" in figures) == (options.discriminator is not Discriminator.NONE)


def test_the_single_input_ablation_does_not_look_at_the_noise(feature_nets):
    lr, hr = batch()
    for letter, differs in (("D", False), ("E", True)):
        trainer = JointTrainer(ablated(TRACK_1, letter), feature_nets, CPU)
        torch.nn.init.normal_(trainer.nets.degrader.merge[-1].weight)  # zero at the start: noise fades in
        fakes = [trainer.make(lr, hr, noise).lr_fake for noise in (lr, lr.flip(3))]
        assert torch.equal(*fakes) != differs


def carrying(feature_nets):
    """A trainer whose degrader looks at its noise input from the start on: else noise fades in."""
    trainer = JointTrainer(TRACK_1, feature_nets, CPU)
    torch.nn.init.constant_(trainer.nets.degrader.merge[-1].weight, 0.1)
    return trainer


def test_the_noise_input_is_beside_the_clean_image_and_not_in_the_cycle(feature_nets):
    trainer = carrying(feature_nets)
    lr, hr = batch()
    one, other = (trainer.make(lr, hr, noise) for noise in (lr, lr.flip(3)))
    assert not torch.equal(one.lr_fake, other.lr_fake)
    assert torch.equal(one.lr_cycle, other.lr_cycle)


def test_a_step_without_noise_inputs_takes_the_real_crops(feature_nets):
    pair = [levels(image) for image in batch()]
    ours, same, other = (carrying(feature_nets) for _ in range(3))
    figures = ours.train_step(*pair)
    assert figures == same.train_step(*pair, pair[0])
    assert figures != other.train_step(*pair, pair[0].flip(3))


def test_the_cycle_is_of_the_real_image(feature_nets):
    """With a reconstruction that enlarges and a degrader that shrinks exactly, the cycle loss would be 0."""
    trainer = JointTrainer(TRACK_1, feature_nets, CPU)
    lr, hr = batch()
    made = trainer.make(lr, hr, lr)
    perfect = trainer.degrader_losses(lr, hr, replace(made, lr_cycle=lr))
    assert perfect["cycle"].item() == 0
    assert trainer.degrader_losses(lr, hr, made)["cycle"].item() > 0


def test_weights_scale_their_terms(feature_nets):
    lr, hr = batch()
    plain = JointTrainer(TRACK_1, feature_nets, CPU)
    heavy = JointTrainer(replace(TRACK_1, losses=replace(TRACK_1.losses, cycle=20.0, content=0.3)), feature_nets, CPU)
    ours, theirs = (t.degrader_losses(lr, hr, t.make(lr, hr, lr)) for t in (plain, heavy))
    torch.testing.assert_close(theirs["cycle"], 2 * ours["cycle"])
    torch.testing.assert_close(theirs["content"], 3 * ours["content"])


def test_the_rate_is_halved_as_in_the_paper():
    schedule = replace(track_options(2).schedule, warmup_steps=0)
    rates = [schedule.rate_at(step) for step in (0, 49_999, 50_000, 100_000, 199_999, 200_000)]
    assert rates == [1e-4, 1e-4, 5e-5, 2.5e-5, 2.5e-5, 1.25e-5]


def test_ten_steps_equal_five_and_five_from_a_snapshot(feature_nets):
    batches = [tuple(map(levels, batch(seed))) for seed in range(6)]
    whole = JointTrainer(TRACK_1, feature_nets, CPU)
    for pair in batches:
        whole.train_step(*pair)
    first = JointTrainer(TRACK_1, feature_nets, CPU)
    for pair in batches[:3]:
        first.train_step(*pair)
    saved = first.train_state({})
    kept = replace(saved, tensors={name: tensor.clone() for name, tensor in saved.tensors.items()})
    second = JointTrainer(TRACK_1, feature_nets, CPU)
    second.restore(kept)
    for pair in batches[3:]:
        second.train_step(*pair)
    ours, theirs = whole.train_state({}).tensors, second.train_state({}).tensors
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_start_is_the_seeds_alone(feature_nets):
    torch.manual_seed(5)
    first = JointTrainer(TRACK_1, feature_nets, CPU).nets.state_dict()
    torch.rand(7)
    second = JointTrainer(TRACK_1, feature_nets, CPU).nets.state_dict()
    other = JointTrainer(replace(TRACK_1, stream=replace(TRACK_1.stream, seed=1)), feature_nets, CPU).nets.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_values_that_are_not_finite_move_nothing(feature_nets):
    trainer = JointTrainer(TRACK_1, feature_nets, CPU)
    with torch.no_grad():
        trainer.nets.degrader.conv_last.bias[0] = float("inf")
    before = {name: value.clone() for name, value in trainer.nets.named_parameters()}
    with pytest.raises(TrainingError, match="Step 0 gave values that are not finite"):
        trainer.train_step(*map(levels, batch()))
    assert all(torch.equal(value, before[name]) for name, value in trainer.nets.named_parameters())
    assert trainer.step == 0
