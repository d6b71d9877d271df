import inspect
import multiprocessing
import os
import signal
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddnsr_cli.cli.train import train
from ddnsr_cli.data.config import DegradationConfig, StreamConfig
from ddnsr_cli.data.crop_stream import MARGIN_LR_PX, RulePairs, batches, least_image_px
from ddnsr_cli.data.sampler import images_from
from ddnsr_cli.errors import ConfigError, DataError

PLAIN = DegradationConfig(blur_chance=0.0, bicubic_chance=1.0, noise_sigma=(0.0, 0.0), jpeg_chance=0.0)
RICH = DegradationConfig()
TINY = {"batch": 8, "crop_px": 16, "crops_per_image": 6, "images_per_round": 4}  # 3 batches a round
IN_PROCESSES = [pytest.mark.filterwarnings("ignore:This process")]  # Python from 3.12 on warns of a fork beside threads
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
def noisy_images(tmp_path):
    """Seven images of white noise: no two crops are alike."""
    rng = np.random.default_rng(0)
    return saved(tmp_path, [rng.integers(0, 256, (64, 72, 3)).astype(np.uint8) for _ in range(7)])


@pytest.fixture
def flat_images(tmp_path):
    """Eight images of one color each: image n is of level 30 n."""
    return saved(tmp_path, [np.full((56, 60, 3), 30 * number, np.uint8) for number in range(8)])


def given(images, config, degradation=RICH, start=0, told=None):
    on_refused = (lambda _refusal: None) if told is None else told.append
    return batches(RulePairs(images, config, degradation), start=start, on_refused=on_refused)


def first(count, images, config, degradation=RICH, start=0, told=None):
    return list(islice(given(images, config, degradation, start, told), count))


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)
    )


