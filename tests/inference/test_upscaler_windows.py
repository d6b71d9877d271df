import pytest
import torch

from ddnsr_cli.errors import ImageReadError, OutOfMemoryError, WeightsError
from ddnsr_cli.inference import upscaler
from ddnsr_cli.inference.device import PinnedCopies
from ddnsr_cli.inference.tiling import TensorSource, TileConfig
from ddnsr_cli.inference.upscaler import Upscaler, WindowRunner
from tests.helpers.short_net import ShortNet, whole_numbers

CPU = torch.device("cpu")


def on_cpu(net, dtype=torch.float32, *, tta=False):
    return WindowRunner(net, device=CPU, dtype=dtype, tta=tta, name="lite.safetensors")


class NanInHalf(ShortNet):
    """Not finite in half precision; with `above`, only where the window's mean is larger."""

    def __init__(self, above=-1.0, value=float("nan")):
        super().__init__()
        self.above, self.value = above, value

    def forward(self, lr):
        sr = super().forward(lr)
        return sr * self.value if lr.dtype == torch.float16 and lr.float().mean() > self.above else sr


@pytest.mark.parametrize("value", [float("nan"), 0.0, 1.5])
def test_half_precision_that_fails_the_probe_is_not_used(value):
    net = NanInHalf(value=value)
    notes = []
    lr = whole_numbers(20, 20)[0]
    ready = on_cpu(net, torch.float16)
    assert ready.dtype == torch.float32
    with torch.no_grad():
        assert torch.equal(ready.run(lr, notes.append), net(lr[None])[0])
    ready.run(lr, notes.append)
    assert notes == ["fp16 gives wrong values on cpu: computing in fp32."]


def test_half_precision_that_is_right_is_used():
    notes = []
    ready = on_cpu(ShortNet(), torch.float16)
    sr = ready.run(whole_numbers(20, 20)[0], notes.append)
    assert ready.dtype == torch.float16
    assert sr.dtype == torch.float32
    assert torch.equal(sr, sr.half().float())
    assert notes == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tile_that_overflows_is_redone_in_fp32_and_said_once(value):
    net = NanInHalf(above=0.9, value=value)
    lr = whole_numbers(64, 16) / 2
    lr[..., 20:, :] = 1  # two of three rows of tiles are bright
    notes = []
    ready = Upscaler(
        net, device=CPU, dtype=torch.float16, tiles=TileConfig(tile_px=16, halo_px=2, blend_px=0), name="X"
    )
    sr = torch.cat([band.rows for band in ready.bands(TensorSource(lr), on_note=notes.append)], dim=1)
    assert ready.dtype == torch.float16
    assert sr.isfinite().all()
    with torch.no_grad():
        assert torch.equal(sr[:, 180:], net(lr)[0, :, 180:])
    assert notes == ["fp16 overflows in X: tiles where it does are computed in fp32."]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_values_not_finite_even_in_fp32_name_the_weights(dtype):
    net = ShortNet()
    net.conv.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(WeightsError, match=r"lite.safetensors gives values that are not finite"):
        on_cpu(net, dtype).run(whole_numbers(8, 8)[0], lambda note: None)


def test_an_image_with_nan_is_not_blamed_on_the_weights():
    lr = whole_numbers(8, 8)[0]
    lr[0, 3, 3] = float("nan")
    with pytest.raises(ImageReadError, match="image holds values"):
        on_cpu(ShortNet()).run(lr, lambda note: None)


