"""What runs networks, PyTorch or OpenVINO: told without loading PyTorch, which takes a second, where that is sure."""

import ctypes
import gc
import os
import platform
import re
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.errors import DeviceError, ImageReadError, WeightsError
from ddnsr_cli.inference.memory import limits_addresses

DtypeName = Literal["auto", "fp32", "fp16", "bf16", "int8"]
EngineName = Literal["auto", "torch", "openvino"]

Window = NDArray[np.floating[Any]]
"""Part of an image, (3, h, w), of floats near [0, 1]."""

Note = Callable[[str], None]
"""Takes one line to tell the user."""

LaterWindows = Callable[[], Sequence[Window]]
"""Waits for SR windows, and gives them."""

BeginWindows = Callable[[Sequence[Window]], LaterWindows]
"""From LR windows to what waits for their SR windows, as `Runner.begin`."""

X86_64 = ("x86_64", "amd64")
FAST_BF16 = ("avx512_bf16", "amx_bf16")
"""Instructions by which a processor multiplies bfloat16: Intel Xeon from Cooper Lake, AMD from Zen 4 on."""

FAST_INT8 = ("avx512_vnni", "avx_vnni", "amx_int8")
"""The same for 8-bit integers: Intel from Ice Lake, AMD from Zen 4 on."""

_THREADS = ("MKL_NUM_THREADS", "OMP_NUM_THREADS")  # the first that is given counts
_CUDA_DRIVER = "libcuda.so.1"
_CUDA_DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/proc/driver/nvidia", "/dev/dxg")  # the last in Windows' Linux


class Runner(Protocol):
    """A network on a device, in the number format that it bears: it enlarges windows."""

    @property
    def device(self) -> str:
        """`cpu`, `cuda:1`, as PyTorch calls it."""

    @property
    def dtype(self) -> str:
        """The number format in use, as PyTorch calls it: `float32`. It may be wider than the one asked for."""

    @property
    def by_openvino(self) -> bool:
        """Whether OpenVINO runs the network."""

    @property
    def threads(self) -> int:
        """How many threads of the processor it uses in the thread that asks."""

    @property
    def ahead(self) -> int:
        """How many windows may be begun before the first of them is waited for: as long, the device need not wait."""

    @property
    def batch_px(self) -> int:
        """LR pixels of all windows that are begun as one batch; 0: they are begun one by one."""

    def held_bytes(self, *, deep: bool = False) -> int:
        """Of one value of what takes most of the memory: the feature maps of HR size. deep: as of `begin`."""

    def free_bytes(self) -> int:
        """Memory that the network can still get."""

    def begin(self, lrs: Sequence[Window], on_note: Note, *, deep: bool = False) -> LaterWindows:
        """Begin to enlarge LR windows of one shape, as one batch: (3, h, w) to (3, scale * h, scale * w), in fp32.

        A GPU then works while this thread goes on; what is given back waits for it. A window that it gives holds until
        the next batch is waited for. deep: the result is to have more than 8 bits, which bf16 has not.
        Raises WeightsError when the result is not finite even in fp32, ImageReadError when the image is not.
        """

    def release(self) -> None:
        """Give the device all memory back that is not needed."""

    def beside(self, threads: int) -> "Runner":
        """The same for another thread, the one that asks, by so many threads of the processor.

        Raises MemoryError or RuntimeError where there is no room for it.
        """

    def use_threads(self, threads: int) -> None:
        """In the thread that asks, and in those to come, let the network use so many threads of the processor."""


def not_finite(lr: Window, name: str) -> ImageReadError | WeightsError:
    """Why a window became NaN or infinity in fp32. name: of the weights."""
    if not np.isfinite(lr).all():
        return ImageReadError("The image holds values that are not finite (NaN or infinity). Mend it first.")
    return WeightsError(f"{name} gives values that are not finite: the weights are damaged. Use others.")


def load_torch() -> None:
    """Import PyTorch before what needs it, without a look for garbage among its objects, which all stay.

    There are hundreds of thousands of them, looked through again and again: a tenth of a second, and more later.
    """
    if "torch" in sys.modules:
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        import torch  # noqa: F401
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def choose_openvino(device: str, wanted: EngineName, *, note: Note) -> bool:
    """Whether OpenVINO runs networks on a device, `cpu` or `cuda:1`, in place of PyTorch, those that it can run.

    auto: OpenVINO on x86-64 processors, where it is installed: there it was quicker in bf16 and in fp32, with every
    network that it runs. note: takes a line when it is asked for and not there. Raises DeviceError when it is asked
    for and the device is no CPU.
    """
    if wanted == "openvino" and device != "cpu":
        raise DeviceError(f"--engine openvino runs networks on the CPU only, not on {device}. Add --device cpu.")
    if wanted == "torch" or device != "cpu":
        return False
    if find_spec("openvino") is None:
        if wanted == "openvino":
            note('OpenVINO is not installed: PyTorch does its work. Get it with: pip install "ddnsr[openvino]"')
        return False
    is_quicker = platform.machine().lower() in X86_64
    return wanted == "openvino" or (is_quicker and not limits_addresses())  # it reserves many, and uses few


