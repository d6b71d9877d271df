"""Tensors to the windows that networks run in, and back."""

import numpy as np
import torch


def run(runner, lr, note=lambda _: None, *, deep=False):
    """One LR window (3, h, w) by a `Runner`, as tensors."""
    return torch.from_numpy(runner.begin([lr.numpy()], note, deep=deep)()[0])


def joined(bands):
    """(3, H, W) of bands that follow each other, as a tensor."""
    return torch.from_numpy(np.concatenate([band.rows for band in bands], axis=1))
