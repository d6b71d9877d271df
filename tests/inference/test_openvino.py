"""The same image as PyTorch's, whatever runs the network."""

import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from ddnsr_cli.commands.upscale.options import UpscaleListener, UpscaleOptions
from ddnsr_cli.commands.upscale.worker import start_engine
from ddnsr_cli.errors import ImageReadError, WeightsError
from ddnsr_cli.inference import openvino
from ddnsr_cli.inference.device import choose_dtype
from ddnsr_cli.inference.engine import FAST_INT8, multiplies
from ddnsr_cli.inference.net_upscaler import NetUpscaler
from ddnsr_cli.inference.openvino import OpenvinoNet
from ddnsr_cli.inference.openvino_graph import Graph, openvino_package
from ddnsr_cli.inference.tiling import ArraySource, TileConfig
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.weights.checkpoint import load_own_net, save_sr_net
from ddnsr_cli.weights.registry import read_registry
from ddnsr_cli.weights.resolve import find_weights
from tests.helpers.compiled_once import compile_once
from tests.helpers.foreign import small_compact, small_net
from tests.helpers.windows import joined, run

pytest.importorskip("openvino")
CPU = torch.device("cpu")
COFFEE = Path(__file__).parents[2] / "examples" / "coffee.png"


def upscaler(net, *, openvino=True, dtype=torch.float32, tile_px=None, **options):
    return NetUpscaler(net, device=CPU, dtype=dtype, tiles=TileConfig(tile_px=tile_px), openvino=openvino, **options)


def noisy(height, width):
    """A slope with noise of 6 levels."""
    generator = torch.Generator().manual_seed(0)
    slope = torch.linspace(0.1, 0.8, width).expand(1, 3, height, width)
    return (slope + 6 / 255 * torch.randn(1, 3, height, width, generator=generator)).clamp(0, 1)


def levels(left, right):
    """(largest, rms) difference in levels of 255."""
    error = 255 * (left - right)
    return float(error.abs().max()), float(error.square().mean().sqrt())


@pytest.mark.parametrize(
    "net",
    [
        small_net(),
        small_net(scale=2),
        small_net(scale=1),
        small_net(features=12, blocks=1, growth=5),
        small_compact(),
        small_compact(scale=2),
        small_compact(convs=0),
    ],
    ids=["x4", "x2", "x1", "odd", "compact", "compact-x2", "no-convs"],
)
def test_in_fp32_it_is_the_same_image_at_any_size(net):
    fast, plain = upscaler(net), upscaler(net, openvino=False)
    assert (fast.by_openvino, plain.by_openvino) == (True, False)
    for size in ((13, 18), (1, 1), (18, 13), (13, 18)):
        lr = noisy(*size)
        torch.testing.assert_close(fast.whole(lr), plain.whole(lr), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def lite():
    net, _ = load_own_net(find_weights("ddnsr-lite", registry=read_registry(), offline=True).path)
    return net


@pytest.mark.skipif(choose_dtype(CPU) != torch.bfloat16, reason="the processor does not multiply in bfloat16")
@pytest.mark.parametrize("convs", [None, 6, 0], ids=["rrdb", "compact", "only-ends"])
def test_in_bf16_it_is_as_near_to_fp32_as_pytorch_is(lite, convs):
    net = lite if convs is None else small_compact(features=24, convs=convs)
    lr = noisy(40, 48)
    exact = upscaler(net, openvino=False).whole(lr)
    _, ours = levels(upscaler(net, openvino=False, dtype=torch.bfloat16).whole(lr), exact)
    fast = upscaler(net, dtype=torch.bfloat16)
    most, rms = levels(fast.whole(lr), exact)
    assert fast.by_openvino
    assert fast.dtype == "bfloat16"
    assert rms <= 1.1 * ours + 1e-3
    assert convs is not None or 0 < most <= 2


HAS_INT8 = pytest.mark.skipif(not multiplies(FAST_INT8), reason="the processor does not multiply 8-bit integers")


@HAS_INT8
@pytest.mark.parametrize("dtype", [torch.float32, choose_dtype(CPU)], ids=["fp32", "quick"])
def test_in_int8_a_photo_changes_by_half_a_level(lite, dtype):
    fast = upscaler(lite, openvino="int8", dtype=dtype)
    photo = torch.from_numpy(np.asarray(Image.open(COFFEE).convert("RGB"))[100:148, 300:356].copy())
    lr = photo.permute(2, 0, 1)[None] / 255
    most, rms = levels(fast.whole(lr), upscaler(lite, openvino=False).whole(lr))
    assert fast.dtype == "int8"
    assert 0.05 < rms < 0.5
    assert most < 8


@HAS_INT8
@pytest.mark.parametrize("scale", [4, 2, 1])
def test_networks_of_every_scale_and_their_copies_run_in_int8(scale):
    net, lr = small_net(scale=scale), noisy(13, 18)
    fast = upscaler(net, openvino="int8")
    result = fast.whole(lr)
    assert fast.dtype == "int8"
    torch.testing.assert_close(result, upscaler(net, openvino=False).whole(lr), rtol=0, atol=0.05)
    assert torch.equal(joined(fast.beside(1).bands(ArraySource(lr)))[None], result)
    deep = joined(fast.bands(ArraySource(lr), deep=True))
    assert torch.equal(deep[None], upscaler(net, openvino=False).whole(lr))


@HAS_INT8
@pytest.mark.parametrize("paper", [(255, 255, 255), (0, 0, 255)], ids=["white", "blue"])
def test_in_int8_writing_and_pure_colors_change_little_too(lite, paper):
    page = Image.new("RGB", (64, 40), paper)
    for line in range(3):
        ImageDraw.Draw(page).text((2, 1 + 13 * line), "Text gjq 12", fill="black" if paper[0] else "yellow")
    lr = torch.from_numpy(np.asarray(page).copy()).permute(2, 0, 1)[None] / 255
    _, rms = levels(upscaler(lite, openvino="int8").whole(lr), upscaler(lite, openvino=False).whole(lr))
    assert rms < 2


@HAS_INT8
def test_peaks_are_those_of_the_values_on_the_crops():
    net = small_net(features=6, blocks=1, growth=3)
    weights = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    blocks, image = openvino._on_crops(net.config, weights, narrow=False, threads=1)
    seen, crops = [], torch.from_numpy(openvino._crops())
    for dense in (net.body[0].rdb1, net.body[0].rdb3):
        dense.conv5.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].abs().amax((0, 2, 3))))
    with torch.no_grad():
        expected = net(crops)
    assert len(blocks) == 3
    for peaks, values in zip((blocks[0], blocks[2]), seen, strict=True):
        np.testing.assert_allclose(np.concatenate(peaks), values.numpy(), rtol=1e-4)
    np.testing.assert_allclose(image, expected.numpy(), atol=1e-5)


