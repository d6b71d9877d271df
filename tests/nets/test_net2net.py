"""A larger network that begins as a smaller one gives the same images, and can learn beyond it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig
from ddnsr_cli.nets.net2net import grow_degrader, grow_rrdb
from ddnsr_cli.nets.rrdb import RRDBNet

SMALL = RRDBConfig(features=4, blocks=2, growth=3)
D_SMALL = DegraderConfig(features=4, blocks=1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_net(kind, config):
    torch.manual_seed(5)
    return kind(config).double()


def grown(grow, net, config, seed=0):
    return grow(net, config, seeded(seed)).double()


@pytest.mark.parametrize(
    "config",
    [
        RRDBConfig(features=9, blocks=2, growth=3),
        RRDBConfig(features=4, blocks=5, growth=3),
        RRDBConfig(features=4, blocks=2, growth=8),
        RRDBConfig(features=7, blocks=3, growth=4),
    ],
)
def test_a_grown_reconstruction_network_gives_the_same_image(config):
    net = random_net(RRDBNet, SMALL)
    large = grown(grow_rrdb, net, config)
    lr = torch.rand(2, 3, 9, 7, dtype=torch.float64, generator=seeded(1))
    with torch.no_grad():
        assert large.config == config
        assert torch.allclose(large(lr), net(lr), atol=1e-6)  # it was made in float32


@pytest.mark.parametrize("scale", [1, 2])
def test_other_scales_grow_as_well(scale):
    net = random_net(RRDBNet, RRDBConfig(features=4, blocks=1, growth=3, scale=scale))
    large = grown(grow_rrdb, net, RRDBConfig(features=6, blocks=2, growth=4, scale=scale))
    lr = torch.rand(1, 3, 8, 8, dtype=torch.float64, generator=seeded(1))
    with torch.no_grad():
        assert torch.allclose(large(lr), net(lr), atol=1e-6)


@pytest.mark.parametrize(("scale", "times"), [(2, 2), (1, 4)])
def test_a_network_for_scale_4_begins_one_for_less_as_itself_on_the_shrunk_image(scale, times):
    net = random_net(RRDBNet, SMALL)
    large = grown(grow_rrdb, net, RRDBConfig(features=9, blocks=2, growth=3, scale=scale))
    lr = torch.rand(1, 3, 8, 12, dtype=torch.float64, generator=seeded(1))
    with torch.no_grad():
        assert torch.allclose(large(lr), net(F.avg_pool2d(lr, times)), atol=1e-6)


@pytest.mark.parametrize("config", [DegraderConfig(features=6, blocks=1), DegraderConfig(features=7, blocks=3)])
def test_a_grown_degrader_gives_the_same_image(config):
    net = random_net(Degrader, D_SMALL)
    large = grown(grow_degrader, net, config)
    hr, lr = (torch.rand(2, 3, side, side, dtype=torch.float64, generator=seeded(side)) for side in (32, 8))
    with torch.no_grad():
        assert large.config == config
        assert torch.allclose(large(hr, lr), net(hr, lr), atol=1e-6)


def changed_by_a_step(net, *images):
    """Names of the parameters that one step of gradient descent reaches."""
    net(*images).square().sum().backward()
    return {name for name, parameter in net.named_parameters() if parameter.grad.abs().max() > 0}


def test_what_is_new_learns_within_two_steps():
    net = grown(grow_rrdb, random_net(RRDBNet, SMALL), RRDBConfig(features=6, blocks=3, growth=4))
    lr = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    changed_by_a_step(net, lr)
    optimizer.step()
    optimizer.zero_grad()
    assert changed_by_a_step(net, lr) == {name for name, _ in net.named_parameters()}
    assert net.conv_first.weight.grad[4:].abs().max() > 0
    assert net.body[2].rdb1.conv5.weight.grad[:4].abs().max() > 0


def test_new_channels_are_no_copies_and_follow_the_generator():
    net, config = random_net(RRDBNet, SMALL), RRDBConfig(features=8, blocks=2, growth=3)
    one, same, other = (grown(grow_rrdb, net, config, seed) for seed in (0, 0, 1))
    first = one.conv_first.weight
    assert torch.equal(first, same.conv_first.weight)
    assert not torch.equal(first[4:], other.conv_first.weight[4:])
    assert not torch.allclose(first[4:], first[:4])


def test_the_same_sizes_are_the_network_itself():
    net, degrader = random_net(RRDBNet, SMALL), random_net(Degrader, D_SMALL)
    assert grow_rrdb(net, SMALL, seeded()) is net
    assert grow_degrader(degrader, D_SMALL, seeded()) is degrader


@pytest.mark.parametrize(
    "config",
    [
        RRDBConfig(features=3, blocks=2, growth=3),
        RRDBConfig(features=8, blocks=1, growth=3),
        RRDBConfig(features=8, blocks=2, growth=2),
    ],
)
def test_no_size_may_shrink(config):
    with pytest.raises(ConfigError, match="its own sizes or larger"):
        grow_rrdb(random_net(RRDBNet, SMALL), config, seeded())


def test_neither_does_a_degrader_shrink_nor_the_scale_change():
    with pytest.raises(ConfigError, match="its own sizes or larger"):
        grow_degrader(random_net(Degrader, D_SMALL), DegraderConfig(features=3, blocks=2), seeded())
    with pytest.raises(ConfigError, match="shrinks as it does"):
        grow_degrader(random_net(Degrader, D_SMALL), replace(D_SMALL, bicubic_first=True), seeded())
    with pytest.raises(ConfigError, match="scale 2 cannot begin one for scale 4"):
        grow_rrdb(random_net(RRDBNet, replace(SMALL, scale=2)), SMALL, seeded())
