"""What files of weights hold: safetensors, and pickles of which nothing but tensors and plain containers is let in."""

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ddnsr_cli.errors import WeightsError

LOADS = "What loads: RRDB networks of ESRGAN, BSRGAN (x4), RealSR and Real-ESRGAN (x4, x2, x1), and SRVGGNetCompact"
PICKLES = (".pth", ".pt", ".ckpt")
_LOADS_AS = f"{LOADS}, as .safetensors, .pth or ncnn pair."
FOR_OTHERS = {
    ".onnx": "an ONNX graph",
    ".xml": "an OpenVINO graph",
    ".pt2": "a program exported by PyTorch",
    ".engine": "a TensorRT engine",
    ".tflite": "a TensorFlow Lite graph",
    ".mlmodel": "a Core ML model",
    ".h5": "a file of Keras",
    ".gguf": "a GGUF file",
}
"""What files of these suffixes are that other programs run."""

MAGIC = "7767517"
"""What the text of an ncnn pair begins with."""

HALF, SINGLE = 0x01306B47, 0  # what kernels of an ncnn pair are stored as
SINGLE_TAGGED = 0x0002C056  # another way to say float32
NCNN_TAGS = tuple(tag.to_bytes(4, "little") for tag in (SINGLE, HALF, SINGLE_TAGGED))
"""What the weights of an ncnn pair begin with."""

MAX_FILE_BYTES = 2 << 30  # the field's largest, with optimizer states, are some 300 MB
# What reading a damaged or crafted pickle raises depends on the byte that is wrong.
_BROKEN_PICKLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, LookupError, AttributeError, ValueError, TypeError, OSError,
    AssertionError, ArithmeticError, ImportError, MemoryError, struct.error,
)  # fmt: skip


def file_kind(path: Path) -> str:
    """`safetensors`, `ncnn` or `pickle`, by content; everything else is refused with what it is."""
    head = head_of(path)
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


def head_of(path: Path) -> bytes:
    """The first bytes of a file. Raises WeightsError when it cannot be read, or is larger than any network."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
            size = file.seek(0, 2)
    except FileNotFoundError as cause:
        raise WeightsError(f"There is no weights file {path}. Check the path.") from cause
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
        raise WeightsError(f"{path.name} is damaged ({one_line(cause)}). Fetch it again.") from cause


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
        what = "a TorchScript program" if "TorchScript" in str(cause) else f"damaged ({one_line(cause)})"
        raise WeightsError(f"{path.name} is {what}, not PyTorch weights. {_LOADS_AS}") from cause
    return loaded


def _inflated_bytes(path: Path) -> int:
    """What the members of a zip file claim to hold; 0 for another file. PyTorch takes memory for all of it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return 0  # a pickle of the old kind, or damaged: reading it will tell


def one_line(cause: BaseException) -> str:
    """What an error says, short enough for a message."""
    text = " ".join(str(cause).split()) or type(cause).__name__
    return "".join(char for char in text if char.isprintable())[:100]
