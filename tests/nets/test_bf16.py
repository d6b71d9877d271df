"""Most of a network in bfloat16, the rest in fp32."""

import copy

import torch

from ddnsr_cli.inference.net_upscaler import NetRunner
from ddnsr_cli.nets.bf16 import NarrowBlock, NarrowDoubling, NarrowHrStage, NarrowLast, held_dtype, narrowed, rounded
from ddnsr_cli.nets.blocks import lrelu
from ddnsr_cli.nets.config import RESIDUAL_SCALE, RRDBConfig
from ddnsr_cli.nets.rrdb import ResidualDenseBlock, RRDBNet, start_as_nearest
from tests.helpers.windows import run

CPU = torch.device("cpu")


def started():
    """A network whose trunk does something."""
    net = RRDBNet(RRDBConfig(features=16, blocks=2, growth=8))
    start_as_nearest(net, torch.Generator().manual_seed(0))
    for weight in (*net.body.parameters(), net.conv_body.weight):
        weight.data.mul_(10)
    return net.requires_grad_(False)


def random_lr(side=24):
    return torch.rand(3, side, side, generator=torch.Generator().manual_seed(1))


def narrow_copy(net):
    return narrowed(copy.deepcopy(net))


def test_dense_blocks_and_the_stage_of_hr_size_are_narrow_and_nothing_else():
    net = narrow_copy(started())
    blocks = [module for module in net.modules() if isinstance(module, NarrowBlock)]
    assert len(blocks) == 2 * 3
    narrow = {name for name, weight in net.named_parameters() if weight.dtype == torch.bfloat16}
    assert narrow == {name for name, _ in net.named_parameters() if ".block." in name or name.startswith("hr_stage.")}
    assert all(weight.dtype in (torch.float32, torch.bfloat16) for weight in net.parameters())
    assert held_dtype(net) == torch.bfloat16
    assert held_dtype(started()) == torch.float32


def test_the_sum_stays_as_wide_as_its_input():
    """A small addition to a large number: in bfloat16 it would be lost."""
    torch.manual_seed(0)
    block = ResidualDenseBlock(4, 2).requires_grad_(False)
    x = 256 + torch.rand(1, 4, 6, 6)
    for conv in (block.conv1, block.conv2, block.conv3, block.conv4, block.conv5):
        conv.weight.zero_()
        conv.bias.fill_(0.5)
    narrow = NarrowBlock(copy.deepcopy(block))
    assert torch.equal(narrow(x), torch.add(x, torch.full_like(x, 0.5), alpha=RESIDUAL_SCALE))
    assert torch.equal(block(x), narrow(x))


def test_it_is_off_by_less_than_the_rounding_of_an_image():
    """The whole network in bfloat16 is not: this is what the wide sums are for."""
    net, lr = started(), random_lr()[None]
    exact = 255 * net(lr)
    assert 255 * (net(lr) - torch.nn.functional.interpolate(lr, scale_factor=4)).abs().max() > 10  # the trunk matters
    assert (255 * narrow_copy(net)(lr) - exact).square().mean().sqrt() < 0.29
    whole = copy.deepcopy(net).to(torch.bfloat16)
    assert (255 * whole(lr.to(torch.bfloat16)).float() - exact).square().mean().sqrt() > 0.3


def test_on_a_cpu_bf16_means_a_narrowed_network():
    net, lr = started(), random_lr()
    ready = NetRunner(net, device=CPU, dtype=torch.bfloat16, tta=False, name="x")
    assert (ready.dtype, ready.held_bytes(), ready.held_bytes(deep=True)) == ("bfloat16", 2, 4)
    sr = run(ready, lr)
    assert sr.dtype == torch.float32
    assert torch.equal(sr, narrowed(copy.deepcopy(net).to(memory_format=torch.channels_last))(lr[None])[0])
    assert all(weight.dtype == torch.float32 for weight in net.parameters())  # the caller's stays


