"""Most of a network in bfloat16, the rest in fp32: for processors that multiply in bfloat16, where it saves two thirds.

A whole RRDB network in bfloat16 is off by 4 levels of 255: its numbers have 8 bits. What the dense blocks add is
scaled by 0.2 three times over, so that their rounding is lost in that of the image, as long as the sums stay wide.
The stage of HR size adds rounding of its own, 0.3 levels rms: there weights are rounded so that flat areas keep their
level, and the last convolution is put together from two parts. A Compact network adds little to the enlarged input:
all its convolutions but the first, which sees the image itself, bear bfloat16 as the dense blocks do.
"""

import torch
from torch import Tensor, nn

from ddnsr_cli.nets.blocks import SrNet, lrelu
from ddnsr_cli.nets.compact import CompactNet
from ddnsr_cli.nets.config import RESIDUAL_SCALE
from ddnsr_cli.nets.rrdb import ResidualDenseBlock, RRDBNet

MIDDLE = 0.5  # of the values of an image: bfloat16 is finest near 0


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


class NarrowDoubling(nn.Module):
    """Nearest-neighbor doubling and the 3x3 convolution after it, with LeakyReLU, in bfloat16.

    Each of the four pixels that an LR pixel becomes sees 2x2 LR pixels only, some of them through two or four taps.
    With these taps added up it is one 2x2 convolution to four times the channels: 4/9 of the work.

    Shape: (N, C, H, W) -> (N, C', 2H, 2W)
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        """conv: the fp32 convolution after the doubling; it is left as it is."""
        super().__init__()
        self.conv = nn.Conv2d(conv.in_channels, 4 * conv.out_channels, kernel_size=2, padding=1)
        self.conv.weight.data = rounded(doubling_kernels(conv.weight))
        self.conv.bias = nn.Parameter(_bias(conv).repeat(4).to(torch.bfloat16))

    def forward(self, x: Tensor) -> Tensor:
        """The layers' output for x."""
        number, _, height, width = x.shape
        quarters = lrelu(self.conv(x)).chunk(4, dim=1)  # each has one row and one column too many
        shape = (number, quarters[0].shape[1], 2 * height, 2 * width)
        larger = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        for index, quarter in enumerate(quarters):
            row, col = divmod(index, 2)
            larger[:, :, row::2, col::2] = quarter[:, :, row : row + height, col : col + width]
        return larger


def doubling_kernels(weight: Tensor) -> Tensor:
    """What the four pixels that an LR pixel becomes, row by row, see of LR pixels: (C', C, 3, 3) -> (4 * C', C, 2, 2).

    weight: of a 3x3 convolution after nearest-neighbor doubling.
    """
    rows = (_folded(weight, row, dim=2) for row in range(2))
    return torch.cat([_folded(taps, col, dim=3) for taps in rows for col in range(2)])


def _folded(weight: Tensor, side: int, *, dim: int) -> Tensor:
    """Three taps along `dim` as the two that the first (0) or second (1) pixel of a doubled one sees."""
    before, here, after = weight.unbind(dim)
    return torch.stack((before, here + after) if side == 0 else (before + here, after), dim)


class NarrowLast(nn.Module):
    """The last convolution with its input in bfloat16 and its weights as exact as two of that format, added up in fp32.

    Shape: (N, C, H, W) -> (N, 3, H, W)
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        """conv: the fp32 convolution; it is left as it is."""
        super().__init__()
        channels = conv.out_channels
        self.conv = nn.Conv2d(conv.in_channels, 2 * channels, kernel_size=3, padding=1)
        coarse = conv.weight.to(torch.bfloat16)
        self.conv.weight.data = torch.cat((coarse, (conv.weight - coarse.float()).to(torch.bfloat16)))
        shift = (_bias(conv) - MIDDLE).to(torch.bfloat16)  # what comes out is rounded too
        self.conv.bias = nn.Parameter(torch.cat((shift, torch.zeros_like(shift))))
        self.register_buffer("rest", (_bias(conv) - shift.float()).view(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The convolution's output for x, in fp32."""
        return self.joined(self.conv(x).to(torch.float32))

    def joined(self, parts: Tensor) -> Tensor:
        """What the two parts that `conv` gives add up to, in fp32."""
        coarse, fine = parts.chunk(2, dim=1)
        sr: Tensor = (coarse + fine).add_(self.get_buffer("rest"))
        return sr


