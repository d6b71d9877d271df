"""`ddnsr weights convert` and `mix`: checkpoints in; one file of ours, a .pth, an ncnn pair or ONNX out."""

import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from ddnsr_cli import __version__
from ddnsr_cli.errors import ConfigError, WeightsError, shown
from ddnsr_cli.files import atomic_path, is_there, no_empty_folder
from ddnsr_cli.nets.compact import CompactNet
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.net2net import grow_rrdb
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.weights.arrays import TERMS_KEY, VERSION_KEY
from ddnsr_cli.weights.checkpoint import (
    check_finite,
    holds_degrader,
    load_degrader,
    load_own_net,
    save_degrader,
    save_sr_net,
)
from ddnsr_cli.weights.layouts import OwnNet
from ddnsr_cli.weights.ncnn import param_text, weight_bytes
from ddnsr_cli.weights.registry import read_registry
from ddnsr_cli.weights.resolve import NCNN, FoundWeights, find_weights

Progress = Callable[[int, int], None]
Note = Callable[[str], None]
SAFETENSORS, PTH, ONNX = ".safetensors", ".pth", ".onnx"


def convert_weights(
    name: str, output: Path, *, half: bool, offline: bool, on_progress: Progress | None, note: Note
) -> tuple[Path, ...]:
    """Find `name` as `-m` does, a degrader too, and write it; gives the files that there are then.

    output: its suffix tells the kind: .safetensors, .pth, .param (an ncnn pair, with a .bin beside) or .onnx. The
    metadata of the source is kept where the kind has room for it. note: called with the terms of the weights, which a
    safetensors file keeps.
    Raises WeightsError or HubError when it cannot be found or read, ConfigError for an output that exists or is of no
    kind that is written.
    """
    files = _output_files(output, half=half)
    found = _found(name, offline=offline, on_progress=on_progress)
    terms = _told_terms(note, found)
    if holds_degrader(found.path):
        if _kind_of(output) != SAFETENSORS:
            raise ConfigError(f"{found.name} is a degrader, which is written as {SAFETENSORS} only, got {output.name}.")
        degrader, metadata = load_degrader(found.path)
        with _folder_of(output):
            save_degrader(output, degrader, metadata={**metadata, **terms}, half=half)
        return files
    net, metadata = load_own_net(found.path)
    _save(output, net, metadata={**metadata, **terms}, half=half)
    return files


def _told_terms(note: Note, *found: FoundWeights) -> dict[str, str]:
    """The terms of weights as metadata of what is made of them; they are told."""
    every = list(dict.fromkeys(one.terms for one in found if one.terms))
    for terms in every:
        note(terms)
    return {TERMS_KEY: " ".join(every)} if every else {}


