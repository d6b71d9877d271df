from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from ddnsr_cli.data.config import StreamConfig
from ddnsr_cli.data.crop_stream import ReadyPairs, batches
from ddnsr_cli.data.images import ImagePair, match_pairs
from ddnsr_cli.errors import DataError

TINY = {"batch": 8, "crop_px": 16, "crops_per_image": 6, "images_per_round": 4, "workers": 0}


@pytest.fixture
def pairs(tmp_path):
    """Five pairs in which every HR pixel is of its LR pixel's color."""
    rng = np.random.default_rng(0)
    for side in ("lr", "hr"):
        (tmp_path / side).mkdir()
    for number in range(5):
        lr = rng.integers(0, 256, (9 + number, 12, 3)).astype(np.uint8)
        Image.fromarray(lr).save(tmp_path / f"lr/{number}.png")
        Image.fromarray(lr.repeat(4, axis=0).repeat(4, axis=1)).save(tmp_path / f"hr/{number}.png")
    return match_pairs(tmp_path / "lr", tmp_path / "hr", scale=4)


def first(count, pairs, start=0, told=None, **changes):
    visits = ReadyPairs(pairs, StreamConfig(**(TINY | changes)), 4)
    on_refused = (lambda _refusal: None) if told is None else told.append
    return list(islice(batches(visits, start=start, on_refused=on_refused), count))


def test_both_show_the_same_place_turned_alike(pairs):
    for lr, hr in first(6, pairs):
        assert (lr.shape, hr.shape, lr.dtype) == ((8, 3, 4, 4), (8, 3, 16, 16), torch.uint8)
        assert torch.equal(hr, lr.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3))


def test_starting_later_changes_nothing(pairs):
    whole = first(9, pairs)
    later = first(4, pairs, start=5)
    assert all(torch.equal(a, b) for x, y in zip(whole[5:], later, strict=True) for a, b in zip(x, y, strict=True))


def test_the_seed_draws(pairs):
    assert not torch.equal(first(1, pairs)[0][0], first(1, pairs, seed=1)[0][0])


def test_all_eight_symmetries_and_all_places_are_drawn(tmp_path):
    rows, columns = np.mgrid[:9, :11]
    ramp = np.stack([rows * 2, columns * 2, rows * 0], axis=2).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "lr.png")
    Image.fromarray(ramp.repeat(4, axis=0).repeat(4, axis=1)).save(tmp_path / "hr.png")
    pair = ImagePair(name="ramp", lr=tmp_path / "lr.png", hr=tmp_path / "hr.png")
    crops = torch.cat([lr for lr, _ in first(60, [pair, pair])]).int()
    down, right = crops[:, :2, 1, 0] - crops[:, :2, 0, 0], crops[:, :2, 0, 1] - crops[:, :2, 0, 0]
    assert len(Counter(map(tuple, torch.cat([down, right], dim=1).tolist()))) == 8
    places = {(crop[0].min().item() // 2, crop[1].min().item() // 2) for crop in crops}
    assert places == {(top, left) for top in range(6) for left in range(8)}


def test_pairs_too_small_are_reported_once_and_replaced(pairs):
    told = []
    first(12, pairs, crop_px=48, told=told)
    assert sorted(refusal.reason for refusal in told) == [
        f"{pair.lr} has 12x{height} pixels; a side needs 12. Remove it."
        for pair, height in zip(pairs[:3], (9, 10, 11), strict=True)
    ]


@pytest.mark.parametrize("side", ["lr", "hr"])
def test_a_pair_with_a_damaged_image_is_reported_once_and_replaced(pairs, side):
    path = getattr(pairs[2], side)
    path.write_bytes(path.read_bytes()[:60])
    told = []
    drawn = first(12, pairs, told=told)
    assert [refusal.path for refusal in told] == [path]
    assert all(torch.equal(hr, lr.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)) for lr, hr in drawn)
    later = first(5, pairs, start=7)
    assert all(torch.equal(a, b) for x, y in zip(drawn[7:], later, strict=True) for a, b in zip(x, y, strict=True))


def test_a_pair_whose_sizes_no_longer_fit_is_reported_and_replaced(pairs):
    Image.new("RGB", (47, 44)).save(pairs[2].hr)
    told = []
    first(12, pairs, told=told)
    assert [refusal.reason for refusal in told] == [f"{pairs[2].hr} is not 4 times {pairs[2].lr}. Remove the pair."]


def test_pairs_none_of_which_is_good_are_refused(pairs):
    for pair in pairs:
        pair.lr.write_bytes(b"")
    with pytest.raises(DataError, match=r"None of the 5 images can be used. First: .*\.png is "):
        first(1, pairs)
