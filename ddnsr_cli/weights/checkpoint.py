"""Weights as files: one safetensors file that needs no side file is written; files of other projects are read."""

import ctypes
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ddnsr_cli import __version__
from ddnsr_cli.config import options_from_json, options_to_json
from ddnsr_cli.errors import ConfigError, WeightsError
from ddnsr_cli.files import atomic_path, safetensors_head
from ddnsr_cli.nets.blocks import SrNet
from ddnsr_cli.nets.config import SrConfig
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.weights.arrays import DEGRADER_KEY, NETWORK_KEY, VERSION_KEY
from ddnsr_cli.weights.files import LOADS, file_kind, head_of, one_line, read_pickle, read_safetensors
from ddnsr_cli.weights.layouts import OtherNetworkError, OwnNet, build, read_layout

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MOST_TEXT_BYTES = 8 << 20  # of the layers of an ncnn file; the field's largest have 0.1 MB
_DTYPES = {torch.float32: "F32", torch.float16: "F16"}


def load_sr_net(path: Path) -> tuple[SrNet, dict[str, str]]:
    """The network that enlarges of a checkpoint, in eval mode and without gradients, and the file's metadata.

    As `load_own_net`, and networks of all other architectures where spandrel is installed.
    Raises WeightsError as `load_own_net`.
    """
    if file_kind(path) == "ncnn":
        return load_own_net(path)
    loaded, metadata = _read(path)
    try:
        return _built(*read_layout(loaded, path.name)), metadata
    except OtherNetworkError as refusal:
        from ddnsr_cli.weights.foreign import load_foreign

        return load_foreign(loaded, path.name, refusal), metadata


def load_own_net(path: Path) -> tuple[OwnNet, dict[str, str]]:
    """The RRDB or Compact network of a checkpoint, in eval mode and without gradients, and the file's metadata.

    Reads safetensors, whatever the name; pickles named .pth, .pt or .ckpt, of which nothing but tensors and plain
    containers is let in: no code of the file runs; and the text of an ncnn pair, with its .bin beside it. Sizes and
    layout are deduced (`weights.layouts`). Metadata is what a safetensors file says of itself, and empty for others.
    Raises WeightsError when the file is missing, damaged, unsafe or of another network.
    """
    if file_kind(path) == "ncnn":
        return _built(*_read_ncnn(path)), {}
    loaded, metadata = _read(path)
    return _built(*read_layout(loaded, path.name)), metadata


def load_rrdb_net(path: Path) -> tuple[RRDBNet, dict[str, str]]:
    """The same, of what `ddnsr train` can learn with: RRDB networks. Raises WeightsError for a Compact one, too."""
    net, metadata = load_own_net(path)
    if not isinstance(net, RRDBNet):
        raise WeightsError(f"{path.name} is a Compact network; training is for RRDB networks only. Name such weights.")
    return net, metadata


def _read(path: Path) -> tuple[object, dict[str, str]]:
    """What a file holds that is no ncnn text, and its metadata. Raises WeightsError for a degrader's, too."""
    if file_kind(path) != "safetensors":
        return read_pickle(path), {}
    loaded, metadata = read_safetensors(path)
    if DEGRADER_KEY in metadata:
        raise WeightsError(f"{path.name} is a degrader, for ddnsr degrade: it does not enlarge. Name other weights.")
    return loaded, metadata


def _built(config: SrConfig, state: Mapping[str, Tensor]) -> OwnNet:
    net = build(config)
    net.load_state_dict(state, assign=True)
    return net.eval().requires_grad_(False)


def save_sr_net(path: Path, net: OwnNet, *, metadata: Mapping[str, str], half: bool) -> None:
    """Write a network as safetensors, whole or not at all, under the names that other programs detect.

    metadata: what the file shall say of itself; the network's sizes (JSON, `ddnsr_network`) and `ddnsr_version` are
    added, and replace entries of those names. half: store float16 (half the bytes, about three digits).
    The same network and metadata give the same bytes.
    Raises WeightsError when a value is not finite (in float16: above 65504), or the file cannot be written.
    """
    _write(path, net.state_dict(), {**metadata, NETWORK_KEY: _sizes(net.config)}, half=half)


def save_degrader(path: Path, net: Degrader, *, metadata: Mapping[str, str], half: bool) -> None:
    """Write a degrader as `save_sr_net` writes its network. Raises as it does."""
    _write(path, net.state_dict(), {**metadata, DEGRADER_KEY: _sizes(net.config)}, half=half)


