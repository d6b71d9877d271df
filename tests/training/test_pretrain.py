"""Pretraining: paired training by the mean absolute error alone."""

from itertools import islice

import pytest
import torch
import torch.nn.functional as F

from ddnsr_cli.config import options_from_json
from ddnsr_cli.data.config import DegradationConfig
from ddnsr_cli.errors import TrainingError
from ddnsr_cli.training.paired import PairedTrainer
from ddnsr_cli.training.paired_options import PairedOptions
from ddnsr_cli.training.reconstruction import NO_FEATURE_NETS
from ddnsr_cli.training.train_state import load_train_state, save_train_state

CPU = torch.device("cpu")


def tensors_of(trainer):
    return {name: tensor.clone() for name, tensor in trainer.train_state({}).tensors.items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def trained(trainer, stream, steps):
    return [trainer.train_step(lr, hr) for lr, hr in islice(stream, steps)]


def test_ten_steps_a_save_and_ten_more_are_twenty_steps_bit_for_bit(tiny_options, tiny_batches, tmp_path):
    options = tiny_options(steps=20)
    whole = PairedTrainer(options, NO_FEATURE_NETS, CPU)
    figures = trained(whole, tiny_batches(options), 20)

    first = PairedTrainer(options, NO_FEATURE_NETS, CPU)
    trained(first, tiny_batches(options), 10)
    save_train_state(tmp_path / "s.safetensors", first.train_state({}))
    torch.manual_seed(99)  # nothing may depend on the generators of the process

    saved = load_train_state(tmp_path / "s.safetensors")
    second = PairedTrainer(options_from_json(PairedOptions, saved.numbers["options"]), NO_FEATURE_NETS, CPU)
    second.restore(saved)
    assert second.step == 10
    assert same(tensors_of(second), tensors_of(first))
    assert trained(second, tiny_batches(options, start=10), 10) == figures[10:]
    assert same(tensors_of(second), tensors_of(whole))


def test_without_its_moments_a_resumed_run_goes_elsewhere(tiny_options, tiny_batches):
    options = tiny_options()
    whole, second = PairedTrainer(options, NO_FEATURE_NETS, CPU), PairedTrainer(options, NO_FEATURE_NETS, CPU)
    trained(whole, tiny_batches(options), 3)
    second.restore(whole.train_state({}))
    second.optimizers["sr_net"].state.clear()
    for trainer in (whole, second):
        trained(trainer, tiny_batches(options, start=3), 2)
    assert not torch.equal(whole.nets.sr_net.conv_last.weight, second.nets.sr_net.conv_last.weight)


def error_on(trainer, pairs):
    with torch.no_grad():
        return sum(F.l1_loss(trainer.nets.sr_net(lr.float() / 255), hr.float() / 255).item() for lr, hr in pairs)


def test_training_beats_its_start_on_crops_it_has_not_seen(tiny_options, tiny_batches):
    options = tiny_options(steps=80, learning_rate=4e-3, degradation=DegradationConfig(noise_sigma=(20.0, 20.0)))
    unseen = list(islice(tiny_batches(options, start=1000), 8))
    trainer = PairedTrainer(options, NO_FEATURE_NETS, CPU)
    start = error_on(trainer, unseen)
    trained(trainer, tiny_batches(options), 80)
    assert error_on(trainer, unseen) < 0.96 * start


def test_a_step_tells_the_mean_absolute_error_its_gradient_and_its_rate(tiny_options, tiny_batches):
    options = tiny_options(clip_norm=1e9)
    trainer = PairedTrainer(options, NO_FEATURE_NETS, CPU)
    lr, hr = next(tiny_batches(options))
    with torch.no_grad():
        sr, truth = trainer.nets.sr_net(lr.float() / 255), hr.float() / 255
    figures = trainer.train_step(lr, hr)
    norm = torch.stack([parameter.grad.norm() for parameter in trainer.nets.sr_net.parameters()]).norm()
    expected = {"pixel": F.l1_loss(sr, truth).item(), "norm_sr_net": norm.item(), "rate": options.schedule.rate_at(0)}
    expected["color_drift"] = (sr - truth).mean(dim=(0, 2, 3)).abs().max().item()
    assert figures == pytest.approx(expected, rel=1e-5)
    assert trainer.step == 1


def test_the_rate_of_the_optimizer_is_the_schedules(tiny_options, tiny_batches):
    options = tiny_options(steps=8)
    trainer = PairedTrainer(options, NO_FEATURE_NETS, CPU)
    for step, batch in enumerate(islice(tiny_batches(options), 8)):
        assert trainer.train_step(*batch)["rate"] == options.schedule.rate_at(step)
        assert [group["lr"] for group in trainer.optimizers["sr_net"].param_groups] == [options.schedule.rate_at(step)]


def test_gradients_are_shortened_to_the_norm_asked_for(tiny_options, tiny_batches):
    options = tiny_options(clip_norm=1e-3)
    trainer = PairedTrainer(options, NO_FEATURE_NETS, CPU)
    figures = trainer.train_step(*next(tiny_batches(options)))
    norm = torch.stack([parameter.grad.norm() for parameter in trainer.nets.sr_net.parameters()]).norm().item()
    assert figures["norm_sr_net"] > 1e-2  # told as it was before
    assert norm == pytest.approx(1e-3, rel=1e-2)


def test_the_average_follows_the_network(tiny_options, tiny_batches):
    options = tiny_options(ema_decay=0.9)
    trainer = PairedTrainer(options, NO_FEATURE_NETS, CPU)
    expected = trainer.nets.sr_net.conv_last.weight.detach().clone()
    for step, batch in enumerate(islice(tiny_batches(options), 3)):
        trainer.train_step(*batch)
        expected.lerp_(trainer.nets.sr_net.conv_last.weight.detach(), 1 - (1 + step) / (10 + step))
    torch.testing.assert_close(trainer.emas["sr_net"].average.conv_last.weight, expected)
    assert not torch.equal(expected, trainer.nets.sr_net.conv_last.weight)


def spoil_loss(trainer):
    with torch.no_grad():
        trainer.nets.sr_net.conv_last.bias[0] = float("inf")


def spoil_gradient(trainer):
    trainer.nets.sr_net.conv_first.weight.register_hook(lambda gradient: gradient * float("nan"))


@pytest.mark.parametrize(("spoil", "word"), [(spoil_loss, "pixel inf"), (spoil_gradient, "norm_sr_net nan")])
def test_what_is_not_finite_stops_the_run_before_the_weights_move(tiny_options, tiny_batches, spoil, word):
    options = tiny_options()
    trainer = PairedTrainer(options, NO_FEATURE_NETS, CPU)
    stream = tiny_batches(options)
    trained(trainer, stream, 2)
    spoil(trainer)
    before = tensors_of(trainer)
    with pytest.raises(TrainingError, match=rf"Step 2 .*{word}.*--learning-rate") as caught:
        trainer.train_step(*next(stream))
    assert "\n" not in str(caught.value)
    assert trainer.step == 2
    assert same(tensors_of(trainer), before)


def test_the_start_follows_from_the_seed_alone(tiny_options):
    torch.manual_seed(1)
    one = tensors_of(PairedTrainer(tiny_options(seed=4), NO_FEATURE_NETS, CPU))
    torch.manual_seed(2)
    assert same(tensors_of(PairedTrainer(tiny_options(seed=4), NO_FEATURE_NETS, CPU)), one)
    assert not same(tensors_of(PairedTrainer(tiny_options(seed=5), NO_FEATURE_NETS, CPU)), one)


def test_a_snapshot_carries_options_step_and_the_callers_numbers(tiny_options, tiny_batches):
    options = tiny_options()
    trainer = PairedTrainer(options, NO_FEATURE_NETS, CPU)
    trained(trainer, tiny_batches(options), 1)
    train_state = trainer.train_state({"best": 23.5})
    assert train_state.step == 1
    assert train_state.numbers["best"] == 23.5
    assert options_from_json(PairedOptions, train_state.numbers["options"]) == options
    assert {name.partition(".")[0] for name in train_state.tensors} == {"nets", "ema", "adam"}


def test_a_beginning_is_that_of_the_average_too(tiny_options):
    trainer, other = (
        PairedTrainer(tiny_options(), NO_FEATURE_NETS, CPU),
        PairedTrainer(tiny_options(), NO_FEATURE_NETS, CPU),
    )
    with torch.no_grad():
        other.nets.sr_net.conv_last.bias.add_(0.5)
    trainer.start_from("sr_net", other.nets.sr_net)
    for net in (trainer.nets.sr_net, trainer.emas["sr_net"].average):
        assert torch.equal(net.conv_last.bias, other.nets.sr_net.conv_last.bias)
