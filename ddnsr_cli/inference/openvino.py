"""Our networks run by OpenVINO, where that package is installed: the same layers, packed, fused, in memory it plans.

In bfloat16 it rounds where `nets.bf16` rounds and nowhere else: sums over blocks, the first convolution and that after
the blocks are in fp32, and the stage of HR size has the same rounded weights. So both engines are as near to fp32.
In int8 the dense blocks of RRDB networks, nearly all of the work, are computed with 8-bit integers: each channel of
their maps as a share of its peak on a few crops of images, and each kernel as a share of its largest tap.
Networks are given as text in its own format, IR of version 11, which takes a hundredth of the time that its converter
takes for a large one, and says of each layer whether it may be rounded. PyTorch is not needed, and not loaded.
"""

import copy
import gc
import importlib
import math
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddnsr_cli.inference.engine import LaterWindows, Note, Runner, Window, not_finite
from ddnsr_cli.inference.memory import free_host_bytes
from ddnsr_cli.nets.arrays import (
    Array,
    CompactLayers,
    Conv,
    DenseBlock,
    RRDBLayers,
    Weights,
    doubling_kernels,
    enlarged_by_numpy,
    folded,
    in_two_parts,
    network_layers,
    rounded,
)
from ddnsr_cli.nets.config import LEAKY_SLOPE, RESIDUAL_SCALE, VIEWS, CompactConfig, RRDBConfig, SrConfig

PACKAGE = "openvino"
MOST_SUMMED_FEATURES = 32  # there sums took 5 % less time than copies, at 64 as long (docs/measurements/speed.md)
_CONVERTER = "openvino.tools.ovc"
_NONE: Mapping[str, object] = {}

BlockPeaks = Sequence[Array]
"""The largest absolute values of the maps of a dense block: of its input, (C,), and of its four convolutions."""

INT8_CROPS = "pretrained/int8_crops.png"
_INT8_TOLERANCE = 0.05  # rms on the crops, of values in [0, 1]: large networks stay below a third of it
_MOST_INT8 = 127
_LEAST_PEAK = np.float32(1e-8)  # of a channel that is always 0

_PROBE_PX = 8  # a side that no network of ours refuses; small enough for a tenth of a second by NumPy
_PROBE_TOLERANCE = 0.1  # of the largest value: bf16 stays below a tenth of it, a wrong result is off by all

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
_STALE = np.float32(-12345.5)  # no sample has this value
_OUT = 9  # the number of every layer's output; those of its inputs are below


class OpenvinoNet:
    """A network of ours on the CPU, compiled by OpenVINO for the thread that makes it."""

    def __init__(
        self,
        config: SrConfig,
        weights: Weights,
        *,
        narrow: bool,
        threads: int,
        peaks: Sequence[BlockPeaks] | None = None,
    ) -> None:
        """narrow: compute in bfloat16 where the network bears it. peaks: of all dense blocks, to compute them in int8.

        Raises ImportError without the package, RuntimeError where it fails, KeyError or ValueError where the weights
        are not of that network.
        """
        layers = network_layers(config, weights)
        self._config = config
        self._rest: Array | None = None
        if isinstance(layers, RRDBLayers):
            if narrow:
                last, self._rest = in_two_parts(layers.last)
            else:
                last = layers.last
            graph = _rrdb(layers, last, narrow=narrow, peaks=peaks)
        else:
            graph = _compact(layers)
        self._side = 4 if isinstance(config, RRDBConfig) else config.scale  # an RRDB network's image comes in folded
        self._compiled = graph.compiled(narrow=narrow, threads=threads)
        self._result: Array | None = None

    @property
    def held_bytes(self) -> int:
        """Of one value of the feature maps that take most of the memory."""
        return 4 if self._rest is None else 2

    def enlarged(self, lr: Array) -> Array:
        """(1, 3, H, W) to (1, 3, scale * H, scale * W). It may lie where the next run writes to: take it over first."""
        if isinstance(self._config, CompactConfig):
            return self._run(lr)
        result = self._run(folded(lr, self._config.unshuffle))
        if self._rest is not None:  # what the two parts of the last convolution add up to
            coarse, fine = result[:, :3], result[:, 3:]
            coarse += fine
            coarse += self._rest
            result = coarse
        height, width = (self._config.scale * length for length in lr.shape[2:])
        return result[:, :, :height, :width]

    def _run(self, images: Array) -> Array:
        """The result lies in memory of OpenVINO's, which the next run writes to.

        Where memory runs out OpenVINO may leave the last result there without a word: it is marked before. Raises
        MemoryError then.
        """
        if self._result is not None:
            self._result.flat[:: max(1, self._result.size - 1)] = _STALE  # the first and the last
        result: Array = self._compiled(np.ascontiguousarray(images), share_outputs=True)[0]
        self._result = result
        height, width = images.shape[2:]
        side = self._side
        if result.shape[2:] != (side * height, side * width) or _STALE in (result.flat[0], result.flat[-1]):
            raise MemoryError("OpenVINO has no memory for a tile.")
        return result


