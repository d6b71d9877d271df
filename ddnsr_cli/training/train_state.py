"""The whole state of a run in one safetensors file: tensors by name, numbers as JSON in the header."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
ADAM_STATE = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """What a run needs to go on exactly."""

    step: int
    """Steps done."""

    numbers: Mapping[str, Any]
    """Whatever JSON holds: options, best scores."""

    tensors: Mapping[str, Tensor]
    """Weights and optimizer moments, by dotted name."""


def save_train_state(path: Path, train_state: TrainState) -> None:
    """Write the file whole or not at all. Raises TrainingError when the disk refuses."""
    state = {"format": FORMAT, "step": train_state.step, "numbers": dict(train_state.numbers)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in train_state.tensors.items()}
    try:
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata={HEADER_KEY: json.dumps(state)})
    except (OSError, SafetensorError) as cause:
        raise TrainingError(
            f"{path} could not be saved ({cause}). The save before it is intact; free some space."
        ) from cause


def load_train_state(path: Path) -> TrainState:
    """Read a file of `save_train_state`. Raises TrainingError when it is damaged or of another version."""
    with _reading(path), safe_open(path, framework="pt") as file:
        step, numbers = _head(path, file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    return TrainState(step=step, numbers=numbers, tensors=tensors)


def load_numbers(path: Path) -> Mapping[str, Any]:
    """The numbers of a file of `save_train_state`, without reading its tensors. Raises as `load_train_state`."""
    with _reading(path), safe_open(path, framework="pt") as file:
        return _head(path, file.metadata())[1]


def net_tensors(prefix: str, net: nn.Module) -> dict[str, Tensor]:
    """The weights and buffers of a network under `prefix.`"""
    return {f"{prefix}.{name}": tensor for name, tensor in net.state_dict().items()}


def restore_net(prefix: str, net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `net_tensors`, exact: every name and no other. Raises TrainingError when they do not fit."""
    state = _below(prefix, tensors)
    own = net.state_dict()  # not left to PyTorch, which makes up the counters of batch norm
    if odd := sorted(state.keys() ^ own.keys() or {name for name in own if own[name].shape != state[name].shape}):
        raise TrainingError(_misfit(f"{prefix}.{odd[0]}"))
    net.load_state_dict(state)


def adam_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments and step counts of an Adam under `prefix.`; nothing before its first step."""
    state = optimizer.state_dict()["state"]
    return {f"{prefix}.{index}.{name}": tensor for index, row in state.items() for name, tensor in row.items()}


def restore_adam(prefix: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `adam_tensors`. Takes copies: training on does not write into `tensors`.

    Raises TrainingError when they do not fit.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    saved = _below(prefix, tensors)
    state: dict[int, dict[str, Tensor]] = {}
    for index, parameter in enumerate(parameters if saved else ()):  # before the first step there is nothing
        for moment in ADAM_STATE:
            tensor = saved.pop(f"{index}.{moment}", None)
            if tensor is None or tensor.shape not in {parameter.shape, torch.Size()}:
                raise TrainingError(_misfit(f"{prefix}.{index}.{moment}"))
            state.setdefault(index, {})[moment] = _laid_out_as(parameter, tensor)
    if saved:
        raise TrainingError(_misfit(f"{prefix}.{min(saved)}"))
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def learned_tensors(
    nets: nn.Module, averages: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
) -> dict[str, Tensor]:
    """All that a trainer has learned: networks under `nets.`, averages under `ema.NAME.`, Adams under `adam.NAME.`"""
    tensors = net_tensors("nets", nets)
    for name, average in averages.items():
        tensors |= net_tensors(f"ema.{name}", average)
    for name, optimizer in optimizers.items():
        tensors |= adam_tensors(f"adam.{name}", optimizer)
    return tensors


def restore_learned(
    tensors: Mapping[str, Tensor],
    nets: nn.Module,
    averages: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> None:
    """The inverse of `learned_tensors`. Raises TrainingError when they do not fit."""
    restore_net("nets", nets, tensors)
    for name, average in averages.items():
        restore_net(f"ema.{name}", average, tensors)
    for name, optimizer in optimizers.items():
        restore_adam(f"adam.{name}", optimizer, tensors)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, ValueError) as cause:
        raise TrainingError(f"{path} cannot be read ({cause}). Start a new run folder, or restore the file.") from cause


def _head(path: Path, metadata: Mapping[str, str] | None) -> tuple[int, dict[str, Any]]:
    """(step, numbers) of a file's header. Raises TrainingError when they are not there, ValueError for no JSON."""
    state = json.loads((metadata or {}).get(HEADER_KEY, "{}"))
    kind = state.get("format") if isinstance(state, dict) else None
    if kind != FORMAT:
        raise TrainingError(f"{path} is of format {kind!r}, this version reads {FORMAT!r}. Start a new run with -o.")
    if not isinstance(state.get("step"), int) or not isinstance(state.get("numbers"), dict):
        raise TrainingError(f"{path} is damaged: its header is not whole. Start a new run folder, or restore the file.")
    return state["step"], state["numbers"]


def _misfit(name: str) -> str:
    return f"The saved state does not fit the networks: {name}. Start a new run folder, or restore the file."


def _laid_out_as(parameter: Tensor, moment: Tensor) -> Tensor:
    """A copy with the strides of its parameter: fused Adam on the CPU pairs the two by place in memory."""
    if moment.shape != parameter.shape:  # the step count
        return moment.clone()
    return torch.empty_like(parameter, dtype=moment.dtype, requires_grad=False).copy_(moment)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")
    }
