"""Which engine runs networks, and what is told of it without PyTorch."""

import subprocess
import sys
from importlib.machinery import ModuleSpec

import pytest
import torch
from PIL import Image

from ddnsr_cli.errors import DeviceError
from ddnsr_cli.inference import engine
from ddnsr_cli.inference.device import choose_device, choose_dtype
from ddnsr_cli.inference.engine import (
    FAST_BF16,
    FAST_INT8,
    check_int8,
    choose_openvino,
    format_without_torch,
    multiplies,
    thread_count,
    threads_on_linux,
)
from ddnsr_cli.weights.checkpoint import save_sr_net
from tests.helpers.foreign import small_net


@pytest.mark.parametrize(
    ("device", "is_installed", "processor", "wanted", "expected"),
    [
        ("cpu", True, "x86_64", "auto", True),
        ("cpu", True, "AMD64", "auto", True),
        ("cpu", True, "arm64", "auto", False),
        ("cpu", True, "arm64", "openvino", True),
        ("cpu", True, "x86_64", "torch", False),
        ("cpu", False, "x86_64", "auto", False),
        ("cuda:1", True, "x86_64", "auto", False),
        ("cuda:1", True, "x86_64", "torch", False),
    ],
)
def test_openvino_runs_networks_where_it_is_quicker(monkeypatch, device, is_installed, processor, wanted, expected):
    monkeypatch.setattr(engine, "find_spec", lambda name: (name == "openvino" and is_installed) or None)
    monkeypatch.setattr(engine.platform, "machine", lambda: processor)
    notes = []
    assert choose_openvino(device, wanted, note=notes.append) is expected
    assert notes == []
    monkeypatch.setattr(engine, "limits_addresses", lambda: True)
    assert choose_openvino(device, wanted, note=notes.append) is (expected and wanted == "openvino")