class NarrowHrStage(nn.Module):
    """The stage of HR size of an RRDB network in bfloat16, its sums at the end in fp32.

    Shape: (N, C, H, W) -> (N, 3, 4H, 4W)
    """

    def __init__(self, net: RRDBNet) -> None:
        """net: in fp32; it is left as it is."""
        super().__init__()
        self.doublings = nn.Sequential(NarrowDoubling(net.conv_up1), NarrowDoubling(net.conv_up2))
        self.conv_hr = with_rounded_weight(net.conv_hr)
        self.last = NarrowLast(net.conv_last)

    def forward(self, trunk: Tensor) -> Tensor:
        """The SR images in fp32 for features in any format."""
        sr: Tensor = self.last(lrelu(self.conv_hr(self.doublings(trunk.to(torch.bfloat16)))))
        return sr


class NarrowRRDBNet(nn.Module):
    """An RRDB network with narrow dense blocks and a narrow stage of HR size.

    Shape: (N, 3, H, W) -> (N, 3, scale * H, scale * W)
    """

    def __init__(self, net: RRDBNet) -> None:
        """net: in fp32; it belongs to this one from now on."""
        super().__init__()
        self.net = net
        self.hr_stage = NarrowHrStage(net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for parent in list(net.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, ResidualDenseBlock):
                    setattr(parent, name, NarrowBlock(child))

    def forward(self, lr: Tensor) -> Tensor:
        """The LR image enlarged, in fp32."""
        return self.net.cut(self.hr_stage(self.net.trunk(lr)), lr)


def _bias(conv: nn.Conv2d) -> Tensor:
    return torch.zeros(conv.out_channels) if conv.bias is None else conv.bias


def with_rounded_weight(conv: nn.Conv2d) -> nn.Conv2d:
    """A 3x3 convolution in bfloat16 that leaves the level of flat areas as it is; `conv` stays in fp32."""
    narrow = nn.Conv2d(conv.in_channels, conv.out_channels, kernel_size=3, padding=1)
    narrow.weight.data = rounded(conv.weight)
    narrow.bias = nn.Parameter(_bias(conv).to(torch.bfloat16))
    return narrow


def rounded(weight: Tensor) -> Tensor:
    """A kernel in bfloat16 whose taps add up as before, for each pair of channels: flat areas keep their level.

    What rounding takes from a tap is given to the next smaller one; the smallest are rounded finest.
    """
    taps = weight.flatten(2)
    order = taps.abs().argsort(dim=2, descending=True, stable=True)
    left = torch.zeros_like(taps[..., 0])
    narrow = []
    for tap in taps.gather(2, order).unbind(2):
        wanted = tap + left
        narrow.append(wanted.to(torch.bfloat16))
        left = wanted - narrow[-1].float()
    rounded = torch.empty_like(taps, dtype=torch.bfloat16).scatter_(2, order, torch.stack(narrow, dim=2))
    return rounded.view_as(weight)


def narrowed(net: SrNet) -> nn.Module:
    """An fp32 network as one that computes in bfloat16 where it bears it. For inference only; `net` is used up.

    Those are the dense blocks and the stage of HR size of an RRDB network, and all layers of a Compact network behind
    the first PReLU; its sum with the enlarged input is in fp32. A network of another kind stays as it is.
    """
    if isinstance(net, RRDBNet):
        return NarrowRRDBNet(net)
    if isinstance(net, CompactNet):
        first, slopes, *inner = net.body
        net.body = nn.Sequential(first, slopes, NarrowLayers(nn.Sequential(*inner)))
    return net


def held_dtype(net: nn.Module) -> torch.dtype:
    """The format of the feature maps that take most of the memory: those of HR size."""
    return torch.bfloat16 if isinstance(net, NarrowRRDBNet) else next(net.parameters()).dtype
