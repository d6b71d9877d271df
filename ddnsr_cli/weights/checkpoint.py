"""Weights as files: one safetensors file that needs no side file is written; files of other projects are read."""

import ctypes
import json
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ddnsr_cli import __version__
from ddnsr_cli.config import options_from_json, options_to_json
from ddnsr_cli.errors import ConfigError, WeightsError
from ddnsr_cli.files import atomic_path, safetensors_head
from ddnsr_cli.nets.blocks import SrNet
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.weights.foreign import load_foreign
from ddnsr_cli.weights.layouts import LOADS, Config, OtherNetworkError, OwnNet, build, read_layout
from ddnsr_cli.weights.ncnn import HALF, MAGIC, SINGLE, SINGLE_TAGGED, read_ncnn

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PICKLES = (".pth", ".pt", ".ckpt")
_LOADS_AS = f"{LOADS}, as .safetensors, .pth or ncnn pair."
FOR_OTHERS = {
    ".onnx": "an ONNX graph",
    ".pt2": "a program exported by PyTorch",
    ".engine": "a TensorRT engine",
    ".tflite": "a TensorFlow Lite graph",
    ".mlmodel": "a Core ML model",
    ".h5": "a file of Keras",
    ".gguf": "a GGUF file",
}
"""What files of these suffixes are that other programs run."""

NCNN_TAGS = tuple(tag.to_bytes(4, "little") for tag in (SINGLE, HALF, SINGLE_TAGGED))
"""What the weights of an ncnn pair begin with."""

MOST_TEXT_BYTES = 8 << 20  # of the layers of an ncnn file; the field's largest have 0.1 MB
MAX_FILE_BYTES = 2 << 30  # the field's largest, with optimizer states, are some 300 MB
NETWORK_KEY, DEGRADER_KEY, VERSION_KEY = "ddnsr_network", "ddnsr_degrader", "ddnsr_version"
_DTYPES = {torch.float32: "F32", torch.float16: "F16"}
# What reading a damaged or crafted pickle raises depends on the byte that is wrong.
_BROKEN_PICKLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, LookupError, AttributeError, ValueError, TypeError, OSError,
    AssertionError, ArithmeticError, ImportError, MemoryError, struct.error,
)  # fmt: skip


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


def _built(config: Config, state: Mapping[str, Tensor]) -> OwnNet:
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
        net = Degrader(options_from_json(DegraderConfig, json.loads(metadata[DEGRADER_KEY])))
        net.load_state_dict({key: tensor.float() for key, tensor in loaded.items()})
    except (ConfigError, ValueError, TypeError, RuntimeError) as cause:
        raise WeightsError(f"{path.name} is damaged, or of another version: {_one_line(cause)}.") from cause
    if not all(bool(torch.isfinite(tensor).all()) for tensor in loaded.values()):
        raise WeightsError(f"{path.name} has values that are not finite. Fetch or train it again.")
    return net.eval().requires_grad_(False), metadata


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


def file_kind(path: Path) -> str:
    """`safetensors`, `ncnn` or `pickle`, by content; everything else is refused with what it is."""
    head = _head(path)
    length = int.from_bytes(head[:8], "little")
    if len(head) > 8 and head[8:9] == b"{" and length < MAX_FILE_BYTES:
        return "safetensors"
    if head.startswith(MAGIC.encode()) and path.suffix.lower() == ".param":
        return "ncnn"
    if (kind := FOR_OTHERS.get(path.suffix.lower())) is not None:
        raise WeightsError(
            f"{path.name} is {kind}, from which no network is read. Give the .safetensors, .pth or .param that it was "
            f"made from. {LOADS}."
        )
    if head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        if path.suffix.lower() in PICKLES:
            return "pickle"
        raise WeightsError(
            f"{path.name} is a pickle (a .pth file) under another name. Only files named {', '.join(PICKLES)} are read "
            f"so: rename it when you trust where it comes from."
        )
    if path.suffix.lower() == ".bin" and head[:4] in NCNN_TAGS:
        text = path.with_suffix(".param").name
        raise WeightsError(
            f"{path.name} holds the weights of {text}, which is not beside it. Put the two side by side."
        )
    raise WeightsError(f"{path.name} is not a weights file: {_strange(head)}. {_LOADS_AS}")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(512)
            size = file.seek(0, 2)
    except OSError as cause:
        raise WeightsError(f"{path} cannot be read: {cause.strerror or cause}.") from cause
    if size > MAX_FILE_BYTES:
        raise WeightsError(f"{path.name} has {size / 1e9:.1f} GB; no network here is that large. {LOADS}.")
    return head


def _strange(head: bytes) -> str:
    if not head.strip(b"\0"):
        return "it is empty" if not head else "it starts with zeros"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, the file itself was not fetched"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "it is a web page, perhaps of a failed download"
    return "it is neither safetensors nor a PyTorch file, or is damaged"


def read_safetensors(
    path: Path, wanted: Callable[[str], bool] = lambda _name: True
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of those names, and the metadata of a safetensors file; a damaged one raises `WeightsError`."""
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys() if wanted(key)}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError) as cause:
        raise WeightsError(f"{path.name} is damaged ({_one_line(cause)}). Fetch it again.") from cause


def _read_ncnn(path: Path) -> tuple[Config, dict[str, Tensor]]:
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise WeightsError(f"{path.name} belongs to {weights.name}, which is not beside it. Put the two side by side.")
    _head(weights)  # refuses one without measure
    try:
        if path.stat().st_size > MOST_TEXT_BYTES:
            raise WeightsError(f"{path.name} is too long for the text of an ncnn pair. {LOADS}.")
        return read_ncnn(path.read_bytes(), weights.read_bytes(), path.name)
    except OSError as cause:
        raise WeightsError(f"{path} cannot be read: {cause.strerror or cause}.") from cause


def read_pickle(path: Path) -> object:
    """What a pickle of tensors and plain containers holds; no other code in it is run."""
    if (inflated := _inflated_bytes(path)) > MAX_FILE_BYTES:
        raise WeightsError(f"{path.name} inflates to {inflated / 1e9:.1f} GB; no network here is that large. {LOADS}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about archives that it then refuses
            loaded: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as cause:
        banned = re.search(r"GLOBAL ([\w.]+)", str(cause))  # the rest of the message advises to let the code run
        what = f"holds more than weights ({banned[1][:80]})" if banned else "is damaged or holds more than weights"
        raise WeightsError(
            f"{path.name} {what}; it is refused and nothing of it was run. Get it as .safetensors, or fetch it again."
        ) from cause
    except _BROKEN_PICKLE as cause:
        what = "a TorchScript program" if "TorchScript" in str(cause) else f"damaged ({_one_line(cause)})"
        raise WeightsError(f"{path.name} is {what}, not PyTorch weights. {_LOADS_AS}") from cause
    return loaded


def _inflated_bytes(path: Path) -> int:
    """What the members of a zip file claim to hold; 0 for another file. PyTorch takes memory for all of it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return 0  # a pickle of the old kind, or damaged: reading it will tell


def _one_line(cause: BaseException) -> str:
    text = " ".join(str(cause).split()) or type(cause).__name__
    return "".join(char for char in text if char.isprintable())[:100]


def takes_noise(metadata: Mapping[str, str], path: Path) -> bool:
    """Whether a degrader was trained with noisy images as its second input, by what its file says."""
    try:
        said = json.loads(metadata.get("options", "{}")).get("dual_input", True)
    except (ValueError, AttributeError, RecursionError) as cause:
        raise WeightsError(
            f"{path.name} says nonsense of its options: it is damaged. Fetch or train it again."
        ) from cause
    return bool(said)
