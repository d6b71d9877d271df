"""Networks that enlarge as arrays of NumPy: their layers by name, rounded to bfloat16, and plainly computed.

The same layers as those of `nets.rrdb`, `nets.compact` and `nets.bf16`, for engines that need no PyTorch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ddnsr_cli.nets.config import LEAKY_SLOPE, RESIDUAL_SCALE, CompactConfig, RRDBConfig, SrConfig

Array = NDArray[np.float32]
Weights = Mapping[str, Array]
"""A network's, by the names of `nets.rrdb` and `nets.compact`."""

_MIDDLE = np.float32(0.5)  # of the values of an image: bfloat16 is finest near 0


@dataclass(frozen=True, kw_only=True, eq=False)  # arrays have no single answer to ==
class Conv:
    """A 3x3 convolution."""

    weight: Array
    """(C', C, 3, 3)"""

    bias: Array
    """(C',)"""

    def rounded(self) -> "Conv":
        """As by `nets.bf16.with_rounded_weight`."""
        return Conv(weight=rounded(self.weight), bias=narrowed(self.bias))


class _Layers:
    """The layers of a network, by their names."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._left = set(weights)

    def conv(self, name: str, in_channels: int, out_channels: int) -> Conv:
        """Raises KeyError where there is none, ValueError where it is of another size."""
        weight, bias = self._taken(f"{name}.weight"), self._taken(f"{name}.bias")
        if (weight.shape, bias.shape) != ((out_channels, in_channels, 3, 3), (out_channels,)):
            raise ValueError(name)
        return Conv(weight=weight, bias=bias)

    def slopes(self, name: str, channels: int) -> Array:
        """Those of a PReLU. Raises as `conv`."""
        slopes = self._taken(f"{name}.weight")
        if slopes.shape != (channels,):
            raise ValueError(name)
        return slopes

    def check_all_taken(self) -> None:
        """Raises ValueError where there are more."""
        if self._left:
            raise ValueError(", ".join(sorted(self._left)))

    def _taken(self, name: str) -> Array:
        self._left.discard(name)
        return self._weights[name]


DenseBlock = tuple[Conv, Conv, Conv, Conv, Conv]
"""The convolutions of a dense block."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RRDBLayers:
    """Those of an RRDB network, as `nets.rrdb` has them."""

    config: RRDBConfig
    first: Conv
    blocks: Sequence[tuple[DenseBlock, DenseBlock, DenseBlock]]
    body: Conv
    up: tuple[Conv, Conv]
    hr: Conv
    last: Conv


@dataclass(frozen=True, kw_only=True, eq=False)
class CompactLayers:
    """Those of a Compact network, as `nets.compact` has them."""

    config: CompactConfig
    convs: Sequence[tuple[Conv, Array]]
    """Each with the slopes after it."""

    last: Conv


def network_layers(config: SrConfig, weights: Weights) -> RRDBLayers | CompactLayers:
    """Raises KeyError or ValueError where the weights are not of that network."""
    layers = _Layers(weights)
    found = _rrdb_layers(config, layers) if isinstance(config, RRDBConfig) else _compact_layers(config, layers)
    layers.check_all_taken()
    return found


def _rrdb_layers(config: RRDBConfig, layers: _Layers) -> RRDBLayers:
    features, growth = config.features, config.growth

    def dense(name: str) -> DenseBlock:
        inner = [layers.conv(f"{name}.conv{1 + i}", features + i * growth, growth) for i in range(4)]
        return (*inner, layers.conv(f"{name}.conv5", features + 4 * growth, features))  # type: ignore[return-value]

    return RRDBLayers(
        config=config,
        first=layers.conv("conv_first", 3 * config.unshuffle**2, features),
        blocks=[
            (dense(f"body.{i}.rdb1"), dense(f"body.{i}.rdb2"), dense(f"body.{i}.rdb3")) for i in range(config.blocks)
        ],
        body=layers.conv("conv_body", features, features),
        up=(layers.conv("conv_up1", features, features), layers.conv("conv_up2", features, features)),
        hr=layers.conv("conv_hr", features, features),
        last=layers.conv("conv_last", features, 3),
    )


def _compact_layers(config: CompactConfig, layers: _Layers) -> CompactLayers:
    features = config.features
    sizes = [(3, features), *[(features, features)] * config.convs]
    convs = [
        (layers.conv(f"body.{2 * i}", *size), layers.slopes(f"body.{2 * i + 1}", features))
        for i, size in enumerate(sizes)
    ]
    last = layers.conv(f"body.{2 * len(convs)}", features, 3 * config.shuffle**2)
    return CompactLayers(config=config, convs=convs, last=last)


