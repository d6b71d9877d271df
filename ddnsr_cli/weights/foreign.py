"""Networks of all other architectures (DAT, HAT, SPAN, RealPLKSR, SwinIR ...), where spandrel is installed."""

import functools
import importlib
from typing import Any

from torch import Tensor

from ddnsr_cli.errors import WeightsError
from ddnsr_cli.nets.blocks import SrNet
from ddnsr_cli.nets.config import SrTraits
from ddnsr_cli.weights.layouts import check_finite, named_tensors

HALO_PX = (
    32  # their reach is not known, and is the whole image with some; this is twice what programs of the field take
)
VALUES_PER_PX = 10_000  # attention in windows of 16 x 16 takes about as much; convolutions take less
LARGEST_WINDOW_PX = 64  # a least side up to this is that of an attention window; above it, that of a fixed input
# What loading a file that is damaged, or only resembles one that spandrel knows, raises depends on the architecture.
_NOT_LOADED = (
    RuntimeError, LookupError, ValueError, TypeError, AttributeError, AssertionError, ArithmeticError,
    NotImplementedError, ImportError,
)  # fmt: skip


class ForeignNet(SrNet):
    """A network that spandrel runs. The result is clamped, unlike that of our own networks.

    Shape: (1, 3, H, W) -> (1, 3, scale * H, scale * W), values in [0, 1].
    """

    def __init__(self, descriptor: Any) -> None:  # noqa: ANN401 - spandrel is optional, and has no types
        """descriptor: a `spandrel.ImageModelDescriptor` for RGB images."""
        super().__init__()
        self.model = descriptor.model  # as a part of this module, it is moved along
        self._descriptor = descriptor

    @property
    def architecture(self) -> str:
        """As spandrel calls it."""
        return str(self._descriptor.architecture.name)

    @property
    def traits(self) -> SrTraits:
        """What spandrel says of the network; a halo of 32 pixels, as nothing is known of its reach."""
        needs = self._descriptor.size_requirements
        return SrTraits(
            scale=self._descriptor.scale,
            halo_px=HALO_PX,
            values_per_px=VALUES_PER_PX,
            align=needs.minimum if 0 < needs.minimum <= LARGEST_WINDOW_PX else needs.multiple_of,
            tiles=self._descriptor.tiling.name != "INTERNAL",
            half_formats=("float16",) if self._descriptor.supports_half else (),
            channels_last=False,
        )

    def forward(self, lr: Tensor) -> Tensor:
        """The LR image enlarged. It is padded to the sizes that the network takes, and the result cut back."""
        sr: Tensor = self._descriptor(lr)
        return sr


def load_foreign(loaded: object, source: str, refusal: WeightsError) -> ForeignNet:
    """The network of what a weights file held, in eval mode and without gradients.

    source: the file's name. refusal: why it is none of ours.
    Raises `refusal` when spandrel does not know it either, and says more where spandrel is missing or does not start;
    WeightsError when the network is not for RGB images of any content.
    """
    spandrel, failure = _spandrel()
    if spandrel is None:
        raise WeightsError(f"{refusal} {failure}") from refusal
    tensors = named_tensors(loaded, source)
    try:
        check_finite(tensors, source)  # which not all kinds of tensors can be asked
        found = spandrel.ModelLoader().load_from_state_dict(spandrel.canonicalize_state_dict(tensors))
    except (spandrel.UnsupportedModelError, *_NOT_LOADED) as cause:
        raise refusal from cause
    if not isinstance(found, spandrel.ImageModelDescriptor) or found.purpose == "FaceSR":
        raise WeightsError(f"{source} is a {found.architecture.name} network, which is not for images of any content.")
    if (found.input_channels, found.output_channels) != (3, 3):
        raise WeightsError(f"{source} is a {found.architecture.name} network, not from RGB to RGB. Name other weights.")
    return ForeignNet(found).float().eval().requires_grad_(False)


@functools.cache
def _spandrel() -> tuple[Any, str]:
    """The package, or None and a sentence why."""
    try:
        return importlib.import_module("spandrel"), ""
    except ModuleNotFoundError as cause:
        if cause.name == "spandrel":
            return None, "Others load with: pip install 'ddnsr[archs]'."
        return None, f"Others load with spandrel, which does not start without {cause.name}: install that."
    except (ImportError, RuntimeError, AttributeError) as cause:  # a torchvision of another build than PyTorch
        return None, (
            "Others load with a torchvision of the same build as PyTorch and spandrel, which does not start here: "
            f"{' '.join(str(cause).split())[:80]}."
        )
