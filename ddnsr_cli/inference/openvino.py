"""Our networks run by OpenVINO, where that package is installed: the same layers, packed, fused, in memory it plans.

In bfloat16 it rounds where `nets.bf16` rounds and nowhere else: sums over blocks, the first convolution and that after
the blocks are in fp32, and the stage of HR size has the same rounded weights. So both engines are as near to fp32.
Networks are given as text in its own format, IR of version 11, which takes a hundredth of the time that its converter
takes for a large one, and says of each layer whether it may be rounded.
"""

import importlib
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddnsr_cli.nets.bf16 import NarrowLast, doubling_kernels, rounded, with_rounded_weight
from ddnsr_cli.nets.blocks import LEAKY_SLOPE
from ddnsr_cli.nets.compact import CompactNet
from ddnsr_cli.nets.rrdb import RESIDUAL_SCALE, ResidualDenseBlock, RRDBNet

PACKAGE = "openvino"
MOST_SUMMED_FEATURES = 32  # there sums took 5 % less time than copies, at 64 as long (docs/measurements/speed.md)
_CONVERTER = "openvino.tools.ovc"
_NONE: Mapping[str, object] = {}

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
_STALE = np.float32(-12345.5)  # no sample has this value
_OUT = 9  # the number of every layer's output; those of its inputs are below


class OpenvinoNet(nn.Module):
    """A network of ours on the CPU, run by OpenVINO.

    Shape: (1, 3, H, W) -> (1, 3, scale * H, scale * W), fp32.
    """

    def __init__(self, net: RRDBNet | CompactNet, *, narrow: bool) -> None:
        """net: in fp32 on the CPU; it is left as it is. narrow: compute in bfloat16 where the network bears it.

        As many threads as PyTorch has now. Raises ImportError without the package, RuntimeError where it fails.
        """
        super().__init__()
        self.net = net
        self._narrow = narrow
        self._last = NarrowLast(net.conv_last) if narrow and isinstance(net, RRDBNet) else None
        graph = _rrdb(net, self._last) if isinstance(net, RRDBNet) else _compact(net)
        self._side = 4 if isinstance(net, RRDBNet) else net.config.scale  # an RRDB network's image comes in folded
        self._compiled = graph.compiled(narrow=narrow)
        self._result: NDArray[np.float32] | None = None

    def beside(self) -> "OpenvinoNet":
        """The same network, compiled again for another thread: the one that asks."""
        return OpenvinoNet(self.net, narrow=self._narrow)

    @property
    def held_dtype(self) -> torch.dtype:
        """The format of the feature maps that take most of the memory."""
        return torch.float32 if self._last is None else torch.bfloat16

    def forward(self, lr: Tensor) -> Tensor:
        """The LR image enlarged. It may lie where the next run writes to: take it over before."""
        if isinstance(self.net, CompactNet):
            return self._run(lr)
        result = self._run(self.net.folded(lr))
        return self.net.cut(result if self._last is None else self._last.joined(result), lr)

    def _run(self, images: Tensor) -> Tensor:
        """The result lies in memory of OpenVINO's, which the next run writes to.

        Where memory runs out OpenVINO may leave the last result there without a word: it is marked before. Raises
        MemoryError then.
        """
        if self._result is not None:
            self._result.flat[:: max(1, self._result.size - 1)] = _STALE  # the first and the last
        result: NDArray[np.float32] = self._compiled(images.contiguous().numpy(), share_outputs=True)[0]
        self._result = result
        height, width = images.shape[2:]
        side = self._side
        if result.shape[2:] != (side * height, side * width) or _STALE in (result.flat[0], result.flat[-1]):
            raise MemoryError("OpenVINO has no memory for a tile.")
        return torch.from_numpy(result)


def openvino_net(net: nn.Module, *, narrow: bool) -> OpenvinoNet | None:
    """A network as `OpenvinoNet`; None where it is of another kind, or OpenVINO cannot run it here."""
    if type(net) is RRDBNet or (type(net) is CompactNet and net.config.shuffle == net.config.scale):
        with suppress(ImportError, MemoryError, RuntimeError):  # a version that lacks something, an odd processor
            return OpenvinoNet(net, narrow=narrow)
    return None


