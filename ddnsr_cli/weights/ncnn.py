"""ncnn files, a text of layers (`.param`) and their weights (`.bin`): our networks as such, and such as ours."""

import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ddnsr_cli.errors import WeightsError
from ddnsr_cli.nets.config import LARGEST_SCALE, LEAKY_SLOPE, RESIDUAL_SCALE, CompactConfig, RRDBConfig, SrConfig
from ddnsr_cli.weights.files import HALF, MAGIC, SINGLE, SINGLE_TAGGED
from ddnsr_cli.weights.layouts import read_layout

INPUT, OUTPUT = "data", "output"
_ACTIVATED = f"9=2 -23310=1,{LEAKY_SLOPE:e}"  # a convolution with its LeakyReLU
_BLOCK_SUM = f"0=1 -23301=2,{RESIDUAL_SCALE:e},1.000000e+00"

MOST_LAYERS = 20_000  # the field's largest have 1,000
INT8 = 0x000D4B38

_VALUE = re.compile(r"(-?\d+)=(\S+)")
_ARRAYS = -23300  # the key of array K is this minus K
# Of a convolution's parameters, where the file does not tell; 11 to 16 are those down, and at the other sides.
_USUAL = {2: 1.0, 3: 1.0, 11: 3.0, 12: 1.0, 13: 1.0, 14: 1.0, 15: 1.0, 16: 1.0}
_PLAIN_CONV = {1: 3.0, 4: 1.0, 5: 1.0, 8: 0.0, 18: 0.0, 19: 0.0} | _USUAL  # 3x3, step and gaps of 1, padded, with bias
_BICUBIC = 3
_RESIZES = {1: "nearest", 2: "bilinear", _BICUBIC: "bicubic"}


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


def param_text(config: SrConfig) -> str:
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
    x = graph.conv(x, (features, 3 * config.shuffle**2))
    x = graph.add("PixelShuffle", [x], f"0={config.shuffle}")
    x = graph.add("BinaryOp", [x, graph.enlarged(INPUT, config.shuffle)])
    if config.shuffle != config.scale:
        times = config.scale / config.shuffle
        graph.add("Interp", [x], f"0={_BICUBIC} 1={times:e} 2={times:e}")


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


@dataclass(frozen=True, kw_only=True)
class _Layer:
    kind: str
    name: str
    taken: tuple[str, ...]
    given: tuple[str, ...]
    numbers: dict[int, float]
    arrays: dict[int, tuple[float, ...]]

    def number(self, key: int, usual: float = 0.0) -> float:
        return self.numbers.get(key, usual)


_Blob = tuple[int, float]
"""What a layer gives: the number of a term, and what it is multiplied with."""


def read_ncnn(param: bytes, weights: bytes, source: str) -> tuple[SrConfig, dict[str, Tensor]]:
    """The sizes and the float32 state dict, under our names, of an RRDB or Compact network.

    param, weights: the content of both files. source: what to call them in messages.
    Raises WeightsError when they are damaged, do not belong together, or are another network.
    """
    layers = _parsed(param, source)
    weighted = [layer for layer in layers if layer.kind in ("Convolution", "PReLU")]
    shapes = list(_shapes(weighted, source))
    sizes, state = read_layout(_state(weighted, shapes, weights, source), source)
    config = _with_resize(sizes, layers[-1])
    terms: dict[tuple[object, ...], int] = {}
    ours = _Formula(terms, "ours").of(_parsed(param_text(config).encode(), "ours"))
    if _Formula(terms, source).of(layers) != ours:
        raise WeightsError(f"{source} {_how_else(layers[-1])}.")
    return config, state


def _with_resize(config: SrConfig, last: _Layer) -> SrConfig:
    """The sizes with the bicubic resize that a Compact network may have at its end: its weights do not tell it."""
    if not (isinstance(config, CompactConfig) and last.kind == "Interp" and last.number(0) == _BICUBIC):
        return config
    scale = config.scale * last.number(1)
    whole = 1 <= scale <= LARGEST_SCALE and scale == int(scale)
    return replace(config, scale=int(scale), inner_scale=config.scale) if whole else config


def _how_else(last: _Layer) -> str:
    if last.kind == "Interp" and last.number(0) in _RESIZES:
        how = f"resizes the network's image by {last.number(1):g} at its end ({_RESIZES[int(last.number(0))]})"
        return f"{how}: it does not load. Use the file without that, as -x4 of the same name, and --scale"
    return "joins its layers in another way than RRDB and Compact networks: it does not load. Use its .pth file"


