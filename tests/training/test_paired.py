"""The paired step: every term of equation 2 is what it says, each network learns from its own loss only, and a run
goes on exactly.
"""

import copy
import math
import statistics
from dataclasses import replace
from itertools import islice

import pytest
import torch
import torch.nn.functional as F

from ddnsr_cli.config import Precision, options_from_json, options_to_json
from ddnsr_cli.data.config import DegradationConfig
from ddnsr_cli.data.crop_stream import MixedPairs, RulePairs, batches
from ddnsr_cli.data.images import list_images
from ddnsr_cli.errors import ConfigError, TrainingError
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.discriminators import PROJECTED_TAPS
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.nets.vgg19 import Tap, VGG19Features
from ddnsr_cli.training import paired
from ddnsr_cli.training.distributed import World
from ddnsr_cli.training.options import ScheduleConfig
from ddnsr_cli.training.paired import PairedTrainer, Teacher, sharpened
from ddnsr_cli.training.paired_options import (
    PairedOptions,
    PairSource,
    SharpenConfig,
    SourceKind,
    TeacherConfig,
    with_equation_2,
)
from ddnsr_cli.training.reconstruction import NO_FEATURE_NETS, FeatureNets, VggDifference
from ddnsr_cli.training.reconstruction_options import (
    Discriminator,
    GanKind,
    PerceptualLayers,
    ReconstructionWeights,
    perceptual_layers,
)
from ddnsr_cli.training.train_state import load_train_state, save_train_state
from tests.helpers.random_vgg import random_vgg19

CPU = torch.device("cpu")
SHALLOW, DEEP = Tap(layer="conv1_2"), Tap(layer="conv2_2")
ALL_TERMS = ReconstructionWeights(perceptual=0.7, hr_adversarial=0.2, pixel=1.5, squared=3.0, gradient=0.6)


@pytest.fixture(scope="module")
def feature_nets(narrow_vgg):
    state = random_vgg19("conv3_4")
    return FeatureNets(
        lr=None, hr=VggDifference(VGG19Features(state, (DEEP,))), disc=VGG19Features(state, PROJECTED_TAPS)
    )


@pytest.fixture
def options(tiny_options):
    """`options(losses=...)`: a tiny run by equation 2 with a U-Net."""

    def make(**changes):
        plain = with_equation_2(tiny_options(clip_norm=1e9))
        return replace(plain, discriminator_features=2, **changes)

    return make


