"""Pairs from several sources in one stream: exact shares, each source whole, the same bytes in every run."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from ddnsr_cli.data.config import CYCLE, DegradationConfig, Shares, StreamConfig
from ddnsr_cli.data.crop_stream import DegradedPairs, MixedPairs, PairCrops, PairDataset, RulePairs, batches
from ddnsr_cli.errors import ConfigError, DataError

TINY = {"batch": 8, "crop_px": 16, "crops_per_image": 2, "images_per_round": 12, "workers": 0}
IN_PROCESSES = [
    pytest.mark.filterwarnings("ignore:This process"),  # Python from 3.12 on warns of a fork beside threads
]
WORKERS = [0, pytest.param(1, marks=IN_PROCESSES)]


def stream(**changes):
    return StreamConfig(**(TINY | changes))


def flat_images(folder, levels, side=64):
    """Images of one level each."""
    folder.mkdir()
    paths = [folder / f"{level:03d}.png" for level in levels]
    for path, level in zip(paths, levels, strict=True):
        Image.fromarray(np.full((side, side, 3), level, np.uint8)).save(path)
    return paths


class Counted(PairDataset):
    """Visits that say which they are: the image is the visit's number, the crops are of the source's level."""

    def __init__(self, level, config):
        super().__init__(config, 1000)
        self.level = level

    def __getitem__(self, visit):
        hr = torch.full((self.stream.crops_per_image, 3, 16, 16), self.level, dtype=torch.uint8)
        return PairCrops(crops=(hr[..., ::4, ::4], hr), image=visit, refused=())


@pytest.mark.parametrize(
    ("parts", "turns"),
    [
        ((1.0,), [100]),
        ((0.5, 0.3, 0.2), [50, 30, 20]),
        ((3, 1), [75, 25]),
        ((1, 1, 1), [34, 33, 33]),
        ((2, 1), [67, 33]),
        ((0.985, 0.015), [99, 1]),
        ((0.005, 0.995), [1, 99]),
    ],
)
def test_turns_are_the_shares_to_a_hundredth_and_fill_the_cycle(parts, turns):
    shares = Shares(parts=parts)
    assert shares.turns == turns
    assert Counter(shares.order) == dict(enumerate(turns))


def test_turns_are_spread_evenly():
    order = Shares(parts=(0.6, 0.3, 0.1)).order
    for first in range(0, CYCLE, 10):
        assert Counter(order[first : first + 10]) == {0: 6, 1: 3, 2: 1}


@pytest.mark.parametrize("parts", [(), (0.5, 0.0), (0.5, -1.0), (float("nan"),), (float("inf"), 1.0), (1.0, 0.001)])
def test_shares_of_no_use_are_refused(parts):
    with pytest.raises(ConfigError, match="share"):
        Shares(parts=parts)


def test_a_share_for_each_source():
    with pytest.raises(ConfigError, match="2 sources of pairs and 1 shares"):
        MixedPairs([Counted(1, stream()), Counted(2, stream())], Shares())


def test_every_cycle_holds_the_shares_and_goes_on_in_each_source_where_it_was():
    mixed = MixedPairs([Counted(10, stream()), Counted(20, stream()), Counted(30, stream())], Shares(parts=(5, 3, 2)))
    seen = {10: [], 20: [], 30: []}
    for visit in range(3 * CYCLE):
        found = mixed[visit]
        level = int(found.crops[1][0, 0, 0, 0])
        seen[level].append(found.image - 1000 * (level // 10 - 1))
        if (visit + 1) % CYCLE == 0:
            cycles = (visit + 1) // CYCLE
            assert {level: len(visits) for level, visits in seen.items()} == {
                10: 50 * cycles,
                20: 30 * cycles,
                30: 20 * cycles,
            }
    assert all(visits == list(range(len(visits))) for visits in seen.values())


def two_sources(tmp_path, config):
    """Seven images and three others, degraded in two ways: nine visits of ten to the first."""
    dark, bright = tmp_path / "dark", tmp_path / "bright"
    if not dark.exists():
        flat_images(dark, range(10, 80, 10)), flat_images(bright, (200, 220, 240))
    plain = DegradationConfig(noise_sigma=(2.0, 9.0))
    return MixedPairs(
        [
            RulePairs(sorted(dark.iterdir()), config, plain),
            RulePairs(sorted(bright.iterdir()), config, DegradationConfig(noise_sigma=(0.0, 0.0))),
        ],
        Shares(parts=(0.9, 0.1)),
    )


def first(count, visits, start=0):
    return list(islice(batches(visits, start=start, on_refused=lambda _refusal: None), count))


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)
    )


@pytest.mark.parametrize("workers", WORKERS)
def test_a_mixed_stream_is_the_same_from_any_start_and_with_any_workers(tmp_path, workers):
    whole = first(14, two_sources(tmp_path, stream()))
    assert same(first(5, two_sources(tmp_path, stream(workers=workers)), start=9), whole[9:])
    assert not same(first(1, two_sources(tmp_path, stream(seed=1))), whole[:1])


def test_every_image_of_every_source_is_visited(tmp_path):
    mixed = two_sources(tmp_path, stream())
    levels = [int(mixed[visit].crops[1].float().mean()) for visit in range(CYCLE)]
    assert set(levels) == {10, 20, 30, 40, 50, 60, 70, 200, 220, 240}
    assert sum(level >= 200 for level in levels) == 10
    assert mixed.images_in_all == 10
    numbers = {mixed[visit].image for visit in range(CYCLE)}
    assert numbers == set(range(10))  # no two images share a number: batches of one image alone are told by it


def shaken(hr, lr_real):
    """A degrader of known results: means of 4 x 4 pixels, and the LR image's departure from 128."""
    return F.avg_pool2d(hr, 4) + (lr_real - 128 / 255)


