"""What every kind of training step needs."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ddnsr_cli.config import Precision
from ddnsr_cli.errors import DeviceError, NotFiniteError


def mixed_precision(device: torch.device, precision: Precision) -> torch.autocast:
    """Within it, networks compute in the number format asked for."""
    half = precision is Precision.BF16 or (precision is Precision.AUTO and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=half)


def refuse_without_compiler(device: torch.device) -> None:
    """Compile a trifle. Raises DeviceError, saying why, where torch.compile does not work: mostly for want of gcc."""
    try:
        torch.compile(torch.neg)(torch.ones(2, device=device))
    except Exception as cause:  # compilers fail in classes of their own
        reason = " ".join(str(cause).partition("Set TORCHDYNAMO_VERBOSE")[0].split())[:200]
        raise DeviceError(
            f"--compile does not work on {device} here ({type(cause).__name__}: {reason}). Install a C++ compiler, or "
            f"leave --compile out."
        ) from cause


def to_floats(levels: Tensor, device: torch.device) -> Tensor:
    """uint8 levels (N, 3, H, W) as floats in [0, 1] on the device, channels last."""
    return levels.to(device, non_blocking=True).to(memory_format=torch.channels_last).float() / 255


def refuse_not_finite(figures: Mapping[str, float], step: int) -> None:
    """Raises NotFiniteError, naming the step and the figures that are NaN or infinite."""
    wrong = ", ".join(f"{name} {value:g}" for name, value in figures.items() if not math.isfinite(value))
    if wrong:
        raise NotFiniteError(
            f"Step {step} gave values that are not finite ({wrong}). Lower --learning-rate and run again."
        )
