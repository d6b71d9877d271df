"""What every kind of training step needs: number formats, levels as floats, averages of weights."""

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

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


Net = TypeVar("Net", bound=nn.Module)


class Ema(Generic[Net]):
    """A slow copy of `net`: less noisy than the weights of any one step.

    The decay rises from 0.1 to `decay` over the first steps, so that the start is soon forgotten.
    """

    def __init__(self, net: Net, decay: float) -> None:
        self.average: Net = copy.deepcopy(net).eval().requires_grad_(requires_grad=False)
        self.decay = decay

    @torch.no_grad()
    def update(self, net: Net, step: int) -> None:
        """Take in the weights after step `step` (from 0)."""
        keep = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(_tensors(self.average.parameters()), _tensors(net.parameters()), 1 - keep)
        for slow, fast in zip(self.average.buffers(), net.buffers(), strict=True):
            slow.copy_(fast)


def _tensors(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [parameter.detach() for parameter in parameters]
