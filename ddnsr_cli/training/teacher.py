"""A network that teaches: its results on turned LR images are targets.

A network trained against a discriminator draws detail where the input says little, and draws another one when the
input is turned. What its eight views agree on is in the input, the rest is chance. Each step shows the learner one
view, drawn from the seed: by absolute differences it learns their median, at the cost of one view a step.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ddnsr_cli.nets.blocks import VIEWS, SrNet, as_view, undone_view

VIEW_KEY = 11  # of the seed, so that views are not drawn as anything else is
WINDOW_PX = 9  # LR pixels over which the colors of the teacher's result are compared with those of the input


class Teacher:
    """Targets (N, 3, scale * h, scale * w) of LR images (N, 3, h, w), in [0, 1], without a graph."""

    def __init__(self, net: SrNet, *, seed: int) -> None:
        """net: on the device of the images to come."""
        self._net = net.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._seed = seed

    @torch.no_grad()
    def __call__(self, lr: Tensor, step: int) -> Tensor:
        """The result on the view of this step, turned back, with the colors of the input."""
        view = int(np.random.default_rng([self._seed, VIEW_KEY, step]).integers(VIEWS))
        turned = as_view(lr, view).contiguous(memory_format=torch.channels_last)
        sr = undone_view(self._net(turned).float(), view)
        return with_colors_of(lr, sr).clamp(0, 1)


def with_colors_of(lr: Tensor, sr: Tensor) -> Tensor:
    """SR images whose local means, over some nine LR pixels, are those of LR. lr: (N, 3, h, w); sr: a multiple."""
    scale = sr.shape[-1] // lr.shape[-1]
    reach = min(WINDOW_PX // 2, min(lr.shape[-2:]) - 1)
    error = F.pad(lr - F.avg_pool2d(sr, scale), (reach,) * 4, mode="reflect")
    slow = F.avg_pool2d(error, 2 * reach + 1, stride=1)
    return sr + F.interpolate(slow, scale_factor=scale, mode="bilinear", align_corners=False)
