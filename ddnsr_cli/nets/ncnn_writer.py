"""Our networks as ncnn files: a text of layers (`.param`) and their weights in the order of that text (`.bin`).

The names at both ends, `data` and `output`, are those that realesrgan-ncnn-vulkan and Upscayl ask for. Format:
https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure
"""

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ddnsr_cli.nets.blocks import LEAKY_SLOPE
from ddnsr_cli.nets.compact import CompactConfig
from ddnsr_cli.nets.layouts import Config
from ddnsr_cli.nets.rrdb import RESIDUAL_SCALE, RRDBConfig

MAGIC = "7767517"
HALF, SINGLE = 0x01306B47, 0  # what kernels are stored as
INPUT, OUTPUT = "data", "output"
_ACTIVATED = f"9=2 -23310=1,{LEAKY_SLOPE:e}"  # a convolution with its LeakyReLU
_BLOCK_SUM = f"0=1 -23301=2,{RESIDUAL_SCALE:e},1.000000e+00"


@dataclass(kw_only=True)
class _Graph:
    """Layers in the order in which they compute. A blob is what one of them gives, known by its name."""

    layers: list[tuple[str, list[str], str, str]] = field(default_factory=list)
    """(type, blobs it takes, blob it gives, parameters)."""

    def add(self, kind: str, sources: list[str], parameters: str = "") -> str:
        """One more layer; the name of its blob."""
        blob = str(len(self.layers))
        self.layers.append((kind, sources, blob, parameters))
        return blob

    def conv(self, source: str, channels: tuple[int, int], activation: str = "") -> str:
        """A 3x3 convolution. channels: (in, out)."""
        values = 9 * channels[0] * channels[1]
        return self.add("Convolution", [source], f"0={channels[1]} 1=3 4=1 5=1 6={values} {activation}")

    def enlarged(self, source: str, times: int) -> str:
        """Pixels repeated."""
        return self.add("Interp", [source], f"0=1 1={times:e} 2={times:e}")


def param_text(config: Config) -> str:
    """The `.param` file of a network of those sizes."""
    graph = _Graph()
    if isinstance(config, CompactConfig):
        _compact(graph, config)
    else:
        _rrdb(graph, config)
    kind, sources, _, parameters = graph.layers[-1]
    graph.layers[-1] = kind, sources, OUTPUT, parameters
    lines = list(_lines(graph))
    blobs = sum(int(line.split()[3]) for line in lines)
    return "\n".join([MAGIC, f"{len(lines)} {blobs}", *lines, ""])


def weight_bytes(state: Mapping[str, Tensor], *, half: bool) -> Iterator[bytes]:
    """The `.bin` file, a layer's part at a time. half: kernels in float16; biases and slopes are float32 always."""
    for value in state.values():  # in the order of the layers, a kernel before its bias
        if value.ndim == 4:
            yield struct.pack("<I", HALF if half else SINGLE)
        raw = value.detach().to("cpu", torch.float16 if half and value.ndim == 4 else torch.float32)
        content = raw.contiguous().numpy().tobytes()
        yield content + b"\0" * (-len(content) % 4)


def _compact(graph: _Graph, config: CompactConfig) -> None:
    features = config.features
    x = graph.conv(INPUT, (3, features))
    for _ in range(config.convs):
        x = graph.add("PReLU", [x], f"0={features}")
        x = graph.conv(x, (features, features))
    x = graph.add("PReLU", [x], f"0={features}")
    x = graph.conv(x, (features, 3 * config.scale**2))
    x = graph.add("PixelShuffle", [x], f"0={config.scale}")
    graph.add("BinaryOp", [x, graph.enlarged(INPUT, config.scale)])


def _rrdb(graph: _Graph, config: RRDBConfig) -> None:
    features, side = config.features, config.unshuffle
    folded = INPUT if side == 1 else graph.add("Reorg", [INPUT], f"0={side}")
    shallow = x = graph.conv(folded, (3 * side**2, features))
    for _ in range(config.blocks):
        start = x
        for _ in range(3):
            x = _dense_block(graph, x, config)
        x = graph.add("Eltwise", [x, start], _BLOCK_SUM)
    x = graph.add("BinaryOp", [shallow, graph.conv(x, (features, features))])
    for _ in range(2):
        x = graph.conv(graph.enlarged(x, 2), (features, features), _ACTIVATED)
    x = graph.conv(x, (features, features), _ACTIVATED)
    graph.conv(x, (features, 3))


def _dense_block(graph: _Graph, x: str, config: RRDBConfig) -> str:
    maps = [x]
    for number in range(4):
        dense = maps[0] if len(maps) == 1 else graph.add("Concat", maps)
        channels = config.features + number * config.growth
        maps = [*maps, graph.conv(dense, (channels, config.growth), _ACTIVATED)]
    last = graph.conv(graph.add("Concat", maps), (config.features + 4 * config.growth, config.features))
    return graph.add("Eltwise", [last, x], _BLOCK_SUM)


def _lines(graph: _Graph) -> Iterator[str]:
    """The layers as text. What several of them take is split for them: ncnn gives a blob away once."""
    takers = Counter(source for _, sources, _, _ in graph.layers for source in sources)
    given: Counter[str] = Counter()
    layers = [("Input", [], INPUT, ""), *graph.layers]
    for number, (kind, sources, blob, parameters) in enumerate(layers):
        taken = []
        for source in sources:
            taken.append(f"{source}_{given[source]}" if takers[source] > 1 else source)
            given[source] += 1
        yield _line(kind, f"{kind.lower()}_{number}", taken, [blob], parameters)
        if takers[blob] > 1:
            yield _line("Split", f"split_{number}", [blob], [f"{blob}_{i}" for i in range(takers[blob])], "")


def _line(kind: str, name: str, taken: list[str], given: list[str], parameters: str) -> str:
    words = [f"{kind:16}", f"{name:24}", str(len(taken)), str(len(given)), *taken, *given, parameters]
    return " ".join(words).rstrip()