def batch(seed=0, side=16, count=4):
    """(lr, hr) of soft noise: near enough to images for all losses to say something."""
    generator = torch.Generator().manual_seed(seed)
    rough = torch.rand(count, 3, side // 4, side // 4, generator=generator)
    hr = F.interpolate(rough, scale_factor=4, mode="bilinear") + 0.1 * torch.rand(
        count, 3, side, side, generator=generator
    )
    lr = F.avg_pool2d(hr, 4)
    return tuple(image.clamp(0, 1).mul(255).byte() for image in (lr, hr))


def floats(pair):
    return [levels.float() / 255 for levels in pair]


def tensors_of(trainer):
    return {name: tensor.clone() for name, tensor in trainer.train_state({}).tensors.items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def terms_by_hand(trainer, pair, *, gan):
    """The weighted terms of the next step, written down again. The discriminator's norms move with each pass."""
    net, disc, weights = (
        copy.deepcopy(part) for part in (trainer.nets.sr_net, trainer.nets.disc_hr, trainer.options.losses)
    )
    lr, hr = floats(pair)
    with torch.no_grad():
        sr = net(lr)
        real, fake, judged = disc(hr), disc(sr), disc(sr)
        if gan is GanKind.PLAIN:
            adversarial = -F.logsigmoid(judged).mean()
            of_disc = -F.logsigmoid(real).mean() - F.logsigmoid(-fake).mean()
        else:
            adversarial = -F.logsigmoid(judged.mean() - real).mean() - F.logsigmoid(judged - real.mean()).mean()
            of_disc = -F.logsigmoid(real - fake.mean()).mean() - F.logsigmoid(-(fake - real.mean())).mean()
        vgg = VGG19Features(random_vgg19("conv2_2"), (DEEP,))
        return {
            "pixel": weights.pixel * (sr - hr).abs().mean(),
            "gradient": weights.gradient * sum((torch.diff(sr - hr, dim=side)).abs().mean() for side in (2, 3)),
            "squared": weights.squared * (sr - hr).square().mean(),
            "perceptual": weights.perceptual * (vgg(sr)[DEEP] - vgg(hr)[DEEP]).abs().mean(),
            "hr_adversarial": weights.hr_adversarial * adversarial,
            "disc_hr": of_disc,
        }


@pytest.mark.parametrize("gan", GanKind)
@pytest.mark.parametrize("kind", [Discriminator.U_NET, Discriminator.PATCH_GAN])
def test_every_term_of_equation_2_is_what_it_says(options, feature_nets, gan, kind):
    stream = replace(options().stream, crop_px=32)
    chosen = options(losses=ALL_TERMS, gan=gan, discriminator=kind, stream=stream)
    trainer = PairedTrainer(chosen, feature_nets, CPU)
    trainer.train_step(*batch(seed=1, side=32))
    pair = batch(seed=2, side=32)
    expected = {name: value.item() for name, value in terms_by_hand(trainer, pair, gan=gan).items()}
    figures = trainer.train_step(*pair)
    assert {name: figures[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert all(value > 0 for value in expected.values())


@pytest.mark.parametrize("term", vars(ALL_TERMS))
def test_a_term_without_weight_is_not_computed(options, feature_nets, term):
    losses = replace(ALL_TERMS, **{term: 0.0})
    discriminator = Discriminator.NONE if term == "hr_adversarial" else Discriminator.U_NET
    figures = PairedTrainer(options(losses=losses, discriminator=discriminator), feature_nets, CPU).train_step(*batch())
    assert vars(ALL_TERMS).keys() - figures.keys() == {term}
    assert ("disc_hr" in figures) == (term != "hr_adversarial")


def test_each_network_learns_from_its_own_loss_only(options, feature_nets):
    trainer = PairedTrainer(options(losses=ALL_TERMS), feature_nets, CPU)
    separate = copy.deepcopy(trainer.nets)
    pair = batch()
    lr, hr = floats(pair)
    trainer.train_step(*pair)
    sr = separate.sr_net(lr)
    real, fake = separate.disc_hr(hr), separate.disc_hr(sr.detach())
    (-F.logsigmoid(real).mean() - F.logsigmoid(-fake).mean()).backward()
    for ours, theirs in zip(trainer.nets.disc_hr.parameters(), separate.disc_hr.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-7)
    weights = trainer.options.losses
    loss = weights.pixel * F.l1_loss(sr, hr) + weights.squared * F.mse_loss(sr, hr)
    loss = loss + weights.gradient * ((sr - hr).diff(dim=2).abs().mean() + (sr - hr).diff(dim=3).abs().mean())
    loss = (
        loss
        + weights.perceptual * feature_nets.hr(sr, hr)
        - weights.hr_adversarial * F.logsigmoid(separate.disc_hr(sr)).mean()
    )
    loss.backward()
    for ours, theirs in zip(trainer.nets.sr_net.parameters(), separate.sr_net.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-7)


def test_several_layers_with_weights_are_the_sum_of_single_ones():
    state, (made, truth) = random_vgg19("conv2_2"), (torch.rand(2, 3, 16, 16) for _ in range(2))
    single = {tap: VggDifference(VGG19Features(state, (tap,)))(made, truth) for tap in (SHALLOW, DEEP)}
    both = VggDifference(VGG19Features(state, (SHALLOW, DEEP)), weights={SHALLOW: 0.4, DEEP: 2.5})(made, truth)
    torch.testing.assert_close(both, 0.4 * single[SHALLOW] + 2.5 * single[DEEP])
    assert single[SHALLOW] > 0.01


def test_layers_with_weights_are_read_from_their_text():
    assert perceptual_layers("conv5_4") == {"conv5_4": 1.0}
    assert perceptual_layers("conv2_2=0.4,conv3_4") == {"conv2_2": 0.4, "conv3_4": 1.0}
    assert perceptual_layers("lpips-vgg") == {}
    assert PerceptualLayers(perceptual="lpips-alex").lpips_trunk == "alex"


@pytest.mark.parametrize(
    "text", ["", "conv9_9", "conv5_4=0", "conv5_4=-1", "conv5_4=x", "conv5_4,conv5_4=2", "lpips-x"]
)
def test_layers_of_no_use_are_refused(text):
    with pytest.raises(ConfigError, match=r"conv2_2=0\.4,conv3_4=1"):
        PerceptualLayers(perceptual=text)


def test_vgg_follows_autocast_where_it_is_asked_to():
    state, images = random_vgg19("conv2_2"), torch.rand(1, 3, 16, 16)
    exact, quick = (VGG19Features(state, (DEEP,), autocast=autocast) for autocast in (False, True))
    with torch.autocast("cpu", torch.bfloat16):
        rounded, plain = quick(images)[DEEP], exact(images)[DEEP]
    assert torch.equal(plain, exact(images)[DEEP])
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, plain, rtol=0.1, atol=0.05)
    assert not torch.equal(rounded, plain)


def test_targets_are_sharpened_for_the_pixels_and_features_and_not_for_the_discriminator(options, feature_nets):
    chosen, mask = options(losses=ALL_TERMS), SharpenConfig(amount=0.7, sigma_px=4)
    chosen = replace(chosen, stream=replace(chosen.stream, crop_px=32))
    trainer, plain = (PairedTrainer(replace(chosen, sharpen=one), feature_nets, CPU) for one in (mask, None))
    pair = batch(side=32)
    lr, hr = floats(pair)
    with torch.no_grad():
        sr = trainer.nets.sr_net(lr)
    figures, others = trainer.train_step(*pair), plain.train_step(*pair)
    target = sharpened(hr, mask)
    assert figures["pixel"] == pytest.approx(1.5 * F.l1_loss(sr, target).item(), rel=1e-5)
    assert figures["perceptual"] == pytest.approx(0.7 * feature_nets.hr(sr, target).item(), rel=1e-5)
    assert figures["pixel"] != pytest.approx(others["pixel"], rel=1e-3)
    assert {name: figures[name] for name in ("disc_hr", "hr_adversarial", "disc_hr_real")} == {
        name: others[name] for name in ("disc_hr", "hr_adversarial", "disc_hr_real")
    }


def test_a_teacher_and_the_truth_share_every_loss_but_the_discriminators(options, feature_nets):
    chosen = options(losses=ALL_TERMS, teacher=TeacherConfig(truth_share=0.25))
    truth_only = PairedTrainer(replace(chosen, teacher=None), feature_nets, CPU)
    net = RRDBNet(chosen.network)
    trainer = PairedTrainer(chosen, feature_nets, CPU, teacher=net)
    lr, hr = floats(batch())
    target = Teacher(net, seed=chosen.stream.seed)(lr, 0)
    with torch.no_grad():
        sr = trainer.nets.sr_net(lr)
    figures, others = trainer.train_step(*batch()), truth_only.train_step(*batch())
    assert figures["pixel"] == pytest.approx(
        1.5 * (0.75 * F.l1_loss(sr, target) + 0.25 * F.l1_loss(sr, hr)).item(), rel=1e-5
    )
    assert figures["perceptual"] == pytest.approx(
        0.7 * (0.75 * feature_nets.hr(sr, target) + 0.25 * feature_nets.hr(sr, hr)).item()
    )
    assert figures["pixel"] != pytest.approx(others["pixel"], rel=1e-3)
    assert {name: figures[name] for name in ("disc_hr", "hr_adversarial")} == {
        name: others[name] for name in ("disc_hr", "hr_adversarial")
    }


def test_a_teacher_takes_micro_batches_too(options, feature_nets):
    seen = []

    class Watched(RRDBNet):
        def forward(self, lr):
            seen.append(len(lr))
            return super().forward(lr)

    chosen = options(losses=ALL_TERMS, teacher=TeacherConfig())
    torch.manual_seed(0)
    net = Watched(chosen.network)
    figures = []
    for micro_batch, sizes in ((None, [4]), (3, [3, 1])):
        trainer = PairedTrainer(chosen, feature_nets, CPU, World(micro_batch=micro_batch), teacher=net)
        lr, hr = (torch.cat([part, 255 - part])[:4] for part in batch())
        figures.append(trainer.train_step(lr, hr))
        assert seen == sizes
        seen.clear()
    assert figures[1] == pytest.approx(figures[0], rel=1e-4)


def test_without_a_share_for_the_truth_only_the_teacher_counts(options, feature_nets):
    chosen = options(losses=replace(ALL_TERMS, hr_adversarial=0.0), discriminator=Discriminator.NONE)
    net = RRDBNet(chosen.network)
    chosen = replace(chosen, teacher=TeacherConfig(truth_share=0.0))
    one, other = (PairedTrainer(chosen, feature_nets, CPU, teacher=net) for _ in range(2))
    lr, hr = batch()
    first, second = one.train_step(lr, hr), other.train_step(lr, 255 - hr)
    assert {name: first[name] for name in ("pixel", "gradient", "perceptual")} == {
        name: second[name] for name in ("pixel", "gradient", "perceptual")
    }


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan])
def test_a_share_of_the_truth_that_leaves_nothing_to_teach_is_refused(share):
    with pytest.raises(ConfigError, match="from 0 to below 1"):
        TeacherConfig(truth_share=share)


def test_the_discriminator_learns_alone_for_the_steps_asked_for(options, feature_nets):
    chosen = options(discriminator_first_steps=2)
    trainer = PairedTrainer(chosen, feature_nets, CPU)
    start = tensors_of(trainer)
    figures = [trainer.train_step(*batch(seed)) for seed in range(2)]
    assert all(row["disc_hr"] > 0 and row["norm_disc_hr"] > 0 for row in figures)
    assert not {"pixel", "perceptual", "hr_adversarial", "norm_sr_net"} & figures[0].keys()
    moved = {name.partition(".")[2].split(".")[0] for name, value in tensors_of(trainer).items()
             if name in start and not torch.equal(start[name], value)}  # fmt: skip
    assert moved == {"disc_hr"}
    whole = trainer.train_step(*batch(2))
    assert {"pixel", "perceptual", "hr_adversarial", "norm_sr_net"} <= whole.keys()
    assert whole["rate"] == chosen.schedule.rate_at(0)
    for prefix in ("nets.sr_net.", "ema."):
        assert any(
            not torch.equal(start[name], value)
            for name, value in tensors_of(trainer).items()
            if name.startswith(prefix)
        )


def test_the_discriminator_has_a_rate_of_its_own(options, feature_nets):
    trainer = PairedTrainer(options(discriminator_learning_rate=7e-6), feature_nets, CPU)
    trainer.train_step(*batch())
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in trainer.optimizers.items()}
    assert rates == {"sr_net": trainer.options.schedule.rate_at(0), "disc_hr": 7e-6}


