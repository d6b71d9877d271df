"""Networks as other projects make and name them."""

import re

import torch

from ddnsr_cli.nets.compact import CompactNet
from ddnsr_cli.nets.config import CompactConfig, RRDBConfig
from ddnsr_cli.nets.rrdb import RRDBNet

SECOND = {"conv_body": "trunk_conv", "conv_up1": "upconv1", "conv_up2": "upconv2", "conv_hr": "HRconv"}
FIRST = {"conv_first": "0", "conv_up1": "3", "conv_up2": "6", "conv_hr": "8", "conv_last": "10"}


def small_net(*, features=8, blocks=2, growth=4, scale=4, seed=0):
    """A network whose body matters in the output, and whose output has a range of about one."""
    return _filled(RRDBNet(RRDBConfig(features=features, blocks=blocks, growth=growth, scale=scale)), seed)


def small_compact(*, features=8, convs=3, scale=4, inner_scale=None, seed=0):
    """The same for a Compact network."""
    config = CompactConfig(features=features, convs=convs, scale=scale, inner_scale=inner_scale)
    return _filled(CompactNet(config), seed)


def _filled(net, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in net.parameters():
            spread = 1.3 / value[0].numel() ** 0.5 if value.ndim == 4 else 0.1
            value.copy_(torch.randn(value.shape, generator=generator) * spread)
    return net.eval().requires_grad_(False)


def as_layout(state, layout):
    """Layout 1: Real-ESRGAN. Layout 2: ESRGAN's second code, BSRGAN. Layout 3: ESRGAN's first code, RealSR."""
    if layout == 1:
        return dict(state)
    blocks = 1 + max(int(match[1]) for key in state if (match := re.match(r"body\.(\d+)\.", key)))
    return {_renamed(key, layout, blocks): value for key, value in state.items()}


def _renamed(key, layout, blocks):
    if match := re.fullmatch(r"body\.(\d+)\.rdb(\d)\.conv(\d)\.(\w+)", key):
        block, dense, conv, kind = match.groups()
        if layout == 2:
            return f"RRDB_trunk.{block}.RDB{dense}.conv{conv}.{kind}"
        return f"model.1.sub.{block}.RDB{dense}.conv{conv}.0.{kind}"
    stem, kind = key.split(".")
    if layout == 2:
        return f"{SECOND.get(stem, stem)}.{kind}"
    return f"model.1.sub.{blocks}.{kind}" if stem == "conv_body" else f"model.{FIRST[stem]}.{kind}"
