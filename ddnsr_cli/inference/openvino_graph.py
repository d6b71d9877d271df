"""Networks as graphs for OpenVINO: layers as text in its own format, IR of version 11, and values beside it.

Its converter takes a hundred times as long for a large network, and does not say of a layer whether it may be rounded.
"""

import importlib
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.nets.arrays import Array, CompactLayers, Conv, DenseBlock, RRDBLayers, doubling_kernels, rounded
from ddnsr_cli.nets.config import LEAKY_SLOPE, RESIDUAL_SCALE

LEAST_PEAK = np.float32(1e-8)  # of a channel that is always 0

_PACKAGE = "openvino"
_MOST_SUMMED_FEATURES = 32  # there sums took 5 % less time than copies, at 64 as long (docs/measurements/speed.md)
_CONVERTER = "openvino.tools.ovc"
_NONE: Mapping[str, object] = {}
_MOST_INT8 = 127

BlockPeaks = Sequence[Array]
"""The largest absolute values of the maps of a dense block: of its input, (C,), and of its four convolutions."""

_NUMPY_RULES = {"auto_broadcast": "numpy"}
_AS_LARGE = {
    "strides": "1,1",
    "dilations": "1,1",
    "pads_begin": "1,1",
    "pads_end": "1,1",
    "auto_pad": "explicit",
}
_DOUBLED = {**_AS_LARGE, "strides": "2,2", "output_padding": "0,0"}
_REPEATED = {
    "mode": "nearest",
    "nearest_mode": "floor",
    "shape_calculation_mode": "scales",
    "coordinate_transformation_mode": "asymmetric",
    "antialias": "false",
    "cube_coeff": "-0.75",
    "pads_begin": "0,0,0,0",
    "pads_end": "0,0,0,0",
}
_KINDS = {"float32": "f32", "int64": "i64", "int8": "i8"}
_OUT = 9  # the number of every layer's output; those of its inputs are below


