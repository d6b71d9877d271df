import gc
import math
from dataclasses import replace

import pytest
import torch

from ddnsr_cli.errors import OutOfMemoryError
from ddnsr_cli.inference import net_upscaler as inference
from ddnsr_cli.inference import upscaler as upscaler_module
from ddnsr_cli.inference.net_upscaler import NetUpscaler
from ddnsr_cli.inference.tiling import ArraySource, TileConfig
from ddnsr_cli.inference.upscaler import MOST_TILE_PX_CPU, network_bytes_per_px
from ddnsr_cli.nets.compact import CompactNet
from ddnsr_cli.nets.config import CompactConfig, RRDBConfig
from ddnsr_cli.nets.rrdb import RRDBNet, start_as_nearest
from tests.helpers.short_net import Log, ShortNet, whole_numbers
from tests.helpers.windows import joined

CPU = torch.device("cpu")
SIZES = [(40, 40), (41, 77), (1, 130), (130, 1), (1, 1), (3, 200), (2, 2), (67, 93)]


def upscaler(net, tile_px=16, *, halo_px=None, blend_px=2, **options):
    halo = net.reach_px + blend_px if halo_px is None else halo_px
    tiles = TileConfig(tile_px=tile_px, halo_px=halo, blend_px=blend_px)
    return NetUpscaler(net, device=CPU, tiles=tiles, **options)


def untiled(net, lr):
    with torch.no_grad():
        return net(lr)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_tiling_is_exact_when_the_halo_covers_reach_and_blend(scale, size):
    net = ShortNet(scale)
    lr = whole_numbers(*size)
    assert torch.equal(upscaler(net).whole(lr), untiled(net, lr))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_halo_too_small_is_visible(scale):
    net = ShortNet(scale)
    lr = whole_numbers(67, 93)
    assert not torch.equal(upscaler(net, halo_px=0, blend_px=0).whole(lr), untiled(net, lr))
    assert not torch.equal(upscaler(net, halo_px=2, blend_px=2).whole(lr), untiled(net, lr))


