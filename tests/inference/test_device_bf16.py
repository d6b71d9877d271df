"""Dense blocks in bfloat16, the rest of the network in fp32."""

import copy

import torch

from ddnsr_cli.inference.device import NarrowBlock, narrow_blocks
from ddnsr_cli.inference.upscaler import WindowRunner
from ddnsr_cli.nets.rrdb import RESIDUAL_SCALE, ResidualDenseBlock, RRDBConfig, RRDBNet, start_as_nearest

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


def narrowed(net):
    net = copy.deepcopy(net)
    narrow_blocks(net)
    return net


def test_every_dense_block_is_narrow_and_nothing_else():
    net = narrowed(started())
    blocks = [module for module in net.modules() if isinstance(module, NarrowBlock)]
    assert len(blocks) == 2 * 3
    narrow = {name for name, weight in net.named_parameters() if weight.dtype == torch.bfloat16}
    assert narrow == {name for name, _ in net.named_parameters() if ".block." in name}
    assert all(weight.dtype in (torch.float32, torch.bfloat16) for weight in net.parameters())


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
    """The whole network in bfloat16 is not: this is what the narrow blocks are for."""
    net, lr = started(), random_lr()[None]
    exact = 255 * net(lr)
    assert 255 * (net(lr) - torch.nn.functional.interpolate(lr, scale_factor=4)).abs().max() > 10  # the trunk matters
    assert (255 * narrowed(net)(lr) - exact).square().mean().sqrt() < 0.1
    whole = copy.deepcopy(net).to(torch.bfloat16)
    assert (255 * whole(lr.to(torch.bfloat16)).float() - exact).square().mean().sqrt() > 0.3


def test_on_a_cpu_bf16_means_narrow_blocks():
    net, lr = started(), random_lr()
    ready = WindowRunner(net, device=CPU, dtype=torch.bfloat16, tta=False, name="x")
    assert (ready.dtype, ready.held_dtype) == (torch.bfloat16, torch.float32)
    sr = ready.run(lr, lambda note: None)
    assert sr.dtype == torch.float32
    assert torch.equal(sr, narrowed(net).to(memory_format=torch.channels_last)(lr[None])[0])
    assert all(weight.dtype == torch.float32 for weight in net.parameters())  # the caller's stays


def test_of_a_compact_network_the_inner_layers_are_narrow(small_compact):
    net, lr = small_compact(convs=4), random_lr()[None]
    narrow = narrowed(net)
    dtypes = [next(layer.parameters()).dtype for layer in narrow.body]
    assert dtypes == [torch.float32, torch.float32, torch.bfloat16, torch.float32]
    assert len(narrow.body[2].layers) == 8
    added = 255 * (net(lr) - torch.nn.functional.interpolate(lr, scale_factor=4))
    difference = 255 * (narrow(lr) - net(lr))
    assert narrow(lr).dtype == torch.float32
    assert added.square().mean().sqrt() > 10  # the layers matter
    assert 0 < difference.square().mean().sqrt() < 0.01 * added.square().mean().sqrt()


def test_averages_over_flips_work_too():
    ready = WindowRunner(started(), device=CPU, dtype=torch.bfloat16, tta=True, name="x")
    exact = WindowRunner(started(), device=CPU, dtype=torch.float32, tta=True, name="x")
    lr = random_lr()
    difference = ready.run(lr, lambda note: None) - exact.run(lr, lambda note: None)
    assert 255 * difference.abs().max() < 1
