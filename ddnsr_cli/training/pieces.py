"""What every kind of training step needs."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ddnsr_cli.errors import NotFiniteError


def to_floats(levels: Tensor, device: torch.device) -> Tensor:
    """uint8 levels (N, 3, H, W) as floats in [0, 1] on the device, channels last."""
    return levels.to(device, non_blocking=True).to(memory_format=torch.channels_last).float() / 255


def refuse_not_finite(figures: Mapping[str, float], step: int) -> None:
    """Raises NotFiniteError, naming the step and the figures that are NaN or infinite."""
    wrong = ", ".join(f"{name} {value:g}" for name, value in figures.items() if not math.isfinite(value))
    if wrong:
        raise NotFiniteError(f"Step {step} gave values that are not finite ({wrong}). Lower --rate and run again.")
