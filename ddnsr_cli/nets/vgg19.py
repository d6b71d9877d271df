"""Features of VGG19 (Simonyan and Zisserman 2015), for the content, cycle and perceptual losses.

The weights come as an argument, under torchvision's names `features.N.weight` and `features.N.bias`.

Beside it what every network needs that only measures: filled once from given tensors, never trained, always float32.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddnsr_cli.errors import ConfigError, WeightsError

Color = tuple[float, float, float]
"""One number for each of R, G, B."""


def fill_frozen(net: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Give `net` the tensors of its own names as float32 copies, in eval mode and without gradients of their own.

    net: may be on the meta device, which costs no memory and draws no random number. state: names that `net` has not
    are ignored, so the file of a whole classifier serves. source: the file's name, for the messages.
    Raises WeightsError when a tensor is missing, of another shape, or not finite.
    """
    own = {}
    for name, parameter in net.state_dict().items():
        if name not in state:
            raise WeightsError(f"{source} has no {name}: it is incomplete or of another network. Fetch the right file.")
        if state[name].shape != parameter.shape:
            raise WeightsError(
                f"{source} is of another network: {name} is {tuple(state[name].shape)}, not {tuple(parameter.shape)}. "
                f"Fetch the right file."
            )
        own[name] = state[name].detach().to(torch.float32, copy=True).contiguous()
        if not bool(torch.isfinite(own[name]).all()):
            raise WeightsError(f"{source} holds values that are not finite in {name}: damaged. Fetch it again.")
    net.load_state_dict(own, assign=True)
    net.eval().requires_grad_(False)


@contextmanager
def full_precision(image: Tensor) -> Iterator[None]:
    """Within it, autocast is off on the image's device.

    Feature differences are small beside the features; in bfloat16, of three digits, they drown.
    """
    with torch.autocast(image.device.type, enabled=False):
        yield


class Standardize(nn.Module):
    """Subtract a mean and divide by a deviation, per color: the input that a classifier was trained on.

    Shape: (N, 3, H, W) -> (N, 3, H, W) float32. Raises ValueError when the input is not RGB batches.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Color, deviation: Color) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """The image in the scale that the network was trained on."""
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(f"Expected RGB batches of shape (N, 3, H, W), got {tuple(image.shape)}.")
        return (image.float() - self.mean) / self.deviation


# Where each convolution stands in torchvision's list; ReLU and pooling take the numbers between.
LAYERS = {
    "conv1_1": 0, "conv1_2": 2,
    "conv2_1": 5, "conv2_2": 7,
    "conv3_1": 10, "conv3_2": 12, "conv3_3": 14, "conv3_4": 16,
    "conv4_1": 19, "conv4_2": 21, "conv4_3": 23, "conv4_4": 25,
    "conv5_1": 28, "conv5_2": 30, "conv5_3": 32, "conv5_4": 34,
}  # fmt: skip
BLOCK_CHANNELS = {"1": 64, "2": 128, "3": 256, "4": 512, "5": 512}

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_CONV_WEIGHT = re.compile(r"features\.(\d+)\.weight")


@dataclass(frozen=True, kw_only=True)
class Tap:
    """A place in the network where features are taken."""

    layer: str
    """The convolution, as the literature names it: block and place, `conv1_1` to `conv5_4`."""

    activated: bool = False
    """Taken after the ReLU (True) or before it (False, as DDNSR and ESRGAN do)."""

    def __post_init__(self) -> None:
        if self.layer not in LAYERS:
            raise ConfigError(f"VGG19 has the layers {', '.join(LAYERS)}; {self.layer!r} is none of them.")


class VGG19Features(nn.Module):
    """RGB images to the features at some taps, all in one pass that ends at the deepest of them.

    Shape: (N, 3, H, W) in [0, 1] -> per tap (N, C, H / 2^b, W / 2^b) float32, b being the block less one (halves are
    rounded down). The weights are frozen, gradients reach the images. Computes in float32 also under autocast,
    unless asked to follow it.
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        taps: Iterable[Tap],
        *,
        scales: Mapping[Tap, float] | None = None,
        normalize: bool = True,
        autocast: bool = False,
        source: str = "The VGG19 file",
    ) -> None:
        """Take the layers up to the deepest tap; the rest of `state` is ignored.

        state: tensors by name, any floating dtype; they are copied.
        scales: what the features of each tap are divided by, 1 when not given. With the means that `mean_activations`
        measures, losses have the same size whether the weights are of the original Caffe scale or of torchvision's.
        normalize: subtract ImageNet's mean and divide by its deviation first, as these weights were trained.
        DDNSR's authors feed [0, 1] as it is; False does so. autocast: compute in its number format
        where it is on; three digits are enough where images differ as much as an SR image and its target do. source:
        the file's name, for the messages.
        Raises WeightsError when the state ends before the deepest tap or is no VGG19, ValueError without taps or when
        `scales` does not hold a positive number for each.
        """
        super().__init__()
        self.taps = tuple(dict.fromkeys(taps))
        if not self.taps:
            raise ValueError("VGG19Features needs at least one tap.")
        self.scales = _checked_scales(self.taps, scales)
        self.autocast = autocast
        deepest = max((tap.layer for tap in self.taps), key=LAYERS.__getitem__)
        check_depth(state, deepest, source)
        with torch.device("meta"):  # a random start would be thrown away, and move the random state of a run
            self.features = nn.ModuleDict(_convolutions(deepest))
        fill_frozen(self, state, source)
        self.standardize = Standardize(IMAGENET_MEAN, IMAGENET_STD) if normalize else Standardize((0, 0, 0), (1, 1, 1))
        self.least_px = 2 ** (int(deepest[4]) - 1)

    def forward(self, image: Tensor) -> dict[Tap, Tensor]:
        """Features by tap. Raises ValueError when `image` is not RGB batches, or a side would come to nothing."""
        with nullcontext() if self.autocast else full_precision(image):
            x = self.standardize(image)
            if min(image.shape[-2:]) < self.least_px:
                raise ValueError(f"{tuple(image.shape)} is too small: sides of {self.least_px} px at least.")
            return self._collect(x)

    def _collect(self, x: Tensor) -> dict[Tap, Tensor]:
        found: dict[Tap, Tensor] = {}
        for layer, index in LAYERS.items():
            if str(index) not in self.features:
                break
            if layer.endswith("_1") and index > 0:
                x = F.max_pool2d(x, kernel_size=2)
            before = self.features[str(index)](x)
            x = F.relu(before)  # not in place: a tap before it would change
            found |= {tap: x if tap.activated else before for tap in self.taps if tap.layer == layer}
        return {tap: found[tap].float() / self.scales[tap] for tap in self.taps}