def check_int8(engine: EngineName) -> None:
    """Raises DeviceError where OpenVINO cannot run networks in int8 on this processor, or is not to."""
    if engine == "torch":
        raise DeviceError("PyTorch does not run networks in int8. Leave --engine torch or --dtype int8 out.")
    if find_spec("openvino") is None:
        raise DeviceError('int8 needs OpenVINO. Get it with: pip install "ddnsr[openvino]"')
    if not multiplies(FAST_INT8):
        raise DeviceError("int8 on this CPU is slower than other formats (it has no VNNI). Leave --dtype int8 out.")


def format_without_torch(device: str | None, dtype: DtypeName, engine: EngineName) -> Literal["fp32", "bf16"] | None:
    """The number format in which OpenVINO is to run networks on this processor; None: PyTorch is to tell, or to refuse.

    device: as `device.choose_device` takes it. Where a format is given, `choose_device` and `choose_openvino` would say
    the same, without a note, and so would `choose_dtype` of a PyTorch that knows the processor. With int8 it is that of
    what is not in int8.
    """
    if sys.platform != "linux" or platform.machine().lower() not in X86_64:
        return None
    wanted = device.strip().lower() if device else "auto"
    if wanted not in ("cpu", "-1") and not (wanted == "auto" and not _may_have_gpu()):
        return None
    if not choose_openvino("cpu", engine, note=_ignore):
        return None
    narrow = multiplies(FAST_BF16)
    if dtype == "fp16" or (dtype == "bf16" and not narrow):
        return None
    return "bf16" if narrow and dtype != "fp32" else "fp32"


def _may_have_gpu() -> bool:
    """Whether PyTorch might find a GPU on Linux: its build is for one, and there is a driver for such."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return True  # whatever is wrong, importing it will tell
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return True
    without = set(re.findall(r"^(\w+)\b.*= None$", text, flags=re.MULTILINE))
    named = {name for name in ("hip", "xpu") if re.search(rf"^{name}\b", text, flags=re.MULTILINE)}
    return bool(named - without) or ("cuda" not in without and _has_cuda_driver())


def _has_cuda_driver() -> bool:
    """PyTorch may find its library where Python does not look, but not without a device."""
    if any(Path(path).exists() for path in _CUDA_DEVICES):
        return True
    try:
        ctypes.CDLL(_CUDA_DRIVER)
    except OSError:
        return False
    return True


def multiplies(instructions: Sequence[str], *, proc: Path = Path("/proc")) -> bool:
    """Whether this processor has any of these instructions, by what Linux says of it."""
    try:
        text = (proc / "cpuinfo").read_text()
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return any(flag in flags for flag in instructions)


def usable_cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count() -> int:
    """How many threads of the processor networks may use in the thread that asks, on Linux."""
    torch = sys.modules.get("torch")  # where it is loaded, it may have been told
    return threads_on_linux() if torch is None else int(torch.get_num_threads())


def threads_on_linux(*, cpus: Path = Path("/sys/devices/system/cpu")) -> int:
    """How many threads PyTorch would take: one for each core that this process may use, or as the environment says."""
    allowed = os.sched_getaffinity(0)
    cores = {_siblings(cpus, number) & allowed for number in allowed}
    texts = (os.environ.get(name, "").partition(",")[0].strip() for name in _THREADS)  # more are for nested loops
    given = [int(text) for text in texts if text.isdecimal() and int(text)]
    return min([len(cores), *given[:1]])


def _siblings(cpus: Path, number: int) -> frozenset[int]:
    """The processors of Linux that are one core: `0-1`, `0,8`. Where it does not say, each is one."""
    try:
        text = (cpus / f"cpu{number}" / "topology" / "thread_siblings_list").read_text()
        ends = [[int(end) for end in part.split("-")] for part in text.strip().split(",")]
    except (OSError, ValueError):
        return frozenset((number,))
    return frozenset(cpu for first, *last in ends for cpu in range(first, (last or [first])[0] + 1))


def _ignore(_message: str) -> None:
    pass
