"""Our networks run by OpenVINO, where that package is installed: the same layers, packed, fused, in memory it plans.

In bfloat16 it rounds where `nets.bf16` rounds and nowhere else: sums over blocks, the first convolution and that after
the blocks are in fp32, and the stage of HR size has the same rounded weights. So both engines are as near to fp32.
In int8 the dense blocks of RRDB networks, nearly all of the work, are computed with 8-bit integers: each channel of
their maps as a share of its peak on a few crops of images, and each kernel as a share of its largest tap.
PyTorch is not needed, and not loaded.
"""

import copy
import gc
import math
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib.resources import files

import numpy as np
from PIL import Image

from ddnsr_cli.inference.engine import LaterWindows, Note, Runner, Window, not_finite
from ddnsr_cli.inference.memory import free_host_bytes
from ddnsr_cli.inference.openvino_graph import LEAST_PEAK, BlockPeaks, compact_graph, rrdb_graph
from ddnsr_cli.nets.arrays import (
    Array,
    RRDBLayers,
    Weights,
    enlarged_by_numpy,
    folded,
    in_two_parts,
    network_layers,
)
from ddnsr_cli.nets.config import VIEWS, CompactConfig, RRDBConfig, SrConfig

INT8_CROPS = "pretrained/int8_crops.png"
_INT8_TOLERANCE = 0.05  # rms on the crops, of values in [0, 1]: large networks stay below a third of it

_PROBE_PX = 8  # a side that no network of ours refuses; small enough for a tenth of a second by NumPy
_PROBE_TOLERANCE = 0.1  # of the largest value: bf16 stays below a tenth of it, a wrong result is off by all

_STALE = np.float32(-12345.5)  # no sample has this value


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
            graph = rrdb_graph(layers, last, narrow=narrow, peaks=peaks)
        else:
            graph = compact_graph(layers)
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
    compiled = rrdb_graph(layers, layers.last, narrow=narrow, with_peaks=True).compiled(narrow=narrow, threads=threads)

    def run(lr: Array) -> Sequence[Array]:
        return list(compiled(folded(lr, config.unshuffle)).values())

    if not _is_right(lambda lr: run(lr)[-1], config, weights):
        raise RuntimeError("OpenVINO gives wrong values.")
    *found, image = run(_crops())
    peaks = [np.maximum(values.ravel(), LEAST_PEAK) for values in found]
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