@HAS_INT8
@pytest.mark.parametrize("other", ["compact", "unlike"])
def test_what_does_not_bear_int8_is_run_as_without_it(monkeypatch, other):
    if other == "unlike":
        monkeypatch.setattr(openvino, "_INT8_TOLERANCE", 0.0)
    net, lr = small_compact() if other == "compact" else small_net(), noisy(12, 12)
    fast = upscaler(net, openvino="int8", dtype=choose_dtype(CPU))
    assert fast.by_openvino
    assert fast.dtype != "int8"
    assert torch.equal(fast.whole(lr), upscaler(net, dtype=choose_dtype(CPU)).whole(lr))


def test_the_same_image_twice_gives_the_same_bits():
    fast, lr = upscaler(small_net(), dtype=choose_dtype(CPU)), noisy(20, 24)
    first = fast.whole(lr)
    fast.whole(noisy(24, 20))
    assert torch.equal(fast.whole(lr), first)


def test_networks_that_tests_compile_once_are_told_apart_by_their_weights(monkeypatch):
    compile_once(monkeypatch)
    nets = small_net(), small_net()
    with torch.no_grad():
        nets[1].conv_last.bias += 0.125
    lr = noisy(16, 16)[0]
    one, other = (run(upscaler(net)._runner, lr).clone() for net in nets)
    torch.testing.assert_close(other, one + 0.125, rtol=0, atol=1e-5)


def test_a_result_does_not_change_when_the_next_is_made():
    for net in (small_net(), small_compact()):  # what OpenVINO writes to again is taken over
        fast = upscaler(net)
        first = fast.whole(noisy(16, 16))
        kept = first.clone()
        fast.whole(torch.zeros(1, 3, 16, 16))
        assert torch.equal(first, kept)


@pytest.mark.parametrize("size", [(16, 16), (16, 12)])
def test_a_result_that_was_left_from_the_last_run_is_out_of_memory(size):
    """As OpenVINO was seen to do under a limit of memory."""
    net = upscaler(small_net())._runner._net
    net.enlarged(noisy(16, 16).numpy())
    left = net._result
    net._compiled = lambda *_, **__: [left]
    with pytest.raises(MemoryError, match="memory"):
        net.enlarged(noisy(*size).numpy())


