from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.inference.tiling import Cut, TileConfig, cut_axis, plan_tiles


@st.composite
def axes(draw):
    halo = draw(st.integers(0, 40))
    return {
        "length": draw(st.integers(1, 3000)),
        "tile_px": draw(st.integers(1, 300)),
        "halo_px": halo,
        "blend_px": draw(st.integers(0, halo)),
        "align": draw(st.sampled_from([1, 2, 4])),
    }


def assert_whole(cut: Cut, length: int, done: int, align: int) -> None:
    """The kept parts follow each other from `done` to the end; no more than two overlap; windows lie inside."""
    spans = cut.spans
    assert spans[0].lo == done
    assert spans[-1].hi == length
    assert spans[-1].start + cut.size == length
    for span in spans:
        assert span.start >= 0
        assert span.start % align == 0
        assert span.start <= span.lo <= span.hi <= span.start + cut.size
    for left, right in pairwise(spans):
        assert right.lo <= left.hi
        assert left.lo < right.lo
        assert left.hi < right.hi or left.hi == right.lo
    for left, right in zip(spans, spans[2:], strict=False):
        assert left.hi <= right.lo


@given(axes())
def test_kept_parts_cover_the_length_exactly(axis):
    cut = cut_axis(**axis)
    assert cut.spans[0].start == 0
    assert_whole(cut, axis["length"], 0, axis["align"])


@given(axes())
def test_every_seam_lies_a_halo_from_the_border_of_both_windows(axis):
    cut = cut_axis(**axis)
    for left, right in pairwise(cut.spans):
        seam = (left.hi + right.lo) // 2
        whole_cells_end = left.start + cut.size - cut.size % axis["align"]
        assert whole_cells_end - seam >= axis["halo_px"]
        assert seam - right.start >= axis["halo_px"]


@given(axes())
def test_a_window_is_at_most_a_tile_and_two_halos(axis):
    align = axis["align"]
    rounded_tile = max(align, axis["tile_px"])
    rounded_halo = axis["halo_px"] + 2 * align
    assert cut_axis(**axis).size <= rounded_tile + 2 * rounded_halo + align


@given(axes(), st.data())
def test_the_rest_of_an_image_can_be_cut_again(axis, data):
    spans = cut_axis(**axis).spans
    place = data.draw(st.integers(0, len(spans) - 1))
    done = spans[place].lo
    tail = spans[place - 1].hi - done if place else 0
    smaller = {**axis, "tile_px": data.draw(st.integers(1, axis["tile_px"]))}
    again = cut_axis(**smaller, done=done, tail=tail)
    assert_whole(again, axis["length"], done, axis["align"])
    assert again.spans[0].start <= max(0, done - axis["halo_px"])
    for span in again.spans[1:]:
        assert span.lo >= done + tail


@pytest.mark.parametrize(
    ("length", "size", "starts"),
    [
        (40, 40, [0]),  # 40 = 32 + two halos of 4: no seam needed
        (41, 25, [0, 16]),
        (100, 39, [0, 30, 61]),
        (1, 1, [0]),
    ],
)
def test_windows_are_counted_then_sized_equally(length, size, starts):
    cut = cut_axis(length, 32, halo_px=4, blend_px=2)
    assert cut.size == size
    assert [span.start for span in cut.spans] == starts


def test_the_fade_is_two_blends_around_the_seam():
    left, right = cut_axis(41, 32, halo_px=4, blend_px=2).spans
    assert (left.lo, left.hi, right.lo, right.hi) == (0, 22, 18, 41)


def test_a_blend_shrinks_where_tiles_are_narrow():
    fades = [left.hi - right.lo for left, right in pairwise(cut_axis(100, 6, halo_px=10, blend_px=10).spans)]
    assert max(fades) <= 6


@pytest.mark.parametrize(("height", "width"), [(3, 40_000), (40_000, 3), (1, 1)])
def test_thin_images_are_cut_along_their_length_only(height, width):
    plan = plan_tiles(height, width, TileConfig(tile_px=256, halo_px=16))
    assert min(plan.rows.size, plan.cols.size) == min(height, width)
    assert plan.window_px <= 288
    assert plan.tiles == max(1, -(-(max(height, width) - 32) // 256))


def test_no_tile_size_means_one_window():
    plan = plan_tiles(3000, 5000, TileConfig(tile_px=None, halo_px=16))
    assert (plan.tiles, plan.rows.size, plan.cols.size) == (1, 3000, 5000)


def test_a_size_still_to_be_chosen_is_refused():
    with pytest.raises(ValueError, match="tile_px = 0"):
        plan_tiles(10, 10, TileConfig(tile_px=0))


@pytest.mark.parametrize("options", [{"tile_px": -1}, {"halo_px": 4, "blend_px": 5}, {"halo_px": 4, "blend_px": -1}])
def test_lengths_without_meaning_are_refused(options):
    with pytest.raises(ConfigError):
        TileConfig(**options)
