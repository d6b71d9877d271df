"""Networks for other programs: as .pth files, as ncnn pairs, and as ONNX."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from ddnsr_cli import __version__
from ddnsr_cli.errors import WeightsError
from ddnsr_cli.files import atomic_path
from ddnsr_cli.weights.checkpoint import VERSION_KEY, check_finite
from ddnsr_cli.weights.layouts import OwnNet
from ddnsr_cli.weights.ncnn import param_text, weight_bytes

OPSET = 17  # of ONNX, 2022: what programs of the field read
_TRACED_PX = 32  # any side; both are free in the file


def save_pth(path: Path, net: OwnNet, *, half: bool) -> None:
    """Write a network as PyTorch saves it, whole or not at all, its weights under `params_ema` as Real-ESRGAN has them.

    For programs that read no safetensors. The names are those that they detect; there is no metadata in such files.
    half: store float16. The same network gives the same bytes.
    Raises WeightsError when a value is not finite (in float16: above 65504), or the file cannot be written.
    """
    dtype = torch.float16 if half else torch.float32
    state = {key: value.to(dtype).contiguous() for key, value in net.state_dict().items()}
    check_finite(path, state)
    try:
        with (
            atomic_path(path) as temporary,
            temporary.open("wb") as file,
        ):  # a path would be named inside
            torch.save({"params_ema": state}, file)
    except OSError as cause:
        raise WeightsError(f"{path} cannot be written: {cause.strerror or cause}.") from cause


def save_ncnn(text: Path, net: OwnNet, *, half: bool) -> None:
    """Write a network as an ncnn pair, whole or not at all: the layers as `text`, the weights beside it as .bin.

    Blobs `data` and `output`, RGB in [0, 1]: as realesrgan-ncnn-vulkan and Upscayl have it. At scale 2 and 1 RRDB
    networks take sides that are multiples of 2 and 4 only. half: kernels as float16, as is usual there.
    Raises WeightsError when a value is not finite (in float16: above 65504), or a file cannot be written.
    """
    state = net.state_dict()
    check_finite(text, {key: value.half() if half else value.float() for key, value in state.items()})
    try:
        with atomic_path(text) as lines, atomic_path(text.with_suffix(".bin")) as weights:
            lines.write_text(param_text(net.config), encoding="ascii", newline="\n")
            with weights.open("wb") as file:
                file.writelines(weight_bytes(state, half=half))
    except OSError as cause:
        raise WeightsError(f"{text} cannot be written: {cause.strerror or cause}.") from cause


def save_onnx(path: Path, net: OwnNet, *, metadata: Mapping[str, str]) -> None:
    """Write a network as ONNX, whole or not at all: `input` (1, 3, height, width) to `output`, sides of any length.

    metadata: what the file shall say of itself; `ddnsr_version` is added. The same network and metadata give the same
    bytes. Raises WeightsError when the package onnx is missing, a value is not finite, or the file cannot be written.
    """
    try:
        import onnx
    except ImportError as cause:
        raise WeightsError("ONNX files need the package onnx. Get it with: pip install 'ddnsr[onnx]'") from cause
    check_finite(path, net.state_dict())
    free = {"input": {2: "height", 3: "width"}, "output": {2: "sr_height", 3: "sr_width"}}
    try:
        with atomic_path(path) as temporary:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that another way to export is newer; it needs more packages
                torch.onnx.export(
                    net,
                    (torch.zeros(1, 3, _TRACED_PX, _TRACED_PX),),
                    temporary,
                    dynamo=False,
                    opset_version=OPSET,
                    input_names=["input"],
                    output_names=["output"],
                    dynamic_axes=free,
                )
            model = onnx.load(temporary)
            onnx.helper.set_model_props(model, {**metadata, VERSION_KEY: __version__})
            onnx.save(model, temporary)
    except OSError as cause:
        raise WeightsError(f"{path} cannot be written: {cause.strerror or cause}.") from cause