def test_tiles_and_views_are_as_with_pytorch():
    net, lr = small_compact(), noisy(40, 30)
    expected = upscaler(net, openvino=False, tile_px=16, tta=True).whole(lr)
    result = upscaler(net, tile_px=16, tta=True).whole(lr)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_16_bit_images_are_computed_in_fp32():
    net, lr = small_net(), noisy(12, 12)
    deep = joined(upscaler(net, dtype=torch.bfloat16).bands(ArraySource(lr), deep=True))
    assert torch.equal(deep[None], upscaler(net, openvino=False).whole(lr))


@pytest.mark.parametrize("tta", [False, True])
def test_a_window_that_overflows_in_bf16_is_computed_in_fp32_by_pytorch_and_said_once(monkeypatch, tta):
    enlarged, net, notes = OpenvinoNet.enlarged, small_net(), []
    fast = upscaler(net, dtype=torch.bfloat16, tile_px=16, tta=tta, name="X")
    monkeypatch.setattr(OpenvinoNet, "enlarged", lambda self, lr: enlarged(self, lr) * (np.inf if lr.max() > 1 else 1))
    lr = noisy(120, 16)
    lr[..., 70:, :] += 1
    sr = joined(fast.bands(ArraySource(lr), on_note=notes.append))
    exact = upscaler(net, openvino=False, tile_px=16, tta=tta).whole(lr)[0]
    assert notes == ["bf16 overflows in X: tiles where it does are computed in fp32."]
    assert torch.equal(sr[:, 4 * 80 :], exact[:, 4 * 80 :])
    assert not torch.equal(sr[:, : 4 * 40], exact[:, : 4 * 40])


def test_the_number_of_threads_that_a_program_told_pytorch_is_left_alone():
    fast, before = upscaler(small_net(), dtype=torch.bfloat16), torch.get_num_threads()
    torch.set_num_threads(before + 1)  # after the network was made
    try:
        list(fast.bands(ArraySource(noisy(12, 12)), deep=True))
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def in_a_lane(fast, threads):
    """How many threads PyTorch has, in a thread of its own, after a window for which it is needed."""

    def run():
        list(fast.beside(threads).bands(ArraySource(noisy(12, 12)), deep=True))
        return torch.get_num_threads()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def test_a_thread_among_several_lets_pytorch_use_its_share():
    before = torch.get_num_threads()
    try:
        assert [in_a_lane(upscaler(small_net(), dtype=torch.bfloat16), threads) for threads in (1, 2)] == [1, 2]
    finally:
        torch.set_num_threads(before)


def test_weights_that_overflow_are_left_to_pytorch_without_a_warning():
    net = small_net()
    with torch.no_grad():
        for conv in (net.conv_up2, net.conv_hr, net.conv_last):
            conv.weight *= 1e30
    assert not upscaler(net, dtype=torch.bfloat16).by_openvino


def test_a_network_that_openvino_does_not_run_is_tried_once_and_needs_its_file_once(monkeypatch, tmp_path):
    path, tried, listener = tmp_path / "net.safetensors", [], UpscaleListener(**dict.fromkeys(LISTENER, ignore))
    monkeypatch.setattr(OpenvinoNet, "__init__", lambda self, *_, **__: tried.append(1) or fail())
    save_sr_net(path, small_net(), metadata={}, half=False)
    options = UpscaleOptions(model=str(path), device="cpu", engine="openvino")
    assert not start_engine(options, listener).upscaler.by_openvino
    assert len(tried) == 1


LISTENER = ("image", "tile", "note", "detail", "failed", "download")


def ignore(*_):
    pass


def fail():
    raise RuntimeError("no such processor")


def test_what_pytorch_is_needed_for_later_is_done_with_the_same_weights(tmp_path):
    """Hours after the start another network may lie in their place."""
    path, listener = tmp_path / "net.safetensors", UpscaleListener(**dict.fromkeys(LISTENER, ignore))
    save_sr_net(path, small_net(), metadata={}, half=False)
    started = start_engine(UpscaleOptions(model=str(path), device="cpu", engine="openvino"), listener).upscaler
    path.unlink()
    lr = noisy(12, 12)
    deep = joined(started.bands(ArraySource(lr), deep=True))
    assert started.by_openvino
    torch.testing.assert_close(deep[None], upscaler(small_net(), openvino=False).whole(lr), rtol=0, atol=1e-6)