def mix_weights(
    names: tuple[str, str],
    share: float,
    output: Path,
    *,
    half: bool,
    offline: bool,
    on_progress: Progress | None,
    note: Note,
) -> tuple[Path, ...]:
    """Write the network between two of the same sizes, `share` of the way from the first to the second.

    The first may be smaller when the second grew from it in training: it is grown again, as it was then.

    Between a network and what it became by more training lie networks that do a part of what that training taught
    (Wang et al., ESRGAN, 2018, section 3.4: network interpolation).
    share: 0 to 1. Raises ConfigError for another, WeightsError when the sizes differ, and as `convert_weights`.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"--share lies between 0 (all the first) and 1 (all the second), got {share:g}.")
    files = _output_files(output, half=half)
    first, second = (_found(name, offline=offline, on_progress=on_progress) for name in names)
    net = load_own_net(first.path)[0].float()
    other, metadata = load_own_net(second.path)
    if isinstance(net, RRDBNet) and isinstance(other, RRDBNet):
        net = _grown_as_then(net, other.config, metadata)
    if net.config != other.config:
        raise WeightsError(
            f"{first.name} has {_sizes(net)}, and {second.name} {_sizes(other)}. Mix networks of the same sizes."
        )
    theirs = other.float().state_dict()
    net.load_state_dict({key: ours.lerp(theirs[key], share) for key, ours in net.state_dict().items()})
    parts = [
        {"name": found.path.name, "sha256": found.sha256, "share": part}
        for found, part in ((first, 1 - share), (second, share))
    ]
    terms = _told_terms(note, first, second)
    _save(output, net, metadata={"mix": json.dumps(parts), **terms}, half=half)
    return files


def _sizes(net: OwnNet) -> str:
    """What tells a network from others, in words."""
    if isinstance(net, RRDBNet):
        sizes = net.config
        return f"features {sizes.features}, blocks {sizes.blocks}, growth {sizes.growth}, scale {sizes.scale}"
    resized = f", resized from {net.config.inner_scale}" if net.config.inner_scale else ""
    return f"features {net.config.features}, convolutions {net.config.convs}, scale {net.config.scale}{resized}"


def _grown_as_then(net: RRDBNet, sizes: RRDBConfig, trained: Mapping[str, str]) -> RRDBNet:
    """The network as a run began with it that says so in its metadata; `net` itself where that does not fit."""
    try:
        if not json.loads(trained["training"])["start_from"]:
            return net
        seed = json.loads(trained["options"])["stream"]["seed"]
        return grow_rrdb(net, sizes, torch.Generator().manual_seed(seed))
    except (ConfigError, KeyError, TypeError, ValueError, RuntimeError):  # other programs write such keys, too
        return net


def _save(output: Path, net: OwnNet, *, metadata: Mapping[str, str], half: bool) -> None:
    if isinstance(net, CompactNet) and net.config.inner_scale is not None and _kind_of(output) not in (NCNN, ONNX):
        raise ConfigError(
            f"The network resizes its image at its end, which {output.suffix} cannot say. Write {NCNN} or {ONNX}."
        )
    with _folder_of(output):
        if _kind_of(output) == NCNN:
            save_ncnn(output, net, half=half)
        elif _kind_of(output) == PTH:
            save_pth(output, net, half=half)
        elif _kind_of(output) == ONNX:
            save_onnx(output, net, metadata=metadata)
        else:
            save_sr_net(output, net, metadata=metadata, half=half)


@contextmanager
def _folder_of(output: Path) -> Iterator[None]:
    """The folder is there in the block; one that was made for it and stays empty is gone behind it."""
    with no_empty_folder(output.parent, alone=True):
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as cause:
            raise WeightsError(f"The folder {output.parent} cannot be made: {cause.strerror or cause}.") from cause
        yield


def _kind_of(output: Path) -> str:
    return output.suffix.lower()


def _output_files(output: Path, *, half: bool) -> tuple[Path, ...]:
    """What will be written, and is not there yet."""
    if _kind_of(output) not in (SAFETENSORS, PTH, NCNN, ONNX):
        raise ConfigError(
            f"{shown(output)} must end in {SAFETENSORS}, {PTH}, {NCNN} (for ncnn, with a .bin beside) or {ONNX}."
        )
    if half and _kind_of(output) == ONNX:
        raise ConfigError("ONNX files are written in single precision. Leave --half out.")
    files = (output, output.with_suffix(".bin")) if _kind_of(output) == NCNN else (output,)
    for file in files:
        if is_there(file):
            raise ConfigError(f"{shown(file)} exists. Remove it, or give another name with -o.")
    return files


def _found(name: str, *, offline: bool, on_progress: Progress | None) -> FoundWeights:
    return find_weights(name, registry=read_registry(), network=None, offline=offline, on_progress=on_progress)


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
    content = io.BytesIO()  # in a file a path would be named inside, and a full disk would not raise OSError
    torch.save({"params_ema": state}, content)
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content.getbuffer())
    except OSError as cause:
        raise WeightsError(f"{shown(path)} cannot be written: {cause.strerror or cause}.") from cause


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
        raise WeightsError(f"{shown(text)} cannot be written: {cause.strerror or cause}.") from cause


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
            props = {**metadata, VERSION_KEY: __version__}
            onnx.helper.set_model_props(model, dict(sorted(props.items())))  # as read they have no order
            onnx.save(model, temporary)
    except OSError as cause:
        raise WeightsError(f"{path} cannot be written: {cause.strerror or cause}.") from cause