def mixed_batches(folder, options, *, start=0):
    images = list_images(folder)
    rules = [source.degradation for source in options.sources]
    visits = MixedPairs([RulePairs(images, options.stream, rule) for rule in rules], options.shares)
    return batches(visits, start=start, on_refused=lambda _refusal: None)


def test_a_mixed_run_with_a_discriminator_goes_on_bit_for_bit(options, feature_nets, tmp_path):
    from tests.helpers.tiny_run import GENTLE, write_images

    write_images(tmp_path / "images")
    sources = (PairSource(degradation=GENTLE, share=0.7), PairSource(degradation=DegradationConfig(), share=0.3))
    chosen = options(sources=sources, discriminator_first_steps=1)
    whole, first = (PairedTrainer(chosen, feature_nets, CPU) for _ in range(2))
    figures = [whole.train_step(*pair) for pair in islice(mixed_batches(tmp_path / "images", chosen), 6)]
    for pair in islice(mixed_batches(tmp_path / "images", chosen), 3):
        first.train_step(*pair)
    save_train_state(tmp_path / "s.safetensors", first.train_state({}))
    torch.manual_seed(99)  # nothing may depend on the generators of the process

    saved = load_train_state(tmp_path / "s.safetensors")
    second = PairedTrainer(options_from_json(PairedOptions, saved.numbers["options"]), feature_nets, CPU)
    second.restore(saved)
    assert [
        second.train_step(*pair) for pair in islice(mixed_batches(tmp_path / "images", chosen, start=3), 3)
    ] == figures[3:]
    assert same(tensors_of(second), tensors_of(whole))