def _parsed(param: bytes, source: str) -> list[_Layer]:
    try:
        text = param.decode("ascii").replace("\t", " ")
        first, counts, *lines = [line for line in text.splitlines() if line.strip()]
        if first.strip() != MAGIC:
            raise WeightsError(f"{source} is no ncnn text: it begins with {first[:20]!r}, not with {MAGIC}.")
        wanted = int(counts.split()[0]) if all(map(str.isprintable, lines)) else 0
        if not 0 < wanted == len(lines) <= MOST_LAYERS:
            raise WeightsError(
                f"{source} is damaged: it has {len(lines)} of {counts.split()[0][:12]} layers. Fetch it again."
            )
        return [_layer(line.split()) for line in lines]
    except (ValueError, IndexError) as cause:  # of UnicodeDecodeError, too
        raise WeightsError(f"{source} is no ncnn text, or is damaged. Fetch it again.") from cause


def _layer(words: list[str]) -> _Layer:
    kind, name, taken, given = words[0], words[1], int(words[2]), int(words[3])
    if min(taken, given) < 0 or len(words) < 4 + taken + given:
        raise ValueError("blobs are missing")
    numbers: dict[int, float] = {}
    arrays: dict[int, tuple[float, ...]] = {}
    for word in words[4 + taken + given :]:
        match = _VALUE.fullmatch(word)
        if match is None:
            raise ValueError(f"no parameter: {word}")
        key = int(match[1])
        if key > _ARRAYS:
            numbers[key] = float(match[2])
        else:
            arrays[_ARRAYS - key] = tuple(float(value) for value in match[2].split(",")[1:])
    blobs = words[4 : 4 + taken + given]
    return _Layer(
        kind=kind, name=name, taken=tuple(blobs[:taken]), given=tuple(blobs[taken:]), numbers=numbers, arrays=arrays
    )


def _shapes(weighted: Iterable[_Layer], source: str) -> Iterable[tuple[int, ...]]:
    """Of each layer's kernel (out, in, 3, 3), or its slopes (channels,)."""
    for layer in weighted:
        channels = layer.number(0)
        if channels < 1 or channels % 1:
            raise WeightsError(f"{source} is damaged: {layer.kind} {layer.name[:40]} has {channels:g} channels.")
        if layer.kind == "PReLU":
            yield (int(channels),)
            continue
        odd = [key for key, wanted in _PLAIN_CONV.items() if layer.number(key, _USUAL.get(key, 0.0)) != wanted]
        kernels = layer.number(6) / (9 * channels)
        if odd or kernels < 1 or kernels % 1:
            raise WeightsError(f"{source} has a convolution that is not 3x3, padded, with bias: {layer.name[:40]}.")
        yield int(channels), int(kernels), 3, 3


def _state(weighted: list[_Layer], shapes: list[tuple[int, ...]], weights: bytes, source: str) -> dict[str, Tensor]:
    """The tensors under our names, as far as the number of layers tells them; `read_layout` checks the rest."""
    compact = any(layer.kind == "PReLU" for layer in weighted)
    names = [f"body.{number}" for number in range(len(weighted))] if compact else _rrdb_names(len(weighted), source)
    content = _Content(weights, source)
    state = {}
    for name, shape in zip(names, shapes, strict=True):
        state[f"{name}.weight"] = content.tagged(shape) if len(shape) == 4 else content.plain(shape[0])
        if len(shape) == 4:
            state[f"{name}.bias"] = content.plain(shape[0])
    content.finish()
    return state


