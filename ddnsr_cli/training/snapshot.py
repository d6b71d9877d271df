"""The whole state of a run in one safetensors file: tensors by name, numbers as JSON in the header."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ddnsr_cli.errors import TrainingError
from ddnsr_cli.files import atomic_path

FORMAT = "ddnsr-run-1"
HEADER_KEY = "ddnsr_run"  # one key for all: the library would write several in a random order


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a run needs to go on exactly."""

    step: int
    """Steps done."""

    numbers: Mapping[str, Any]
    """Whatever JSON holds: options, best scores."""

    tensors: Mapping[str, Tensor]
    """Weights and optimiser moments, by dotted name."""


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write the file whole or not at all. Raises TrainingError when the disk refuses."""
    state = {"format": FORMAT, "step": snapshot.step, "numbers": dict(snapshot.numbers)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in snapshot.tensors.items()}
    try:
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata={HEADER_KEY: json.dumps(state)})
    except (OSError, SafetensorError) as cause:
        raise TrainingError(
            f"{path} could not be saved ({cause}). The save before it is intact; free some space."
        ) from cause


def load_snapshot(path: Path) -> Snapshot:
    """Read a file of `save_snapshot`. Raises TrainingError when it is damaged or of another version."""
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {}).get(HEADER_KEY, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (OSError, SafetensorError, ValueError) as cause:
        raise TrainingError(f"{path} cannot be read ({cause}). Start a new run folder, or restore the file.") from cause
    if state.get("format") != FORMAT:
        raise TrainingError(
            f"{path} is of format {state.get('format')!r}, this version reads {FORMAT!r}. Start a new run."
        )
    return Snapshot(step=state["step"], numbers=state["numbers"], tensors=tensors)


def net_tensors(prefix: str, net: nn.Module) -> dict[str, Tensor]:
    """The weights and buffers of a network under `prefix.`"""
    return {f"{prefix}.{name}": tensor for name, tensor in net.state_dict().items()}


def restore_net(prefix: str, net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `net_tensors`, exact: every name and no other."""
    net.load_state_dict(_below(prefix, tensors))


def adam_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments and step counts of an Adam under `prefix.`; nothing before its first step."""
    state = optimizer.state_dict()["state"]
    return {f"{prefix}.{index}.{name}": tensor for index, row in state.items() for name, tensor in row.items()}


def restore_adam(prefix: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `adam_tensors`. Takes copies: training on does not write into `tensors`."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below(prefix, tensors).items():
        index, moment = name.split(".")
        state.setdefault(int(index), {})[moment] = _laid_out_as(parameters[int(index)], tensor)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _laid_out_as(parameter: Tensor, moment: Tensor) -> Tensor:
    """A copy with the strides of its parameter: fused Adam on the CPU pairs the two by place in memory."""
    if moment.shape != parameter.shape:  # the step count
        return moment.clone()
    return torch.empty_like(parameter, dtype=moment.dtype, requires_grad=False).copy_(moment)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")
    }
