"""Networks that only measure: filled once from given tensors, never trained, always float32."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ddnsr_cli.errors import WeightsError

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
