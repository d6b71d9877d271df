import pytest
import torch

from ddnsr_cli.errors import ImageReadError, OutOfMemoryError, WeightsError
from ddnsr_cli.inference import net_upscaler
from ddnsr_cli.inference.device import CudaBackend, GraphedNet
from ddnsr_cli.inference.net_upscaler import NetRunner, NetUpscaler
from ddnsr_cli.inference.tiling import ArraySource, TileConfig
from tests.helpers.cuda_stand_in import CudaStandIn
from tests.helpers.short_net import ShortNet, whole_numbers
from tests.helpers.windows import joined, run

CPU = torch.device("cpu")


def on_cpu(net, dtype=torch.float32, *, tta=False):
    return NetRunner(net, device=CPU, dtype=dtype, tta=tta, name="lite.safetensors")


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
    assert ready.dtype == "float32"
    with torch.no_grad():
        assert torch.equal(run(ready, lr, notes.append), net(lr[None])[0])
    run(ready, lr, notes.append)
    assert notes == ["fp16 gives wrong values on cpu: computing in fp32."]


def test_half_precision_that_is_right_is_used():
    notes = []
    ready = on_cpu(ShortNet(), torch.float16)
    sr = run(ready, whole_numbers(20, 20)[0], notes.append)
    assert ready.dtype == "float16"
    assert sr.dtype == torch.float32
    assert torch.equal(sr, sr.half().float())
    assert notes == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tile_that_overflows_is_redone_in_fp32_and_said_once(value):
    net = NanInHalf(above=0.9, value=value)
    lr = whole_numbers(64, 16) / 2
    lr[..., 20:, :] = 1  # two of three rows of tiles are bright
    notes = []
    ready = NetUpscaler(
        net, device=CPU, dtype=torch.float16, tiles=TileConfig(tile_px=16, halo_px=2, blend_px=0), name="X"
    )
    sr = joined(ready.bands(ArraySource(lr), on_note=notes.append))
    assert ready.dtype == "float16"
    assert sr.isfinite().all()
    with torch.no_grad():
        assert torch.equal(sr[:, 180:], net(lr)[0, :, 180:])
    assert notes == ["fp16 overflows in X: tiles where it does are computed in fp32."]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_values_not_finite_even_in_fp32_name_the_weights(dtype):
    net = ShortNet()
    net.conv.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(WeightsError, match=r"lite.safetensors gives values that are not finite"):
        run(on_cpu(net, dtype), whole_numbers(8, 8)[0])


def test_an_image_with_nan_is_not_blamed_on_the_weights():
    lr = whole_numbers(8, 8)[0]
    lr[0, 3, 3] = float("nan")
    with pytest.raises(ImageReadError, match="image holds values"):
        run(on_cpu(ShortNet()), lr)


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

    monkeypatch.setattr(net_upscaler, "probe", full)
    with pytest.raises(OutOfMemoryError, match=r"cpu has no room for lite.safetensors"):
        on_cpu(ShortNet(), torch.float16)


def test_the_network_sees_channels_last():
    class Picky(ShortNet):
        def forward(self, lr):
            assert lr.is_contiguous(memory_format=torch.channels_last)
            assert self.conv.weight.is_contiguous(memory_format=torch.channels_last)
            assert not torch.is_grad_enabled()
            return super().forward(lr)

    run(on_cpu(Picky()), whole_numbers(9, 7)[0])


class LateBackend:
    """A device whose results arrive when they are waited for: `log` tells what came when, and of how many windows."""

    ahead = 1

    def __init__(self, fail_at=None, batch_px=0):
        self.log, self.fail_at, self.batch_px = [], fail_at, batch_px

    def to_device(self, tensor, dtype):
        self.log.append(f"begin {len(tensor)}")
        return tensor.to(dtype)

    def to_host(self, tensor):
        def wait():
            if tensor.ndim == 1:  # whether all is finite
                return tensor
            self.log.append(f"wait {len(tensor)}")
            if len([word for word in self.log if word.startswith("wait")]) == self.fail_at:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return tensor.clone()

        return wait

    def prepared(self, net):
        return net


def on_late_backend(backend, notes=None, *, net=None, lr=None, **options):
    net, lr = net or ShortNet(), whole_numbers(100, 180) if lr is None else lr
    ready = NetUpscaler(
        net, device=CPU, tiles=TileConfig(tile_px=64, halo_px=4, blend_px=2), backend=backend, **options
    )
    bands = ready.bands(ArraySource(lr), on_note=(notes if notes is not None else []).append)
    sr = joined(bands)
    with torch.no_grad():
        return sr, net(lr)[0]


def test_one_window_is_begun_while_another_is_waited_for():
    backend = LateBackend()
    sr, whole = on_late_backend(backend)
    assert torch.equal(sr, whole)
    row = ["begin 1", "begin 1", "wait 1", "begin 1", "wait 1", "wait 1"]
    assert backend.log == 2 * row
    assert on_cpu(ShortNet()).ahead == 0


def test_small_windows_are_begun_as_one_batch():
    backend, lr = LateBackend(batch_px=2 * 72 * 72), whole_numbers(60, 320)  # five windows of 60 x 70 and less
    sr, whole = on_late_backend(backend, lr=lr)
    assert torch.equal(sr, whole)
    assert backend.log == ["begin 2", "begin 2", "wait 2", "begin 1", "wait 2", "wait 1"]


def test_a_batch_has_no_more_windows_than_there_is_memory_for(monkeypatch):
    monkeypatch.setattr(net_upscaler, "free_bytes", lambda device: 0)
    backend = LateBackend(batch_px=1 << 20)
    sr, whole = on_late_backend(backend)
    assert torch.equal(sr, whole)
    assert set(backend.log) == {"begin 1", "wait 1"}


