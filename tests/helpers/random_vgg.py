"""A VGG19 with seeded random weights: a fixed function of images, where no real weights are needed."""

import torch

from ddnsr_cli.nets.vgg19 import BLOCK_CHANNELS, LAYERS


def random_vgg19(deepest, *, seed=1, widths=None):
    """Tensors under torchvision's names from conv1_1 to `deepest`, scaled so that features keep their size.

    widths: channels of each block; None: VGG19's own.
    """
    generator = torch.Generator().manual_seed(seed)
    state, before = {}, 3
    for layer, index in LAYERS.items():
        channels = (widths or BLOCK_CHANNELS)[layer[4]]
        weight = torch.randn(channels, before, 3, 3, generator=generator) * (2 / (9 * before)) ** 0.5
        state |= {f"features.{index}.weight": weight, f"features.{index}.bias": torch.zeros(channels)}
        before = channels
        if layer == deepest:
            return state
    raise ValueError(deepest)