def enlarged_by_numpy(config: SrConfig, weights: Weights, lr: Array) -> Array:
    """What a network makes of an image, plainly computed: (3, h, w) to (3, scale * h, scale * w). For small ones."""
    layers = network_layers(config, weights)
    if isinstance(layers, CompactLayers):
        x = lr
        for conv, slopes in layers.convs:
            x = _convolved(x, conv)
            x = np.where(x > 0, x, slopes[:, None, None] * x)
        side = layers.config.shuffle
        return _unfolded(_convolved(x, layers.last), side) + lr.repeat(side, 1).repeat(side, 2)
    shallow = x = _convolved(folded(lr[None], layers.config.unshuffle)[0], layers.first)
    for blocks in layers.blocks:
        inner = x
        for block in blocks:
            inner = inner + RESIDUAL_SCALE * _residual(inner, block)
        x = x + RESIDUAL_SCALE * inner
    x = shallow + _convolved(x, layers.body)
    for conv in layers.up:
        x = _leaky(_convolved(x.repeat(2, 1).repeat(2, 2), conv))
    height, width = (layers.config.scale * length for length in lr.shape[1:])
    return _convolved(_leaky(_convolved(x, layers.hr)), layers.last)[:, :height, :width]


def _residual(x: Array, block: DenseBlock) -> Array:
    *inner, last = block
    for conv in inner:
        x = np.concatenate((x, _leaky(_convolved(x, conv))))
    return _convolved(x, last)


def _leaky(x: Array) -> Array:
    activated: Array = np.maximum(x, np.float32(LEAKY_SLOPE) * x)
    return activated


def _convolved(x: Array, conv: Conv) -> Array:
    around = sliding_window_view(np.pad(x, ((0, 0), (1, 1), (1, 1))), (3, 3), axis=(1, 2))  # (C, h, w, 3, 3)
    products: Array = np.tensordot(conv.weight, around, axes=((1, 2, 3), (0, 3, 4)))
    return products + conv.bias[:, None, None]


def folded(images: Array, side: int) -> Array:
    """Squares of pixels as channels, (N, C, H, W) to (N, C * side^2, H', W'), the ends continued: as `nets.rrdb`."""
    if side == 1:
        return images
    height, width = images.shape[2:]
    padded = np.pad(images, ((0, 0), (0, 0), (0, -height % side), (0, -width % side)), mode="edge")
    number, channels, height, width = padded.shape
    squares = padded.reshape(number, channels, height // side, side, width // side, side)
    return squares.transpose(0, 1, 3, 5, 2, 4).reshape(number, channels * side**2, height // side, width // side)


def _unfolded(x: Array, side: int) -> Array:
    """Channels as squares of pixels, (C * side^2, h, w) to (C, side * h, side * w)."""
    channels, height, width = x.shape
    squares = x.reshape(channels // side**2, side, side, height, width)
    return squares.transpose(0, 3, 1, 4, 2).reshape(channels // side**2, side * height, side * width)


def narrowed(values: Array) -> Array:
    """Rounded to bfloat16, to the nearest and of two to the even one."""
    bits = values.astype(np.float32).view(np.uint32)
    kept: Array = ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    return kept


def rounded(weight: Array) -> Array:
    """A kernel of values of bfloat16 whose taps add up as before: as `nets.bf16.rounded`."""
    taps = weight.reshape(*weight.shape[:2], -1)
    order = np.argsort(-np.abs(taps), axis=2, kind="stable")
    left = np.zeros_like(taps[..., 0])
    narrow = np.empty_like(taps)
    for index, tap in enumerate(np.moveaxis(np.take_along_axis(taps, order, 2), 2, 0)):
        wanted = tap + left
        narrow[..., index] = narrowed(wanted)
        left = wanted - narrow[..., index]
    rounded = np.empty_like(taps)
    np.put_along_axis(rounded, order, narrow, 2)
    return rounded.reshape(weight.shape)


def in_two_parts(conv: Conv) -> tuple[Conv, Array]:
    """The last convolution as `nets.bf16.NarrowLast` has it, and what is to be added to the sum of its parts."""
    coarse, shift = narrowed(conv.weight), narrowed(conv.bias - _MIDDLE)
    parts = np.concatenate((coarse, narrowed(conv.weight - coarse)))
    bias = np.concatenate((shift, np.zeros_like(shift)))
    return Conv(weight=parts, bias=bias), (conv.bias - shift)[:, None, None]


def doubling_kernels(weight: Array) -> Array:
    """What the four pixels that an LR pixel becomes see: as `nets.bf16.doubling_kernels`."""
    rows = (_merged(weight, row, axis=2) for row in range(2))
    return np.concatenate([_merged(taps, col, axis=3) for taps in rows for col in range(2)])


def _merged(weight: Array, side: int, *, axis: int) -> Array:
    """Three taps along an axis as the two that the first (0) or second (1) pixel of a doubled one sees."""
    before, here, after = np.moveaxis(weight, axis, 0)
    return np.stack((before, here + after) if side == 0 else (before + here, after), axis)