def noise_images(folder, levels):
    return flat_images(folder, levels, side=12)


def test_a_learned_degrader_makes_the_lr_side_of_clean_crops_from_noisy_images(tmp_path):
    clean, noisy = flat_images(tmp_path / "hr", (100, 150)), noise_images(tmp_path / "lr", (125, 128, 131))
    visits = DegradedPairs(clean, noisy, stream(), scale=4, degrade=shaken)
    met = set()
    for visit in range(30):
        lr, hr = visits[visit].crops
        assert (lr.shape, hr.shape, lr.dtype) == ((2, 3, 4, 4), (2, 3, 16, 16), torch.uint8)
        (level,), (made,) = hr.unique().tolist(), lr.unique().tolist()
        met.add((level, made - level))
    assert {level for level, _ in met} == {100, 150}
    assert {noise for _, noise in met} == {-3, 0, 3}
    assert len(met) == 6  # each clean image meets each noisy one


def test_what_a_degrader_makes_is_levels_of_a_file(tmp_path):
    clean, noisy = flat_images(tmp_path / "hr", (250, 5)), noise_images(tmp_path / "lr", (10, 245))
    visits = DegradedPairs(clean, noisy, stream(), scale=4, degrade=shaken)
    assert {int(visits[visit].crops[0].unique()) for visit in range(20)} == {0, 132, 122, 255}


def test_images_of_a_degraders_sides_that_are_of_no_use_are_reported(tmp_path):
    clean, noisy = flat_images(tmp_path / "hr", (100, 150)), noise_images(tmp_path / "lr", (10, 20, 30))
    clean[0].write_bytes(b"no image"), noisy[1].write_bytes(b"no image")
    visits = DegradedPairs(clean, noisy, stream(), scale=4, degrade=shaken)
    told = {refusal.path for visit in range(12) for refusal in visits[visit].refused}
    assert told == {clean[0], noisy[1]}
    for path in noisy:
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="None of the 3 images"):
        visits[0]