def test_memory_that_runs_out_in_a_batch_under_way_halves_the_tile_and_ends_batches():
    backend, notes = LateBackend(fail_at=1, batch_px=1 << 20), []
    sr, whole = on_late_backend(backend, notes)
    assert torch.equal(sr, whole)
    assert notes == ["Out of memory with tiles of 64 px: going on with 32 px."]
    assert backend.log[:2] == ["begin 3", "wait 3"]
    assert set(backend.log[2:]) == {"begin 1", "wait 1"}


def test_memory_that_runs_out_in_a_window_under_way_halves_the_tile():
    backend, notes = LateBackend(fail_at=5), []
    sr, whole = on_late_backend(backend, notes)
    assert torch.equal(sr, whole)
    assert notes == ["Out of memory with tiles of 64 px: going on with 32 px."]


def test_a_window_under_way_that_overflows_is_redone():
    lr = torch.ones(3, 12, 12)
    net, notes = NanInHalf(above=0.9), []
    late = NetRunner(net, device=CPU, dtype=torch.float16, tta=False, name="X", backend=LateBackend())
    with torch.no_grad():
        assert torch.equal(run(late, lr, notes.append), net(lr[None])[0])
    assert notes == ["fp16 overflows in X: tiles where it does are computed in fp32."]


class NanWhereBright(ShortNet):
    """In half precision not finite for white images."""

    def forward(self, lr):
        is_white = lr.float().mean(dim=(1, 2, 3), keepdim=True) > 0.9
        return torch.where(is_white & (lr.dtype == torch.float16), torch.nan, super().forward(lr))


def test_of_a_batch_only_windows_that_overflow_are_redone():
    lrs, notes, backend = [torch.full((3, 12, 12), level) for level in (0.25, 1.0, 0.5)], [], LateBackend()
    late = NetRunner(NanWhereBright(), device=CPU, dtype=torch.float16, tta=False, name="X", backend=backend)
    backend.log.clear()
    srs = late.begin([lr.numpy() for lr in lrs], notes.append)()
    with torch.no_grad():
        for sr, lr in zip(srs, lrs, strict=True):
            assert torch.equal(torch.from_numpy(sr), ShortNet()(lr[None])[0])
    assert backend.log == ["begin 3", "wait 3", "begin 1", "wait 1"]
    assert len(notes) == 1


class Watched(torch.nn.Module):
    """A network that tells in which format it runs."""

    def __init__(self, net, log):
        super().__init__()
        self.net, self.log = net, log

    def forward(self, lr):
        self.log.append(lr.dtype)
        return self.net(lr)


def test_networks_run_as_the_backend_prepares_them(monkeypatch):
    ran = []
    monkeypatch.setattr(LateBackend, "prepared", lambda self, net: Watched(net, ran))
    ready = NetRunner(NanInHalf(above=0.9), device=CPU, dtype=torch.float16, tta=False, name="X", backend=LateBackend())
    ran.clear()
    run(ready, torch.ones(3, 12, 12))
    assert ran == [torch.float16, torch.float32]


@pytest.fixture
def cuda(monkeypatch):
    """What networks of `LateBackend` are recorded by."""
    stand_in = CudaStandIn()
    monkeypatch.setattr(LateBackend, "prepared", lambda self, net: GraphedNet(net, stand_in))
    return stand_in


def test_tiles_by_graphs_are_those_of_the_network(cuda):
    sr, whole = on_late_backend(LateBackend(batch_px=2 * 72 * 72), lr=whole_numbers(100, 330))
    assert torch.equal(sr, whole)
    assert sum(graph.replays for graph in cuda.graphs) >= 3


def test_the_mean_of_views_is_not_recorded(cuda):
    lr = whole_numbers(100, 330)
    sr, _ = on_late_backend(LateBackend(), lr=lr, tta=True)
    assert torch.equal(sr, NetUpscaler(ShortNet(), device=CPU, tiles=TileConfig(tile_px=None), tta=True).whole(lr)[0])
    assert cuda.graphs == []


def test_memory_that_runs_out_is_taken_from_graphs(cuda, monkeypatch):
    released = []
    monkeypatch.setattr(net_upscaler, "release_memory", released.append)
    net = ShortNet()
    ready = NetUpscaler(
        net, device=CPU, tiles=TileConfig(tile_px=64, halo_px=4, blend_px=2), backend=LateBackend(fail_at=8)
    )
    lr = whole_numbers(200, 330)
    with torch.no_grad():
        assert torch.equal(ready.whole(lr), net(lr))
    recorded = sum(graph.replays for graph in cuda.graphs)
    assert recorded
    ready.whole(lr)
    assert released == [CPU]
    assert sum(graph.replays for graph in cuda.graphs) == recorded


@pytest.mark.parametrize("tta", [False, True])
def test_a_batch_gives_each_window_what_it_gets_alone(tta):
    lrs = [whole_numbers(14, 9)[0], whole_numbers(14, 9)[0].flip(-1)]
    ready = on_cpu(ShortNet(), tta=tta)
    alone = [run(ready, lr) for lr in lrs]
    begun = ready.begin([lr.numpy() for lr in lrs], lambda note: None)
    for sr, expected in zip(begun(), alone, strict=True):
        assert torch.equal(torch.from_numpy(sr), expected)
    assert not torch.equal(*alone)


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
    wait = CudaBackend(torch.device("cuda:1"), events).to_host(torch.arange(3.0))
    assert events.under_way
    assert wait().tolist() == [0, 1, 2]