def sources(batch):
    """How many crops of a batch came from each of the flat images."""
    return Counter((batch[1][:, 0, 0, 0] // 30).tolist())


def test_a_batch_is_whole_levels_of_the_sizes_asked_for(noisy_images):
    lr, hr = first(1, noisy_images, stream())[0]
    assert lr.shape == (8, 3, 4, 4)
    assert hr.shape == (8, 3, 16, 16)
    assert lr.dtype == hr.dtype == torch.uint8


@pytest.mark.parametrize("start", [1, 2, 3, 4, 8, 21])
def test_starting_later_skips_batches_and_changes_nothing(noisy_images, start):
    # Three batches a round, seven images an epoch: the starts lie in, at and beyond the borders of both.
    everything = first(start + 2, noisy_images, stream())
    assert same(first(2, noisy_images, stream(), start=start), everything[start:])


@pytest.mark.parametrize("workers", WORKERS)
def test_workers_change_nothing(noisy_images, workers):
    alone = first(7, noisy_images, stream())
    assert same(first(5, noisy_images, stream(workers=workers), start=2), alone[2:])


def test_the_seed_alone_decides(noisy_images):
    once = first(4, noisy_images, stream(seed=1))
    torch.manual_seed(5)
    assert same(first(4, noisy_images, stream(seed=1)), once)
    other = first(4, noisy_images, stream(seed=2))
    assert not any(same([a], [b]) for a, b in zip(once, other, strict=True))


def test_no_crop_comes_twice(noisy_images):
    hr = torch.cat([hr for _, hr in first(9, noisy_images, stream())])
    assert len(hr.flatten(1).unique(dim=0)) == len(hr)


def test_no_batch_comes_from_one_image(flat_images):
    for batch in first(12, flat_images, stream(), PLAIN):
        assert len(sources(batch)) > 1


def test_no_batch_of_two_comes_from_one_image_of_two(flat_images):
    config = stream(batch=2)
    for batch in first(60, flat_images[:2], config, PLAIN):
        assert len(sources(batch)) == 2
    everything = first(20, flat_images[:2], config, PLAIN)
    assert same(first(9, flat_images[:2], config, PLAIN, start=11), everything[11:])


def test_a_round_holds_the_crops_of_its_visits_and_mixes_them(flat_images):
    config = stream(images_per_round=8, batch=12)
    for start in (0, 4):
        a_round = first(4, flat_images, config, PLAIN, start=start)
        assert sum(map(sources, a_round), Counter()) == dict.fromkeys(range(8), 6)
        assert all(len(sources(batch)) >= 4 for batch in a_round)


def test_each_round_is_mixed_in_its_own_way(flat_images):
    config = stream(images_per_round=8, batch=48)
    ways = set()
    for number, (_, hr) in enumerate(first(3, flat_images, config, PLAIN)):
        visit_of_image = {
            images_from(visit, 8, config.seed)[0]: visit % 8 for visit in range(8 * number, 8 * number + 8)
        }
        ways.add(tuple(visit_of_image[image] for image in (hr[:, 0, 0, 0] // 30).tolist()))
    assert len(ways) == 3


@pytest.mark.parametrize("images", [1, 2, 7, 100])
def test_each_image_is_visited_once_an_epoch(images):
    for epoch in (0, 1, 5):
        visits = range(epoch * images, (epoch + 1) * images)
        assert sorted(images_from(visit, images, seed=3)[0] for visit in visits) == list(range(images))


def test_each_epoch_and_each_seed_has_its_own_order():
    orders = {
        tuple(images_from(visit, 20, seed)[0] for visit in range(epoch * 20, epoch * 20 + 20))
        for epoch in range(3)
        for seed in range(3)
    }
    assert len(orders) == 9


def test_lr_and_hr_show_the_same_place(noisy_images):
    for lr, hr in first(3, noisy_images, stream(crop_px=32), PLAIN):
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
    images = saved(tmp_path, [ramp(60, 64)] * 2)
    crops = torch.cat([hr for _, hr in first(12, images, stream(), PLAIN)]).int()
    down, right = crops[:, :2, 1, 0] - crops[:, :2, 0, 0], crops[:, :2, 0, 1] - crops[:, :2, 0, 0]
    seen = Counter(map(tuple, torch.cat([down, right], dim=1).tolist()))
    assert set(seen) == {(a, 0, 0, b) for a in (-2, 2) for b in (-2, 2)} | {
        (0, a, b, 0) for a in (-2, 2) for b in (-2, 2)
    }
    assert min(seen.values()) > len(crops) / 8 / 3


def test_crops_lie_everywhere_up_to_the_last_pixel(tmp_path):
    images = saved(tmp_path, [ramp(51, 48)] * 2)
    crops = torch.cat([hr for _, hr in first(60, images, stream(), PLAIN)])
    assert (crops[:, 0].min() // 2, crops[:, 0].max() // 2) == (0, 50)
    assert (crops[:, 1].min() // 2, crops[:, 1].max() // 2) == (0, 47)


def test_the_least_image_is_enough_and_one_pixel_less_is_refused(tmp_path):
    least = least_image_px(stream(), scale=4)
    assert least == 16 + 2 * 4 * MARGIN_LR_PX
    enough, short = saved(tmp_path, [ramp(least, least), ramp(least, least - 1)])
    told = []
    first(1, [enough, short], stream(), told=told)
    assert [refusal.reason for refusal in told] == [
        f"{short} has {least - 1}x{least} pixels; a side needs {least}. Remove it."
    ]


def damage(path):
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")
@pytest.mark.parametrize("workers", WORKERS[1:2])
def test_crops_on_the_way_take_no_open_files(noisy_images, workers):
    resource = pytest.importorskip("resource", reason="limits of Unix")
    config = stream(images_per_round=32, workers=workers)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 24, before[1]))  # noqa: PTH208
    try:
        drawn = first(50, noisy_images, config)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert same(drawn, first(50, noisy_images, stream(images_per_round=32)))


@pytest.mark.parametrize("workers", WORKERS)
def test_a_damaged_image_is_reported_once_in_one_line_and_replaced(flat_images, workers):
    damage(flat_images[3])
    told = []
    drawn = first(18, flat_images, stream(workers=workers), PLAIN, told=told)
    assert [refusal.path for refusal in told] == [flat_images[3]]
    assert told[0].reason.startswith(f"{flat_images[3]} is damaged")
    assert "\n" not in told[0].reason
    assert set().union(*map(sources, drawn)) == {0, 1, 2, 4, 5, 6, 7}


def test_a_damaged_image_gives_its_visits_to_the_next_of_its_epoch_and_moves_no_other(flat_images):
    visits = RulePairs(flat_images, stream(), PLAIN)
    before = [visits[number] for number in range(16)]
    damage(flat_images[3])
    damage(flat_images[5])
    for number, (old, new) in enumerate(zip(before, (visits[number] for number in range(16)), strict=True)):
        epoch = [visit.image for visit in before[number // 8 * 8 :][:8]]
        turns = [epoch[(number + step) % 8] for step in range(8)]
        assert new.image == next(image for image in turns if image not in {3, 5})
        assert new.crops[1].unique().tolist() == [30 * new.image]
        if old.image == new.image:
            assert same([old.crops], [new.crops])


@pytest.mark.parametrize("workers", WORKERS)
def test_damage_does_not_hinder_an_exact_resume(noisy_images, workers):
    damage(noisy_images[3])
    assert same(first(16, noisy_images, stream())[7:], first(9, noisy_images, stream(workers=workers), start=7))


def test_a_replaced_image_does_not_leave_a_batch_of_one_image(flat_images):
    damage(flat_images[2])
    for batch in first(60, flat_images[:4], stream(batch=2), PLAIN):
        assert len(sources(batch)) == 2


@pytest.mark.parametrize("workers", WORKERS)
def test_images_none_of_which_is_good_are_refused(noisy_images, workers):
    for image in noisy_images:
        damage(image)
    with pytest.raises(DataError, match=r"None of the 7 images can be used. First: .*\.png is ") as caught:
        first(1, noisy_images, stream(workers=workers))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", WORKERS[1:])
def test_closing_the_stream_ends_its_workers(noisy_images, workers):
    endless = given(noisy_images, stream(workers=workers))
    next(endless)
    assert len(multiprocessing.active_children()) == workers
    endless.close()
    assert multiprocessing.active_children() == []


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="signals of Unix")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
@pytest.mark.parametrize("workers", WORKERS[1:2])
def test_workers_outlive_the_signals_that_stop_a_run(noisy_images, workers, name):
    # A terminal's Ctrl-C and a scheduler's stop reach every process of a run.
    expected = first(5, noisy_images, stream())
    endless = given(noisy_images, stream(workers=workers))
    got = [next(endless)]
    for child in multiprocessing.active_children():
        os.kill(child.pid, getattr(signal, name))
    time.sleep(0.2)
    got += islice(endless, 4)
    endless.close()
    assert same(got, expected)


MIXED = {"crops_per_image": 16, "images_per_round": 32}


@pytest.mark.parametrize(
    ("nonsense", "word"),
    [
        (
            {"batch": 7, "crops_per_image": 16, "images_per_round": 32},
            r"batch of 7 crops does not divide the 512 .* Give --batch 4 or --batch 8\.$",
        ),
        ({"batch": 600, "crops_per_image": 16, "images_per_round": 32}, r"batch of 600 .* Give --batch 512\.$"),
        ({"batch": 0}, "batch"),
        ({"crops_per_image": 0}, "crops_per_image"),
        ({"crop_px": 0}, "crop_px"),
        ({"images_per_round": 1, "batch": 6}, "at least 2"),
        ({"seed": 2**63}, "at most 9223372036854775807, got 9223372036854775808"),
        ({"workers": -1}, "workers"),
        ({"seed": -1}, "seed"),
    ],
)
def test_streams_that_mean_nothing_are_refused(nonsense, word):
    with pytest.raises(ConfigError, match=word):
        stream(**nonsense)


def test_batches_are_what_the_help_of_the_command_says():
    taken = [size for size in range(1, 600) if not _is_refused(size)]
    assert taken == [2**power for power in range(10)]
    (option,) = inspect.signature(train).parameters["batch"].annotation.__metadata__
    assert "a power of 2 from 1 to 512" in option.help


def _is_refused(batch):
    try:
        StreamConfig(batch=batch)
    except ConfigError:
        return True
    return False


def test_the_buffer_is_counted_in_crops_and_batches():
    config = StreamConfig(batch=16, crops_per_image=16, images_per_round=32)
    assert (config.crops_per_round, config.batches_per_round) == (512, 32)


@pytest.mark.parametrize("images", [1, 0, -1])
def test_a_round_of_less_than_two_images_is_refused(images):
    with pytest.raises(ConfigError, match="images_per_round must be at least 2"):
        StreamConfig(images_per_round=images, batch=5)
