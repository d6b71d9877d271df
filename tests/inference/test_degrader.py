import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from ddnsr_cli.errors import OutOfMemoryError, WeightsError
from ddnsr_cli.inference import degrader
from ddnsr_cli.inference.degrader import LevelsInMemory, TiledDegrader, default_workers, one_thread_each, reach_px
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig, start_as_area

CPU = torch.device("cpu")
SIZES = [(40, 40), (41, 77), (1, 60), (60, 1), (1, 1), (3, 90)]


def lively(blocks=1, seed=0, *, bicubic_first=False):
    """A degrader in which both inputs and every layer matter, with results about as bright as images."""
    net = Degrader(DegraderConfig(features=4, blocks=blocks, bicubic_first=bicubic_first))
    start_as_area(net, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        net.merge[-1].weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(seed))
        for conv in (net.hr_branch[-1], net.conv_last):
            conv.weight += 0.05 * torch.randn(conv.weight.shape, generator=torch.Generator().manual_seed(seed))
    return net.eval()


def images(height, width, seed=1):
    rng = np.random.default_rng(seed)
    hr = rng.integers(0, 256, (4 * height, 4 * width, 3)).astype(np.uint8)
    return hr, rng.integers(0, 256, (height, width, 3)).astype(np.uint8)


def made(net, hr, noise, tile_px, **options):
    engine = TiledDegrader(net, device=CPU, tile_px=tile_px, **options)
    return engine.lr(LevelsInMemory(hr), None if noise is None else LevelsInMemory(noise)).astype(int)


