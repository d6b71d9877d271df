"""`ddnsr weights convert`: a checkpoint of the field as safetensors with our names."""

from collections.abc import Callable
from pathlib import Path

from ddnsr_cli.checkpoint import load_sr_net, save_sr_net
from ddnsr_cli.errors import ConfigError
from ddnsr_cli.registry import read_registry
from ddnsr_cli.weights import find_weights


def convert_weights(
    name: str, output: Path, *, half: bool, offline: bool, on_progress: Callable[[int, int], None] | None
) -> None:
    """Find `name` as `-m` does and write it to `output`; the metadata of the source is kept.

    Raises WeightsError or HubError when it cannot be found or read, ConfigError for an output that exists or is
    not named .safetensors.
    """
    if output.suffix != ".safetensors":
        raise ConfigError(f"{output} must end in .safetensors.")
    if output.exists():
        raise ConfigError(f"{output} exists. Remove it, or give another name with -o.")
    found = find_weights(name, registry=read_registry(), offline=offline, on_progress=on_progress)
    net, metadata = load_sr_net(found.path)
    save_sr_net(output, net, metadata=metadata, half=half)