def load_degrader(path: Path) -> tuple[Degrader, dict[str, str]]:
    """The degrader of a file of `save_degrader`, in eval mode and without gradients, and the file's metadata.

    Raises WeightsError when the file is missing, damaged, or holds another network.
    """
    if file_kind(path) != "safetensors":
        raise WeightsError(f"{path.name} is not a degrader: those are .safetensors files, made by ddnsr train.")
    loaded, metadata = read_safetensors(path)
    if DEGRADER_KEY not in metadata:
        raise WeightsError(f"{path.name} holds no degrader. Give the degrader.safetensors of a run of ddnsr train.")
    try:
        net = _built_degrader(json.loads(metadata[DEGRADER_KEY]), loaded)
    except (ConfigError, ValueError, TypeError, RuntimeError) as cause:
        raise WeightsError(f"{path.name} is damaged, or of another version: {one_line(cause)}.") from cause
    if not all(bool(torch.isfinite(tensor).all()) for tensor in loaded.values()):
        raise WeightsError(f"{path.name} has values that are not finite. Fetch or train it again.")
    return net.eval().requires_grad_(False), metadata


def _built_degrader(sizes: Mapping[str, Any], loaded: Mapping[str, Tensor]) -> Degrader:
    """The sizes that a file tells take no memory before its tensors bear them out. Raises ConfigError, RuntimeError."""
    config = options_from_json(DegraderConfig, sizes)
    if config.blocks > len(loaded):
        raise ConfigError(f"{config.blocks} blocks in {len(loaded)} tensors")
    with torch.device("meta"):
        net = Degrader(config)
    net.load_state_dict({key: tensor.to(torch.float32, copy=True) for key, tensor in loaded.items()}, assign=True)
    return net


def holds_degrader(path: Path) -> bool:
    """Whether a file of weights is a degrader's, by what it says of itself. Raises WeightsError as `load_degrader`."""
    return file_kind(path) == "safetensors" and DEGRADER_KEY in read_safetensors(path)[1]


def check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raises WeightsError, naming the file that is not written, when a value is NaN or infinity as it is stored."""
    for key, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise WeightsError(f"{path.name} is not written: {key} has values that are not finite as {kind}.")


def _sizes(config: "DataclassInstance") -> str:
    known = {name: value for name, value in options_to_json(config).items() if value is not None}
    return json.dumps(known, sort_keys=True)


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, half: bool) -> None:
    dtype = torch.float16 if half else torch.float32
    state = {key: tensor.detach().to("cpu", dtype).contiguous() for key, tensor in tensors.items()}
    check_finite(path, state)
    known = {"format": "pt", **metadata, VERSION_KEY: __version__}
    sizes = {key: (_DTYPES[tensor.dtype], tuple(tensor.shape), tensor.nbytes) for key, tensor in state.items()}
    head = safetensors_head(sizes, {key: str(known[key]) for key in sorted(known)})
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            file.write(head)
            for tensor in state.values():
                file.write(tensor_bytes(tensor))
    except OSError as cause:
        raise WeightsError(f"{path} cannot be written: {cause.strerror or cause}.") from cause


def tensor_bytes(tensor: Tensor) -> bytes:
    """The values as they lie in memory: little-endian, as the format wants, on every platform with PyTorch wheels."""
    return ctypes.string_at(tensor.data_ptr(), tensor.nbytes)


def _read_ncnn(path: Path) -> tuple[SrConfig, dict[str, Tensor]]:
    from ddnsr_cli.weights.ncnn import read_ncnn

    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise WeightsError(f"{path.name} belongs to {weights.name}, which is not beside it. Put the two side by side.")
    head_of(weights)  # refuses one without measure
    try:
        if path.stat().st_size > MOST_TEXT_BYTES:
            raise WeightsError(f"{path.name} is too long for the text of an ncnn pair. {LOADS}.")
        return read_ncnn(path.read_bytes(), weights.read_bytes(), path.name)
    except OSError as cause:
        raise WeightsError(f"{path} cannot be read: {cause.strerror or cause}.") from cause


def takes_noise(metadata: Mapping[str, str], path: Path) -> bool:
    """Whether a degrader was trained with noisy images as its second input, by what its file says."""
    try:
        said = json.loads(metadata.get("options", "{}")).get("dual_input", True)
    except (ValueError, AttributeError, RecursionError) as cause:
        raise WeightsError(
            f"{path.name} says nonsense of its options: it is damaged. Fetch or train it again."
        ) from cause
    return bool(said)
