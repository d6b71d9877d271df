"""`ddnsr weights convert` and `mix`: checkpoints in, one file of ours or for another program out."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from ddnsr_cli.errors import ConfigError, WeightsError
from ddnsr_cli.nets.net2net import grow_rrdb
from ddnsr_cli.nets.rrdb import RRDBConfig, RRDBNet
from ddnsr_cli.weights.checkpoint import holds_degrader, load_degrader, load_own_net, save_degrader, save_sr_net
from ddnsr_cli.weights.export import save_ncnn, save_onnx, save_pth
from ddnsr_cli.weights.layouts import OwnNet
from ddnsr_cli.weights.registry import read_registry
from ddnsr_cli.weights.resolve import NCNN, FoundWeights, find_weights

Progress = Callable[[int, int], None]
SAFETENSORS, PTH, ONNX = ".safetensors", ".pth", ".onnx"


def convert_weights(
    name: str, output: Path, *, half: bool, offline: bool, on_progress: Progress | None
) -> tuple[Path, ...]:
    """Find `name` as `-m` does, a degrader too, and write it; gives the files that there are then.

    output: its suffix tells the kind: .safetensors, .pth, .param (an ncnn pair, with a .bin beside) or .onnx. The
    metadata of the source is kept where the kind has room for it.
    Raises WeightsError or HubError when it cannot be found or read, ConfigError for an output that exists or is of no
    kind that is written.
    """
    files = _output_files(output, half=half)
    found = _found(name, offline=offline, on_progress=on_progress)
    if holds_degrader(found.path):
        if output.suffix != SAFETENSORS:
            raise ConfigError(f"{found.name} is a degrader, which is written as {SAFETENSORS} only, got {output.name}.")
        degrader, metadata = load_degrader(found.path)
        _make_folder(output)
        save_degrader(output, degrader, metadata=metadata, half=half)
        return files
    net, metadata = load_own_net(found.path)
    _save(output, net, metadata=metadata, half=half)
    return files


def mix_weights(
    names: tuple[str, str], share: float, output: Path, *, half: bool, offline: bool, on_progress: Progress | None
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
        raise WeightsError(f"{first.name} and {second.name} have other sizes ({net.config}, {other.config}).")
    theirs = other.float().state_dict()
    net.load_state_dict({key: ours.lerp(theirs[key], share) for key, ours in net.state_dict().items()})
    parts = [
        {"name": found.path.name, "sha256": found.sha256, "share": part}
        for found, part in ((first, 1 - share), (second, share))
    ]
    _save(output, net, metadata={"mix": json.dumps(parts)}, half=half)
    return files


def _grown_as_then(net: RRDBNet, sizes: RRDBConfig, trained: Mapping[str, str]) -> RRDBNet:
    """The network as a run began with it that says so in its metadata; `net` itself where that does not fit."""
    try:
        if not json.loads(trained["training"])["start_from"]:
            return net
        seed = json.loads(trained["options"])["stream"]["seed"]
        return grow_rrdb(net, sizes, torch.Generator().manual_seed(seed))
    except (ConfigError, KeyError, TypeError, ValueError):  # other programs write such keys, too
        return net


def _save(output: Path, net: OwnNet, *, metadata: Mapping[str, str], half: bool) -> None:
    _make_folder(output)
    if output.suffix == NCNN:
        save_ncnn(output, net, half=half)
    elif output.suffix == PTH:
        save_pth(output, net, half=half)
    elif output.suffix == ONNX:
        save_onnx(output, net, metadata=metadata)
    else:
        save_sr_net(output, net, metadata=metadata, half=half)


def _make_folder(output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise WeightsError(f"The folder {output.parent} cannot be made: {cause.strerror or cause}.") from cause


def _output_files(output: Path, *, half: bool) -> tuple[Path, ...]:
    """What will be written, and is not there yet."""
    if output.suffix not in (SAFETENSORS, PTH, NCNN, ONNX):
        raise ConfigError(
            f"{output} must end in {SAFETENSORS}, {PTH}, {NCNN} (for ncnn, with a .bin beside) or {ONNX}."
        )
    if half and output.suffix == ONNX:
        raise ConfigError("ONNX files are written in single precision. Leave --half out.")
    files = (output, output.with_suffix(".bin")) if output.suffix == NCNN else (output,)
    for file in files:
        if file.exists():
            raise ConfigError(f"{file} exists. Remove it, or give another name with -o.")
    return files


def _found(name: str, *, offline: bool, on_progress: Progress | None) -> FoundWeights:
    return find_weights(name, registry=read_registry(), network=None, offline=offline, on_progress=on_progress)
