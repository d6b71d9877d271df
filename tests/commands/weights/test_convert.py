"""Files for other programs, run by those programs."""

import sys

import pytest
import torch

from ddnsr_cli.commands.weights.convert import convert_weights, save_ncnn, save_onnx, save_pth
from ddnsr_cli.errors import ConfigError, WeightsError
from ddnsr_cli.weights.checkpoint import load_sr_net


@pytest.fixture
def run_onnx():
    """`run_onnx(path, lr)`: the image that ONNX Runtime makes."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install '.[test]')")

    def run(path, lr):
        session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (result,) = session.run(["output"], {"input": lr.numpy()})
        return torch.from_numpy(result)

    return run


def image(height, width):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("half", [False, True])
def test_pth_files_hold_the_network_as_real_esrgan_reads_it(small_net, small_compact, tmp_path, half):
    for make in (small_net, small_compact):
        net = make()
        for name in "ab":
            save_pth(tmp_path / f"{name}.pth", net, half=half)
        assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()
        held = torch.load(tmp_path / "a.pth", weights_only=True)
        assert list(held) == ["params_ema"]
        assert {value.dtype for value in held["params_ema"].values()} == {torch.float16 if half else torch.float32}
        net.load_state_dict(held["params_ema"], strict=True)
        assert torch.equal(load_sr_net(tmp_path / "a.pth")[0](image(9, 11)), net(image(9, 11)))


def test_pth_files_are_not_written_with_values_that_are_not_finite(small_net, tmp_path):
    net = small_net()
    net.conv_last.bias.fill_(1e6)
    save_pth(tmp_path / "full.pth", net, half=False)
    with pytest.raises(WeightsError, match=r"half\.pth.*not finite"):
        save_pth(tmp_path / "half.pth", net, half=True)
    assert [path.name for path in tmp_path.iterdir()] == ["full.pth"]


@pytest.mark.parametrize(("kind", "scale"), [("rrdb", 1), ("rrdb", 2), ("rrdb", 4), ("compact", 3), ("compact", 4)])
def test_onnx_runtime_makes_the_same_image_of_any_size(small_net, small_compact, tmp_path, run_onnx, kind, scale):
    net = (small_net if kind == "rrdb" else small_compact)(scale=scale)
    save_onnx(tmp_path / "net.onnx", net, metadata={})
    for height, width in ((32, 32), (13, 40), (41, 7)):
        lr = image(height, width)
        theirs, ours = run_onnx(tmp_path / "net.onnx", lr), net(lr)
        assert theirs.shape == ours.shape
        assert ours.max() - ours.min() > 0.5
        assert (theirs - ours).abs().max() < 1e-5 * (ours.max() - ours.min())


def test_onnx_files_say_what_they_are_and_are_the_same_each_time(small_compact, tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install '.[test]')")
    told = {"title": "Test", "license": "MIT"}
    for name, metadata in (("a", told), ("b", dict(reversed(told.items())))):  # safetensors keep no order
        save_onnx(tmp_path / f"{name}.onnx", small_compact(), metadata=metadata)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props}["title"] == "Test"
    sides = [side.dim_param or side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides == [1, 3, "height", "width"]


def test_without_onnx_it_is_told_what_to_install(small_compact, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(WeightsError, match=r"pip install 'ddnsr\[onnx\]'"):
        save_onnx(tmp_path / "net.onnx", small_compact(), metadata={})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("half", [False, True])
def test_an_ncnn_pair_comes_back(small_net, tmp_path, half):
    net = small_net()
    save_ncnn(tmp_path / "net.param", net, half=half)
    back, metadata = load_sr_net(tmp_path / "net.param")
    assert (back.config, metadata) == (net.config, {})
    for key, value in net.state_dict().items():
        assert torch.equal(back.state_dict()[key], value.half().float() if half and value.ndim == 4 else value)


def test_values_that_do_not_fit_are_not_written(small_compact, tmp_path):
    net = small_compact()
    net.body[2].weight[0, 0, 0, 0] = 70000
    save_ncnn(tmp_path / "full.param", net, half=False)
    with pytest.raises(WeightsError, match=r"half\.param .* body\.2\.weight .* float16"):
        save_ncnn(tmp_path / "half.param", net, half=True)
    net.body[2].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(WeightsError, match=r"net\.onnx .* body\.2\.weight"):
        save_onnx(tmp_path / "net.onnx", net, metadata={})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full.bin", "full.param"]


def test_a_missing_folder_is_reported(small_compact, tmp_path):
    with pytest.raises(WeightsError, match="cannot be written"):
        save_ncnn(tmp_path / "no" / "net.param", small_compact(), half=False)
    with pytest.raises(WeightsError, match="cannot be written"):
        save_onnx(tmp_path / "no" / "net.onnx", small_compact(), metadata={})


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_resize_at_the_end_has_no_place_in_files_of_weights_alone(small_compact, tmp_path, suffix):
    save_ncnn(tmp_path / "x2.param", small_compact(scale=2, inner_scale=4), half=False)
    with pytest.raises(ConfigError, match="resizes its image at its end"):
        convert_weights(
            str(tmp_path / "x2.param"),
            tmp_path / f"x2{suffix}",
            half=False,
            offline=True,
            on_progress=None,
            note=lambda text: None,
        )
    assert not (tmp_path / f"x2{suffix}").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".param"])
def test_a_file_that_is_refused_leaves_no_folder(small_net, tmp_path, suffix):
    net = small_net()
    next(net.parameters()).data.view(-1)[0] = 1e6
    save_pth(tmp_path / "big.pth", net, half=False)
    for output in (tmp_path / "new" / "sub" / f"x{suffix}", tmp_path / f"x{suffix}"):
        with pytest.raises(WeightsError, match="not finite as float16"):
            convert_weights(
                str(tmp_path / "big.pth"), output, half=True, offline=True, on_progress=None, note=lambda text: None
            )
    assert [path.name for path in tmp_path.iterdir()] == ["big.pth"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".param", ".onnx"])
def test_a_full_disk_is_one_line_and_leaves_nothing(small_net, tmp_path, suffix):
    resource = pytest.importorskip("resource")
    save_pth(tmp_path / "net.pth", small_net(), half=False)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(WeightsError, match=f"x{suffix} cannot be written: File too large"):
            convert_weights(
                str(tmp_path / "net.pth"),
                tmp_path / f"new/x{suffix}",
                half=False,
                offline=True,
                on_progress=None,
                note=lambda text: None,
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]
