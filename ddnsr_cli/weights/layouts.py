"""Checkpoints of the field, under any of their names, to our networks: sizes are deduced from the shapes.

RRDB networks have three layouts. 1: `conv_first, body.N.rdbK.convJ, conv_body, conv_up1, ...` (Real-ESRGAN; ours).
2: `RRDB_trunk.N.RDBK.convJ, trunk_conv, upconv1, HRconv` (ESRGAN's second code, BSRGAN).
3: `model.0, model.1.sub.N.RDBK.convJ.0, ...` (ESRGAN's first code, RealSR).
Compact networks have one: `body.0, body.1, ...`, convolutions and slopes of PReLUs by turns. What is none of these is
refused by name.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ddnsr_cli.errors import WeightsError
from ddnsr_cli.nets.compact import CompactNet
from ddnsr_cli.nets.config import LARGEST_SCALE, SCALES, CompactConfig, RRDBConfig, SrConfig
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.weights.arrays import MAX_VALUES
from ddnsr_cli.weights.files import LOADS

NESTS = (  # in this order, after all that are called averaged: those are the ones meant for use
    "params", "generator", "net_g", "netG", "gen", "g", "G", "state_dict", "model_state_dict", "model", "net", "module",
)  # fmt: skip
DEPTH = 4  # nests that a file may pile up
STORED = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class OtherNetworkError(WeightsError):
    """The file is sound, as far as it was looked at, but its network is none of ours."""


OwnNet = RRDBNet | CompactNet
"""A network that is written here, and can be saved."""

_DENSE = "body.0.rdb1.conv1"
_OF_BLOCK = tuple(
    f"rdb{dense}.conv{conv}.{kind}" for dense in (1, 2, 3) for conv in (1, 2, 3, 4, 5) for kind in ("weight", "bias")
)
_BLOCK = re.compile(r"(?:RRDB_trunk|model\.1\.sub)\.(\d{1,18})\.RDB(\d)\.conv(\d)(?:\.0)?\.(weight|bias)")
_OURS = re.compile(r"body\.(\d{1,18})\.")  # numbers of more digits Python may refuse to read
_COMPACT = re.compile(r"body\.(\d{1,18})\.(?:weight|bias)")
_FIRST_KEY = re.compile(r"(|.*\.)(conv_first|model\.0|body\.0)\.(?:weight|bias)")
_WRAPPERS = re.compile(r"\b_(orig_mod|checkpoint_wrapped_module|fsdp_wrapped_module|forward_module)\.")
"""What PyTorch and Lightning put into names for a module that they wrap."""

_AVERAGED = frozenset(("ema", "average", "averaged", "averaging", "avg", "swa", "shadow", "polyak"))
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # of `EMACallback`, too
_OF_LOSSES = frozenset(
    ("d", "netd", "disc", "discriminator", "critic", "vgg", "perceptual", "criterion", "loss", "lpips")
)
_OF_GRADIENTS = frozenset(("exp", "grad", "grads", "gradient", "gradients"))  # `exp_avg` of Adam
_COUNT = "n_averaged"  # beside the weights, where `torch.optim.swa_utils` keeps an average
_COUNTS = (_COUNT, "num_updates", "optimization_step", "cur_step")
"""How often an average was taken; at 0 it is the network that training began with."""

_MOST_LISTED = 10_000
_SECOND = {"trunk_conv": "conv_body", "upconv1": "conv_up1", "upconv2": "conv_up2", "HRconv": "conv_hr"}
_FIRST = {"0": "conv_first", "3": "conv_up1", "6": "conv_up2", "8": "conv_hr", "10": "conv_last"}
_OTHERS = (  # a key that gives a network away, and what to call it; the first that matches
    (r"\.conv1x1\.", "ESRGAN+, an RRDB network with extra 1x1 convolutions"),
    (r"^layers\.0\.residual_group\.", "a transformer such as SwinIR or HAT"),
    (r"^body\.0\.(conv1|body\.0)\.", "EDSR, MSRResNet or RCAN"),
    (r"^(fea_conv|IMDB1)\.", "IMDN"),
    (r"^(features|classifier)\.\d+\.", "VGG or AlexNet"),
    (r"(_D|disc|discriminator)\.", "a discriminator"),
)


def read_layout(loaded: object, source: str) -> tuple[SrConfig, dict[str, Tensor]]:
    """The sizes and the float32 state dict, under our names, of a loaded checkpoint.

    loaded: what the file held: tensors by name, bare, inside one of `NESTS`, or with a prefix that all names share.
    source: the file's name, for the messages.
    Raises WeightsError when it is another network, is incomplete, or has values that are not finite.
    """
    found = named_tensors(loaded, source)
    compact = "body.0.weight" in found or all(_COMPACT.fullmatch(key) for key in found)
    named = found if compact else _renamed(found, source)
    config = (_compact_sizes if compact else _rrdb_sizes)(named, source)
    _check(named, config, source)
    state = {key: tensor.to(torch.float32, copy=True).contiguous() for key, tensor in named.items()}
    check_finite(state, source)
    return config, state


def build(config: SrConfig) -> OwnNet:
    """The network of those sizes on the meta device: its values are yet to be loaded."""
    with torch.device("meta"), _NoRandomStart():
        return CompactNet(config) if isinstance(config, CompactConfig) else RRDBNet(config)


class _NoRandomStart(TorchFunctionMode):
    """Layers are not initialized, which on the meta device has no effect and takes a third of the time."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # whatever `func` gives
        given = dict(kwargs or {})
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Raises WeightsError, naming the tensor, when a value that was read is NaN or infinity."""
    for key, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(
                f"{source} holds values that are not finite in {_short(key)}: damaged. Fetch or save it again."
            )


def named_tensors(loaded: object, source: str) -> dict[str, Tensor]:
    """The named tensors inside all nests, without a prefix; those of their average where one is kept elsewhere.

    Raises WeightsError when there is something else, or more than any network has, or more than one average.
    """
    whole = loaded
    for _ in range(DEPTH):
        inner = _opened(loaded, source)
        if inner is loaded:
            break
        loaded = inner
    if not isinstance(loaded, Mapping) or not loaded:
        raise WeightsError(f"{source} holds no named tensors. {LOADS}.")
    tensors: dict[str, Tensor] = {}
    for key, value in loaded.items():
        if not isinstance(value, Tensor) or value.is_nested:  # a nested one has no shape
            raise WeightsError(f"{source} is no plain set of weights: {_short(key)} is no tensor. {LOADS}.")
        tensors[str(key)] = value
    if sum(tensor.numel() for tensor in tensors.values()) > MAX_VALUES:
        raise WeightsError(f"{source} is no network that loads: it claims more than {MAX_VALUES:,} values. {LOADS}.")
    return _averaged(whole, tensors, source)


def _averaged(whole: object, tensors: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """The average of a network that a file keeps anywhere, as callbacks of Lightning do; else the network itself.

    An average has a tensor of that shape for each, under its name, with or without dots, or by its place in a list.
    Raises WeightsError where there are two.
    """
    found = {path: twin for path, kept in _averages(whole) if (twin := _twin(kept, tensors))}
    if len(found) > 1:
        raise _many(list(found), source)
    return next(iter(found.values()), tensors)


_Path = tuple[str, ...]
_Kept = dict[str, Tensor] | list[Tensor]


def _parts(part: object, depth: int, path: _Path = (), seen: set[int] | None = None) -> Iterator[tuple[_Path, object]]:
    """(the names that lead there, mapping or list) of all that lies in a part, itself first, each object once."""
    seen = set() if seen is None else seen
    if not isinstance(part, Mapping | list | tuple) or id(part) in seen:
        return
    seen.add(id(part))
    yield path, part
    for name, inner in (part.items() if isinstance(part, Mapping) else enumerate(part)) if depth else ():
        yield from _parts(inner, depth - 1, (*path, str(name)), seen)


def _averages(whole: object) -> Iterator[tuple[str, _Kept]]:
    """(where it is, tensors) of all that is called averaged, but for what belongs to losses and gradients."""
    never_taken: list[_Path] = []
    for path, part in _parts(whole, DEPTH):
        words = frozenset[str]().union(*map(_words, path))
        if isinstance(part, Mapping) and _is_never_taken(part):
            never_taken.append(path)
        if not words.isdisjoint(_OF_LOSSES | _OF_GRADIENTS) or any(path[: len(at)] == at for at in never_taken):
            continue
        is_averaged = not words.isdisjoint(_AVERAGED) or (isinstance(part, Mapping) and _COUNT in part)
        for prefix, kept in _sets_of(part, is_averaged=is_averaged):
            yield ".".join((*path, prefix)).strip("."), kept


def _sets_of(part: object, *, is_averaged: bool) -> Iterator[tuple[str, _Kept]]:
    """(what the names begin with, tensors) of a list that is averaged, or in a mapping by what is called so."""
    if not isinstance(part, Mapping):
        if is_averaged and isinstance(part, list | tuple) and len(part) <= _MOST_LISTED and all(map(_is_plain, part)):
            yield "", list(part)
        return
    sets: dict[str, dict[str, Tensor]] = {}
    for key, value in part.items():
        name = _WRAPPERS.sub("", str(key))
        prefix = "" if is_averaged else _averaged_prefix(name)
        if _is_plain(value) and (is_averaged or prefix):
            sets.setdefault(prefix, {})[name[len(prefix) :]] = value
    yield from ((prefix, kept) for prefix, kept in sets.items() if not _is_never_taken(kept))


def _averaged_prefix(name: str) -> str:
    """The front of a tensor's name, to the first part of it that is called averaged; empty: none is, or of a loss."""
    parts = name.split(".")
    at = next((at for at, part in enumerate(parts) if not _AVERAGED.isdisjoint(_words(part))), None)
    return "" if at is None or not _OF_LOSSES.isdisjoint(_words(name)) else ".".join((*parts[: at + 1], ""))


