import multiprocessing
import os
import signal
import time
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from ddnsr_cli.data.config import DegradationConfig, StreamConfig
from ddnsr_cli.data.crop_stream import MARGIN_LR_PX, PairVisits, batches, least_photo_px
from ddnsr_cli.data.sampler import photos_from_visit
from ddnsr_cli.errors import ConfigError, DataError

PLAIN = DegradationConfig(blur_chance=0.0, bicubic_chance=1.0, noise_sigma=(0.0, 0.0), jpeg_chance=0.0)
RICH = DegradationConfig()
TINY = {"batch": 8, "crop_px": 16, "crops_per_photo": 6, "photos_per_round": 4}  # 3 batches a round
IN_PROCESSES = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # on a machine of one core
    pytest.mark.filterwarnings("ignore:This process"),  # Python from 3.12 on warns of a fork beside threads
]
# Worker counts; 0 stays in this process.
WORKERS = [0, *(pytest.param(count, marks=IN_PROCESSES) for count in (1, 2))]


def stream(**changes):
    return StreamConfig(**(TINY | {"workers": 0} | changes))


def saved(folder, images):
    paths = [folder / f"{number}.png" for number in range(len(images))]
    for path, pixels in zip(paths, images, strict=True):
        Image.fromarray(pixels).save(path)
    return paths


@pytest.fixture
def noisy_photos(tmp_path):
    """Seven photos of white noise: no two crops are alike."""
    rng = np.random.default_rng(0)
    return saved(tmp_path, [rng.integers(0, 256, (64, 72, 3)).astype(np.uint8) for _ in range(7)])


@pytest.fixture
def flat_photos(tmp_path):
    """Eight photos of one color each: photo n is of level 30 n."""
    return saved(tmp_path, [np.full((56, 60, 3), 30 * number, np.uint8) for number in range(8)])


def given(photos, config, degradation=RICH, start=0, told=None):
    on_refused = (lambda _refusal: None) if told is None else told.append
    return batches(PairVisits(photos, config, degradation), start=start, on_refused=on_refused)


def first(count, photos, config, degradation=RICH, start=0, told=None):
    return list(islice(given(photos, config, degradation, start, told), count))


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)
    )