def test_tiling_in_double_agrees_to_rounding():
    net = ShortNet().double()
    torch.nn.init.normal_(net.conv.weight, generator=torch.Generator().manual_seed(0))
    lr = torch.rand(1, 3, 41, 77, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tiled = upscaler(net, dtype=torch.float64).whole(lr)
    torch.testing.assert_close(tiled, untiled(net, lr), rtol=0, atol=1e-13)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_mean_of_views_is_exact_over_tiles_too(scale):
    net = ShortNet(scale)
    lr = whole_numbers(45, 39)
    at_once = upscaler(net, None, tta=True).whole(lr)
    assert torch.equal(upscaler(net, tta=True).whole(lr), at_once)
    assert not torch.equal(at_once, untiled(net, lr))


def test_the_mean_of_views_turns_with_the_image():
    net = ShortNet()
    lr = whole_numbers(20, 30)
    sr = upscaler(net, tta=True).whole(lr)
    for change in (lambda x: x.flip(3), lambda x: x.flip(2), lambda x: x.rot90(1, (2, 3))):
        assert torch.equal(upscaler(net, tta=True).whole(change(lr)), change(sr))


def test_the_size_of_tiles_changes_nothing():
    net = ShortNet()
    lr = whole_numbers(50, 70)
    results = [upscaler(net, tile_px).whole(lr) for tile_px in (7, 16, 33, 64, None, 0)]
    assert all(torch.equal(result, results[0]) for result in results)


def test_the_same_image_twice_gives_the_same_bits():
    net = RRDBNet(RRDBConfig(features=8, blocks=1, growth=4))
    start_as_nearest(net, torch.Generator().manual_seed(0))
    ready = upscaler(net, 24, halo_px=8)
    lr = torch.rand(1, 3, 50, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ready.whole(lr), ready.whole(lr))


def test_an_rrdb_network_with_the_usual_halo_is_within_one_level():
    net = RRDBNet(RRDBConfig(features=8, blocks=2, growth=8))
    start_as_nearest(net, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, weight in net.body.named_parameters():
            if name.endswith("weight"):
                weight.mul_(8)  # ten times smaller at the start: here the trunk says about as much as the skip
        net.conv_body.weight.mul_(100)
    lr = torch.rand(1, 3, 90, 70, generator=torch.Generator().manual_seed(0))
    whole = untiled(net, lr)

    def farthest(halo_px, blend_px):
        tiles = TileConfig(tile_px=32, halo_px=halo_px, blend_px=blend_px)
        return (NetUpscaler(net, device=CPU, tiles=tiles).whole(lr) - whole).abs().max()

    usual = TileConfig()
    assert farthest(usual.halo_px, usual.blend_px) <= 1 / 255
    assert farthest(0, 0) > 1 / 255


@pytest.mark.parametrize(
    ("convs", "scale", "inner_scale"), [(3, 4, None), (6, 2, None), (1, 3, None), (0, 1, None), (3, 2, 4), (2, 3, 4)]
)
def test_the_halo_of_a_compact_network_is_its_reach(small_compact, convs, scale, inner_scale):
    net = small_compact(convs=convs, scale=scale, inner_scale=inner_scale).double()
    lr = torch.rand(1, 3, 41, 67, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def farthest(**halo):
        tiles = TileConfig(tile_px=16, blend_px=0, **halo)
        return (NetUpscaler(net, device=CPU, dtype=torch.float64, tiles=tiles).whole(lr) - untiled(net, lr)).abs().max()

    reach = net.traits.halo_px
    assert reach == convs + 2 + (inner_scale is not None)
    assert farthest() < 1e-13
    assert farthest(halo_px=reach) < 1e-13
    assert farthest(halo_px=reach - 1) > 1e-8


class Apart(ShortNet):
    """Says other things of itself."""

    def __init__(self, **traits):
        super().__init__()
        self.said = traits

    @property
    def traits(self):
        return replace(super().traits, **self.said)


def test_a_network_that_needs_the_whole_image_gets_it():
    lr = whole_numbers(67, 93)
    assert upscaler(Apart(), 16).plan(67, 93).tiles > 1
    assert upscaler(Apart(tiles=False), 16).plan(67, 93).tiles == 1
    assert torch.equal(upscaler(Apart(tiles=False), 16).whole(lr), untiled(ShortNet(), lr))


def test_windows_start_where_the_network_asks():
    net = Apart(align=8)
    plan = upscaler(net, 16).plan(67, 93)
    assert plan.tiles > 1
    assert all(span.start % 8 == 0 for span in (*plan.rows.spans, *plan.cols.spans))


@pytest.mark.parametrize(("formats", "used"), [((), "float32"), (("float16",), "float16")])
def test_half_precision_is_used_where_the_network_bears_it(formats, used):
    assert upscaler(Apart(half_formats=formats), dtype=torch.float16).dtype == used


@pytest.mark.parametrize("channels_last", [False, True])
def test_images_lie_in_memory_as_the_network_asks(channels_last):
    layout = torch.channels_last if channels_last else torch.contiguous_format

    class Asked(Apart):
        def forward(self, lr):
            assert lr.is_contiguous(memory_format=layout)
            assert self.conv.weight.is_contiguous(memory_format=layout)
            return super().forward(lr)

    assert upscaler(Asked(channels_last=channels_last)).whole(whole_numbers(20, 20)).any()


def test_a_blend_wider_than_the_reach_widens_the_halo(small_compact):
    net = small_compact(convs=0)
    assert NetUpscaler(net, device=CPU, tiles=TileConfig(tile_px=16, blend_px=4)).whole(torch.rand(1, 3, 40, 40)).any()


def test_every_window_of_an_image_has_one_shape():
    net = ShortNet()
    upscaler(net).whole(whole_numbers(67, 93))
    assert len(net.shapes) == 4 * 6
    assert len(set(net.shapes)) == 1


def test_the_callers_network_is_left_alone():
    net = ShortNet().train()
    upscaler(net).whole(whole_numbers(20, 20))
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_bands_follow_each_other_and_are_the_image():
    net = ShortNet()
    lr = whole_numbers(67, 93)
    bands = list(upscaler(net).bands(ArraySource(lr)))
    assert len(bands) > 3
    tops = [band.top for band in bands]
    heights = [band.rows.shape[1] for band in bands]
    assert tops == [sum(heights[:i]) for i in range(len(heights))]
    assert all(band.rows.shape[0::2] == (3, 4 * 93) for band in bands)
    assert torch.equal(joined(bands), untiled(net, lr)[0])


@pytest.mark.parametrize(("height", "expected"), [(16, 0), (67, 3)])
def test_memory_is_given_back_between_bands_and_not_after_the_last(monkeypatch, height, expected):
    """A small image is one band: the next one of a folder needs the same memory again."""
    given = []
    monkeypatch.setattr(upscaler_module, "give_back_freed", lambda: given.append(1))
    bands = list(upscaler(ShortNet()).bands(ArraySource(whole_numbers(height, 20))))
    assert len(given) == len(bands) - 1 == expected


def live_tensor_bytes():
    alive = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in alive}.values())


class Streamed:
    """An image that exists only where it is read."""

    height, width = 320, 24

    def __init__(self):
        self.tops = []

    def read(self, top, left, height, width):
        self.tops.append(top)
        rows = torch.arange(top, top + height).view(1, -1, 1) / self.height
        return rows.expand(3, height, width)


def test_memory_is_bounded_by_two_bands_whatever_the_height():
    ready = upscaler(ShortNet(), 32)
    source = Streamed()
    before = live_tensor_bytes()
    at_tiles, at_bands = [], []
    for band in ready.bands(source, on_tile=lambda done, total: at_tiles.append(live_tensor_bytes() - before)):
        at_bands.append(live_tensor_bytes() - before)
        window_px = 32 + 2 * 4
        assert band.rows.shape[1] <= 4 * window_px
    band_bytes = 4 * 3 * (4 * window_px) * (4 * source.width)
    assert len(at_bands) == 10
    assert max(at_bands) <= 1.1 * band_bytes  # one band, and the tail that fades into the next
    assert max(at_tiles) <= 3.2 * band_bytes  # the band given, the one in work, and a tile as wide as the image


def test_a_band_is_held_no_longer_than_the_caller_does():
    ready = upscaler(ShortNet(), 32)
    before = live_tensor_bytes()
    at_tiles = []
    bands = ready.bands(Streamed(), on_tile=lambda done, total: at_tiles.append(live_tensor_bytes() - before))
    while next(bands, None) is not None:
        pass
    band_bytes = 4 * 3 * (4 * 40) * (4 * Streamed.width)
    assert max(at_tiles) <= 2.2 * band_bytes


class PerCall(ShortNet):
    """Gives one value everywhere: the number of the call."""

    def forward(self, lr):
        return torch.full_like(super().forward(lr), len(self.shapes) - 1.0)


@pytest.mark.parametrize("size", [(90, 20), (20, 90)])
def test_neighbors_that_differ_fade_into_each_other_both_ways(size):
    sr = upscaler(PerCall(), 64, halo_px=8, blend_px=4).whole(torch.zeros(1, 3, *size))
    profile = sr[0, 0].amax(dim=size.index(20))
    assert torch.equal(sr[0, 0].amin(dim=size.index(20)), profile)
    assert profile[0] == 0
    assert profile[-1] == 1
    inside = (profile > 0) & (profile < 1)
    assert inside.sum() == 4 * 2 * 4
    assert profile.diff().max() < 0.06


def test_rows_are_read_downwards():
    source = Streamed()
    for _ in upscaler(ShortNet()).bands(source):
        pass
    assert source.tops == sorted(source.tops)


def test_bands_are_made_only_when_asked_for():
    net = ShortNet()
    bands = upscaler(net).bands(ArraySource(whole_numbers(67, 93)))
    assert len(net.shapes) == 0
    next(bands)
    assert len(net.shapes) == 6


def test_progress_counts_every_tile():
    seen = []
    ready = upscaler(ShortNet())
    list(ready.bands(ArraySource(whole_numbers(67, 93)), on_tile=lambda *counts: seen.append(counts)))
    assert seen == [(i + 1, 24) for i in range(24)]
    assert ready.plan(67, 93).tiles == 24


class SmallDevice(ShortNet):
    """Has no memory for more LR pixels than `room[-1]`; every call takes one from `room` while there are several."""

    def __init__(self, *room, error=None):
        super().__init__()
        self.room = Log(room)
        self.error = (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.\nAdvice") if error is None else error
        )

    def forward(self, lr):
        room = self.room.pop(0) if len(self.room) > 1 else self.room[0]
        if lr.shape[-2] * lr.shape[-1] > room:
            raise self.error
        return super().forward(lr)


def run(ready, lr):
    """All bands in one, the notes and the progress."""
    notes, progress = [], []
    bands = ready.bands(ArraySource(lr), on_tile=lambda *counts: progress.append(counts), on_note=notes.append)
    return joined(bands)[None], notes, progress


OTHER_ERRORS = [MemoryError(), RuntimeError("MPS backend out of memory"), RuntimeError("could not create a primitive")]


@pytest.mark.parametrize("error", [None, *OTHER_ERRORS])
@pytest.mark.parametrize("tile_px", [None, 0, 300, 128])
def test_out_of_memory_halves_the_tile_until_it_fits(monkeypatch, tile_px, error):
    monkeypatch.setattr(inference, "free_bytes", lambda device: 1 << 40)
    net = SmallDevice(60 * 60, error=error)
    lr = whole_numbers(200, 150)
    sr, notes, progress = run(upscaler(net, tile_px), lr)
    assert torch.equal(sr, untiled(ShortNet(), lr))
    assert notes
    assert all(note.startswith("Out of memory with tiles of ") for note in notes)
    assert progress[-1][0] == progress[-1][1]


@pytest.mark.parametrize("failing_call", [1, 3, 5, 8, 10, 11])
@pytest.mark.parametrize("blend_px", [0, 2, 8])
def test_finished_bands_are_kept_when_memory_runs_out_later(failing_call, blend_px):
    plenty = [10**9] * failing_call
    net = SmallDevice(*plenty, 50 * 50)
    lr = whole_numbers(230, 190)
    ready = upscaler(net, 64, blend_px=blend_px)
    done_before = failing_call // len(ready.plan(230, 190).cols.spans)
    sr, notes, progress = run(ready, lr)
    assert torch.equal(sr, untiled(ShortNet(), lr))
    assert notes == ["Out of memory with tiles of 64 px: going on with 32 px."]
    wide = [shape for shape in net.shapes if shape[0] * shape[1] > 50 * 50]
    assert len(wide) == failing_call  # none of the finished rows is computed again
    assert progress[-1][0] == progress[-1][1]
    assert done_before == 0 or progress[failing_call - 1][0] == failing_call


def test_halving_starts_from_the_size_in_use():
    _, notes, _ = run(upscaler(SmallDevice(110 * 110), 2000), whole_numbers(200, 150))
    assert notes == ["Out of memory with tiles of 192 px: going on with 96 px."]


def test_the_size_that_fitted_is_kept_for_the_next_image():
    ready = upscaler(SmallDevice(50 * 50), 128)
    assert len(run(ready, whole_numbers(200, 150))[1]) == 2
    assert run(ready, whole_numbers(200, 150))[1] == []


def test_below_the_least_tile_memory_is_an_error_with_advice():
    ready = upscaler(SmallDevice(10 * 10), 128)
    with pytest.raises(
        OutOfMemoryError, match=r"cpu has no memory .*CUDA out of memory.*Close other programs.$"
    ) as caught:
        ready.whole(whole_numbers(200, 150))
    assert "\n" not in str(caught.value)


def test_an_image_smaller_than_the_least_tile_is_not_tried_again():
    net = SmallDevice(10 * 10)
    with pytest.raises(OutOfMemoryError):
        upscaler(net, 128).whole(whole_numbers(30, 30))


def test_tensors_of_the_failed_tile_are_gone_before_the_next_try(monkeypatch):
    class Greedy(ShortNet):
        def forward(self, lr):
            activation = torch.zeros(lr.shape[-2] * lr.shape[-1] * 100)
            if lr.shape[-1] > 60:
                raise torch.OutOfMemoryError(f"CUDA out of memory with {activation.numel()} values")
            return super().forward(lr)

    alive = []
    monkeypatch.setattr(inference, "release_memory", lambda device: alive.append(live_tensor_bytes()))
    before = live_tensor_bytes()
    upscaler(Greedy(), 100).whole(whole_numbers(200, 150))
    assert alive
    assert max(alive) - before < 4 * 108 * 108 * 100 / 2


def test_an_error_of_another_kind_goes_through():
    ready = upscaler(SmallDevice(0, error=RuntimeError("expected 3 channels")), 64)
    with pytest.raises(RuntimeError, match="expected 3 channels"):
        ready.whole(whole_numbers(20, 20))


@pytest.mark.parametrize(
    ("gib", "least", "most"), [(1000, MOST_TILE_PX_CPU, MOST_TILE_PX_CPU), (1, 100, 240), (0, 32, 32)]
)
def test_the_tile_grows_with_free_memory(monkeypatch, gib, least, most):
    monkeypatch.setattr(inference, "free_bytes", lambda device: gib << 30)
    ready = NetUpscaler(RRDBNet(RRDBConfig(blocks=1)), device=CPU, tiles=TileConfig())
    side = ready._sized(2000, 2000).tile_px
    assert least <= side <= most


def test_a_network_with_a_wide_halo_gets_larger_tiles(monkeypatch):
    """A Compact network of 32 convolutions pays 1.6 times its work for tiles of 256 pixels."""
    monkeypatch.setattr(inference, "free_bytes", lambda device: 1 << 40)
    ready = NetUpscaler(CompactNet(CompactConfig(features=4, convs=32)), device=CPU, tiles=TileConfig())
    rows = ready.plan(2000, 2000).rows
    assert rows.size**2 < 1.4 * (2000 / len(rows.spans)) ** 2


def test_a_narrow_stage_of_hr_size_makes_room_for_larger_tiles(monkeypatch):
    monkeypatch.setattr(inference, "free_bytes", lambda device: 1 << 29)
    net = RRDBNet(RRDBConfig(blocks=1))
    wide, narrow = (
        NetUpscaler(net, device=CPU, dtype=dtype, tiles=TileConfig())._sized(2000, 2000).tile_px
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert 32 < wide < narrow < MOST_TILE_PX_CPU


def test_a_very_wide_image_gets_lower_tiles_for_its_bands(monkeypatch):
    monkeypatch.setattr(inference, "free_bytes", lambda device: 3 << 30)
    ready = NetUpscaler(RRDBNet(RRDBConfig(features=8, blocks=1, growth=4)), device=CPU, tiles=TileConfig())
    assert ready.plan(10_000, 30_000).rows.size < ready.plan(10_000, 3_000).rows.size


def small(scale):
    return RRDBNet(RRDBConfig(blocks=1, scale=scale))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_bytes_per_pixel_follow_scale_and_format(scale):
    traits = small(scale).traits
    wide, half = (network_bytes_per_px(traits, value_bytes) for value_bytes in (4, 2))
    assert math.isclose(wide, 2 * half, abs_tol=2)
    at_4 = network_bytes_per_px(small(4).traits, 4)
    assert math.isclose(wide, at_4 / traits.align**2, rel_tol=0.1)


@pytest.mark.parametrize("convs", [0, 2, 8])
def test_tiles_of_a_shallow_compact_network_fade_where_both_are_exact(small_compact, convs):
    net = small_compact(convs=convs).double()
    lr = torch.rand(1, 3, 50, 90, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tiled = NetUpscaler(net, device=CPU, dtype=torch.float64, tiles=TileConfig(tile_px=32)).whole(lr)
    torch.testing.assert_close(tiled, untiled(net, lr), rtol=0, atol=1e-12)
