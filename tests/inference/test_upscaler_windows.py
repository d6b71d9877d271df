import pytest
import torch

from ddnsr_cli.errors import ImageReadError, OutOfMemoryError, WeightsError
from ddnsr_cli.inference import upscaler
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