class _Graph:
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
    ) -> int:
        """One more layer. inputs: layers whose outputs it takes. wide: it is never rounded, but computed in fp32."""
        number = len(self._layers)
        for port, source in enumerate(inputs):
            self._edges.append(f'<edge from-layer="{source}" from-port="{_OUT}" to-layer="{number}" to-port="{port}"/>')
        data = " ".join(f'{name}="{value}"' for name, value in settings.items())
        mark = '<rt_info><attribute name="precise" version="0" value=""/></rt_info>' if wide else ""
        ports = "".join(f'<port id="{port}"/>' for port in range(len(inputs)))
        output = "" if kind == "Result" else f'<output><port id="{_OUT}" precision="FP32"/></output>'
        self._layers.append(
            f'<layer id="{number}" name="{number}" type="{kind}" version="opset{opset}"><data {data}/>{mark}'
            f"<input>{ports}</input>{output}</layer>"
        )
        return number

    def constant(self, values: NDArray[Any]) -> int:
        """values: float32 or int64."""
        content = np.ascontiguousarray(values).tobytes()
        kind = "f32" if values.dtype == np.float32 else "i64"
        shape = ",".join(map(str, values.shape))
        place = {"element_type": kind, "shape": shape, "offset": self._bytes, "size": len(content)}
        self._values.append(content)
        self._bytes += len(content)
        return self.layer("Const", (), place)

    def images(self) -> int:
        """What comes in: one image of any size and number of channels."""
        return self.layer("Parameter", (), {"shape": "1,?,?,?", "element_type": "f32"})

    def conv(self, x: int, conv: nn.Conv2d, *, scale: float = 1.0, wide: bool = False, wide_sum: bool = False) -> int:
        """A 3x3 convolution whose result is scaled. wide: in fp32; wide_sum: its result only."""
        products = self._products(x, conv.weight * scale, wide=wide)
        return self._biased(products, conv, scale=scale, wide=wide or wide_sum)

    def _products(self, x: int, weight: Tensor, *, wide: bool = False) -> int:
        return self.layer("Convolution", (x, self.constant(_array(weight))), _AS_LARGE, wide=wide)

    def _biased(self, products: int, conv: nn.Conv2d, *, scale: float = 1.0, wide: bool = False) -> int:
        if conv.bias is None:
            return products
        return self.add(products, self.constant(_array(conv.bias * scale).reshape(1, -1, 1, 1)), wide=wide)

    def doubling(self, x: int, conv: nn.Conv2d, *, narrow: bool) -> int:
        """Nearest-neighbor doubling and the 3x3 convolution after it, as one transposed convolution of 4/9 of the work.

        narrow: the weights are rounded as by `nets.bf16.NarrowDoubling`.
        """
        kernels = doubling_kernels(conv.weight)
        by_pixel = (rounded(kernels).float() if narrow else kernels).view(2, 2, -1, *kernels.shape[1:])
        taps = torch.empty(conv.in_channels, conv.out_channels, 4, 4)
        for row in range(2):
            for col in range(2):
                taps[:, :, 1 - row :: 2, 1 - col :: 2] = by_pixel[row, col].transpose(0, 1).flip(2, 3)
        products = self.layer("ConvolutionBackpropData", (x, self.constant(_array(taps))), _DOUBLED)
        return self._biased(products, conv)

    def add(self, left: int, right: int, *, wide: bool) -> int:
        """The sum."""
        return self.layer("Add", (left, right), {"auto_broadcast": "numpy"}, wide=wide)

    def scaled(self, x: int, factor: float) -> int:
        """x times a number, in fp32."""
        factors = self.constant(np.full(1, factor, np.float32))
        return self.layer("Multiply", (x, factors), {"auto_broadcast": "numpy"}, wide=True)

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

    def dense_block(self, x: int, block: ResidualDenseBlock) -> int:
        """x plus the scaled residual, which alone is rounded."""
        maps = [x]
        for conv in (block.conv1, block.conv2, block.conv3, block.conv4):
            maps.append(self.lrelu(self._over(maps, conv, block)))
        return self.add(x, self._over(maps, block.conv5, block, scale=RESIDUAL_SCALE), wide=True)

    def _over(self, maps: Sequence[int], conv: nn.Conv2d, block: ResidualDenseBlock, *, scale: float = 1.0) -> int:
        """A convolution of the block over its maps so far.

        To lay maps side by side they are copied, for each convolution; where these are small a sum over the maps is
        quicker. Its parts are rounded, which networks of more blocks would show.
        """
        features, growth = block.conv1.in_channels, block.conv1.out_channels
        if features > MOST_SUMMED_FEATURES:
            dense = self.layer("Concat", maps, {"axis": 1}) if len(maps) > 1 else maps[0]
            return self.conv(dense, conv, scale=scale)
        first, *others = (conv.weight * scale).tensor_split(tuple(range(features, conv.in_channels, growth)), dim=1)
        total = self._biased(self._products(maps[0], first), conv, scale=scale)
        for x, weight in zip(maps[1:], others, strict=True):
            total = self.add(total, self._products(x, weight), wide=False)
        return total

    def compiled(self, *, narrow: bool) -> Any:  # noqa: ANN401  # of a package without types
        """Ready to run, from an array to a list of arrays."""
        ov = openvino_package()
        text = "".join(
            ('<net name="sr" version="11"><layers>', *self._layers, "</layers><edges>", *self._edges, "</edges></net>")
        )
        weights = np.frombuffer(b"".join(self._values), np.uint8)
        core = _core()
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if narrow else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
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
    if PACKAGE in sys.modules or _CONVERTER in sys.modules:
        return importlib.import_module(PACKAGE)
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # how Python is told that there is none
    try:
        return importlib.import_module(PACKAGE)
    finally:
        del sys.modules[_CONVERTER]


