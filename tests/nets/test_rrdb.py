import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.rrdb import RRDB, ResidualDenseBlock, RRDBNet, start_as_nearest


def random_lr(*size, seed=0):
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))


def started(*, seed=0, **sizes):
    net = RRDBNet(RRDBConfig(**{"features": 8, "blocks": 2, "growth": 4} | sizes))
    start_as_nearest(net, torch.Generator().manual_seed(seed))
    return net


def pass_through(module):
    """Every convolution adds up its input channels and nothing else."""
    with torch.no_grad():
        for conv in module.modules():
            if isinstance(conv, nn.Conv2d):
                conv.weight.zero_()
                conv.weight[:, :, 1, 1] = 1
                conv.bias.zero_()
    return module


def test_esrgan_has_16_697_987_parameters():
    with torch.device("meta"):
        net = RRDBNet(RRDBConfig())
    assert sum(parameter.numel() for parameter in net.parameters()) == 16_697_987


def test_parameter_names_are_the_ones_that_others_load():
    outer = ["conv_first", "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]
    dense = [f"body.{n}.rdb{m}.conv{k}" for n in range(2) for m in (1, 2, 3) for k in (1, 2, 3, 4, 5)]
    expected = {f"{layer}.{kind}" for layer in outer + dense for kind in ("weight", "bias")}
    net = RRDBNet(RRDBConfig(features=4, blocks=2, growth=2))
    assert set(net.state_dict()) == {name for name, _ in net.named_parameters()} == expected


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (8, 6), (9, 16), (3, 2)])
def test_output_is_scale_times_the_input_whatever_its_size(scale, size):
    net = RRDBNet(RRDBConfig(features=4, blocks=1, growth=2, scale=scale))
    with torch.no_grad():
        assert net(random_lr(*size)).shape == (1, 3, scale * size[0], scale * size[1])


@pytest.mark.parametrize(("scale", "folded", "channels"), [(4, 1, 3), (2, 2, 12), (1, 4, 48)])
def test_small_scales_fold_squares_of_pixels_into_channels(scale, folded, channels):
    config = RRDBConfig(features=4, blocks=1, growth=2, scale=scale)
    assert config.unshuffle == folded
    assert RRDBNet(config).conv_first.in_channels == channels


@pytest.mark.parametrize(("scale", "side"), [(2, 2), (1, 4)])
def test_folded_channels_go_by_color_then_row_then_column(scale, side):
    net = RRDBNet(RRDBConfig(features=4, blocks=1, growth=2, scale=scale))
    seen = []
    net.conv_first.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    lr = random_lr(8, 12)
    with torch.no_grad():
        net(lr)
    expected = [lr[:, c, y::side, x::side] for c in range(3) for y in range(side) for x in range(side)]
    assert torch.equal(seen[0], torch.stack(expected, dim=1))


@pytest.mark.parametrize(("scale", "side"), [(2, 2), (1, 4)])
def test_sizes_that_do_not_fold_are_padded_by_their_edge(scale, side):
    net = started(scale=scale)
    lr = random_lr(5, 7)
    padded = F.pad(lr, (0, 8 - 7, 0, 8 - 5 if side == 4 else 1), mode="replicate")
    with torch.no_grad():
        assert torch.equal(net(lr), net(padded)[..., : 5 * scale, : 7 * scale])


@pytest.mark.parametrize(("value", "expected"), [(1.0, 4.2), (-1.0, -1.41472)])
def test_dense_block_worked_by_hand(value, expected):
    # From 1: the convolutions give 1, 2, 4, 8, 16, and 1 + 0.2 * 16 = 4.2. From -1, LeakyReLU leaves -0.2, -0.24,
    # -0.288, -0.3456 of the first four; the fifth has none: -1 + 0.2 * (-1 - 0.2 - 0.24 - 0.288 - 0.3456).
    block = pass_through(ResidualDenseBlock(channels=1, growth=1)).double()
    x = torch.full((1, 1, 3, 3), value, dtype=torch.float64)
    torch.testing.assert_close(block(x), torch.full_like(x, expected))


def test_rrdb_scales_its_three_blocks_by_a_fifth():
    block = pass_through(RRDB(channels=1, growth=1)).double()
    x = torch.ones(1, 1, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(block(x), 1 + 0.2 * 4.2**3 * x)


@pytest.mark.parametrize("make", [lambda: ResidualDenseBlock(4, 2), lambda: RRDB(4, 2)])
def test_a_block_whose_last_convolution_is_zero_is_the_identity(make):
    block = make()
    for name, parameter in block.named_parameters():
        if "conv5" in name:
            nn.init.zeros_(parameter)
    x = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = x if isinstance(block, ResidualDenseBlock) else 1.2 * x
        torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_input_is_left_as_it_was(scale):
    lr = random_lr(6, 7) - 0.5  # LeakyReLU in place would change the negative half
    before = lr.clone()
    with torch.no_grad():
        started(scale=scale)(lr)
    assert torch.equal(lr, before)


@pytest.mark.parametrize("sizes", [{}, {"features": 32, "blocks": 6, "growth": 16}])
def test_the_start_is_nearest_neighbor_enlarging(sizes):
    lr = random_lr(9, 11)
    with torch.no_grad():
        sr = started(**sizes)(lr)
    assert (sr - F.interpolate(lr, scale_factor=4, mode="nearest")).abs().max() < 0.03


@pytest.mark.parametrize(("scale", "side"), [(2, 2), (1, 4)])
def test_the_start_of_a_folding_network_enlarges_the_mean_of_each_square(scale, side):
    lr = random_lr(8, 12)
    with torch.no_grad():
        sr = started(scale=scale)(lr)
    expected = F.interpolate(F.avg_pool2d(lr, side), scale_factor=4, mode="nearest")
    assert (sr - expected).abs().max() < 0.03


def test_the_start_follows_from_its_generator_alone():
    torch.manual_seed(1)
    one = started(seed=5).state_dict()
    torch.manual_seed(2)
    same, other = started(seed=5).state_dict(), started(seed=6).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["conv_body.weight"], other["conv_body.weight"])


def test_every_parameter_is_moved_by_a_first_step():
    net = started()
    (net(random_lr(6, 6)) - 0.5).square().mean().backward()
    assert [name for name, parameter in net.named_parameters() if not parameter.grad.any()] == []


@pytest.mark.parametrize("nonsense", [{"features": 0}, {"blocks": -1}, {"growth": 0}, {"scale": 3}, {"scale": 8}])
def test_sizes_that_mean_nothing_are_refused(nonsense):
    with pytest.raises(ConfigError, match=str(next(iter(nonsense.values())))):
        RRDBConfig(**nonsense)