def test_of_a_compact_network_all_layers_behind_the_first_are_narrow(small_compact):
    net, lr = small_compact(convs=4), random_lr()[None]
    narrow = narrow_copy(net)
    dtypes = [next(layer.parameters()).dtype for layer in narrow.body]
    assert dtypes == [torch.float32, torch.float32, torch.bfloat16]
    assert len(narrow.body[2].layers) == 9
    added = 255 * (net(lr) - torch.nn.functional.interpolate(lr, scale_factor=4))
    difference = 255 * (narrow(lr) - net(lr))
    assert narrow(lr).dtype == torch.float32
    assert added.square().mean().sqrt() > 10  # the layers matter
    assert 0 < difference.square().mean().sqrt() < 0.01 * added.square().mean().sqrt()


def exactly(layer):
    """The layer in fp64, with the weights that it has."""
    return copy.deepcopy(layer).to(torch.float64)


def test_a_doubling_is_the_convolution_of_the_doubled_image():
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 5, 3, padding=1).requires_grad_(False)
    x = torch.randn(2, 3, 4, 6).to(torch.bfloat16)
    expected = lrelu(conv(torch.nn.functional.interpolate(x.float(), scale_factor=2)))
    sr = NarrowDoubling(conv)(x)
    assert sr.dtype == torch.bfloat16
    assert (sr - expected).abs().max() < 2**-7 * expected.abs().max()
    assert (sr - expected).abs().mean() < 2**-9 * expected.abs().max()


def test_flat_areas_keep_their_level():
    """Rounded each for itself, nine taps of a flat area add up to something else."""
    torch.manual_seed(0)
    weight = torch.randn(8, 8, 3, 3) / 10
    total = weight.sum((2, 3))
    kept = (rounded(weight).float().sum((2, 3)) - total).abs().max()
    plainly = (weight.to(torch.bfloat16).float().sum((2, 3)) - total).abs().max()
    assert kept < plainly / 10
    assert (rounded(weight).float() - weight).abs().max() < 2**-7 * weight.abs().max()


def test_the_last_convolution_is_as_exact_as_its_rounded_result():
    """Weights of one bfloat16 each are off by more."""
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(64, 3, 3, padding=1).requires_grad_(False)
    conv.bias.fill_(0.5)
    conv.weight.mul_(0.3)
    x = torch.randn(1, 64, 16, 16).to(torch.bfloat16)
    expected = exactly(conv)(x.double())
    off = (NarrowLast(conv)(x) - expected).abs()
    one = copy.deepcopy(conv)
    one.weight.data = conv.weight.to(torch.bfloat16).float()
    assert off.mean() < (one(x.float()) - expected).abs().mean()
    assert (expected - 0.5).abs().max() < 0.5  # there its format has steps of 2**-9 at most
    assert off.max() <= 2**-10 + 2**-14


def test_a_stage_does_not_change_the_network_it_was_made_of():
    net = started()
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    stage = NarrowHrStage(net).requires_grad_(False)
    stage.last.conv.weight.zero_()
    stage.conv_hr.bias.zero_()
    assert all(torch.equal(weight, before[name]) for name, weight in net.state_dict().items())


def test_more_than_8_bits_are_computed_in_fp32():
    ready, lr = NetRunner(started(), device=CPU, dtype=torch.bfloat16, tta=False, name="x"), random_lr()
    exact = run(NetRunner(started(), device=CPU, dtype=torch.float32, tta=False, name="x"), lr)
    assert torch.equal(run(ready, lr, deep=True), exact)
    assert not torch.equal(run(ready, lr), exact)


def test_averages_over_flips_work_too():
    ready = NetRunner(started(), device=CPU, dtype=torch.bfloat16, tta=True, name="x")
    exact = NetRunner(started(), device=CPU, dtype=torch.float32, tta=True, name="x")
    lr = random_lr()
    difference = run(ready, lr) - run(exact, lr)
    assert 255 * difference.square().mean().sqrt() < 0.29