def _rrdb_names(convs: int, source: str) -> list[str]:
    blocks, rest = divmod(convs - 6, 15)
    if rest or blocks < 1:
        raise WeightsError(f"{source} has {convs} convolutions; an RRDB network x4 has 6, and 15 a block.")
    numbers = [(block, dense, conv) for block in range(blocks) for dense in (1, 2, 3) for conv in (1, 2, 3, 4, 5)]
    inner = [f"body.{block}.rdb{dense}.conv{conv}" for block, dense, conv in numbers]
    return ["conv_first", *inner, "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]


class _Content:
    """The `.bin` file, read from front to back."""

    def __init__(self, content: bytes, source: str) -> None:
        self._content = content
        self._source = source
        self._at = 0

    def plain(self, count: int) -> Tensor:
        """So many float32 values."""
        return self._values(count, torch.float32)

    def tagged(self, shape: tuple[int, ...]) -> Tensor:
        """A kernel, after the word that tells its format."""
        flag = int(self._values(1, torch.int32)) & 0xFFFFFFFF
        count = shape[0] * shape[1] * 9
        if flag not in (HALF, SINGLE, SINGLE_TAGGED):
            what = "8-bit weights" if flag == INT8 else "weights of a kind that is not known here"
            raise WeightsError(f"{self._source}: its .bin holds {what}, or is that of another file. Use the .pth file.")
        values = self._values(count, torch.float16 if flag == HALF else torch.float32)
        self._at += -self._at % 4
        return values.view(shape)

    def finish(self) -> None:
        """Raises WeightsError when there is more."""
        if (left := len(self._content) - self._at) > 0:
            raise WeightsError(f"{self._source}: its .bin is {left} bytes too long for its layers. Fetch both again.")

    def _values(self, count: int, dtype: torch.dtype) -> Tensor:
        if count * dtype.itemsize > len(self._content) - self._at:
            raise WeightsError(f"{self._source}: its .bin is shorter than the layers tell. Fetch both again.")
        part = bytearray(self._content[self._at : self._at + count * dtype.itemsize])
        self._at += len(part)
        return torch.frombuffer(part, dtype=dtype)


class _Formula:
    """What a graph computes, as one number: graphs that compute the same from equal terms have the same."""

    def __init__(self, terms: dict[tuple[object, ...], int], source: str) -> None:
        """terms: those seen so far, of this and other graphs; it grows. source: the file, for messages."""
        self._terms = terms
        self._source = source
        self._blobs: dict[str, _Blob] = {}
        self._weighted = 0

    def of(self, layers: list[_Layer]) -> _Blob:
        """The blob that no layer takes. Raises WeightsError when a layer is not known, or not one blob is left."""
        taken = {name for layer in layers for name in layer.taken}
        ends = [name for layer in layers for name in layer.given if name not in taken]
        if len(ends) != 1 or sum(layer.kind == "Input" for layer in layers) != 1:
            raise WeightsError(f"{self._source} has not one input and one output. Use its .pth file.")
        for layer in layers:
            self._compute(layer)
        return self._blobs[ends[0]]

    def _compute(self, layer: _Layer) -> None:
        try:
            compute = _KINDS[layer.kind]
            blob = compute(self, layer, [self._blobs[name] for name in layer.taken])
        except (KeyError, ValueError, IndexError) as cause:
            what = "is damaged at its" if layer.kind in _KINDS else "has a"
            raise WeightsError(
                f"{self._source} {what} layer {layer.kind[:40]} {layer.name[:40]}: it does not load. Use its .pth file."
            ) from cause
        self._blobs |= dict.fromkeys(layer.given, blob)

    def _term(self, *parts: object) -> _Blob:
        return self._terms.setdefault(parts, len(self._terms)), 1.0

    def _input(self, _layer: _Layer, _taken: list[_Blob]) -> _Blob:
        return self._term("input")

    def _same(self, _layer: _Layer, taken: list[_Blob]) -> _Blob:
        (blob,) = taken
        return blob

    def _weights(self, layer: _Layer, taken: list[_Blob]) -> _Blob:
        (blob,) = taken
        self._weighted += 1
        result = self._term(layer.kind, self._weighted, blob)
        if (activation := layer.number(9)) and layer.kind == "Convolution":
            slope = 0.0 if activation == 1 else layer.arrays[10][0]
            result = self._leaky(slope, result) if activation in (1, 2) else self._term(activation, result)
        return result

    def _relu(self, layer: _Layer, taken: list[_Blob]) -> _Blob:
        (blob,) = taken
        return self._leaky(layer.number(0), blob)

    def _leaky(self, slope: float, blob: _Blob) -> _Blob:
        return self._term("ReLU", round(slope, 6), blob)

    def _concat(self, layer: _Layer, taken: list[_Blob]) -> _Blob:
        return self._term("Concat", layer.number(0), *taken)

    def _eltwise(self, layer: _Layer, taken: list[_Blob]) -> _Blob:
        counts = layer.arrays.get(1) or (1.0,) * len(taken)
        if layer.number(0) != 1:
            raise ValueError("no sum")
        return self._sum((term, times * count) for (term, times), count in zip(taken, counts, strict=True))

    def _binary(self, layer: _Layer, taken: list[_Blob]) -> _Blob:
        kind, scalar = layer.number(0), layer.number(1) != 0
        if kind == 0 and not scalar:
            return self._sum(taken)
        if kind == 2 and scalar:
            ((term, times),) = taken
            return term, times * layer.number(2)
        raise ValueError("neither a sum nor a multiple")

    def _sum(self, parts: Iterable[_Blob]) -> _Blob:
        return self._term("sum", *sorted((term, round(times, 6)) for term, times in parts))

    def _interp(self, layer: _Layer, taken: list[_Blob]) -> _Blob:
        (blob,) = taken
        return self._term("Interp", *(layer.number(key) for key in range(7)), blob)

    def _shuffle(self, layer: _Layer, taken: list[_Blob]) -> _Blob:
        (blob,) = taken
        return self._term(layer.kind, layer.number(0), layer.number(1), blob)


_KINDS: dict[str, Callable[[_Formula, _Layer, list[_Blob]], _Blob]] = {
    "Input": _Formula._input,
    "Split": _Formula._same,
    "Noop": _Formula._same,
    "Convolution": _Formula._weights,
    "PReLU": _Formula._weights,
    "ReLU": _Formula._relu,
    "Concat": _Formula._concat,
    "Eltwise": _Formula._eltwise,
    "BinaryOp": _Formula._binary,
    "Interp": _Formula._interp,
    "PixelShuffle": _Formula._shuffle,
    "Reorg": _Formula._shuffle,
}