@lru_cache(maxsize=4096)
def _words(name: str) -> frozenset[str]:
    """In lower case, divided at all that is no letter, and at capitals, too; of `EMA{'decay': 0.99}` the front."""
    name = name.partition("{")[0]
    return frozenset(word.lower() for word in (*_WORD.findall(name), *re.split(r"[^a-zA-Z]+", name)) if word)


def _is_plain(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_nested


def _is_never_taken(average: Mapping[Any, object]) -> bool:
    return any(_is_zero(average.get(count)) for count in _COUNTS)


def _is_zero(count: object) -> bool:
    if _is_plain(count):
        return count.numel() == 1 and count.device.type == "cpu" and count.reshape(-1).tolist() == [0]
    return isinstance(count, int) and count == 0


def _twin(kept: _Kept, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an average under the names of a network's, buffers of the latter with it; empty: it is none's."""
    shapes = {name: tensor.shape for name, tensor in tensors.items() if tensor.is_floating_point()}
    if isinstance(kept, list):
        listed, wanted = [tensor.shape for tensor in kept], list(shapes.values())
        places = [at for at in range(len(listed)) if listed[at] == wanted[0] and listed[at:][: len(wanted)] == wanted]
        return {**tensors, **dict(zip(shapes, kept[places[0] :], strict=False))} if len(places) == 1 else {}
    kernels = {name: shape for name, shape in shapes.items() if len(shape) > 1}
    for spelled in (str, _squeezed):
        known = {spelled(name): tensor for name, tensor in kept.items()}
        first = spelled(next(iter(kernels), ""))
        for prefix in [name.removesuffix(first) for name in known if first and name.endswith(first)]:
            if all(
                (at := known.get(prefix + spelled(name))) is not None and at.shape == kernels[name] for name in kernels
            ):
                return {name: _of_shape(known.get(prefix + spelled(name)), tensor) for name, tensor in tensors.items()}
    return {}


def _of_shape(averaged: Tensor | None, plain: Tensor) -> Tensor:
    """The averaged tensor, where there is one."""
    return plain if averaged is None or averaged.shape != plain.shape else averaged


def _squeezed(name: str) -> str:
    """As programs keep it where names of averages may hold no dot."""
    return name.replace(".", "")


def _opened(loaded: object, source: str) -> object:
    """One nest or prefix less; the same object when there is none. Raises WeightsError where it might be any of two."""
    if not isinstance(loaded, Mapping):
        return loaded
    nested = {str(name): inner for name, inner in loaded.items() if isinstance(inner, Mapping)}
    averaged = {name for name, inner in nested.items() if _COUNT in inner}
    holding = [name for name, inner in nested.items() if _holds_network(inner)]
    if name := _meant([name for name in holding if not _is_never_taken(nested[name])] or holding, source, averaged):
        return nested[name]
    if known := [nest for nest in ("params_ema", "params-ema", *NESTS) if nest in nested]:
        return nested[known[0]]
    plain = {_WRAPPERS.sub("", str(key)): value for key, value in loaded.items()}
    prefix = _prefix(list(plain), source)
    if prefix or plain.keys() != set(map(str, loaded)):
        return {key[len(prefix) :]: value for key, value in plain.items() if key.startswith(prefix)}
    return loaded


def _holds_network(inner: Mapping[object, object]) -> bool:
    """Whether the first layer of a network lies in a nest, or in one in it."""
    return any(
        isinstance(value, Tensor) and bool(_FIRST_KEY.fullmatch(_WRAPPERS.sub("", str(key))))
        for _, part in _parts(inner, DEPTH)
        if isinstance(part, Mapping)
        for key, value in part.items()
    )


def _prefix(keys: list[str], source: str) -> str:
    """What stands before the names of a network: that of averaged weights, that of a nest, or what all keys share."""
    found = {match[1]: match[2] for key in keys if (match := _FIRST_KEY.fullmatch(key))}
    shared = next((prefix for prefix in found if all(key.startswith(prefix) for key in keys)), None)
    if shared is not None:
        return shared
    # `body.0` is a part of many networks, not only the first layer of one
    known = [prefix for prefix, first in found.items() if first == "conv_first" or _rank(prefix) <= len(NESTS)]
    return _meant(known, source)


def _meant(names: Iterable[str], source: str, averaged: Iterable[str] = ()) -> str:
    """Of the names of several networks that of the averaged, else of the plain generator; empty: there is none.

    averaged: names of averaged ones that do not say so. Raises WeightsError where more than one may be meant.
    """
    ranks = {name: 0 if name in averaged else _rank(name) for name in names}
    best = [name for name, rank in ranks.items() if rank == min(ranks.values())]
    if len(best) > 1:
        raise _many(best, source)
    return best[0] if best else ""


def _many(names: list[str], source: str) -> WeightsError:
    listed = ", ".join(_short(name.rstrip(".")) for name in names)
    return WeightsError(f"{source} holds {len(names)} networks ({listed}), any of which may be meant. Save one alone.")


def _rank(name: str) -> int:
    """How likely a network of that name is meant, 0 the most."""
    parts = {part.lower() for part in re.split(r"[._-]", name)}
    if not _OF_LOSSES.isdisjoint(parts):
        return len(NESTS) + 2
    if not _AVERAGED.isdisjoint(parts):
        return 0
    first = name.partition(".")[0]
    return 1 + (NESTS.index(first) if first in NESTS else len(NESTS))


def _renamed(found: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Our names for all keys. Keys that have none keep theirs, and are refused later by that name."""
    odd = next((key for key in found if ".conv1x1." in key), None)
    known = any(_BLOCK.match(key) for key in found) or any(key.startswith("body.0.rdb1.") for key in found)
    if odd is not None or not known:
        key = odd or next(iter(found))
        what = f"{source} is {_guess(found)} (it holds {_short(key)} of {_shape(found[key])})"
        raise OtherNetworkError(f"{what}. {LOADS}.")
    blocks = 1 + max((int(match[1]) for key in found if (match := _BLOCK.match(key))), default=-1)
    named = {_our_name(key, blocks): tensor for key, tensor in found.items()}
    if len(named) != len(found):
        raise WeightsError(f"{source} holds the same weights under two layouts. Save it with one set of names.")
    return named


def _our_name(key: str, blocks: int) -> str:
    if match := _BLOCK.fullmatch(key):
        return f"body.{match[1]}.rdb{match[2]}.conv{match[3]}.{match[4]}"
    stem, _, kind = key.rpartition(".")
    if stem == f"model.1.sub.{blocks}":
        return f"conv_body.{kind}"
    if stem.startswith("model."):
        stem = _FIRST.get(stem.removeprefix("model."), stem)
    return f"{_SECOND.get(stem, stem)}.{kind}"


def _rrdb_sizes(named: Mapping[str, Tensor], source: str) -> RRDBConfig:
    """Channels, blocks, growth and scale, as the shapes tell them."""
    first, last, dense = (_kernel(named, f"{name}.weight", source) for name in ("conv_first", "conv_last", _DENSE))
    if last[0] != 3 or (scale := _scale(first[1])) is None:
        raise OtherNetworkError(
            f"{source} maps {first[1]} input to {last[0]} output channels; only RGB networks load: "
            f"3 input channels (x4), or 12 (x2) or 48 (x1) after a pixel-unshuffle, and 3 output channels."
        )
    blocks = _count(named, source, "rdb1.conv1.weight")
    for key in (f"body.{block}.{part}" for block in range(blocks) for part in _OF_BLOCK):
        if key not in named:  # looked at before so many blocks are built, which takes minutes
            raise _incomplete(named, key, source)
    return RRDBConfig(features=first[0], blocks=blocks, growth=dense[0], scale=scale)


def _compact_sizes(named: Mapping[str, Tensor], source: str) -> CompactConfig:
    """Channels, convolutions and scale, as the shapes tell them."""
    layers = _count(named, source, "weight")
    if layers % 2 == 0 or layers == 1:
        raise WeightsError(f"{source} is no whole Compact network: it lacks body.{layers}.weight. Fetch it again.")
    first, last = (_kernel(named, f"body.{number}.weight", source) for number in (0, layers - 1))
    scale = math.isqrt(last[0] // 3)
    if first[1] != 3 or last[0] != 3 * scale**2 or not 1 <= scale <= LARGEST_SCALE:
        raise OtherNetworkError(
            f"{source} maps {first[1]} input to {last[0]} output channels; only RGB Compact networks load: 3 input "
            f"channels, and 3 x scale x scale output channels, scale 1 to {LARGEST_SCALE}."
        )
    return CompactConfig(features=first[0], convs=layers // 2 - 1, scale=scale)


def _count(named: Mapping[str, Tensor], source: str, of_each: str) -> int:
    """How many `body.N` there are, from 0 on without a gap. of_each: the name, within it, of what every one has."""
    numbers = {int(match[1]) for key in named if (match := _OURS.match(key))}
    if numbers != set(range(len(numbers))):
        missing = next(number for number in range(len(numbers)) if number not in numbers)
        raise WeightsError(f"{source} is incomplete: it lacks body.{missing}.{of_each}. Fetch it again.")
    return len(numbers)


def _scale(channels: int) -> int | None:
    return next((scale for scale in SCALES if channels == 3 * (4 // scale) ** 2), None)


def _kernel(named: Mapping[str, Tensor], key: str, source: str) -> tuple[int, ...]:
    if key not in named:
        raise _incomplete(named, key, source)
    shape = tuple(named[key].shape)
    if len(shape) != 4 or 0 in shape:
        raise WeightsError(f"{source} is no network that loads: {key} has the shape {shape}, not that of a 3x3 kernel.")
    return shape


def _check(named: Mapping[str, Tensor], config: SrConfig, source: str) -> None:
    """Every name and shape, before anything is built or copied."""
    expected = _shapes(config)
    for key, wanted in expected.items():
        if key not in named:
            raise _incomplete(named, key, source)
        if named[key].shape != wanted:
            shapes = f"{_shape(named[key])}; {_described(config)} has {_listed(wanted)} there"
            raise WeightsError(f"{source}: {key} has the shape {shapes}. {LOADS}.")
        _check_stored(named[key], key, source)
    if extra := next((key for key in named if key not in expected), None):
        raise OtherNetworkError(
            f"{source} holds {_short(extra)} of {_shape(named[extra])}, which {_described(config)} has not. {LOADS}."
        )


@lru_cache(maxsize=8)
def _shapes(config: SrConfig) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in build(config).state_dict().items()}


def _check_stored(tensor: Tensor, key: str, source: str) -> None:
    if tensor.dtype not in STORED or tensor.layout is not torch.strided or tensor.device.type != "cpu":
        kind = f"{tensor.dtype}, {tensor.layout}, {tensor.device.type}".replace("torch.", "")
        raise WeightsError(f"{source}: {key} is stored as {kind}; only plain floating point loads.")


def _incomplete(named: Iterable[str], key: str, source: str) -> WeightsError:
    if "body.0.weight" in named:
        return WeightsError(f"{source} is no whole Compact network: it lacks {key}. {LOADS}.")
    steps = _steps(set(named))
    if steps is not None and steps != 2:
        return OtherNetworkError(
            f"{source} is an RRDB network that doubles the size {steps} time(s), not twice: it lacks {key}. {LOADS}."
        )
    return WeightsError(f"{source} is no whole RRDB network: it lacks {key}. {LOADS}.")


def _steps(keys: set[str]) -> int | None:
    """How often an RRDB network of layout 2 or 3 doubles the size; None when that is not known."""
    layers = [int(match[1]) for key in keys if (match := re.fullmatch(r"model\.(\d{1,18})\.weight", key))]
    if layers:  # body, then three layers for each doubling, then conv, activation, conv
        return (max(layers) - 4) // 3
    ups = sum(f"conv_up{number}.weight" in keys for number in (1, 2))
    return ups if {"conv_hr.weight", "conv_last.weight"} <= keys else None


def _guess(found: Iterable[str]) -> str:
    keys = list(found)
    for pattern, name in _OTHERS:
        if any(re.search(pattern, key) for key in keys):
            return name
    return "a network that is not known here"


def _described(config: SrConfig) -> str:
    if isinstance(config, CompactConfig):
        return f"a Compact network of {config.features} features, {config.convs} convolutions and scale {config.scale}"
    return f"an RRDB network of {config.features} features, {config.blocks} blocks and growth {config.growth}"


def _shape(tensor: Tensor) -> str:
    return _listed(tensor.shape)


def _listed(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "one value"


def _short(key: object) -> str:
    """A key for a message: keys of a strange file can be long or hold control characters."""
    text = "".join(char for char in str(key) if char.isprintable())
    return text if len(text) <= 60 else f"{text[:57]}..."
