"""A trained degrader as the way back from SR to LR."""

import torch

from ddnsr_cli.checkpoint import load_degrader
from ddnsr_cli.degrading import LevelsInMemory, TiledDegrader
from ddnsr_cli.weights import FoundWeights
from ddnsr_cli.workflows.evaluation.contestants import short_name
from ddnsr_cli.workflows.evaluation.subjects import Rgb8
from ddnsr_cli.workflows.pairs.ways import takes_noise


class LearnedDegrade:
    """A degrader with the LR picture itself as its noise input."""

    def __init__(self, found: FoundWeights, device: torch.device) -> None:
        """found: weights of a degrader. Raises WeightsError for a file that holds none, OutOfMemoryError."""
        net, metadata = load_degrader(found.path)
        dual_input = takes_noise(metadata, found.path)
        self._degrader = TiledDegrader(net, device=device, dual_input=dual_input, name=found.name)
        self.origin = f"{short_name(found.name)}, sha256 {found.sha256}"

    def __call__(self, sr: Rgb8, lr: Rgb8) -> Rgb8:
        """The SR picture as the camera of `lr` would have taken it, of the size of `lr`."""
        return self._degrader.lr(LevelsInMemory(sr), LevelsInMemory(lr))