class Graph:
    """A network in the making: layers, known by number, what leads where, and the values of its constants."""

    def __init__(self) -> None:
        self._layers: list[str] = []
        self._edges: list[str] = []
        self._values: list[bytes] = []
        self._bytes = 0

    def layer(
        self,
        kind: str,
        inputs: Sequence[int],
        settings: Mapping[str, object] = _NONE,
        *,
        opset: int = 1,
        wide: bool = False,
        holds: str = "fp32",
    ) -> int:
        """One more layer. inputs: layers whose outputs it takes. wide: it is never rounded, but computed in fp32.

        holds: the number format of a constant.
        """
        number = len(self._layers)
        for port, source in enumerate(inputs):
            self._edges.append(f'<edge from-layer="{source}" from-port="{_OUT}" to-layer="{number}" to-port="{port}"/>')
        data = " ".join(f'{name}="{value}"' for name, value in settings.items())
        mark = '<rt_info><attribute name="precise" version="0" value=""/></rt_info>' if wide else ""
        ports = "".join(f'<port id="{port}"/>' for port in range(len(inputs)))
        precision = "I8" if holds == "i8" else "FP32"
        output = "" if kind == "Result" else f'<output><port id="{_OUT}" precision="{precision}"/></output>'
        self._layers.append(
            f'<layer id="{number}" name="{number}" type="{kind}" version="opset{opset}"><data {data}/>{mark}'
            f"<input>{ports}</input>{output}</layer>"
        )
        return number

    def constant(self, values: NDArray[Any]) -> int:
        """values: float32, int64 or int8."""
        content = np.ascontiguousarray(values).tobytes()
        kind = _KINDS[values.dtype.name]
        shape = ",".join(map(str, values.shape))
        place = {"element_type": kind, "shape": shape, "offset": self._bytes, "size": len(content)}
        self._values.append(content)
        self._bytes += len(content)
        return self.layer("Const", (), place, holds=kind)

    def images(self) -> int:
        """What comes in: one image of any size and number of channels."""
        return self.layer("Parameter", (), {"shape": "1,?,?,?", "element_type": "f32"})

    def conv(self, x: int, conv: Conv, *, scale: float = 1.0, wide: bool = False, wide_sum: bool = False) -> int:
        """A 3x3 convolution whose result is scaled. wide: in fp32; wide_sum: its result only."""
        products = self._products(x, conv.weight * np.float32(scale), wide=wide)
        return self._biased(products, conv, scale=scale, wide=wide or wide_sum)

    def _products(self, x: int, weight: Array, *, wide: bool = False) -> int:
        return self.layer("Convolution", (x, self.constant(weight)), _AS_LARGE, wide=wide)

    def _biased(self, products: int, conv: Conv, *, scale: float = 1.0, wide: bool = False) -> int:
        bias = (conv.bias * np.float32(scale)).reshape(1, -1, 1, 1)
        return self.add(products, self.constant(bias), wide=wide)

    def doubling(self, x: int, conv: Conv, *, narrow: bool) -> int:
        """Nearest-neighbor doubling and the 3x3 convolution after it, as one transposed convolution of 4/9 of the work.

        narrow: the weights are rounded as by `nets.bf16.NarrowDoubling`.
        """
        kernels = doubling_kernels(conv.weight)
        by_pixel = (rounded(kernels) if narrow else kernels).reshape(2, 2, -1, *kernels.shape[1:])
        out_channels, in_channels = conv.weight.shape[:2]
        taps = np.empty((in_channels, out_channels, 4, 4), np.float32)
        for row in range(2):
            for col in range(2):
                taps[:, :, 1 - row :: 2, 1 - col :: 2] = by_pixel[row, col].swapaxes(0, 1)[:, :, ::-1, ::-1]
        products = self.layer("ConvolutionBackpropData", (x, self.constant(taps)), _DOUBLED)
        return self._biased(products, conv)

    def add(self, left: int, right: int, *, wide: bool) -> int:
        """The sum."""
        return self.layer("Add", (left, right), _NUMPY_RULES, wide=wide)

    def scaled(self, x: int, factor: float) -> int:
        """x times a number, in fp32."""
        factors = self.constant(np.full(1, factor, np.float32))
        return self.layer("Multiply", (x, factors), _NUMPY_RULES, wide=True)

    def slopes(self, x: int, values: NDArray[np.float32], *, wide: bool = False) -> int:
        """PReLU or LeakyReLU. values: (C,) or (1,)."""
        return self.layer("PReLU", (x, self.constant(values)), wide=wide)

    def lrelu(self, x: int) -> int:
        """LeakyReLU of slope 0.2."""
        return self.slopes(x, np.full(1, LEAKY_SLOPE, np.float32))

    def nearest(self, x: int, times: int, *, wide: bool = False) -> int:
        """Each pixel repeated, `times` in both directions."""
        sizes, axes = np.zeros(2, np.int64), np.array([2, 3], np.int64)
        inputs = (x, self.constant(sizes), self.constant(np.full(2, times, np.float32)), self.constant(axes))
        return self.layer("Interpolate", inputs, _REPEATED, opset=4, wide=wide)

    def dense_block(self, x: int, block: DenseBlock) -> tuple[int, Sequence[int]]:
        """x plus the scaled residual, which alone is rounded; and the maps that its convolutions see."""
        growth, features, *_ = block[0].weight.shape
        sizes, maps = (features, growth), [x]
        *inner, last = block
        for conv in inner:
            maps.append(self.lrelu(self._over(maps, conv, sizes)))
        return self.add(x, self._over(maps, last, sizes, scale=RESIDUAL_SCALE), wide=True), maps

    def dense_block_int8(self, x: int, block: DenseBlock, peaks: BlockPeaks) -> int:
        """The same, by convolutions of 8-bit integers."""
        maps = [self._in_8_bits(x, peaks[0])]
        *inner, last = block
        for conv, peak in zip(inner, peaks[1:], strict=True):
            maps.append(self._in_8_bits(self.lrelu(self._over_int8(maps, conv, peaks)), peak))
        return self.add(x, self._over_int8(maps, last, peaks, scale=RESIDUAL_SCALE), wide=True)

    def _in_8_bits(self, x: int, peaks: Array) -> int:
        """Each channel over its peak, in 256 steps from -128 / 127 to 1. A lower end of -1 is run wrongly."""
        top, one = peaks.reshape(1, -1, 1, 1), np.ones((1, 1, 1, 1), np.float32)
        lower = np.float32(-(_MOST_INT8 + 1) / _MOST_INT8)
        ends = (top * lower, top, one * lower, one)
        inputs = (x, *map(self.constant, ends))
        return self.layer("FakeQuantize", inputs, {"levels": 256, **_NUMPY_RULES})

    def _over_int8(self, maps: Sequence[int], conv: Conv, peaks: BlockPeaks, *, scale: float = 1.0) -> int:
        """A convolution of the block over its maps so far. Kernels make up for these being shares of their peaks."""
        dense = self.layer("Concat", maps, {"axis": 1}) if len(maps) > 1 else maps[0]
        weight = conv.weight * np.float32(scale) * np.concatenate(peaks[: len(maps)]).reshape(1, -1, 1, 1)
        step = np.maximum(np.abs(weight).max((1, 2, 3), keepdims=True), LEAST_PEAK) / np.float32(_MOST_INT8)
        steps = self.constant(np.rint(weight / step).astype(np.int8))
        taps = self.layer("Convert", (steps,), {"destination_type": "f32"})
        kernels = self.layer("Multiply", (taps, self.constant(step)), _NUMPY_RULES)
        return self._biased(self.layer("Convolution", (dense, kernels), _AS_LARGE), conv, scale=scale)

    def peaks(self, x: int) -> int:
        """The largest absolute value of each channel."""
        sizes, axes = self.layer("Abs", (x,), wide=True), self.constant(np.array([0, 2, 3], np.int64))
        return self.layer("ReduceMax", (sizes, axes), {"keep_dims": "true"}, wide=True)

    def _over(self, maps: Sequence[int], conv: Conv, sizes: tuple[int, int], *, scale: float = 1.0) -> int:
        """A convolution of the block over its maps so far.

        To lay maps side by side they are copied, for each convolution; where these are small a sum over the maps is
        quicker. Its parts are rounded, which networks of more blocks would show. sizes: channels of the
        first map and of the others.
        """
        features, growth = sizes
        if features > _MOST_SUMMED_FEATURES:
            dense = self.layer("Concat", maps, {"axis": 1}) if len(maps) > 1 else maps[0]
            return self.conv(dense, conv, scale=scale)
        ends = tuple(range(features, conv.weight.shape[1], growth))
        first, *others = np.split(conv.weight * np.float32(scale), ends, axis=1)
        total = self._biased(self._products(maps[0], first), conv, scale=scale)
        for x, weight in zip(maps[1:], others, strict=True):
            total = self.add(total, self._products(x, weight), wide=False)
        return total

    def compiled(self, *, narrow: bool, threads: int) -> Any:  # noqa: ANN401  # of a package without types
        """Ready to run, from an array to a list of arrays."""
        ov = openvino_package()
        text = "".join(
            ('<net name="sr" version="11"><layers>', *self._layers, "</layers><edges>", *self._edges, "</edges></net>")
        )
        weights = np.frombuffer(b"".join(self._values), np.uint8)
        core = _core()
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if narrow else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # else several processes share the first core
        }
        return core.compile_model(core.read_model(text.encode(), ov.Tensor(weights)), "CPU", options)


