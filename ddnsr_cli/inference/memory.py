"""Free memory of devices, and what running out of it looks like; PyTorch is loaded only where it is needed."""

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import torch

_M_ARENA_MAX, _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -8, -3, -1  # of glibc's malloc.h
KEPT_BYTES = 1 << 30  # what is freed is kept up to here, and larger blocks come from the system one by one
RECORDING = threading.Lock()  # held while a CUDA graph is recorded: another, or `empty_cache`, would break it
_NO_LIMIT = 1 << 62  # of control groups of version 1, about
UNKNOWN_FREE_BYTES = 2 << 30  # where the system does not tell, a desktop of today has at least this to spare

# What allocators say; all but torch.OutOfMemoryError and MemoryError come as bare RuntimeErrors. Two are vague and
# mean other things too, but a smaller tile is the right answer to each of them: oneDNN's "could not create a
# primitive" (seen under a memory limit), and cuDNN's "unable to find", which says that no workspace fits.
OUT_OF_MEMORY_TEXTS = (
    "out of memory",  # CUDA, HIP, XPU, MPS
    "can't allocate memory",  # CPU on Linux and macOS
    "not enough memory",  # CPU on Windows
    "ALLOC_FAILED",  # cuDNN, cuBLAS
    "unable to find an engine",
    "Unable to find a valid cuDNN algorithm",
    "could not create a primitive",
    "could not create a memory",
    "Invalid buffer size",  # MPS, beyond its largest buffer
)

# Feature maps are many megabytes, each allocated anew: in pages of 2 MB instead of 4 KB they cost a tenth of the page
# faults. PyTorch asks when it first allocates, on Linux only; what the environment says goes first.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

_KERNELS, MOST_KERNELS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", 64


def bound_kernels() -> None:
    """Keep oneDNN from remembering 1,024 convolutions by the size of their input; it asks when the first one runs.

    With a folder of images of many sizes that takes more and more memory: a third more after 2,000 small ones. A
    network has about eleven kinds of convolution, so that the last five sizes are still remembered. What the
    environment says goes first.
    """
    os.environ.setdefault(_KERNELS, str(MOST_KERNELS))


def give_back_freed() -> None:
    """Give the system what was freed but lies scattered in the heap: the C library of most Linux systems keeps it.

    After each of many images of different sizes that would be some tens of kilobytes more. It takes milliseconds.
    """
    trim = _heap_trimmer()
    if trim is not None:
        trim(0)


def save_addresses(*, proc: Path = Path("/proc")) -> None:
    """Where `ulimit -v` limits addresses, let all threads allocate from one heap: the C library of most Linux systems
    would reserve 64 MB and more of them for each thread that writes, and a library that gets none ends the program."""
    if limits_addresses(proc=proc):
        _set_heap({_M_ARENA_MAX: 1})


def keep_one_heap(*, proc: Path = Path("/proc")) -> None:
    """Let the C library of most Linux systems have one heap for all threads, and keep in it what is freed.

    For a program of our own: it holds for the whole process. Blocks of more than 32 MB, as feature maps of HR size are,
    would go back to the system with each tile and come anew page by page: a seventh of ddnsr-lite's time by PyTorch.
    With a heap for each thread what one frees is of no use to the others: an eighth more memory. Where `ulimit -v`
    limits addresses, nothing is kept: what lies between kept blocks might be too small for the next one.
    `give_back_freed` gives all back.
    """
    if not limits_addresses(proc=proc):
        _set_heap({_M_ARENA_MAX: 1, _M_MMAP_THRESHOLD: KEPT_BYTES, _M_TRIM_THRESHOLD: KEPT_BYTES})


