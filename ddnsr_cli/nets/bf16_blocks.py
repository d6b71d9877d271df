"""Inner blocks in bfloat16, all else in fp32: for processors that multiply in bfloat16, where it saves nearly half.

A whole RRDB network in bfloat16 saves a little more and is off by 4 levels of 255: its numbers have 8 bits. What the
blocks add is scaled by 0.2 three times over, so that their rounding is lost in that of the image, as long as the
sums, the first and the last convolutions stay wide. A Compact network adds little to the enlarged input: the same is
true of its inner convolutions.
"""

import torch
from torch import Tensor, nn

from ddnsr_cli.nets.compact import CompactNet
from ddnsr_cli.nets.rrdb import RESIDUAL_SCALE, ResidualDenseBlock


class NarrowBlock(nn.Module):
    """A dense block that computes in bfloat16 and adds in the format of its input.

    Shape: (N, C, H, W) -> (N, C, H, W)
    """

    def __init__(self, block: ResidualDenseBlock) -> None:
        """block: is converted, and belongs to this one from now on."""
        super().__init__()
        self.block = block.to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        """x plus the scaled residual, which is computed in bfloat16."""
        return torch.add(x, self.block.residual(x.to(torch.bfloat16)), alpha=RESIDUAL_SCALE)


class NarrowLayers(nn.Module):
    """Layers that compute in bfloat16; what comes out has the format of their input.

    Shape: that of the layers.
    """

    def __init__(self, layers: nn.Sequential) -> None:
        """layers: are converted, and belong to this one from now on."""
        super().__init__()
        self.layers = layers.to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        """The layers' output for x, in its format."""
        narrow: Tensor = self.layers(x.to(torch.bfloat16))
        return narrow.to(x.dtype)


def narrow_blocks(net: nn.Module) -> None:
    """Make the inner blocks of an fp32 network narrow ones, in place. For inference only.

    Those are the dense blocks of an RRDB network, and all layers of a Compact network between the first PReLU and the
    last convolution. A network of another kind stays as it is.
    """
    if isinstance(net, CompactNet):
        first, slopes, *inner, last = net.body
        net.body = nn.Sequential(first, slopes, NarrowLayers(nn.Sequential(*inner)), last)
        return
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ResidualDenseBlock):
                setattr(parent, name, NarrowBlock(child))