def test_values_not_finite_even_in_fp32_name_the_weights_or_the_image(monkeypatch):
    fast, lr = upscaler(small_net(), name="X"), noisy(16, 16)
    monkeypatch.setattr(OpenvinoNet, "enlarged", lambda self, lr: np.full((1, 3, 64, 64), np.nan, np.float32))
    with pytest.raises(WeightsError, match="X gives values that are not finite"):
        fast.whole(lr)
    lr[0, 1, 2, 3] = torch.nan
    with pytest.raises(ImageReadError, match="image holds values"):
        fast.whole(lr)


class Changed(RRDBNet):
    """Computes something else than its name says."""

    def forward(self, lr):
        return 0.5 * super().forward(lr)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_another_network_is_run_by_pytorch(dtype):
    changed = Changed(RRDBConfig(features=4, blocks=1, growth=2))
    for net in (changed, small_compact(scale=2, inner_scale=4), small_net().double()):
        assert not upscaler(net, dtype=torch.float64 if net is not changed else dtype).by_openvino
    assert not upscaler(small_compact(scale=2, inner_scale=4), dtype=dtype).by_openvino


@pytest.mark.parametrize("error", [RuntimeError("no such processor"), ImportError("libtbb.so.12"), MemoryError()])
def test_where_it_fails_pytorch_goes_on(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(OpenvinoNet, "__init__", fail)
    net, lr = small_net(), noisy(8, 8)
    slow = upscaler(net)
    assert not slow.by_openvino
    assert torch.equal(slow.whole(lr), upscaler(net, openvino=False).whole(lr))


def test_a_result_that_is_wrong_is_not_taken(monkeypatch):
    enlarged = OpenvinoNet.enlarged
    monkeypatch.setattr(OpenvinoNet, "enlarged", lambda self, lr: enlarged(self, lr) + 1)
    assert not upscaler(small_net()).by_openvino


@HAS_INT8
def test_nor_in_int8_where_what_it_is_compared_with_is_wrong_too(monkeypatch):
    monkeypatch.setattr(Graph, "lrelu", lambda _self, x: x)
    assert not upscaler(small_net(), openvino="int8").by_openvino


def test_what_reports_to_a_server_is_not_imported(monkeypatch, tmp_path):
    """OpenVINO imports its converter where it can, and that tells its makers."""
    package = tmp_path / "openvino"
    (package / "tools" / "ovc").mkdir(parents=True)
    (package / "tools" / "__init__.py").touch()
    (package / "tools" / "ovc" / "__init__.py").write_text("convert_model = 'told'\n")
    tried = "try:\n    from openvino.tools.ovc import convert_model\nexcept ImportError:\n    convert_model = None\n"
    (package / "__init__.py").write_text(tried)
    for name in [name for name in sys.modules if name.split(".")[0] == "openvino"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    imported = openvino_package()
    for name in [name for name in sys.modules if name.split(".")[0] == "openvino"]:
        del sys.modules[name]
    assert imported.__file__ == str(package / "__init__.py")
    assert imported.convert_model is None


def use_and_drop(told):
    """In a process of its own. Makes the file `told` when it handles the signal."""
    kept = [upscaler(small_net(), dtype=torch.bfloat16)]
    kept[0].whole(noisy(16, 16))
    thread = threading.Thread(target=kept.clear)
    thread.start()
    thread.join()
    signal.signal(signal.SIGINT, lambda *_: told.touch())
    signal.raise_signal(signal.SIGINT)


def test_a_signal_after_a_network_went_away_in_another_thread_is_handled(tmp_path):
    """OpenVINO's signal stack belongs to the thread that came first, and must outlive every network."""
    from tests.helpers.processes import ready_processes

    process = ready_processes().Process(target=use_and_drop, args=(tmp_path / "handled",))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    assert (tmp_path / "handled").exists()


def ten_times(ready, lr):
    return [ready.whole(lr) for _ in range(10)]


@pytest.mark.parametrize("net", [small_net(features=12, blocks=1), small_compact()], ids=["rrdb", "compact"])
@pytest.mark.parametrize("dtype", list(dict.fromkeys((torch.float32, choose_dtype(CPU)))))
def test_two_threads_have_a_compiled_network_each_and_get_the_same_image(net, dtype):
    one = upscaler(net, dtype=dtype)
    other = one.beside(1)
    first, second = noisy(20, 30), noisy(24, 16)
    alone = [one.whole(lr) for lr in (first, second)]
    with ThreadPoolExecutor(2) as pool:
        often = [pool.submit(ten_times, *turn) for turn in ((one, first), (other, second))]
        results = [[torch.equal(sr, alone[index]) for sr in many.result()] for index, many in enumerate(often)]
    assert other.by_openvino
    assert all(map(all, results))
    assert other._runner._net is not one._runner._net
    assert (other.threads, one.threads) == (1, torch.get_num_threads())