def test_what_is_not_finite_moves_no_network(options, feature_nets):
    trainer = PairedTrainer(options(), feature_nets, CPU)
    trainer.train_step(*batch())
    next(iter(trainer.nets.disc_hr.parameters())).register_hook(lambda gradient: gradient * float("nan"))
    before = {name: parameter.clone() for name, parameter in trainer.nets.named_parameters()}
    with pytest.raises(TrainingError, match=r"Step 1 .*norm_disc_hr nan"):
        trainer.train_step(*batch())
    assert all(torch.equal(before[name], parameter) for name, parameter in trainer.nets.named_parameters())


def test_networks_follow_from_the_seed_alone(options, feature_nets):
    states = []
    for other, seed in ((1, 4), (2, 4), (3, 5)):
        torch.manual_seed(other)
        chosen = options()
        states.append(
            tensors_of(PairedTrainer(replace(chosen, stream=replace(chosen.stream, seed=seed)), feature_nets, CPU))
        )
    assert same(states[0], states[1])
    for name in ("nets.disc_hr.first.weight", "nets.sr_net.conv_first.weight"):
        assert not torch.equal(states[0][name], states[2][name])


def test_a_sample_shows_lr_sr_and_hr(options, feature_nets):
    trainer = PairedTrainer(options(), feature_nets, CPU)
    lr, hr = floats(batch())
    columns = trainer.sample(lr, hr)
    assert list(columns) == ["LR", "SR", "HR"]
    assert columns["SR"].shape == hr.shape