def _set_heap(options: dict[int, int]) -> None:
    """Up to the first one that is refused: an older library does not keep so much, and the last option alone would turn
    off what it learns by itself."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another library of C, such as musl's
            all(ctypes.CDLL(None).mallopt(option, value) for option, value in options.items())


def limits_addresses(*, proc: Path = Path("/proc")) -> bool:
    """Whether `ulimit -v` leaves this process so many addresses and no more."""
    return _address_space(proc) is not None


@cache
def _heap_trimmer() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    try:
        return cast("Callable[[int], int]", ctypes.CDLL(None).malloc_trim)
    except (OSError, AttributeError):  # another library of C, such as musl's
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on any device."""
    of_torch = getattr(sys.modules.get("torch"), "OutOfMemoryError", MemoryError)  # it may not be loaded, or not wholly
    if isinstance(error, MemoryError | of_torch):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY_TEXTS)


def release_memory(device: "torch.device") -> None:
    """Give what PyTorch holds but does not use back to the device."""
    import torch

    gc.collect()
    if device.type == "cuda":
        with RECORDING, suppress(RuntimeError):  # of PyTorch before 2.13, after a recording that failed
            torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    elif device.type == "xpu":
        torch.xpu.empty_cache()


def free_bytes(device: "torch.device") -> int:
    """Bytes that PyTorch can still get on `device`: free ones, and those it holds unused."""
    import torch

    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + held
    if device.type == "xpu":
        held = torch.xpu.memory_reserved(device) - torch.xpu.memory_allocated(device)
        return int(torch.xpu.mem_get_info(device)[0]) + held
    if device.type == "mps":
        # The GPU shares the host's memory: the limit recommended to it says nothing of what other programs hold.
        gpu = int(torch.mps.recommended_max_memory()) - int(torch.mps.current_allocated_memory())
        return max(0, min(gpu, free_host_bytes()))
    return free_host_bytes()


def free_host_bytes(*, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this process can still get from the host: the least of what system, cgroup and ulimit leave.

    proc, cgroup: where Linux shows its counters. Elsewhere half of the installed memory is taken for free.
    """
    limits = [_available(proc), _address_space(proc), *_cgroup_limits(proc, cgroup)]
    return max(0, min((limit for limit in limits if limit is not None), default=UNKNOWN_FREE_BYTES))


def _available(proc: Path) -> int | None:
    for line in _text(proc / "meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return half_of_installed()


def half_of_installed() -> int | None:
    """Half of this machine's memory in bytes; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, other systems not these names
        return None


def _address_space(proc: Path) -> int | None:
    """What `ulimit -v` leaves: the soft limit less the address space in use."""
    words = [line.split() for line in _text(proc / "self/limits").splitlines() if line.startswith("Max address space")]
    pages = _text(proc / "self/statm").split()
    if not words or not pages or not words[0][3].isdigit():  # "unlimited"
        return None
    return int(words[0][3]) - int(pages[0]) * os.sysconf("SC_PAGE_SIZE")


def _cgroup_limits(proc: Path, cgroup: Path) -> list[int]:
    """What each memory limit of this process's control group, and of the groups around it, leaves."""
    limits: list[int] = []
    for line in _text(proc / "self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2, alone or beside version 1
            for root in (cgroup, cgroup / "unified"):
                limits += _group_limits(root, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            limits += _group_limits(cgroup / "memory", path, *names)
    return limits


def _group_limits(root: Path, path: str, limit_name: str, usage_name: str, cache_key: str) -> list[int]:
    # A limit may sit on any group on the way up. In a container the path may be the host's and not exist here; then
    # the root of the mount is the container's own group.
    group = root / path.lstrip("/")
    found = []
    for folder in (group, *group.parents):
        limit = _text(folder / limit_name).strip()
        if limit.isdigit() and int(limit) < _NO_LIMIT:  # "max" is none either
            usage = _text(folder / usage_name).strip()
            found += [int(limit) - int(usage) + _cached(folder, cache_key)] if usage.isdigit() else []
        if folder == root:
            break
    return found


def _cached(folder: Path, key: str) -> int:
    """File cache counted as the group's usage, that the kernel drops when memory is asked for."""
    words = [line.split() for line in _text(folder / "memory.stat").splitlines()]
    return sum(int(word[1]) for word in words if word[0] == key)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # not this system, or not shown to us
        return ""
