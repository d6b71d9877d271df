"""`ddnsr weights convert` and `mix`: checkpoints in, one safetensors file with our names out."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from ddnsr_cli.checkpoint import holds_degrader, load_degrader, load_sr_net, save_degrader, save_sr_net
from ddnsr_cli.errors import ConfigError, WeightsError
from ddnsr_cli.nets.grow import grow_rrdb
from ddnsr_cli.nets.rrdb import RRDBConfig, RRDBNet
from ddnsr_cli.registry import read_registry
from ddnsr_cli.weights import FoundWeights, find_weights

Progress = Callable[[int, int], None]


def convert_weights(name: str, output: Path, *, half: bool, offline: bool, on_progress: Progress | None) -> None:
    """Find `name` as `-m` does, a degrader too, and write it to `output`; the metadata of the source is kept.

    Raises WeightsError or HubError when it cannot be found or read, ConfigError for an output that exists or is
    not named .safetensors.
    """
    _check_output(output)
    found = _found(name, offline=offline, on_progress=on_progress)
    if holds_degrader(found.path):
        degrader, metadata = load_degrader(found.path)
        save_degrader(output, degrader, metadata=metadata, half=half)
        return
    net, metadata = load_sr_net(found.path)
    save_sr_net(output, net, metadata=metadata, half=half)


def mix_weights(
    names: tuple[str, str], share: float, output: Path, *, half: bool, offline: bool, on_progress: Progress | None
) -> None:
    """Write the network between two of the same sizes, `share` of the way from the first to the second.

    The first may be smaller when the second grew from it in training: it is grown again, as it was then.

    Between a network and what it became by more training lie networks that do a part of what that training taught
    (Wang et al., ESRGAN, 2018, section 3.4: network interpolation).
    share: 0 to 1. Raises ConfigError for another, WeightsError when the sizes differ, and as `convert_weights`.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"--share lies between 0 (all the first) and 1 (all the second), got {share:g}.")
    _check_output(output)
    first, second = (_found(name, offline=offline, on_progress=on_progress) for name in names)
    net = load_sr_net(first.path)[0].float()
    other, metadata = load_sr_net(second.path)
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
    save_sr_net(output, net, metadata={"mix": json.dumps(parts)}, half=half)


def _grown_as_then(net: RRDBNet, sizes: RRDBConfig, trained: Mapping[str, str]) -> RRDBNet:
    """The network as a run began with it that says so in its metadata; `net` itself where that does not fit."""
    try:
        if not json.loads(trained["training"])["start_from"]:
            return net
        seed = json.loads(trained["options"])["stream"]["seed"]
        return grow_rrdb(net, sizes, torch.Generator().manual_seed(seed))
    except (ConfigError, KeyError, TypeError, ValueError):  # other programs write such keys, too
        return net


def _check_output(output: Path) -> None:
    if output.suffix != ".safetensors":
        raise ConfigError(f"{output} must end in .safetensors.")
    if output.exists():
        raise ConfigError(f"{output} exists. Remove it, or give another name with -o.")


def _found(name: str, *, offline: bool, on_progress: Progress | None) -> FoundWeights:
    return find_weights(name, registry=read_registry(), network=None, offline=offline, on_progress=on_progress)