def test_a_network_of_another_scale_learns(tiny_options):
    rule = DegradationConfig(scale=2)
    chosen = replace(
        tiny_options(),
        network=RRDBConfig(features=8, blocks=1, growth=4, scale=2),
        sources=(PairSource(degradation=rule),),
    )
    lr, hr = batch()
    twice = F.avg_pool2d(hr.float(), 2).byte()
    figures = PairedTrainer(chosen, NO_FEATURE_NETS, CPU).train_step(twice, hr)
    assert 0 < figures["pixel"] < 0.3
    assert lr.shape[-1] * 2 == twice.shape[-1]


def test_options_come_back_from_json_with_all_sources():
    sources = (
        PairSource(share=0.5),
        PairSource(kind=SourceKind.READY, share=0.3, degradation=None),
        PairSource(kind=SourceKind.LEARNED, share=0.2, degradation=None),
    )
    chosen = with_equation_2(PairedOptions(sources=sources, schedule=ScheduleConfig(steps=7)))
    assert options_from_json(PairedOptions, options_to_json(chosen)) == chosen
    assert chosen.shares.turns == [50, 30, 20]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"discriminator": Discriminator.NONE}, "belong together"),
        ({"losses": ReconstructionWeights(hr_adversarial=0)}, "belong together"),
        ({"discriminator_first_steps": -1}, "discriminator_first_steps"),
        ({"sources": ()}, "share"),
        ({"sources": (PairSource(share=0.0),)}, "share"),
        ({"network": RRDBConfig(scale=2)}, "2 times but the pairs are shrunk 4 times"),
        (
            {"network": RRDBConfig(scale=2), "sources": (PairSource(kind=SourceKind.LEARNED, degradation=None),)},
            "degrader shrinks 4 times but the network enlarges 2 times",
        ),
    ],
)
def test_options_without_sense_are_refused(wrong, told):
    with pytest.raises(ConfigError, match=told):
        replace(with_equation_2(PairedOptions()), **wrong)


@pytest.mark.parametrize(
    ("kind", "crop_px", "multiple"),
    [(Discriminator.U_NET, 20, 8), (Discriminator.PATCH_GAN, 20, 8), (Discriminator.VGG_STYLE, 40, 32)],
)
def test_crops_that_do_not_fit_the_discriminator_are_refused(kind, crop_px, multiple):
    plain = with_equation_2(PairedOptions())
    with pytest.raises(ConfigError, match=f"multiples of {multiple} pixels; got {crop_px}"):
        replace(plain, discriminator=kind, stream=replace(plain.stream, crop_px=crop_px))


def test_a_projected_discriminator_tells_made_from_real_within_some_steps_and_keeps_vgg_as_it_is(options, feature_nets):
    chosen = options(
        discriminator=Discriminator.PROJECTED, discriminator_first_steps=80, discriminator_learning_rate=2e-3
    )
    trainer = PairedTrainer(replace(chosen, discriminator_features=16), feature_nets, CPU)
    before = {name: tensor.clone() for name, tensor in feature_nets.disc.state_dict().items()}
    rows = [trainer.train_step(*batch(seed)) for seed in range(80)]
    guessing = 2 * math.log(2)
    assert statistics.fmean(row["disc_hr"] for row in rows[-20:]) < guessing - 0.05
    assert all(torch.equal(tensor, before[name]) for name, tensor in feature_nets.disc.state_dict().items())
    assert not any("see" in name for name in trainer.train_state({}).tensors)  # VGG19 is not saved with every run
    assert "hr_adversarial" in trainer.train_step(*batch(80))


def test_a_projected_discriminator_needs_features(options):
    with pytest.raises(ConfigError, match="--vgg"):
        PairedTrainer(options(discriminator=Discriminator.PROJECTED), NO_FEATURE_NETS, CPU)


def test_targets_are_sharpened_in_fp32_where_networks_compute_in_bf16(options, monkeypatch):
    made = []

    def watched(images, config):
        made.append((sharpened(images, config), images))
        return made[-1][0]

    monkeypatch.setattr(paired, "sharpened", watched)
    chosen = replace(options(), sharpen=SharpenConfig(sigma_px=1.5), precision=Precision.BF16)
    PairedTrainer(chosen, NO_FEATURE_NETS, CPU).train_step(*batch())
    ((sharp, truth),) = made
    assert sharp.dtype == torch.float32
    assert torch.equal(sharp, sharpened(truth, SharpenConfig(sigma_px=1.5)))
