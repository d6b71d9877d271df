import os
import platform
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest
import torch

from ddnsr_cli.inference import memory
from ddnsr_cli.inference.memory import (
    bound_kernels,
    free_bytes,
    free_host_bytes,
    give_back_freed,
    is_out_of_memory,
    release_memory,
)

GIB = 1 << 30


def write(folder, **texts):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


@pytest.fixture
def host(tmp_path):
    """A fake /proc with 8 GiB available, and an empty cgroup folder."""
    write(tmp_path / "proc", meminfo=f"MemTotal: 99999999 kB\nMemAvailable: {8 * GIB // 1024} kB")
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "cgroup").mkdir()
    return tmp_path


def free(host):
    return free_host_bytes(proc=host / "proc", cgroup=host / "cgroup")


def test_without_limits_the_available_memory_is_free(host):
    assert free(host) == 8 * GIB


def test_a_cgroup_2_limit_counts_less_its_usage_plus_cache(host):
    write(host / "proc/self", cgroup="0::/user/job")
    stat = f"anon 5\ninactive_file {GIB // 4}"
    write(host / "cgroup/user/job", memory__max=2 * GIB, memory__current=GIB, memory__stat=stat)
    assert free(host) == GIB + GIB // 4


def test_the_tightest_group_on_the_way_up_counts(host):
    write(host / "proc/self", cgroup="0::/user/job")
    write(host / "cgroup/user/job", memory__max="max", memory__current=GIB)
    write(host / "cgroup/user", memory__max=3 * GIB, memory__current=GIB)
    assert free(host) == 2 * GIB


def test_in_a_container_the_root_of_the_mount_counts(host):
    write(host / "proc/self", cgroup="0::/docker/not-visible-here")
    write(host / "cgroup", memory__max=2 * GIB, memory__current=GIB)
    assert free(host) == GIB


def test_a_cgroup_1_limit_counts(host):
    write(host / "proc/self", cgroup="9:cpu:/\n4:memory:/job\n0::/")
    write(host / "cgroup/memory/job", memory__limit_in_bytes=3 * GIB, memory__usage_in_bytes=GIB)
    write(host / "cgroup/memory", memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=GIB)
    assert free(host) == 2 * GIB


def test_an_address_space_limit_counts_less_what_is_in_use(host):
    write(host / "proc/self", limits=f"Max address space         {4 * GIB}           unlimited            bytes")
    write(host / "proc/self", statm=f"{GIB // os.sysconf('SC_PAGE_SIZE')} 1 1 1 0 1 0")
    assert free(host) == 3 * GIB


def test_no_address_space_limit_is_no_limit(host):
    write(host / "proc/self", limits="Max address space         unlimited            unlimited            bytes")
    write(host / "proc/self", statm="1 1 1 1 0 1 0")
    assert free(host) == 8 * GIB


def test_more_used_than_allowed_is_nothing_free(host):
    write(host / "proc/self", cgroup="0::/")
    write(host / "cgroup", memory__max=GIB, memory__current=2 * GIB)
    assert free(host) == 0


def test_a_system_that_tells_nothing_has_a_modest_amount(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "half_of_installed", lambda: None)
    assert free(tmp_path) == memory.UNKNOWN_FREE_BYTES


def test_this_machine_has_some_memory_free():
    assert 0 < free_bytes(torch.device("cpu")) < 2**50


def test_on_cuda_memory_held_but_unused_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * GIB, 24 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: GIB)
    assert free_bytes(torch.device("cuda", 0)) == 7 * GIB


@pytest.mark.parametrize(("host_free", "expected"), [(9 * GIB, 4 * GIB), (GIB, GIB)])
def test_on_mps_the_host_counts_too(monkeypatch, host_free, expected):
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 5 * GIB)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: GIB)
    monkeypatch.setattr(memory, "free_host_bytes", lambda: host_free)
    assert free_bytes(torch.device("mps")) == expected