@cache
def _core() -> Any:  # noqa: ANN401  # of a package without types
    """One for the whole life of the process.

    With the first, the thread that makes it gets a stack of OpenVINO's for its signals. With the last it is freed, and
    where that happens in another thread, the next signal (Ctrl-C) would end the process on it.
    """
    return openvino_package().Core()


def openvino_package() -> Any:  # noqa: ANN401  # it has no types
    """OpenVINO without its converter of models, which is not needed: when imported it reports to a server."""
    if _PACKAGE in sys.modules or _CONVERTER in sys.modules:
        return importlib.import_module(_PACKAGE)
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # how Python is told that there is none
    try:
        return importlib.import_module(_PACKAGE)
    finally:
        del sys.modules[_CONVERTER]


def rrdb_graph(
    layers: RRDBLayers,
    last: Conv,
    *,
    narrow: bool,
    peaks: Sequence[BlockPeaks] | None = None,
    with_peaks: bool = False,
) -> Graph:
    """From the folded image to what the convolution `last` gives, which may be in two parts.

    peaks: of the dense blocks, to compute them in int8; with_peaks: they are measured, and are further results.
    """
    graph = Graph()
    shallow = x = graph.conv(graph.images(), layers.first, wide=True)
    seen: list[int] = []
    given = iter(peaks or ())
    for blocks in layers.blocks:
        inner = x
        for block in blocks:
            if peaks is None:
                inner, maps = graph.dense_block(inner, block)
                seen.extend(maps)
            else:
                inner = graph.dense_block_int8(inner, block, next(given))
        x = graph.add(x, graph.scaled(inner, RESIDUAL_SCALE), wide=True)
    x = graph.add(shallow, graph.conv(x, layers.body, wide=True), wide=True)
    for conv in layers.up:
        x = graph.lrelu(graph.doubling(x, conv, narrow=narrow))
    x = graph.lrelu(graph.conv(x, layers.hr.rounded() if narrow else layers.hr))
    image = graph.conv(x, last, wide_sum=True)
    for one in seen if with_peaks else ():  # before the image: else all maps are kept until it is finished
        graph.layer("Result", (graph.peaks(one),))
    graph.layer("Result", (image,))
    return graph


def compact_graph(layers: CompactLayers) -> Graph:
    """From the LR image to the whole SR image."""
    graph = Graph()
    x = lr = graph.images()
    for index, (conv, slopes) in enumerate(layers.convs):
        wide = index == 0  # as `nets.bf16.narrowed` has it
        x = graph.slopes(graph.conv(x, conv, wide=wide), slopes, wide=wide)
    x = graph.conv(x, layers.last)
    side = layers.config.shuffle
    x = graph.layer("DepthToSpace", (x,), {"mode": "depth_first", "block_size": side}, wide=True)
    graph.layer("Result", (graph.add(x, graph.nearest(lr, side, wide=True), wide=True),))
    return graph
