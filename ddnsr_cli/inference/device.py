"""The device and the number format that networks compute in."""

import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ddnsr_cli.errors import DeviceError
from ddnsr_cli.inference.engine import FAST_BF16, DtypeName
from ddnsr_cli.inference.memory import RECORDING

KINDS = "auto, cpu, cuda, cuda:1, mps, xpu, or a number (-1 is the CPU)"

_NUMBERS = re.compile(r"(-1|\d+)(,(-1|\d+))*")
MOST_GRAPH_PX = 256**2  # LR pixels of a batch: with more, kernels run longer than it takes to start them
SEEN_FOR_A_GRAPH = 3  # recording takes about as long as three runs
MOST_GRAPHS = 16  # of one network; further shapes run without
WARM_UPS = 2  # before recording: libraries choose kernels and get their memory
GRAPH_TOLERANCE = 1 / 255  # between a graph's first image and the network's own

PROBE_PX = 48  # a side that no network of ours refuses; small enough for milliseconds
PROBE_TOLERANCE = 0.1  # of the largest value: fp16 and bf16 stay below a tenth of it, a broken one is off by all


Later = Callable[[], Tensor]
"""Waits for a tensor on the CPU, and gives it."""


class Backend(Protocol):
    """How a device is given its work: what goes there and comes back, and how networks run."""

    @property
    def ahead(self) -> int:
        """How many results may be on their way when the first of them is waited for, beside it."""

    @property
    def batch_px(self) -> int:
        """LR pixels of all windows of one batch: as many as it takes to keep the device busy. 0: one window."""

    def to_device(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """A tensor of the CPU on the device."""

    def to_host(self, tensor: Tensor) -> Later:
        """Begin to copy a tensor of the device to the CPU."""

    def prepared(self, net: nn.Module) -> nn.Module:
        """The network, which is on the device, as it runs quickest there over images one after the other."""


class PlainBackend:
    """Each copy is finished when it is asked for, and networks run as they are."""

    ahead = 0
    batch_px = 0  # on a processor several small images as one batch gained nothing

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def to_device(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """As of `Backend`."""
        return tensor.to(self._device, dtype)

    def to_host(self, tensor: Tensor) -> Later:
        """As of `Backend`."""
        copied = tensor.cpu()
        return lambda: copied

    def prepared(self, net: nn.Module) -> nn.Module:
        """As of `Backend`."""
        return net


class CudaBackend:
    """Copies by way of memory that keeps its place, which CUDA makes beside its other work and that of this thread."""

    ahead = 1  # then the device is at work while a result is taken over
    batch_px = 512**2  # a window of that size occupies a large card

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:  # noqa: ANN401 - a module
        """cuda: what has streams, events and graphs, as `torch.cuda` does."""
        self._device = device
        self._cuda = cuda

    def to_device(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """As of `Backend`."""
        return tensor.to(dtype).pin_memory().to(self._device, non_blocking=True)

    def to_host(self, tensor: Tensor) -> Later:
        """As of `Backend`."""
        copied = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        copied.copy_(tensor, non_blocking=True)
        done = self._cuda.Event()
        done.record(self._cuda.current_stream(self._device))

        def wait() -> Tensor:
            done.synchronize()  # until then it holds anything
            return copied

        return wait

    def prepared(self, net: nn.Module) -> nn.Module:
        """As of `Backend`. AMD's cards, which go by the same name, are left alone: their libraries break recordings."""
        return net if torch.version.hip else GraphedNet(net, self._cuda)


@dataclass(frozen=True)
class _Graph:
    """A network's kernels for one shape, from the memory of `lr` to that of `sr`."""

    lr: Tensor
    sr: Tensor
    kernels: Any

    def run(self, lr: Tensor) -> Tensor:
        self.lr.copy_(lr)
        self.kernels.replay()
        return self.sr.clone()  # the next run overwrites it


class GraphedNet(nn.Module):
    """A network whose kernels are recorded as a CUDA graph for shapes that come again and again, and started as one.

    A small window takes a card less time than a processor needs to start some hundred kernels one by one. For any
    thread: what one records serves all. A shape whose graph gives another image goes without; after an error in a
    recording nothing more is recorded. For inference mode only.

    Shape: that of the network.
    """

    def __init__(self, net: nn.Module, cuda: Any = torch.cuda) -> None:  # noqa: ANN401 - a module
        """net: on a device of CUDA. cuda: what has streams and graphs, as `torch.cuda` does."""
        super().__init__()
        self.net = net
        self._cuda = cuda
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._seen: Counter[torch.Size] = Counter()
        self._graphs: dict[torch.Size, _Graph | None] = {}
        self._place: list[tuple[Any, Any]] = []  # (stream, pool): of one stream, graphs share memory; none run at once

    def forward(self, lr: Tensor) -> Tensor:
        """What the network gives for images of any shape."""
        if lr.shape[0] * lr.shape[-2] * lr.shape[-1] <= MOST_GRAPH_PX:
            with self._lock:
                graph = self._graph(lr)
                if graph is not None:
                    return graph.run(lr)
        sr: Tensor = self.net(lr)
        return sr

    def forget(self) -> None:
        """Give up all graphs, whose memory nothing else can use, and record no more."""
        with self._lock:
            self._over.set()
            self._graphs.clear()
            self._place.clear()

    def _graph(self, lr: Tensor) -> _Graph | None:
        """That of the shape, which is recorded when it has come often enough."""
        shape = lr.shape
        if shape in self._graphs or len(self._graphs) == MOST_GRAPHS or self._over.is_set():
            return self._graphs.get(shape)
        self._seen[shape] += 1
        if self._seen[shape] == SEEN_FOR_A_GRAPH:
            try:
                with RECORDING:
                    self._graphs[shape] = self._recorded(lr)
            except RuntimeError:  # no memory for it, or a kernel that cannot be recorded
                self._over.set()
        return self._graphs.get(shape)

    def _recorded(self, lr: Tensor) -> _Graph | None:
        cuda, image, kernels = self._cuda, lr.clone(), self._cuda.CUDAGraph()
        stream, pool = self._place[0] if self._place else (cuda.Stream(lr.device), None)
        others = cuda.current_stream(lr.device)
        stream.wait_stream(others)
        with cuda.stream(stream):  # around the recording, too, which does not go back to `others` where it fails
            for _ in range(WARM_UPS):
                expected = self.net(image)
            others.wait_stream(stream)
            with cuda.graph(kernels, pool=pool, stream=stream, capture_error_mode="thread_local"):
                sr = self.net(image)
        self._place[:] = [(stream, kernels.pool())]
        graph = _Graph(lr=image, sr=sr, kernels=kernels)
        is_same = torch.allclose(graph.run(lr), expected, rtol=0, atol=GRAPH_TOLERANCE, equal_nan=True)
        return graph if is_same else None


def choose_device(text: str | None = None, *, note: Callable[[str], None] | None = None) -> torch.device:
    """The device named by `text`, made sure to be there and to compute.

    None and "auto": the first there is of CUDA, XPU, MPS, CPU. A number, as `-g` of other tools takes it: -1 is the
    CPU, 0 the first GPU; of several with commas between it is the first. note: takes a line where there is no GPU at
    all and a number means the CPU; None: that is refused.
    Raises DeviceError for an unknown name, a missing device, or one that fails to add 1 and 1.
    """
    wanted = text.strip().lower() if text else "auto"
    if note is not None and _NUMBERS.fullmatch(wanted):
        wanted = _by_number(wanted, note)
    device = _parse(wanted)
    count = device_count(device.type)
    if count == 0:
        raise DeviceError(f"No {device.type} device is here. Use --device auto or --device cpu.")
    if device.index is not None and device.index >= count:
        there = f"{device.type}:0" + (f" to {device.type}:{count - 1}" if count > 1 else "")
        raise DeviceError(f"{device} is not here; there is {there}. Use one of these, or --device cpu.")
    check_it_computes(device)
    return device


def _by_number(wanted: str, note: Callable[[str], None]) -> str:
    """One device for the number or numbers that another program's command names."""
    first, comma, _ = wanted.partition(",")
    if first == "-1":
        return first
    _numbered("cuda", first)  # no machine has a device of a number that is out of bounds
    if _first_kind("cpu") == "cpu":
        note(f"no GPU that PyTorch can use is here: --device {wanted} goes on with the CPU")
        return "cpu"
    if comma:
        note(f"one device is used at a time: of {wanted} it is {first}")
    return first


def _parse(text: str) -> torch.device:
    if text == "-1":
        return torch.device("cpu")
    if text == "auto":
        return torch.device(_first_kind("cpu"))
    if text.isdecimal():
        return _numbered(_first_kind("cuda"), text)
    kind, colon, index = text.partition(":")
    if kind not in ("cpu", "cuda", "mps", "xpu") or (colon and not index.isdecimal()):
        raise DeviceError(f"Unknown device '{text}'. Use {KINDS}.")
    return _numbered(kind, index) if colon and kind != "cpu" else torch.device(kind)


def _numbered(kind: str, index: str) -> torch.device:
    """The device of that number. PyTorch keeps the number in one byte and lets larger ones wrap round."""
    if len(index) > 3 or int(index) > 127:
        raise DeviceError(f"There is no device {kind}:{index[:20]}. Use {KINDS}.")
    return torch.device(kind, int(index))


def _first_kind(otherwise: str) -> str:
    return next((kind for kind in ("cuda", "xpu", "mps") if device_count(kind)), otherwise)


def device_count(kind: str) -> int:
    """Number of devices of a kind."""
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "xpu":
        return torch.xpu.device_count() if torch.xpu.is_available() else 0
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    return 1


def check_it_computes(device: torch.device) -> None:
    # A GPU may be listed and yet too old for this build of PyTorch, taken by another process, or full.
    """Raise `DeviceError` when a device cannot even add."""
    if device.type == "cpu":
        return
    try:
        right = (torch.ones(1, device=device) + 1).item() == 2
    except RuntimeError as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise DeviceError(f"{device} is here but does not compute: {reason} Use --device cpu or another.") from error
    if not right:
        raise DeviceError(f"{device} is here but computes wrongly. Use --device cpu or another.")


def choose_dtype(device: torch.device, wanted: DtypeName = "auto") -> torch.dtype:
    """The number format to try first on `device`; whether a network gives right values in it, `probe` tells.

    auto: fp16 on CUDA from compute capability 7 on, bf16 on CPUs that multiply in it, fp32 elsewhere. Raises
    DeviceError for half precision that the device only imitates: on a CPU a convolution takes a hundred times longer.
    """
    if wanted == "fp32":
        return torch.float32
    if device.type == "cpu":
        return _choose_cpu_dtype(wanted)
    if wanted == "auto" and not _has_fast_half(device):
        return torch.float32
    if wanted == "bf16" and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        raise DeviceError(f"{device} has no bf16. Use fp16 or fp32.")
    return torch.bfloat16 if wanted == "bf16" else torch.float16


def _choose_cpu_dtype(wanted: DtypeName) -> torch.dtype:
    if wanted == "fp16" or (wanted == "bf16" and not _cpu_multiplies_bf16()):
        raise DeviceError(f"{wanted} on this CPU is far slower than fp32. Use fp32, or another --device.")
    return torch.bfloat16 if _cpu_multiplies_bf16() else torch.float32


def _cpu_multiplies_bf16() -> bool:
    """Whether the processor has instructions for it."""
    if not hasattr(torch.cpu, "get_capabilities") or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False  # an older PyTorch cannot tell
    known = torch.cpu.get_capabilities()
    return any(known.get(name) for name in FAST_BF16)


def _has_fast_half(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)


@torch.inference_mode()
def probe(half: nn.Module, full: nn.Module, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `half`, in `dtype`, gives about what `full`, in fp32, gives for a random image on `device`.

    By doing rather than by the device's name: some GPUs (GTX 16xx) give NaN or black in fp16 and do not tell.
    half, full: the same network, (1, 3, H, W) -> (1, 3, scale * H, scale * W), both on `device`.
    """
    lr = torch.rand(1, 3, PROBE_PX, PROBE_PX, generator=torch.Generator().manual_seed(0)).to(device)
    expected: Tensor = full(lr)
    error = (half(lr.to(dtype)).float() - expected).abs().max()
    return bool(error <= PROBE_TOLERANCE * expected.abs().max())  # NaN compares false
