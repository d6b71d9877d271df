"""The state of a run in fewer bytes, for a link that carries little: what is lost, and how it is made up for.

A state (`state/last.safetensors` of a run folder) holds networks, discriminators, averages and two moments of the
optimizer for every weight: half a gigabyte for the paper's networks. Forms, from exact to small:

whole   everything, bit for bit.
light   The averages in half precision; a network that has an average is that average. Discriminators in 8 bits, a scale
        for each output channel. Of the optimizer, the mean squares of each output channel and of each of its inputs
        (as Adafactor keeps them); the first moments begin at zero.
bare    The averages in half precision. Discriminators begin again, and so does the optimizer.

Biases and other short tensors stay exact in `light`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.config import options_from_json
from ddnsr_cli.errors import TrainingError

Tensor = NDArray[Any]
Tensors = dict[str, Tensor]

FORMS = ("whole", "light", "bare")
AVERAGE, MEAN, SQUARE = "ema.", ".exp_avg", ".exp_avg_sq"
LEVELS, SCALE, ROWS, COLUMNS = "|levels", "|scale", "|rows", "|columns"


def in_form(state: Mapping[str, Tensor], form: str) -> Tensors:
    """The state in one of FORMS. Raises ValueError for another."""
    if form == "whole":
        return dict(state)
    if form == "bare":
        return {name: _half(tensor) for name, tensor in state.items() if name.startswith(AVERAGE)}
    if form != "light":
        raise ValueError(form)
    averaged = {_averaged(name) for name in state if name.startswith(AVERAGE)}
    light: Tensors = {}
    for name, tensor in state.items():
        if name not in averaged:
            light |= _lightened(name, tensor)
    return light


def from_form(tensors: Mapping[str, Tensor], form: str, options: Mapping[str, Any]) -> Tensors:
    """A state that a run goes on from, from `in_form`'s result. Exact for `whole`.

    options: of the run, as its state tells them; discriminators of `bare` are drawn again from its seed.
    Raises TrainingError for a form that is not known.
    """
    if form not in FORMS:
        raise TrainingError(f"The pieces hold a state of form {form!r}; known are {', '.join(FORMS)}. Update the code.")
    if form == "whole":
        return dict(tensors)
    state = _unfolded(tensors)
    if form == "bare":
        state |= _fresh_discriminators(options)
    averages = {name: tensor for name, tensor in state.items() if name.startswith(AVERAGE)}
    return state | {_averaged(name): tensor for name, tensor in averages.items()}


def _averaged(name: str) -> str:
    """The weight that an average follows."""
    return "nets." + name.removeprefix(AVERAGE)


def _lightened(name: str, tensor: Tensor) -> Tensors:
    """One tensor as it is stored in `light`; several parts, or none."""
    if tensor.ndim < 2 or not np.issubdtype(tensor.dtype, np.floating):
        return {name: tensor}
    if name.startswith(AVERAGE):
        return {name: _half(tensor)}
    if name.endswith(MEAN):
        return {}
    inputs = tuple(range(1, tensor.ndim))
    if name.endswith(SQUARE):
        rows, columns = tensor.mean(axis=inputs, keepdims=True), tensor.mean(axis=0, keepdims=True)
        return {name + ROWS: rows, name + COLUMNS: columns}
    scale = np.abs(tensor).max(axis=inputs, keepdims=True) / 127
    levels = np.rint(np.divide(tensor, scale, out=np.zeros_like(tensor), where=scale > 0)).astype(np.int8)
    return {name + LEVELS: levels, name + SCALE: scale}


def _unfolded(tensors: Mapping[str, Tensor]) -> Tensors:
    state: Tensors = {}
    for name, tensor in tensors.items():
        if name.endswith(LEVELS):
            plain = name.removesuffix(LEVELS)
            state[plain] = tensor * tensors[plain + SCALE]
        elif name.endswith(ROWS):
            plain = name.removesuffix(ROWS)
            columns = tensors[plain + COLUMNS]
            state[plain] = tensor * columns / max(float(tensor.mean()), np.finfo(np.float32).tiny)
            state[plain.removesuffix(SQUARE) + MEAN] = np.zeros_like(state[plain])
        elif not name.endswith((SCALE, COLUMNS)):
            state[name] = tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor
    return state


def _fresh_discriminators(options: Mapping[str, Any]) -> Tensors:
    import torch

    from ddnsr_cli.nets.vgg19 import Tap
    from ddnsr_cli.training.options import JointOptions
    from ddnsr_cli.training.paired import PairedNets
    from ddnsr_cli.training.paired_options import PairedOptions
    from ddnsr_cli.training.trainer import JointNets

    def unseeing(_image: torch.Tensor) -> dict[Tap, torch.Tensor]:
        return {}  # what a projected discriminator looks through is no part of its weights

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options["stream"]["seed"])
        if "network" in options:
            weights = PairedNets(options_from_json(PairedOptions, options), unseeing).state_dict()
        else:
            weights = JointNets(options_from_json(JointOptions, options), unseeing).state_dict()
    return {f"nets.{name}": tensor.numpy() for name, tensor in weights.items() if name.startswith("disc_")}


def _half(tensor: Tensor) -> Tensor:
    return tensor.astype(np.float16)
