import pytest
import torch
from torch import nn

from ddnsr_cli.errors import DeviceError
from ddnsr_cli.inference import device as device_module
from ddnsr_cli.inference.device import choose_device, choose_dtype, probe

CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch):
    """Pretend a machine: machine(cuda=2, mps=1). Nothing is computed on it."""

    def pretend(**counts):
        monkeypatch.setattr(device_module, "device_count", lambda kind: counts.get(kind, int(kind == "cpu")))
        monkeypatch.setattr(device_module, "check_it_computes", lambda device: None)

    return pretend


@pytest.mark.parametrize(
    ("counts", "text", "expected"),
    [
        ({}, None, "cpu"),
        ({}, "auto", "cpu"),
        ({"cuda": 2}, "auto", "cuda"),
        ({"mps": 1}, None, "mps"),
        ({"xpu": 1, "mps": 1}, "auto", "xpu"),
        ({"cuda": 1}, "cpu", "cpu"),
        ({"cuda": 1}, "-1", "cpu"),
        ({"cuda": 2}, "0", "cuda:0"),
        ({"cuda": 2}, "1", "cuda:1"),
        ({"mps": 1}, "0", "mps:0"),
        ({"cuda": 2}, " CUDA:1 ", "cuda:1"),
        ({"xpu": 1}, "xpu", "xpu"),
    ],
)
def test_a_name_gives_its_device(machine, counts, text, expected):
    machine(**counts)
    assert choose_device(text) == torch.device(expected)


@pytest.mark.parametrize(
    ("counts", "text", "part"),
    [
        ({}, "cuda", "No cuda device"),
        ({}, "0", "No cuda device"),
        ({}, "mps", "No mps device"),
        ({"cuda": 1}, "cuda:1", "there is cuda:0. "),
        ({"cuda": 4}, "7", "there is cuda:0 to cuda:3"),
        ({}, "gpu", "Unknown device 'gpu'"),
        ({}, "cuda:x", "Unknown device 'cuda:x'"),
        ({}, "cuda:", "Unknown device 'cuda:'"),
        ({}, "-2", "Unknown device '-2'"),
        ({}, "vulkan", "Use auto, cpu"),
    ],
)
def test_a_name_without_a_device_is_reported_in_one_line(machine, counts, text, part):
    machine(**counts)
    with pytest.raises(DeviceError) as caught:
        choose_device(text)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_gpu_that_cannot_compute_is_refused_with_its_reason(monkeypatch):
    def no_kernel(*args, **options):
        raise RuntimeError("no kernel image is available for execution on the device\nlong advice")

    monkeypatch.setattr(device_module, "device_count", lambda kind: 1)
    monkeypatch.setattr(torch, "ones", no_kernel)
    with pytest.raises(DeviceError, match=r"does not compute: no kernel image .* Use --device cpu") as caught:
        choose_device("cuda")
    assert "\n" not in str(caught.value)


def test_the_cpu_of_this_machine_is_there():
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize(
    ("kind", "capability", "wanted", "expected"),
    [
        ("cpu", {"avx512_f": True, "avx512_bf16": False}, "auto", torch.float32),
        ("cpu", {"avx512_bf16": True}, "auto", torch.bfloat16),
        ("cpu", {"amx_bf16": True}, "bf16", torch.bfloat16),
        ("cpu", {"avx512_bf16": True}, "fp32", torch.float32),
        ("cuda", (7, 5), "auto", torch.float16),
        ("cuda", (6, 1), "auto", torch.float32),
        ("cuda", (9, 0), "fp32", torch.float32),
        ("cuda", (6, 1), "fp16", torch.float16),
        ("cuda", (8, 6), "bf16", torch.bfloat16),
        ("mps", None, "auto", torch.float32),
        ("mps", None, "fp16", torch.float16),
        ("xpu", None, "bf16", torch.bfloat16),
    ],
)
def test_the_number_format_goes_by_the_device(monkeypatch, kind, capability, wanted, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capability)
    assert choose_dtype(torch.device(kind), wanted) == expected


def test_a_pytorch_that_does_not_know_the_processor_computes_in_fp32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert choose_dtype(CPU) == torch.float32


@pytest.mark.parametrize(
    ("kind", "wanted", "part"),
    [("cpu", "fp16", "far slower"), ("cpu", "bf16", "far slower"), ("cuda", "bf16", "has no bf16")],
)
def test_a_format_that_the_device_only_imitates_is_refused(monkeypatch, kind, wanted, part):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    with pytest.raises(DeviceError, match=part):
        choose_dtype(torch.device(kind), wanted)


class Warped(nn.Module):
    """Multiplies, with a factor of its own in half precision."""

    def __init__(self, factor, half_factor):
        super().__init__()
        self.factor, self.half_factor = factor, half_factor

    def forward(self, lr):
        return lr * (self.factor if lr.dtype == torch.float32 else self.half_factor)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("half_factor", "good"),
    [(2.0, True), (2.02, True), (0.0, False), (1.5, False), (float("nan"), False), (float("inf"), False)],
)
def test_a_probe_finds_black_nan_and_wrong_images(dtype, half_factor, good):
    net = Warped(2.0, half_factor)
    assert probe(net, net, CPU, dtype) is good