def untiled(net, hr, noise):
    hr, noise = (torch.from_numpy(levels).permute(2, 0, 1)[None].float() / 255 for levels in (hr, noise))
    with torch.no_grad():
        return (net(hr, noise)[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy().astype(int)


@pytest.mark.parametrize(
    ("blocks", "bicubic_first", "size"),
    [*((blocks, False, size) for blocks in (1, 3) for size in SIZES), (1, True, (41, 77))],
)
def test_tiled_equals_untiled_but_for_rounding(blocks, bicubic_first, size):
    net = lively(blocks, bicubic_first=bicubic_first)
    hr, noise = images(*size)
    whole = untiled(net, hr, noise)
    for tile_px in (5, 16, None):
        difference = np.abs(made(net, hr, noise, tile_px) - whole)
        assert difference.max() <= 1
        assert difference.mean() < 0.001
    assert whole.std() > 10 or whole.size < 500


def test_a_halo_too_small_is_visible(monkeypatch):
    net = lively()
    hr, noise = images(41, 77)
    whole = untiled(net, hr, noise)
    assert np.abs(made(net, hr, noise, 8) - whole).max() <= 1
    monkeypatch.setattr(degrader, "reach_px", lambda config: 3)
    assert np.abs(made(net, hr, noise, 8) - whole).max() > 3


def test_noise_that_is_not_cut_alongside_is_visible():
    net = lively()
    hr, noise = images(41, 77)
    assert np.abs(made(net, hr, noise, 8) - made(net, hr, np.roll(noise, 1, axis=1), 8)).mean() > 1


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_reach_is_what_a_pixel_sees_and_no_less(blocks):
    net = lively(blocks).double()
    reach = reach_px(net.config)
    side = 2 * reach + 9
    hr = torch.rand(1, 3, 4 * side, 4 * side, dtype=torch.float64, requires_grad=True)
    noise = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    net(hr, noise)[..., side // 2, side // 2].sum().backward()
    rows = [torch.nonzero(image.grad.abs().sum((0, 1, 3))).flatten() for image in (hr, noise)]
    assert (rows[1].min().item(), rows[1].max().item()) == (side // 2 - reach, side // 2 + reach)
    assert rows[0].min() >= 4 * (side // 2 - reach)
    assert rows[0].max() < 4 * (side // 2 + reach + 1)


@pytest.mark.parametrize("free", [1, 1 << 50])
def test_free_memory_does_not_change_the_grid(monkeypatch, free):
    monkeypatch.setattr(degrader, "free_host_bytes", lambda: free)
    plan = TiledDegrader(lively(), device=CPU).plan(700, 900)
    assert (plan.tiles, plan.rows.size, plan.cols.size) == (30, 155, 165)


def test_only_windows_of_the_images_are_read():
    class Watched(LevelsInMemory):
        largest = 0

        def read(self, top, left, height, width):
            self.largest = max(self.largest, height * width)
            assert top >= 0 <= left
            assert (top + height, left + width) <= (self.height, self.width)
            return super().read(top, left, height, width)

    hr, noise = (Watched(levels) for levels in images(90, 70))
    TiledDegrader(lively(), device=CPU, tile_px=10).lr(hr, noise)
    window = 10 + 2 * reach_px(DegraderConfig(features=4, blocks=1))
    assert noise.largest <= window**2
    assert hr.largest <= 16 * window**2


def test_no_noise_and_a_single_input_are_zeros():
    net = lively()
    hr, noise = images(30, 20)
    without = made(net, hr, None, 8)
    assert np.array_equal(without, made(net, hr, 0 * noise, 8))
    assert np.array_equal(without, made(net, hr, noise, 8, dual_input=False))
    assert not np.array_equal(without, made(net, hr, noise, 8))


def test_several_threads_change_nothing():
    engine = TiledDegrader(lively(), device=CPU, tile_px=8)
    scenes = [images(30, 25, seed) for seed in range(6)]

    def one(scene):
        return engine.lr(*map(LevelsInMemory, scene))

    with one_thread_each():
        alone = [one(scene) for scene in scenes]
        with ThreadPoolExecutor(3) as pool:
            together = list(pool.map(one, scenes))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_workers_compute_in_their_own_thread():
    seen = []
    before = torch.get_num_threads()
    with one_thread_each():
        worker = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        worker.start()
        worker.join()
    assert seen == [1]
    assert torch.get_num_threads() == before


def test_workers_follow_cores_and_memory():
    assert default_workers(1, cores=12, free_bytes=1 << 50) == 12
    assert default_workers(256 << 20, cores=12, free_bytes=4 << 30) == 4
    assert default_workers(1, cores=12, free_bytes=1) == 1


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="asked of Linux")
def test_workers_are_at_most_the_cores_of_this_process():
    assert default_workers(1, free_bytes=1 << 50) == len(os.sched_getaffinity(0))
    assert default_workers(1 << 60, cores=12) == 1


def test_progress_counts_every_tile():
    told = []
    hr, noise = map(LevelsInMemory, images(40, 40))
    TiledDegrader(lively(), device=CPU, tile_px=12).lr(hr, noise, on_tile=lambda *now: told.append(now))
    assert told == [(count, 4) for count in range(1, 5)]


def test_sizes_that_do_not_fit_are_refused():
    engine = TiledDegrader(lively(), device=CPU)
    hr, noise = images(8, 9)
    with pytest.raises(ValueError, match="multiples of 4, got 36x31"):
        engine.lr(LevelsInMemory(hr[1:]), LevelsInMemory(noise))
    with pytest.raises(ValueError, match="9x8 pixels, got 9x7"):
        engine.lr(LevelsInMemory(hr), LevelsInMemory(noise[1:]))


def test_values_that_are_not_finite_are_never_written():
    net = lively()
    net.conv_last.bias.data[1] = float("nan")
    with pytest.raises(WeightsError, match=r"mine\.safetensors gives values that are not finite"):
        made(net, *images(8, 8), None, name="mine.safetensors")


class Short(Degrader):
    """Runs out of memory a number of times."""

    left = 0

    def forward(self, hr, lr_real):
        if type(self).left:
            type(self).left -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return super().forward(hr, lr_real)


def test_memory_that_runs_out_once_changes_nothing_and_twice_is_reported():
    torch.manual_seed(0)
    net = Short(DegraderConfig(features=2, blocks=1))
    scene = images(20, 20)
    expected = made(net, *scene, 8)
    Short.left = 1
    assert np.array_equal(made(net, *scene, 8), expected)
    Short.left = 2
    with pytest.raises(OutOfMemoryError, match=r"no memory for a tile.*fewer --workers") as caught:
        made(net, *scene, 8)
    assert "\n" not in str(caught.value)


def test_other_errors_are_not_taken_for_missing_memory():
    class Broken(Degrader):
        def forward(self, hr, lr_real):
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        made(Broken(DegraderConfig(features=2, blocks=1)), *images(8, 8), None)


def test_the_callers_network_is_left_alone():
    net = lively().train()
    made(net, *images(8, 8), None)
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
