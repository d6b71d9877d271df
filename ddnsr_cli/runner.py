"""Run a network over one window: number format, flips and turns, and values that are not finite."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ddnsr_cli.device import probe
from ddnsr_cli.errors import ImageReadError, OutOfMemoryError, WeightsError
from ddnsr_cli.memory import is_out_of_memory
from ddnsr_cli.nets.narrow import narrow_blocks
from ddnsr_cli.nets.sr_net import SrNet

Note = Callable[[str], None]
"""Takes one line to tell the user."""


class WindowRunner:
    """A network on a device, in the number format that it bears.

    In half precision it is probed once, and kept in fp32 beside: a window that comes out with NaN or infinity is
    computed again in fp32. What was told to the user once is not told again.
    """

    def __init__(self, net: SrNet, *, device: torch.device, dtype: torch.dtype, tta: bool, name: str) -> None:
        """The network is copied: the caller's stays as it is. dtype: fp16, bf16, fp32 or fp64. See `Upscaler`.

        bf16 on a CPU is for the inner blocks alone, see `nets.narrow`.
        """
        self.device = device
        self._tta = tta
        self._name = name
        self._said: set[str] = set()
        self._memory_format = net.traits.memory_format
        self._wide = torch.promote_types(dtype, torch.float32)
        if dtype not in (self._wide, *net.traits.half_formats):
            dtype = self._wide
        self._wrong_half = ""
        with _room_for(name, device):
            self._full = _on_device(net, device, self._wide)
            self._quick = self._full
            if dtype != self._wide:
                half = _on_device(net, device, dtype)
                if probe(half, self._full, device, _input_dtype(half)):
                    self._quick = half
                else:
                    self._wrong_half = f"{_short(dtype)} gives wrong values on {device}: computing in fp32."
        self.dtype = self._wide if self._quick is self._full else dtype
        self.held_dtype = _input_dtype(self._quick)
        """Of what takes most of the memory: the feature maps of HR size."""

    def run(self, lr: Tensor, on_note: Note) -> Tensor:
        """LR window to SR window on the CPU: (3, h, w) in [0, 1] -> (3, scale * h, scale * w), fp32 or wider.

        Raises WeightsError when the result is not finite even in fp32, ImageReadError when the picture is not.
        """
        if self._wrong_half:
            self._say_once(self._wrong_half, on_note)
        sr = self._forward(self._quick, lr)
        if sr is None and self._quick is not self._full:
            message = f"{_short(self.dtype)} overflows in {self._name}: tiles where it does are computed in fp32."
            self._say_once(message, on_note)
            sr = self._forward(self._full, lr)
        if sr is None:
            if not lr.isfinite().all():
                raise ImageReadError("The picture holds values that are not finite (NaN or infinity). Mend it first.")
            raise WeightsError(f"{self._name} gives values that are not finite: the weights are damaged. Use others.")
        return sr

    @torch.inference_mode()
    def _forward(self, net: SrNet, lr: Tensor) -> Tensor | None:
        """The SR window, or None when a value is not finite."""
        batch = lr.unsqueeze(0).to(self.device, _input_dtype(net)).contiguous(memory_format=self._memory_format)
        sr = (self._mean_of_views(net, batch) if self._tta else net(batch)).to(self._wide)
        return sr[0].cpu() if bool(sr.isfinite().all()) else None

    def _mean_of_views(self, net: SrNet, batch: Tensor) -> Tensor:
        """The mean over the eight flips and quarter turns, each undone after the network."""
        total: Tensor | int = 0
        for mirrored in (batch, batch.flip(3)):
            for turns in range(4):
                sr = torch.rot90(net(torch.rot90(mirrored, turns, (2, 3))), -turns, (2, 3)).to(self._wide)
                total = total + (sr if mirrored is batch else sr.flip(3))
        return torch.as_tensor(total) / 8

    def _say_once(self, message: str, on_note: Note) -> None:
        if message not in self._said:
            self._said.add(message)
            on_note(message)


@contextmanager
def _room_for(name: str, device: torch.device) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"{device} has no room for {name}. Close other programs, or use --device cpu."
        ) from error


def _on_device(net: SrNet, device: torch.device, dtype: torch.dtype) -> SrNet:
    narrow = device.type == "cpu" and dtype == torch.bfloat16
    moved: SrNet = copy.deepcopy(net).to(  # type: ignore[call-overload]
        device, torch.float32 if narrow else dtype, memory_format=net.traits.memory_format
    )
    if narrow:
        narrow_blocks(moved)
    return moved.eval().requires_grad_(False)


def _input_dtype(net: SrNet) -> torch.dtype:
    """The format of what comes in first and goes out last; inner blocks on a CPU may have a narrower one."""
    return next(net.parameters()).dtype


def _short(dtype: torch.dtype) -> str:
    return {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype, str(dtype))