def _array(parameter: Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = parameter.detach().to(torch.float32).numpy()
    return values


def _rrdb(net: RRDBNet, narrow_last: NarrowLast | None) -> _Graph:
    """From the folded image to the SR image, or to what `narrow_last` joins; None: all is to be in fp32."""
    graph = _Graph()
    shallow = x = graph.conv(graph.images(), net.conv_first, wide=True)
    for blocks in net.body:
        inner = x
        for block in blocks.children():
            assert isinstance(block, ResidualDenseBlock)
            inner = graph.dense_block(inner, block)
        x = graph.add(x, graph.scaled(inner, RESIDUAL_SCALE), wide=True)
    x = graph.add(shallow, graph.conv(x, net.conv_body, wide=True), wide=True)
    narrow = narrow_last is not None
    for conv in (net.conv_up1, net.conv_up2):
        x = graph.lrelu(graph.doubling(x, conv, narrow=narrow))
    x = graph.lrelu(graph.conv(x, with_rounded_weight(net.conv_hr) if narrow else net.conv_hr))
    last = net.conv_last if narrow_last is None else narrow_last.conv
    graph.layer("Result", (graph.conv(x, last, wide_sum=True),))
    return graph


def _compact(net: CompactNet) -> _Graph:
    graph = _Graph()
    x = lr = graph.images()
    for index, layer in enumerate(net.body):
        wide = index in (0, 1)  # as `nets.bf16.narrowed` has it
        if isinstance(layer, nn.Conv2d):
            x = graph.conv(x, layer, wide=wide)
        elif isinstance(layer, nn.PReLU):
            x = graph.slopes(x, _array(layer.weight), wide=wide)
    side = net.config.shuffle
    x = graph.layer("DepthToSpace", (x,), {"mode": "depth_first", "block_size": side}, wide=True)
    graph.layer("Result", (graph.add(x, graph.nearest(lr, side, wide=True), wide=True),))
    return graph
