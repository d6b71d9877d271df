"""Exponential moving average of weights."""

import copy
from collections.abc import Iterable
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

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
