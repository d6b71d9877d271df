"""Networks of PyTorch made ready to enlarge images, by PyTorch or, where it can run them, by OpenVINO."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ddnsr_cli.errors import OutOfMemoryError
from ddnsr_cli.inference.device import Backend, CudaBackend, GraphedNet, PlainBackend, probe
from ddnsr_cli.inference.engine import LaterWindows, Note, Window, not_finite
from ddnsr_cli.inference.memory import bound_kernels, free_bytes, is_out_of_memory, release_memory
from ddnsr_cli.inference.openvino import OpenvinoRunner, openvino_runner
from ddnsr_cli.inference.tiling import ArraySource, TileConfig
from ddnsr_cli.inference.upscaler import Upscaler
from ddnsr_cli.nets.arrays import Array, Weights
from ddnsr_cli.nets.bf16 import held_dtype, narrowed
from ddnsr_cli.nets.blocks import SrNet, as_view, undone_view
from ddnsr_cli.nets.compact import CompactNet
from ddnsr_cli.nets.config import VIEWS, SrConfig
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.weights.layouts import build


class NetUpscaler(Upscaler):
    """A network of PyTorch ready to enlarge images of any size on one device.

    Not for use from two threads at once; see `beside`.
    """

    def __init__(
        self,
        net: SrNet,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        tiles: TileConfig,
        tta: bool = False,
        name: str = "the network",
        openvino: bool | Literal["int8"] = False,
        backend: Backend | None = None,
    ) -> None:
        """The network is copied to `device`.

        dtype: number format to compute in; half precision falls back to fp32 where it fails. tta: mean over the
        eight flips and quarter turns of every tile, eight times the work. name: of the weights, for messages.
        openvino: let that package run it, where it can. The result is as near to that in fp32 as PyTorch's. int8: and
        in int8, where it bears that. backend: see `NetRunner`.
        Raises OutOfMemoryError when not even the weights fit.
        """
        int8 = openvino == "int8"
        fast = _by_openvino(net, dtype, int8=int8, tta=tta, name=name) if openvino and device.type == "cpu" else None
        runner = fast or NetRunner(net, device=device, dtype=dtype, tta=tta, name=name, backend=backend)
        super().__init__(runner, net.traits, tiles=tiles, name=name)

    def whole(self, lr: Tensor) -> Tensor:
        """The SR image in one tensor: (1, 3, H, W) in [0, 1] -> (1, 3, scale * H, scale * W), on the CPU."""
        bands = [band.rows for band in self.bands(ArraySource(lr.detach().numpy()))]
        return torch.from_numpy(bands[0] if len(bands) == 1 else np.concatenate(bands, axis=1))[None]


def _by_openvino(net: SrNet, dtype: torch.dtype, *, int8: bool, tta: bool, name: str) -> OpenvinoRunner | None:
    if not isinstance(net, RRDBNet | CompactNet) or type(net) not in (RRDBNet, CompactNet):
        return None
    if dtype not in (torch.bfloat16, torch.float32):
        return None
    weights: dict[str, Array] = {
        key: tensor.detach().to("cpu", torch.float32).numpy() for key, tensor in net.state_dict().items()
    }

    in_fp32 = partial(runner_in_fp32, net.config, weights, tta=tta, name=name)
    narrow, threads = dtype == torch.bfloat16, torch.get_num_threads()
    return openvino_runner(
        net.config, weights, narrow=narrow, int8=int8, threads=threads, tta=tta, name=name, in_fp32=in_fp32
    )


def runner_in_fp32(config: SrConfig, weights: Weights, *, tta: bool, name: str) -> "NetRunner":
    """A network of such weights run by PyTorch on the CPU. tta, name: as of `NetUpscaler`."""
    net = build(config)
    net.load_state_dict({key: torch.from_numpy(values) for key, values in weights.items()}, assign=True)
    return NetRunner(net, device=torch.device("cpu"), dtype=torch.float32, tta=tta, name=name)


class NetRunner:
    """A network run by PyTorch, in the number format that it bears; a `Runner`.

    In half precision it is probed once, and kept in fp32 beside: a window that comes out with NaN or infinity is
    computed again in fp32. A note to the user is given once.
    """

    by_openvino = False

    def __init__(
        self,
        net: SrNet,
        *,
        device: torch.device,
        dtype: torch.dtype,
        tta: bool,
        name: str,
        backend: Backend | None = None,
    ) -> None:
        """The network is copied: the caller's stays as it is. dtype: fp16, bf16, fp32 or fp64. See `NetUpscaler`.

        bf16 on a CPU is for parts of the network, see `nets.bf16`. backend: how the device is given its work; None:
        as suits it.
        """
        bound_kernels()
        self._device = device
        self._backend = backend or (CudaBackend(device) if device.type == "cuda" else PlainBackend(device))
        self._tta = tta
        self._name = name
        self._noted: set[str] = set()
        self._memory_format = _memory_format(net)
        self._wide = torch.promote_types(dtype, torch.float32)
        if dtype != self._wide and _named(dtype) not in net.traits.half_formats:
            dtype = self._wide
        self._wrong_half = ""
        with _room_for(name, device):
            self._full = self._prepared(_on_device(net, device, self._wide))
            self._quick, self._held = self._full, held_dtype(self._full)
            if dtype != self._wide:
                half = _on_device(net, device, dtype)
                held, ready = held_dtype(half), self._prepared(half)
                if probe(ready, self._full, device, _input_dtype(ready)):
                    self._quick, self._held = ready, held
        self._dtype = self._wide if self._quick is self._full else dtype
        if self._dtype != dtype:
            self._wrong_half = f"{_short(dtype)} gives wrong values on {device}: computing in fp32."

    def _prepared(self, net: nn.Module) -> nn.Module:
        # to record the views of a window, which are eight images of one or two shapes, pays for no single one
        return net if self._tta else self._backend.prepared(net)

    @property
    def device(self) -> str:
        """As of `Runner`."""
        return str(self._device)

    @property
    def dtype(self) -> str:
        """As of `Runner`."""
        return _named(self._dtype)

    @property
    def threads(self) -> int:
        """As of `Runner`."""
        return torch.get_num_threads()

    @property
    def ahead(self) -> int:
        """As of `Runner`."""
        return self._backend.ahead

    @property
    def batch_px(self) -> int:
        """As of `Runner`."""
        return self._backend.batch_px

    def held_bytes(self, *, deep: bool = False) -> int:
        """As of `Runner`."""
        return (torch.promote_types(self._held, torch.float32) if deep else self._held).itemsize

    def free_bytes(self) -> int:
        """As of `Runner`."""
        return free_bytes(self._device)

    def release(self) -> None:
        """As of `Runner`."""
        for net in (self._quick, self._full):
            if isinstance(net, GraphedNet):
                net.forget()
        release_memory(self._device)

    def beside(self, threads: int) -> "NetRunner":
        """As of `Runner`: all threads share the network."""
        self.use_threads(threads)
        return self

    def use_threads(self, threads: int) -> None:
        """As of `Runner`."""
        torch.get_num_threads()  # at the first question a thread takes the number that all have
        torch.set_num_threads(threads)

    def begin(self, lrs: Sequence[Window], on_note: Note, *, deep: bool = False) -> LaterWindows:
        """As of `Runner`."""
        if self._wrong_half:
            self._note_once(self._wrong_half, on_note)
        net = self._full if deep and self._dtype == torch.bfloat16 else self._quick
        begun = self._begun(net, lrs)

        def finished() -> list[Window]:
            return [self._finished(sr, net, lr, on_note) for sr, lr in zip(begun(), lrs, strict=True)]

        return finished

    def _finished(self, sr: Tensor | None, net: nn.Module, lr: Window, on_note: Note) -> Window:
        """One SR window. sr: what the network made of it, None where a value is not finite."""
        if sr is None and self._dtype != self._wide and net is not self._full:
            message = f"{_short(self._dtype)} overflows in {self._name}: tiles where it does are computed in fp32."
            self._note_once(message, on_note)
            (sr,) = self._begun(self._full, [lr])()
        if sr is None:
            raise not_finite(lr, self._name)
        window: Window = sr.numpy()
        return window

    @torch.inference_mode()
    def _begun(self, net: nn.Module, lrs: Sequence[Window]) -> Callable[[], list[Tensor | None]]:
        """What waits for the SR windows; it gives None for one with a value that is not finite."""
        batch = self._backend.to_device(torch.from_numpy(np.stack(lrs)), _input_dtype(net))
        batch = batch.contiguous(memory_format=self._memory_format)
        sr = (self._mean_of_views(net, batch) if self._tta else net(batch)).to(self._wide)
        totals, images = self._backend.to_host(sr.sum(dim=(1, 2, 3))), self._backend.to_host(sr)

        def wait() -> list[Tensor | None]:  # a sum is finite where all values are
            finite = [math.isfinite(total) for total in totals()]
            return [image if is_finite else None for image, is_finite in zip(images(), finite, strict=True)]

        return wait

    def _mean_of_views(self, net: nn.Module, batch: Tensor) -> Tensor:
        """The mean over the eight flips and quarter turns, each undone after the network."""
        total: Tensor | int = 0
        for view in range(VIEWS):
            total = total + undone_view(net(as_view(batch, view)).to(self._wide), view)
        return torch.as_tensor(total) / VIEWS

    def _note_once(self, message: str, on_note: Note) -> None:
        if message not in self._noted:
            self._noted.add(message)
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


def _on_device(net: SrNet, device: torch.device, dtype: torch.dtype) -> nn.Module:
    narrow = device.type == "cpu" and dtype == torch.bfloat16
    moved: SrNet = copy.deepcopy(net).to(  # type: ignore[call-overload]
        device, torch.float32 if narrow else dtype, memory_format=_memory_format(net)
    )
    ready = narrowed(moved) if narrow else moved
    return ready.eval().requires_grad_(False)


def _memory_format(net: SrNet) -> torch.memory_format:
    return torch.channels_last if net.traits.channels_last else torch.contiguous_format


def _input_dtype(net: nn.Module) -> torch.dtype:
    """The format of what comes in first and goes out last; on a CPU what is between may have a narrower one."""
    return next(net.parameters()).dtype


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _short(dtype: torch.dtype) -> str:
    return {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype, str(dtype))