class OpenvinoRunner:
    """A network run by OpenVINO; a `Runner`.

    A window that comes out with NaN or infinity is computed again in fp32 by PyTorch, and so is one that is to have
    more than 8 bits where this network has not.
    """

    device = "cpu"
    by_openvino = True
    ahead = 0
    batch_px = 0

    def __init__(
        self,
        net: OpenvinoNet,
        new: Callable[[int], OpenvinoNet],
        *,
        dtype: str,
        threads: int,
        tta: bool,
        name: str,
        in_fp32: Callable[[], Runner],
    ) -> None:
        """net: for so many threads. new: compiles it for others. in_fp32: loads it for PyTorch."""
        self._net = net
        self._new = new
        self.dtype = dtype
        self._is_exact = dtype == "float32"
        self.threads = threads
        self._tta = tta
        self._name = name
        self._in_fp32 = cache(in_fp32)
        self._loading = threading.Lock()
        self._tells_threads = "torch" not in sys.modules  # else whoever loaded it has said how many it may use
        self._noted: set[str] = set()

    def held_bytes(self, *, deep: bool = False) -> int:
        """As of `Runner`."""
        # PyTorch is loaded before anybody looks at what memory is left
        return self._full().held_bytes(deep=True) if deep and not self._is_exact else self._net.held_bytes

    def free_bytes(self) -> int:
        """As of `Runner`."""
        return free_host_bytes()

    def release(self) -> None:
        """As of `Runner`: what OpenVINO holds it needs."""
        gc.collect()

    def beside(self, threads: int) -> "OpenvinoRunner":
        """As of `Runner`: the network is compiled again."""
        other = copy.copy(self)
        other._net = self._new(threads)
        other.threads, other._tells_threads = threads, True
        return other

    def use_threads(self, threads: int) -> None:
        """As of `Runner`: the network was compiled for those it uses."""

    def begin(self, lrs: Sequence[Window], on_note: Note, *, deep: bool = False) -> LaterWindows:
        """As of `Runner`; all is done at once."""
        if deep and not self._is_exact:
            return self._full().begin(lrs, on_note, deep=deep)
        windows = [self._enlarged(lr, on_note) for lr in lrs]
        return lambda: windows

    def _full(self) -> Runner:
        with self._loading:
            full = self._in_fp32()
        if self._tells_threads:
            full.use_threads(self.threads)
        return full

    def _enlarged(self, lr: Window, on_note: Note) -> Window:
        images = np.asarray(lr, np.float32)[None]
        with np.errstate(all="ignore"):
            sr = (self._mean_of_views(images) if self._tta else self._net.enlarged(images))[0]
            is_finite = math.isfinite(sr.sum())  # a sum is finite where all values are
        if is_finite:
            window: Window = sr
            return window
        if self._is_exact:
            raise not_finite(lr, self._name)
        short = "int8" if self.dtype == "int8" else "bf16"
        message = f"{short} overflows in {self._name}: tiles where it does are computed in fp32."
        if message not in self._noted:
            self._noted.add(message)
            on_note(message)
        return self._full().begin([lr], on_note)()[0]

    def _mean_of_views(self, images: Array) -> Array:
        """The mean over the eight flips and quarter turns, each undone after the network."""
        total: Array = np.zeros(1, np.float32)
        for view in range(VIEWS):
            mirrored = images[..., ::-1] if view >= VIEWS // 2 else images
            turned = np.rot90(self._net.enlarged(np.rot90(mirrored, view % 4, (2, 3))), -(view % 4), (2, 3))
            total = total + (turned[..., ::-1] if view >= VIEWS // 2 else turned)
        return total / np.float32(VIEWS)


def openvino_runner(
    config: SrConfig,
    weights: Weights,
    *,
    narrow: bool,
    int8: bool = False,
    threads: int,
    tta: bool,
    name: str,
    in_fp32: Callable[[], Runner],
) -> OpenvinoRunner | None:
    """A network as a `Runner`; None where it is of another kind, or OpenVINO does not run it, or runs it wrongly.

    narrow: compute in bfloat16 where the network bears it. int8: and its dense blocks in int8, where it has some and
    the image stays about what it is; the runner's `dtype` tells. threads: of the processor. tta: see `NetUpscaler`.
    name: of the weights, for messages. in_fp32: loads the network for PyTorch, for what must be computed in fp32.
    """
    if isinstance(config, CompactConfig) and config.shuffle != config.scale:
        return None

    try:
        network_layers(config, weights)
    except (KeyError, ValueError):
        return None

    def new(threads: int, peaks: Sequence[BlockPeaks] | None = None) -> OpenvinoNet:
        with np.errstate(all="ignore"):  # of weights that overflow; what comes of them is looked at
            return OpenvinoNet(config, weights, narrow=narrow, threads=threads, peaks=peaks)

    peaks = None
    with suppress(ImportError, MemoryError, RuntimeError), np.errstate(all="ignore"):  # an odd version or processor
        if int8 and isinstance(config, RRDBConfig):
            peaks, expected = _on_crops(config, weights, narrow=narrow, threads=threads)
            net = new(threads, peaks)
            if not _is_near(net, expected):
                peaks = None
        if peaks is None:
            net = new(threads)
            if not _is_right(net.enlarged, config, weights):
                return None
        dtype = "int8" if peaks else "bfloat16" if narrow else "float32"
        again = partial(new, peaks=peaks)
        return OpenvinoRunner(net, again, dtype=dtype, threads=threads, tta=tta, name=name, in_fp32=in_fp32)
    return None


def _on_crops(
    config: RRDBConfig, weights: Weights, *, narrow: bool, threads: int
) -> tuple[Sequence[BlockPeaks], Array]:
    """The peaks of the dense blocks on the crops, and the image that the network makes of them.

    Raises RuntimeError where OpenVINO runs it wrongly.
    """
    layers = network_layers(config, weights)
    assert isinstance(layers, RRDBLayers)
    compiled = _rrdb(layers, layers.last, narrow=narrow, with_peaks=True).compiled(narrow=narrow, threads=threads)

    def run(lr: Array) -> Sequence[Array]:
        return list(compiled(folded(lr, config.unshuffle)).values())

    if not _is_right(lambda lr: run(lr)[-1], config, weights):
        raise RuntimeError("OpenVINO gives wrong values.")
    *found, image = run(_crops())
    peaks = [np.maximum(values.ravel(), _LEAST_PEAK) for values in found]
    maps = len(layers.blocks[0][0])  # as many as convolutions
    return [peaks[i : i + maps] for i in range(0, len(peaks), maps)], image


def _crops() -> Array:
    """(1, 3, H, W) in [0, 1], parts of photos, and of what is drawn, side by side."""
    with (files("ddnsr_cli") / INT8_CROPS).open("rb") as file, Image.open(file) as image:
        levels = np.asarray(image.convert("RGB"), np.float32)
    return np.ascontiguousarray(levels.transpose(2, 0, 1)[None] / np.float32(255))


def _is_near(net: OpenvinoNet, expected: Array) -> bool:
    """Whether it gives about that image of the crops."""
    result = net.enlarged(_crops())
    height, width = result.shape[2:]
    error = result.clip(0, 1) - expected[:, :, :height, :width].clip(0, 1)
    return bool(np.sqrt(np.mean(error**2)) <= _INT8_TOLERANCE)  # NaN compares false


def _is_right(enlarged: Callable[[Array], Array], config: SrConfig, weights: Weights) -> bool:
    """Whether what enlarges (1, 3, H, W) gives about what the network gives for a random image.

    By doing, as `device.probe` does: no list tells on which processors a version of OpenVINO fails.
    """
    lr = np.random.default_rng(0).random((3, _PROBE_PX, _PROBE_PX), np.float32)
    expected = enlarged_by_numpy(config, weights, lr)
    result = enlarged(lr[None])[0]
    error = np.abs(result - expected).max()
    return bool(error <= _PROBE_TOLERANCE * np.abs(expected).max())  # NaN compares false


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
        step = np.maximum(np.abs(weight).max((1, 2, 3), keepdims=True), _LEAST_PEAK) / np.float32(_MOST_INT8)
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
        if features > MOST_SUMMED_FEATURES:
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
    if PACKAGE in sys.modules or _CONVERTER in sys.modules:
        return importlib.import_module(PACKAGE)
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # how Python is told that there is none
    try:
        return importlib.import_module(PACKAGE)
    finally:
        del sys.modules[_CONVERTER]


def _rrdb(
    layers: RRDBLayers,
    last: Conv,
    *,
    narrow: bool,
    peaks: Sequence[BlockPeaks] | None = None,
    with_peaks: bool = False,
) -> _Graph:
    """From the folded image to what the convolution `last` gives, which may be in two parts.

    peaks: of the dense blocks, to compute them in int8; with_peaks: they are measured, and are further results.
    """
    graph = _Graph()
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


def _compact(layers: CompactLayers) -> _Graph:
    graph = _Graph()
    x = lr = graph.images()
    for index, (conv, slopes) in enumerate(layers.convs):
        wide = index == 0  # as `nets.bf16.narrowed` has it
        x = graph.slopes(graph.conv(x, conv, wide=wide), slopes, wide=wide)
    x = graph.conv(x, layers.last)
    side = layers.config.shuffle
    x = graph.layer("DepthToSpace", (x,), {"mode": "depth_first", "block_size": side}, wide=True)
    graph.layer("Result", (graph.add(x, graph.nearest(lr, side, wide=True), wide=True),))
    return graph