def test_a_network_that_does_not_fit_is_reported_in_one_line(monkeypatch):
    def full(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.\nMore")

    monkeypatch.setattr(ShortNet, "to", full)
    with pytest.raises(OutOfMemoryError, match=r"cpu has no room for lite.safetensors") as caught:
        on_cpu(ShortNet())
    assert "\n" not in str(caught.value)


def test_a_probe_without_room_is_reported_in_one_line(monkeypatch):
    def full(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.\nMore")

    monkeypatch.setattr(upscaler, "probe", full)
    with pytest.raises(OutOfMemoryError, match=r"cpu has no room for lite.safetensors"):
        on_cpu(ShortNet(), torch.float16)


def test_the_network_sees_channels_last():
    class Picky(ShortNet):
        def forward(self, lr):
            assert lr.is_contiguous(memory_format=torch.channels_last)
            assert self.conv.weight.is_contiguous(memory_format=torch.channels_last)
            assert not torch.is_grad_enabled()
            return super().forward(lr)

    on_cpu(Picky()).run(whole_numbers(9, 7)[0], lambda note: None)


class LateCopies:
    """Copies that are made when they are waited for, as a device may: `log` tells what came when."""

    ahead = 1

    def __init__(self, fail_at=None):
        self.log, self.fail_at = [], fail_at

    def to_device(self, tensor, dtype):
        self.log.append("begin")
        return tensor.to(dtype)

    def to_host(self, tensor):
        def wait():
            if tensor.ndim == 0:  # whether all is finite
                return tensor
            self.log.append("wait")
            if self.log.count("wait") == self.fail_at:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return tensor.clone()

        return wait


def with_late_copies(copies, notes=None, **options):
    ready = Upscaler(
        ShortNet(), device=CPU, tiles=TileConfig(tile_px=64, halo_px=4, blend_px=2), copies=copies, **options
    )
    lr = whole_numbers(100, 180)
    bands = ready.bands(TensorSource(lr), on_note=(notes if notes is not None else []).append)
    sr = torch.cat([band.rows for band in bands], dim=1)
    with torch.no_grad():
        return sr, ShortNet()(lr)[0]


def test_one_window_is_begun_while_another_is_waited_for():
    copies = LateCopies()
    sr, whole = with_late_copies(copies)
    assert torch.equal(sr, whole)
    row = ["begin", "begin", "wait", "begin", "wait", "wait"]
    assert copies.log == 2 * row
    assert on_cpu(ShortNet()).ahead == 0


def test_memory_that_runs_out_in_a_window_under_way_halves_the_tile():
    copies, notes = LateCopies(fail_at=5), []
    sr, whole = with_late_copies(copies, notes)
    assert torch.equal(sr, whole)
    assert notes == ["Out of memory with tiles of 64 px: going on with 32 px."]


def test_a_window_under_way_that_overflows_is_redone():
    lr = torch.ones(3, 12, 12)
    net, notes = NanInHalf(above=0.9), []
    late = WindowRunner(net, device=CPU, dtype=torch.float16, tta=False, name="X", copies=LateCopies())
    with torch.no_grad():
        assert torch.equal(late.begin(lr, notes.append)(), net(lr[None])[0])
    assert notes == ["fp16 overflows in X: tiles where it does are computed in fp32."]


class Events:
    """What `torch.cuda` has of streams and events; a copy arrives when its event is waited for."""

    def __init__(self):
        self.under_way = []

    def current_stream(self, device):
        return f"stream of {device}"

    def Event(self):  # noqa: N802 - as in `torch.cuda`
        return self

    def record(self, stream):
        assert stream == "stream of cuda:1"

    def synchronize(self):
        for arrive in self.under_way:
            arrive()


def test_a_pinned_copy_is_read_after_it_has_arrived(monkeypatch):
    events = Events()

    class Slow(torch.Tensor):
        """Memory into which a copy goes later."""

        def copy_(self, source, *, non_blocking):
            assert non_blocking
            events.under_way.append(lambda: torch.Tensor.copy_(self, source))

    def empty(shape, *, dtype, pin_memory):
        assert pin_memory
        return torch.zeros(shape, dtype=dtype).as_subclass(Slow)

    monkeypatch.setattr(torch, "empty", empty)
    wait = PinnedCopies(torch.device("cuda:1"), events).to_host(torch.arange(3.0))
    assert events.under_way
    assert wait().tolist() == [0, 1, 2]