def test_openvino_that_is_missing_is_said_once_and_on_a_card_it_is_refused(monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    notes = []
    assert not choose_openvino("cpu", "openvino", note=notes.append)
    (note,) = notes
    assert 'pip install "ddnsr[openvino]"' in note
    with pytest.raises(DeviceError, match="--device cpu"):
        choose_openvino("cuda:0", "openvino", note=notes.append)


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyTorch is always asked")


@pytest.fixture
def small_machine(monkeypatch):
    """Linux on x86-64 with OpenVINO, PyTorch for processors, and no limit; `small_machine(bf16=False)`."""

    def pretend(*, bf16=True, int8=True, installed=True, machine="x86_64", platform="linux", limited=False, gpu=False):
        monkeypatch.setattr(engine.sys, "platform", platform)
        monkeypatch.setattr(engine.platform, "machine", lambda: machine)
        monkeypatch.setattr(engine, "find_spec", lambda name: installed or None)
        monkeypatch.setattr(engine, "limits_addresses", lambda: limited)
        monkeypatch.setattr(engine, "_may_have_gpu", lambda: gpu)
        monkeypatch.setattr(engine, "multiplies", lambda names: bf16 if names is FAST_BF16 else int8)

    return pretend


@pytest.mark.parametrize(
    ("machine", "asked", "expected"),
    [
        ({}, ("auto", "auto", "auto"), "bf16"),
        ({}, (None, "auto", "auto"), "bf16"),
        ({}, (" CPU", "bf16", "openvino"), "bf16"),
        ({}, ("-1", "fp32", "auto"), "fp32"),
        ({"bf16": False}, ("auto", "auto", "auto"), "fp32"),
        ({"bf16": False}, ("auto", "bf16", "auto"), None),  # PyTorch's side refuses it
        ({}, ("auto", "fp16", "auto"), None),
        ({}, ("auto", "int8", "openvino"), "bf16"),
        ({"bf16": False}, ("auto", "int8", "openvino"), "fp32"),
        ({"gpu": True}, ("auto", "int8", "openvino"), None),
        ({}, ("auto", "auto", "torch"), None),
        ({"installed": False}, ("auto", "auto", "openvino"), None),
        ({"limited": True}, ("auto", "auto", "auto"), None),
        ({"limited": True}, ("auto", "auto", "openvino"), "bf16"),
        ({"gpu": True}, ("auto", "auto", "auto"), None),
        ({"gpu": True}, ("cpu", "auto", "auto"), "bf16"),
        ({}, ("0", "auto", "auto"), None),
        ({}, ("cuda", "auto", "auto"), None),
        ({}, ("cpu:0", "auto", "auto"), None),
        ({}, ("", "auto", "auto"), "bf16"),
        ({"machine": "aarch64"}, ("auto", "auto", "openvino"), None),
        ({"platform": "darwin"}, ("auto", "auto", "auto"), None),
        ({"platform": "win32"}, ("cpu", "auto", "auto"), None),
    ],
)
def test_where_processor_and_openvino_are_all_there_is_pytorch_is_not_asked(small_machine, machine, asked, expected):
    small_machine(**machine)
    assert format_without_torch(*asked) == expected


CUDA, HIP, XPU = (f"{name}: Optional[str] = '1'" for name in ("cuda", "hip", "xpu"))
NONE = "cuda: Optional[str] = None\nhip: Optional[str] = None\nxpu: Optional[str] = None\n"


@pytest.mark.parametrize(
    ("text", "has_driver", "expected"),
    [
        (NONE, True, False),
        (NONE.replace("cuda: Optional[str] = None", CUDA), True, True),
        (NONE.replace("cuda: Optional[str] = None", CUDA), False, False),
        (NONE.replace("hip: Optional[str] = None", HIP), True, True),
        (NONE.replace("hip: Optional[str] = None", HIP), False, True),
        (NONE.replace("xpu: Optional[str] = None", XPU), False, True),
        (NONE.replace("xpu: Optional[str] = None\n", ""), False, False),  # a version that knew of none
        ("", True, True),
        ("", False, False),
        (None, True, True),
    ],
)
def test_a_gpu_is_looked_for_where_pytorch_is_built_for_it_and_there_is_a_driver(
    monkeypatch, tmp_path, text, has_driver, expected
):
    if text is not None:
        (tmp_path / "version.py").write_text(text)
    spec = ModuleSpec("torch", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(engine, "find_spec", lambda name: spec)
    monkeypatch.setattr(engine, "_has_cuda_driver", lambda: has_driver)
    assert engine._may_have_gpu() is expected


def test_a_pytorch_that_is_not_there_will_tell_by_itself(monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    assert engine._may_have_gpu()


@LINUX
def test_a_driver_of_cuda_is_a_device_or_a_library_that_loads(monkeypatch, tmp_path):
    for device, library, expected in (("none", "none.so", False), ("", "none.so", True), ("none", "libc.so.6", True)):
        monkeypatch.setattr(engine, "_CUDA_DEVICES", (f"{tmp_path}/no", f"{tmp_path}/{device}"))
        monkeypatch.setattr(engine, "_CUDA_DRIVER", library)
        assert engine._has_cuda_driver() is expected


@LINUX
def test_of_this_machine_the_same_is_told_as_pytorch_tells():
    assert (format_without_torch("cpu", "auto", "auto") == "bf16") == (
        choose_dtype(torch.device("cpu")) == torch.bfloat16 and engine.find_spec("openvino") is not None
    )
    assert engine._may_have_gpu() or choose_device("auto").type == "cpu"
    assert thread_count() == torch.get_num_threads()


@pytest.mark.parametrize(
    ("machine", "asked", "message"),
    [
        ({"installed": False}, "auto", r"pip install \"ddnsr\[openvino\]\""),
        ({"int8": False}, "openvino", "VNNI"),
        ({}, "torch", "--engine torch"),
    ],
)
def test_int8_is_refused_where_it_cannot_be_or_would_be_slow(small_machine, machine, asked, message):
    small_machine()
    check_int8("auto")
    small_machine(**machine)
    with pytest.raises(DeviceError, match=message):
        check_int8(asked)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx512_bf16 sse", True), ("fpu amx_bf16", True), ("fpu avx512_bf16x avx2", False), (None, False)],
)
def test_instructions_for_bfloat16_are_read_from_what_linux_says(tmp_path, flags, expected):
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t: avx512_bf16\n")
    assert multiplies(FAST_BF16, proc=tmp_path) is expected
    assert not multiplies(FAST_INT8, proc=tmp_path)


@LINUX
@pytest.mark.parametrize(
    ("allowed", "siblings", "environment", "expected"),
    [
        ({0, 1, 2, 3}, ["0-1", "0-1", "2-3", "2-3"], {}, 2),
        ({0, 1, 2, 3}, ["0,2", "1,3", "0,2", "1,3"], {}, 2),
        ({0, 1, 2, 3}, ["0", "1", "2", "3"], {}, 4),
        ({1, 3}, ["0-1", "0-1", "2-3", "2-3"], {}, 2),
        ({0, 1}, ["0-1", "0-1", "2-3", "2-3"], {}, 1),
        ({0, 1, 2}, [], {}, 3),
        ({0, 1}, ["nonsense", "1"], {}, 2),
        ({0, 1, 2, 3}, ["0", "1", "2", "3"], {"OMP_NUM_THREADS": "3"}, 3),
        ({0, 1, 2, 3}, ["0", "1", "2", "3"], {"OMP_NUM_THREADS": "9"}, 4),
        ({0, 1, 2, 3}, ["0", "1", "2", "3"], {"MKL_NUM_THREADS": "2", "OMP_NUM_THREADS": "many"}, 2),
        ({0, 1}, ["0", "1"], {"OMP_NUM_THREADS": "0"}, 2),
        ({0, 1}, ["0", "1"], {"OMP_NUM_THREADS": " 1,2"}, 1),
        ({0, 1}, ["0", "1"], {"MKL_NUM_THREADS": "2", "OMP_NUM_THREADS": "1"}, 2),
    ],
)
def test_there_is_a_thread_for_each_core_or_as_many_as_the_environment_says(
    monkeypatch, tmp_path, allowed, siblings, environment, expected
):
    for number, text in enumerate(siblings):
        (tmp_path / f"cpu{number}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{number}" / "topology" / "thread_siblings_list").write_text(f"{text}\n")
    monkeypatch.setattr(engine.os, "sched_getaffinity", lambda process: allowed)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert threads_on_linux(cpus=tmp_path) == expected


COMMAND = """
import sys
from ddnsr_cli.cli.app import main

sys.argv[1:1] = ["upscale"]
try:
    main()
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""


@LINUX
def test_a_command_by_openvino_does_without_pytorch_and_makes_the_same_image(tmp_path):
    """In new interpreters."""
    pytest.importorskip("openvino")
    Image.effect_noise((24, 20), 80).convert("RGB").save(tmp_path / "photo.png")
    weights = tmp_path / "net.safetensors", tmp_path / "net.pth"
    save_sr_net(weights[0], small_net(), metadata={}, half=False)
    torch.save(small_net().state_dict(), weights[1])  # for which PyTorch is needed
    loaded, images = [], []
    for path in weights:
        result = tmp_path / f"{path.suffix}.png"
        words = [tmp_path / "photo.png", "-o", result, "-m", path, "--device", "cpu", "--engine", "openvino", "-v"]
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *words], check=True, capture_output=True, text=True, timeout=120
        )
        assert "by OpenVINO" in done.stderr
        loaded.append(done.stderr.split()[-1])
        images.append(Image.open(result).tobytes())
    assert loaded == ["False", "True"]
    assert images[0] == images[1]
