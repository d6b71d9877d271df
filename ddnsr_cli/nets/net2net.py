"""Larger networks that begin as smaller ones: more channels and more blocks, the same output.

What a small network learned in an hour need not be learned again by a large one. In the spirit of Net2Net (Chen et al.
2016), but new channels are random and nothing old looks at them yet, instead of being copies that have to part first.
"""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.nets.config import RESIDUAL_SCALE, RRDBConfig
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig, ResidualBlock, start_as_area
from ddnsr_cli.nets.rrdb import RRDB, ResidualDenseBlock, RRDBNet, start_as_nearest


@torch.no_grad()
def grow_rrdb(net: RRDBNet, config: RRDBConfig, generator: torch.Generator) -> RRDBNet:
    """A network of the sizes `config` that gives what `net` gives, up to rounding; `net` itself when it has them.

    One for scale 4 may begin one for scale 2 or 1, which then gives what it makes of the image shrunk by 2 or 4.
    generator: draws the weights of new channels and blocks. Raises ConfigError when a size would shrink or the scale
    differs otherwise.
    """
    small = net.config
    if small == config:
        return net
    sizes = [(small.features, config.features), (small.blocks, config.blocks), (small.growth, config.growth)]
    if small.scale != config.scale and small.unshuffle > 1:
        raise ConfigError(f"A network for scale {small.scale} cannot begin one for scale {config.scale}.")
    if small.scale != config.scale:
        return grow_rrdb(_folded(net, config.scale), config, generator)
    _refuse_shrinking(sizes, small, config)
    large = RRDBNet(config)
    start_as_nearest(large, generator)
    for name in ("conv_first", "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"):
        _paste(getattr(net, name), getattr(large, name))
    for index, block in enumerate(large.body):
        assert isinstance(block, RRDB)
        old = net.body[index] if index < small.blocks else None
        for name in ("rdb1", "rdb2", "rdb3"):
            _grow_dense(None if old is None else getattr(old, name), getattr(block, name), small.features)
    # A block that adds nothing still passes its input on 1.2 times: once by its skip, and by what the skip goes around.
    large.conv_body.weight[: small.features] /= (1 + RESIDUAL_SCALE) ** (config.blocks - small.blocks)
    return large


def _folded(net: RRDBNet, scale: int) -> RRDBNet:
    """A network for scale 4 as one for `scale`: where it saw a pixel it sees the mean of those that are folded."""
    folded = RRDBNet(replace(net.config, scale=scale))
    folds = folded.config.unshuffle**2
    weights = net.state_dict()
    weights["conv_first.weight"] = weights["conv_first.weight"].repeat_interleave(folds, dim=1) / folds
    folded.load_state_dict(weights)
    return folded


@torch.no_grad()
def grow_degrader(net: Degrader, config: DegraderConfig, generator: torch.Generator) -> Degrader:
    """The same for a degrader. Raises ConfigError when a size would shrink, or one of the two shrinks by
    bicubic first.
    """
    small = net.config
    if small == config:
        return net
    if small.bicubic_first != config.bicubic_first:
        raise ConfigError(f"A degrader can only begin one that shrinks as it does; it has {small}, asked is {config}.")
    _refuse_shrinking([(small.features, config.features), (small.blocks, config.blocks)], small, config)
    large = Degrader(config)
    start_as_area(large, generator)
    for old, new in zip(
        (*net.hr_branch, *net.noise_branch, net.conv_last),
        (*large.hr_branch, *large.noise_branch, large.conv_last),
        strict=True,
    ):
        if isinstance(old, nn.Conv2d):
            _paste(old, new)
    first, *blocks, last = large.merge
    old_first, *old_blocks, old_last = net.merge
    branches = _places([(0, small.features), (config.features, 8 * small.features)])
    _paste(old_first, first, branches)
    _paste(old_last, last)
    for index, block in enumerate(blocks):
        assert isinstance(block, ResidualBlock)
        if index < small.blocks:
            old_block = old_blocks[index]
            assert isinstance(old_block, ResidualBlock)
            _paste(old_block.conv1, block.conv1)
            _paste(old_block.conv2, block.conv2)
        else:
            _silence(block.conv2, small.features)
    return large


def _refuse_shrinking(sizes: Iterable[tuple[int, int]], small: object, wanted: object) -> None:
    if any(has > asked for has, asked in sizes):
        raise ConfigError(f"A network can begin one of its own sizes or larger; it has {small}, asked is {wanted}.")


def _grow_dense(small: ResidualDenseBlock | None, large: ResidualDenseBlock, features: int) -> None:
    """None: a new block, which leaves the first `features` channels alone."""
    if small is None:
        _silence(large.conv5, features)
        return
    grown, wide = small.conv1.out_channels, large.conv1.out_channels
    spans = [(0, features)]
    for number in range(1, 6):
        name = f"conv{number}"
        _paste(getattr(small, name), getattr(large, name), _places(spans))
        spans.append((large.conv1.in_channels + (number - 1) * wide, grown))


def _places(spans: Iterable[tuple[int, int]]) -> Tensor:
    """Input channels of the larger convolution where those of the smaller lie: spans of (first, number)."""
    return torch.cat([torch.arange(first, first + number) for first, number in spans])


def _paste(small: nn.Module, large: nn.Module, inputs: Tensor | None = None) -> None:
    """The first outputs of `large` become those of `small`, and see none of the new inputs."""
    assert isinstance(small, nn.Conv2d)
    assert isinstance(large, nn.Conv2d)
    assert small.bias is not None
    assert large.bias is not None
    outputs = small.out_channels
    places = torch.arange(small.in_channels) if inputs is None else inputs
    _silence(large, outputs)
    large.weight[:outputs, places] = small.weight.to(large.weight)  # index_put takes one dtype only
    large.bias[:outputs] = small.bias


def _silence(conv: nn.Conv2d, outputs: int) -> None:
    assert conv.bias is not None
    conv.weight[:outputs] = 0
    conv.bias[:outputs] = 0
