"""The networks behind LPIPS, by their sizes alone."""

import torch

from ddnsr_cli.nets.lpips import alexnet_features, squeezenet_features, vgg16_features

FEATURES = {"alex": alexnet_features, "squeeze": squeezenet_features, "vgg": vgg16_features}


def trunk_shapes(trunk):
    """Names and shapes of a trunk's tensors, as torchvision's file has them: `features.0.weight`, ..."""
    with torch.device("meta"):
        return {f"features.{name}": tuple(value.shape) for name, value in FEATURES[trunk]().state_dict().items()}