def test_the_cache_of_the_device_in_use_is_emptied(monkeypatch):
    emptied = []
    for kind in ("cuda", "mps", "xpu"):
        monkeypatch.setattr(getattr(torch, kind), "empty_cache", lambda kind=kind: emptied.append(kind))
    for kind in ("cpu", "mps", "xpu", "cuda"):
        release_memory(torch.device(kind))
    assert emptied == ["mps", "xpu", "cuda"]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 12 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        RuntimeError("could not create a primitive"),
    ],
)
def test_every_allocator_is_understood(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("expected 3 channels"), ValueError("out of memory"), KeyError("x")])
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)


def test_errors_are_told_apart_while_another_thread_still_imports_pytorch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(ValueError("x"))
    monkeypatch.delitem(sys.modules, "torch")
    assert is_out_of_memory(RuntimeError("could not create a primitive"))


def test_what_the_cpu_really_says_is_understood():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert is_out_of_memory(caught.value)


PAGES_OF_THE_NEXT_BLOCK = """
import resource
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ddnsr_cli.inference.memory import keep_one_heap

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(80 << 20)
    block[::4096] = bytes(len(block) // 4096)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = [pages(), pages()][1]
limited = Path(sys.argv[1], "self")
limited.mkdir()
(limited / "limits").write_text("Max address space 8000000000 8000000000 bytes\\n")
(limited / "statm").write_text("1 1")
keep_one_heap(proc=limited.parent)
still = [pages(), pages()][1]
keep_one_heap()
kept = [pages(), pages()][1]
with ThreadPoolExecutor(1) as pool:
    print(given_back, still, kept, pool.submit(pages).result())
"""


@pytest.mark.skipif(not platform.libc_ver()[0], reason="what glibc does")
def test_a_large_block_is_kept_for_the_next_one_of_any_thread(tmp_path):
    """What the next block of 80 MB costs after one was freed, first where addresses are limited. A new interpreter: the
    setting holds for good."""
    command = [sys.executable, "-c", PAGES_OF_THE_NEXT_BLOCK, tmp_path]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    given_back, still, kept, elsewhere = map(int, told.split())
    assert min(given_back, still) > 1000
    assert kept < given_back / 10
    assert elsewhere < given_back / 10


def scatter_and_give_back(told):
    """In a process of its own. Writes the bytes that were given back to the file `told`."""
    resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * 4096  # noqa: E731
    blocks = [bytearray(100_000) for _ in range(1000)]
    del blocks[::2]
    before = resident()
    give_back_freed()
    told.write_text(str(before - resident()))


@pytest.mark.skipif(not platform.libc_ver()[0], reason="what glibc does")
def test_what_was_freed_is_given_back(tmp_path):
    """Every second of many blocks is freed: too scattered for the library to give it back by itself."""
    from tests.helpers.processes import ready_processes

    process = ready_processes().Process(target=scatter_and_give_back, args=(tmp_path / "told",))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    assert int((tmp_path / "told").read_text()) > 40_000_000


def test_kernels_are_bound_unless_the_environment_says_otherwise(monkeypatch):
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.delenv(name, raising=False)
    bound_kernels()
    assert os.environ[name] == "64"
    monkeypatch.setenv(name, "7")
    bound_kernels()
    assert os.environ[name] == "7"


def test_the_cache_of_a_card_is_not_emptied_while_a_graph_is_recorded(monkeypatch):
    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(memory.RECORDING.locked()))
    releasing = threading.Thread(target=release_memory, args=(torch.device("cuda"),))
    with memory.RECORDING:
        releasing.start()
        releasing.join(0.1)
        assert emptied == []
    releasing.join()
    assert emptied == [True]


def test_a_cache_that_cannot_be_emptied_is_left(monkeypatch):
    def broken():
        raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")

    monkeypatch.setattr(torch.cuda, "empty_cache", broken)
    release_memory(torch.device("cuda"))
    assert not memory.RECORDING.locked()