def sources(batch):
    """How many crops of a batch came from each of the flat photos."""
    return Counter((batch[1][:, 0, 0, 0] // 30).tolist())


def test_a_batch_is_whole_levels_of_the_sizes_asked_for(noisy_photos):
    lr, hr = first(1, noisy_photos, stream())[0]
    assert lr.shape == (8, 3, 4, 4)
    assert hr.shape == (8, 3, 16, 16)
    assert lr.dtype == hr.dtype == torch.uint8


@pytest.mark.parametrize("start", [1, 2, 3, 4, 8, 21])
def test_starting_later_skips_batches_and_changes_nothing(noisy_photos, start):
    # Three batches a round, seven photos an epoch: the starts lie in, at and beyond the borders of both.
    everything = first(start + 2, noisy_photos, stream())
    assert same(first(2, noisy_photos, stream(), start=start), everything[start:])


@pytest.mark.parametrize("workers", WORKERS)
def test_workers_change_nothing(noisy_photos, workers):
    alone = first(7, noisy_photos, stream())
    assert same(first(5, noisy_photos, stream(workers=workers), start=2), alone[2:])


def test_the_seed_alone_decides(noisy_photos):
    once = first(4, noisy_photos, stream(seed=1))
    torch.manual_seed(5)
    assert same(first(4, noisy_photos, stream(seed=1)), once)
    other = first(4, noisy_photos, stream(seed=2))
    assert not any(same([a], [b]) for a, b in zip(once, other, strict=True))


def test_no_crop_comes_twice(noisy_photos):
    hr = torch.cat([hr for _, hr in first(9, noisy_photos, stream())])
    assert len(hr.flatten(1).unique(dim=0)) == len(hr)


def test_no_batch_comes_from_one_photo(flat_photos):
    for batch in first(12, flat_photos, stream(), PLAIN):
        assert len(sources(batch)) > 1


def test_no_batch_of_two_comes_from_one_photo_of_two(flat_photos):
    config = stream(batch=2)
    for batch in first(60, flat_photos[:2], config, PLAIN):
        assert len(sources(batch)) == 2
    everything = first(20, flat_photos[:2], config, PLAIN)
    assert same(first(9, flat_photos[:2], config, PLAIN, start=11), everything[11:])


def test_a_round_holds_the_crops_of_its_visits_and_mixes_them(flat_photos):
    config = stream(photos_per_round=8, batch=12)
    for start in (0, 4):
        a_round = first(4, flat_photos, config, PLAIN, start=start)
        assert sum(map(sources, a_round), Counter()) == dict.fromkeys(range(8), 6)
        assert all(len(sources(batch)) >= 4 for batch in a_round)


def test_each_round_is_mixed_in_its_own_way(flat_photos):
    config = stream(photos_per_round=8, batch=48)
    ways = set()
    for number, (_, hr) in enumerate(first(3, flat_photos, config, PLAIN)):
        visit_of_photo = {
            photos_from_visit(visit, 8, config.seed)[0]: visit % 8 for visit in range(8 * number, 8 * number + 8)
        }
        ways.add(tuple(visit_of_photo[photo] for photo in (hr[:, 0, 0, 0] // 30).tolist()))
    assert len(ways) == 3


@pytest.mark.parametrize("photos", [1, 2, 7, 100])
def test_each_photo_is_visited_once_an_epoch(photos):
    for epoch in (0, 1, 5):
        visits = range(epoch * photos, (epoch + 1) * photos)
        assert sorted(photos_from_visit(visit, photos, seed=3)[0] for visit in visits) == list(range(photos))


def test_each_epoch_and_each_seed_has_its_own_order():
    orders = {
        tuple(photos_from_visit(visit, 20, seed)[0] for visit in range(epoch * 20, epoch * 20 + 20))
        for epoch in range(3)
        for seed in range(3)
    }
    assert len(orders) == 9


def test_lr_and_hr_show_the_same_place(noisy_photos):
    for lr, hr in first(3, noisy_photos, stream(crop_px=32), PLAIN):
        for small, large in zip(lr, hr, strict=True):
            shrunk = np.array(Image.fromarray(large.permute(1, 2, 0).numpy()).resize((8, 8), Image.Resampling.BICUBIC))
            difference = shrunk.astype(int) - small.permute(1, 2, 0).numpy()
            assert np.abs(difference[2:-2, 2:-2]).max() <= 1  # the border saw beyond the crop
            assert np.abs(difference).max() > 1  # and so is no proof, but shows that the margin was real


def ramp(height, width):
    """Red counts the rows, green the columns: a crop tells where it lies and how it was turned."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 2, columns * 2, rows * 0], axis=2).astype(np.uint8)


def test_all_eight_symmetries_of_the_square_are_drawn(tmp_path):
    photos = saved(tmp_path, [ramp(60, 64)] * 2)
    crops = torch.cat([hr for _, hr in first(12, photos, stream(), PLAIN)]).int()
    down, right = crops[:, :2, 1, 0] - crops[:, :2, 0, 0], crops[:, :2, 0, 1] - crops[:, :2, 0, 0]
    seen = Counter(map(tuple, torch.cat([down, right], dim=1).tolist()))
    assert set(seen) == {(a, 0, 0, b) for a in (-2, 2) for b in (-2, 2)} | {
        (0, a, b, 0) for a in (-2, 2) for b in (-2, 2)
    }
    assert min(seen.values()) > len(crops) / 8 / 3


def test_crops_lie_everywhere_up_to_the_last_pixel(tmp_path):
    photos = saved(tmp_path, [ramp(51, 48)] * 2)
    crops = torch.cat([hr for _, hr in first(60, photos, stream(), PLAIN)])
    assert (crops[:, 0].min() // 2, crops[:, 0].max() // 2) == (0, 50)
    assert (crops[:, 1].min() // 2, crops[:, 1].max() // 2) == (0, 47)


def test_the_least_photo_is_enough_and_one_pixel_less_is_refused(tmp_path):
    least = least_photo_px(stream(), scale=4)
    assert least == 16 + 2 * 4 * MARGIN_LR_PX
    enough, short = saved(tmp_path, [ramp(least, least), ramp(least, least - 1)])
    told = []
    first(1, [enough, short], stream(), told=told)
    assert [refusal.reason for refusal in told] == [
        f"{short} has {least - 1}x{least} pixels; a side needs {least}. Remove it."
    ]


def damage(path):
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize("workers", WORKERS)
def test_a_damaged_photo_is_reported_once_in_one_line_and_replaced(flat_photos, workers):
    damage(flat_photos[3])
    told = []
    drawn = first(18, flat_photos, stream(workers=workers), PLAIN, told=told)
    assert [refusal.path for refusal in told] == [flat_photos[3]]
    assert told[0].reason.startswith(f"{flat_photos[3]} is damaged")
    assert "\n" not in told[0].reason
    assert set().union(*map(sources, drawn)) == {0, 1, 2, 4, 5, 6, 7}


def test_a_damaged_photo_gives_its_visits_to_the_next_of_its_epoch_and_moves_no_other(flat_photos):
    visits = PairVisits(flat_photos, stream(), PLAIN)
    before = [visits[number] for number in range(16)]
    damage(flat_photos[3])
    damage(flat_photos[5])
    for number, (old, new) in enumerate(zip(before, (visits[number] for number in range(16)), strict=True)):
        epoch = [visit.photo for visit in before[number // 8 * 8 :][:8]]
        turns = [epoch[(number + step) % 8] for step in range(8)]
        assert new.photo == next(photo for photo in turns if photo not in {3, 5})
        assert new.crops[1].unique().tolist() == [30 * new.photo]
        if old.photo == new.photo:
            assert same([old.crops], [new.crops])


@pytest.mark.parametrize("workers", WORKERS)
def test_damage_does_not_hinder_an_exact_resume(noisy_photos, workers):
    damage(noisy_photos[3])
    assert same(first(16, noisy_photos, stream())[7:], first(9, noisy_photos, stream(workers=workers), start=7))


def test_a_replaced_photo_does_not_leave_a_batch_of_one_photo(flat_photos):
    damage(flat_photos[2])
    for batch in first(60, flat_photos[:4], stream(batch=2), PLAIN):
        assert len(sources(batch)) == 2


@pytest.mark.parametrize("workers", WORKERS)
def test_photos_none_of_which_is_good_are_refused(noisy_photos, workers):
    for photo in noisy_photos:
        damage(photo)
    with pytest.raises(DataError, match=r"None of the 7 photos can be used. First: .*\.png is ") as caught:
        first(1, noisy_photos, stream(workers=workers))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", WORKERS[1:])
def test_closing_the_stream_ends_its_workers(noisy_photos, workers):
    endless = given(noisy_photos, stream(workers=workers))
    next(endless)
    assert len(multiprocessing.active_children()) == workers
    endless.close()
    assert multiprocessing.active_children() == []


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="signals of Unix")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
@pytest.mark.parametrize("workers", WORKERS[1:2])
def test_workers_outlive_the_signals_that_stop_a_run(noisy_photos, workers, name):
    # A terminal's Ctrl-C and a scheduler's stop reach every process of a run.
    expected = first(5, noisy_photos, stream())
    endless = given(noisy_photos, stream(workers=workers))
    got = [next(endless)]
    for child in multiprocessing.active_children():
        os.kill(child.pid, getattr(signal, name))
    time.sleep(0.2)
    got += islice(endless, 4)
    endless.close()
    assert same(got, expected)


MIXED = {"crops_per_photo": 16, "photos_per_round": 32}


@pytest.mark.parametrize(
    ("nonsense", "word"),
    [
        (
            {"batch": 7, "crops_per_photo": 16, "photos_per_round": 32},
            r"512 at a time .* batch of 7 .* Choose 4 or 8\.$",
        ),
        ({"batch": 600, "crops_per_photo": 16, "photos_per_round": 32}, r"batch of 600 .* Choose 512\.$"),
        ({"batch": 0}, "batch"),
        ({"crops_per_photo": 0}, "crops_per_photo"),
        ({"crop_px": 0}, "crop_px"),
        ({"photos_per_round": 1, "batch": 6}, "at least 2"),
        ({"workers": -1}, "workers"),
        ({"seed": -1}, "seed"),
    ],
)
def test_streams_that_mean_nothing_are_refused(nonsense, word):
    with pytest.raises(ConfigError, match=word):
        stream(**nonsense)


def test_the_buffer_is_counted_in_crops_and_batches():
    config = StreamConfig(batch=16, crops_per_photo=16, photos_per_round=32)
    assert (config.crops_per_round, config.batches_per_round) == (512, 32)