@torch.no_grad()
def mean_activations(vgg: VGG19Features, images: Iterable[Tensor]) -> dict[Tap, float]:
    """The mean absolute value of the features at each tap of `vgg`, before its `scales`.

    images: batches (N, 3, H, W) in [0, 1], of any sizes; each value counts the same.
    Raises ValueError when there is no image.
    """
    sums, counts = dict.fromkeys(vgg.taps, 0.0), dict.fromkeys(vgg.taps, 0)
    for image in images:
        for tap, features in vgg(image).items():
            sums[tap] += features.abs().sum(dtype=torch.float64).item() * vgg.scales[tap]
            counts[tap] += features.numel()
    if not all(counts.values()):
        raise ValueError("mean_activations needs at least one image.")
    return {tap: sums[tap] / counts[tap] for tap in vgg.taps}


def _convolutions(deepest: str) -> dict[str, nn.Module]:
    """3x3 convolutions by their number, from the first to `deepest`."""
    convolutions: dict[str, nn.Module] = {}
    before = 3
    for layer, index in LAYERS.items():
        if index <= LAYERS[deepest]:
            channels = BLOCK_CHANNELS[layer[4]]
            convolutions[str(index)] = nn.Conv2d(before, channels, kernel_size=3, padding=1)
            before = channels
    return convolutions


def check_depth(state: Mapping[str, Tensor], deepest: str, source: str) -> None:
    """Raises WeightsError when the convolutions of `state` are not VGG19's, or end before the layer `deepest`."""
    held = {int(match[1]) for key in state if (match := _CONV_WEIGHT.fullmatch(key))}
    if 0 not in held or not held <= set(LAYERS.values()):
        raise WeightsError(
            f"{source} is no VGG19 without batch norm under torchvision's names (features.0.weight, ...): its layers "
            f"are {sorted(held) or 'missing'}. Fetch the right file."
        )
    lacking = next((layer for layer, index in LAYERS.items() if index not in held), None)
    if lacking is not None and LAYERS[lacking] <= LAYERS[deepest]:
        names = list(LAYERS)
        raise WeightsError(
            f"{source} ends at {names[names.index(lacking) - 1]}, but {deepest} is asked for. Give a deeper VGG19 "
            f"with --vgg, or choose a layer that the file holds, as with --perceptual conv3_4."
        )


def _checked_scales(taps: tuple[Tap, ...], scales: Mapping[Tap, float] | None) -> dict[Tap, float]:
    if scales is None:
        return dict.fromkeys(taps, 1.0)
    if set(scales) != set(taps):
        raise ValueError(f"scales must name the taps {taps}, got {tuple(scales)}.")
    if not all(math.isfinite(scale) and scale > 0 for scale in scales.values()):
        raise ValueError(f"scales must be positive numbers, got {tuple(scales.values())}.")
    return dict(scales)
