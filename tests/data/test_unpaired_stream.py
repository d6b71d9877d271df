import multiprocessing
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from ddnsr_cli.data.config import NoiseInput, StreamConfig
from ddnsr_cli.data.images import shrunk
from ddnsr_cli.data.noise_patches import slow_part
from ddnsr_cli.data.sampler import epoch_order, no_batch_of_one_image
from ddnsr_cli.data.targets import ImageSet
from ddnsr_cli.data.unpaired_stream import UnpairedDataset, unpaired_batches
from ddnsr_cli.errors import ConfigError, DataError

TINY = {"batch": 8, "crop_px": 16, "crops_per_image": 6, "images_per_round": 8}  # 6 batches a round
IN_PROCESSES = [
    pytest.mark.filterwarnings("ignore:This process"),  # Python from 3.12 on warns of a fork beside threads
]


def stream(**changes):
    return StreamConfig(**(TINY | {"workers": 0} | changes))


def saved(folder, images):
    folder.mkdir()
    paths = tuple(folder / f"{number}.png" for number in range(len(images)))
    for path, pixels in zip(paths, images, strict=True):
        Image.fromarray(pixels).save(path)
    return ImageSet(images=paths)


def flat(levels, side):
    return [np.full((side, side + 3, 3), level, np.uint8) for level in levels]


@pytest.fixture
def flat_sets(tmp_path):
    """(lr, hr): eight images a side, each of one level: LR 0 to 7, HR 100 to 107."""
    return saved(tmp_path / "lr", flat(range(8), 9)), saved(tmp_path / "hr", flat(range(100, 108), 20))


@pytest.fixture
def noisy_sets(tmp_path):
    """(lr, hr) of white noise, five and seven images: no two crops are alike."""
    rng = np.random.default_rng(0)
    lr = [rng.integers(0, 256, (12, 14, 3)).astype(np.uint8) for _ in range(5)]
    hr = [rng.integers(0, 256, (40, 33, 3)).astype(np.uint8) for _ in range(7)]
    return saved(tmp_path / "lr", lr), saved(tmp_path / "hr", hr)


def first(count, lr, *hr, start=0, told=None, **changes):
    visits = UnpairedDataset(lr=lr, hr=hr, stream=stream(**changes))
    on_refused = (lambda refusal: None) if told is None else told.append
    return list(islice(unpaired_batches(visits, start=start, on_refused=on_refused), count))


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)
    )


def level_of(crops):
    """The level of each flat crop, (N,)."""
    assert (crops.amin((1, 2, 3)) == crops.amax((1, 2, 3))).all()
    return crops[:, 0, 0, 0].tolist()


def damage(path):
    path.write_bytes(path.read_bytes()[:40])


def test_each_side_gives_its_own_size_and_images(flat_sets):
    for lr, hr, noise in first(7, *flat_sets):
        assert torch.equal(noise, lr)  # nothing smooth is found in 9 x 12 pixels
        assert lr.shape == (8, 3, 4, 4)
        assert hr.shape == (8, 3, 16, 16)
        assert lr.dtype == hr.dtype == torch.uint8
        assert lr.is_contiguous()
        assert hr.is_contiguous()
        assert max(level_of(lr)) < 8
        assert min(level_of(hr)) >= 100


def test_another_seed_draws_other_crops(noisy_sets):
    assert same(first(3, *noisy_sets), first(3, *noisy_sets))
    assert not same(first(3, *noisy_sets), first(3, *noisy_sets, seed=1))
    lr, hr = noisy_sets
    one, other = (UnpairedDataset(lr=lr, hr=[hr], stream=stream(seed=seed))[0] for seed in (0, 1))
    assert not torch.equal(one.hr.crops, other.hr.crops)
    assert not torch.equal(one.lr.crops, other.lr.crops)


@pytest.mark.parametrize("workers", [pytest.param(count, marks=IN_PROCESSES) for count in (1, 3)])
def test_workers_do_not_change_a_bit(noisy_sets, workers):
    assert same(first(8, *noisy_sets), first(8, *noisy_sets, workers=workers))


@pytest.mark.parametrize("start", [1, 5, 6, 14])
def test_a_resumed_stream_gives_what_the_whole_one_gives(noisy_sets, start):
    assert same(first(16, *noisy_sets)[start:], first(16 - start, *noisy_sets, start=start))


def test_each_side_reads_every_image_once_an_epoch(flat_sets):
    for number in range(3):  # a round of eight visits is an epoch of eight images
        one_round = first(6, *flat_sets, start=6 * number)
        for side, base in ((0, 0), (1, 100)):
            levels = Counter(level for batch in one_round for level in level_of(batch[side]))
            assert levels == {base + image: 6 for image in range(8)}


def test_the_two_sides_go_through_their_images_independently(flat_sets):
    seen = {(lr, hr - 100) for batch in first(60, *flat_sets) for lr, hr in zip(*map(level_of, batch[:2]), strict=True)}
    assert len(seen) > 55  # of 64 couples; 480 drawn


def test_orders_of_the_two_sides_differ_from_visit_to_visit(flat_sets):
    lr, hr = flat_sets
    visits = UnpairedDataset(lr=lr, hr=[hr], stream=stream())
    orders = [[level_of(side.crops(number).crops)[0] % 100 for number in range(32)] for side in (visits.lr, visits.hr)]
    assert orders[0] != orders[1]


def test_a_batch_as_large_as_a_round_has_visits_holds_one_crop_of_each(flat_sets):
    for lr, hr, _ in first(12, *flat_sets):
        assert sorted(level_of(lr)) == list(range(8))
        assert sorted(level_of(hr)) == list(range(100, 108))


@pytest.mark.parametrize("batch", [2, 4])
def test_no_batch_is_of_one_image_alone(tmp_path, batch):
    lr, hr = saved(tmp_path / "lr", flat([1, 2], 9)), saved(tmp_path / "hr", flat([100, 101, 102, 103], 20))
    damage(hr.images[2])  # its visits go to the others
    drawn = [batch[:2] for batch in first(72, lr, hr, batch=batch)]
    assert all(len(set(level_of(side))) > 1 for both in drawn for side in both)
    levels = Counter(level for both in drawn for side in both for level in level_of(side))
    assert levels[1] == levels[2] == 36 * batch  # whole rounds: each image gives what it gave
    assert same([batch[:2] for batch in first(9, lr, hr, batch=batch, start=5)], drawn[5:14])


@pytest.mark.parametrize(
    ("order", "batch", "mixed"),
    [
        ([0, 4, 1, 5, 2, 6, 3, 7], 2, [0, 4, 1, 5, 2, 6, 3, 7]),
        ([0, 1, 4, 5, 2, 6, 3, 7], 2, [4, 1, 0, 5, 2, 6, 3, 7]),  # one exchange mends two batches
        ([4, 0, 1, 5, 2, 6, 7, 3], 4, [4, 0, 1, 5, 2, 6, 7, 3]),
        ([4, 5, 6, 7, 0, 1, 2, 3], 4, [0, 5, 6, 7, 4, 1, 2, 3]),
        ([1, 0, 2, 3, 4, 5, 6, 7], 1, [1, 0, 2, 3, 4, 5, 6, 7]),  # a batch of one is of one image
    ],
)
def test_a_batch_of_one_image_takes_the_next_crop_of_another(order, batch, mixed):
    assert no_batch_of_one_image(np.array(order), list("aaaabbbb"), batch).tolist() == mixed


def test_where_there_are_no_two_images_for_each_batch_nothing_is_spoilt():
    for images in ("aaaaaa", "baaaaa"):
        assert no_batch_of_one_image(np.arange(6), list(images), 2).tolist() == list(range(6))


def test_all_eight_flips_and_turns_come_up_on_both_sides(tmp_path):
    rng = np.random.default_rng(1)
    lr, hr = (
        saved(tmp_path / name, [rng.integers(0, 256, (side, side, 3)).astype(np.uint8)])
        for name, side in (("lr", 4), ("hr", 16))
    )
    drawn = first(12, lr, hr)
    for side in (0, 1):
        assert len({crop.numpy().tobytes() for batch in drawn for crop in batch[side]}) == 8


def test_an_image_of_the_crop_size_is_enough(tmp_path):
    lr, hr = saved(tmp_path / "lr", flat([1, 2], 4)), saved(tmp_path / "hr", flat([3, 4], 16))
    assert len(first(2, lr, hr)) == 2


def test_a_damaged_image_gives_its_visit_to_the_next_of_its_epoch(flat_sets):
    lr, hr = flat_sets
    visits = UnpairedDataset(lr=lr, hr=[hr], stream=stream())
    before = [level_of(visits.hr.crops(number).crops)[0] for number in range(16)]
    damage(hr.images[3])
    damage(hr.images[5])
    after = [visits.hr.crops(number) for number in range(16)]
    for epoch in (before[:8], before[8:]):
        assert sorted(epoch) == list(range(100, 108))
    for number, visit in enumerate(after):
        order = before[number // 8 * 8 :][:8]
        followers = [order[(number + step) % 8] for step in range(3)]
        assert level_of(visit.crops)[0] == next(level for level in followers if level not in (103, 105))
        assert bool(visit.refused) == (before[number] in (103, 105))


def test_a_damaged_image_is_reported_once_by_name(flat_sets):
    lr, hr = flat_sets
    damage(lr.images[2])
    damage(hr.images[6])
    told = []
    drawn = first(30, lr, hr, told=told)
    assert sorted(refusal.path for refusal in told) == sorted((lr.images[2], hr.images[6]))
    assert all(str(refusal.path) in refusal.reason for refusal in told)
    assert not {2, 106} & {level for batch in drawn for side in batch for level in level_of(side)}


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=IN_PROCESSES)])
def test_damage_does_not_hinder_an_exact_resume(noisy_sets, workers):
    lr, hr = noisy_sets
    damage(lr.images[0])
    damage(hr.images[4])
    assert same(first(16, lr, hr)[7:], first(9, lr, hr, start=7, workers=workers))


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=IN_PROCESSES)])
def test_a_set_without_a_single_good_image_is_refused(flat_sets, workers):
    lr, hr = flat_sets
    for path in lr.images:
        damage(path)
    with pytest.raises(DataError, match=r"None of the 8 images can be used. First: .*\.png is ") as caught:
        first(1, lr, hr, workers=workers)
    assert "\n" not in str(caught.value)


def test_an_image_too_small_is_left_out_like_a_damaged_one(flat_sets):
    lr, hr = flat_sets
    Image.new("RGB", (30, 15)).save(hr.images[1])
    told = []
    drawn = first(6, lr, hr, told=told)
    assert [refusal.reason for refusal in told] == [f"{hr.images[1]} has 30x15 pixels; a side needs 16. Remove it."]
    assert {level for _, batch, _ in drawn for level in level_of(batch)} == {100, *range(102, 108)}


def test_a_shrunk_set_is_antialiased(tmp_path):
    board = np.indices((32, 32)).sum(0) % 2 * 255
    sharp = saved(tmp_path / "hr", [np.repeat(board[..., None], 3, axis=2).astype(np.uint8)])
    lr = saved(tmp_path / "lr", flat([1], 4))
    crops = torch.cat([hr for _, hr, _ in first(6, lr, ImageSet(images=sharp.images, shrink=2))]).float()
    assert (crops - 127.5).abs().max() < 16  # nothing is left of the board but a trace at the border


def test_shrinking_is_by_exactly_the_factor():
    ramp = np.repeat(np.arange(61, dtype=np.uint8)[None, :, None] * 4, 3, axis=2).repeat(33, axis=0)
    small = shrunk(ramp, 2)
    assert small.shape == (16, 30, 3)
    np.testing.assert_allclose(small[8, 2:-2, 0], np.arange(2, 28) * 8 + 2, atol=1)  # the mean of each two columns
    assert shrunk(ramp, 1) is ramp


def test_several_sets_give_equal_parts_whatever_their_sizes(tmp_path, flat_sets):
    lr, many = flat_sets
    few = saved(tmp_path / "few", flat([200], 20))
    for number in range(2):
        one_round = first(6, lr, many, few, start=6 * number)
        levels = [level for _, hr, _ in one_round for level in level_of(hr)]
        assert sum(level == 200 for level in levels) == 24
        assert len(set(levels) - {200}) == 4


def test_equal_sets_are_not_visited_in_step(flat_sets):
    lr, hr = flat_sets
    side = UnpairedDataset(lr=lr, hr=[hr, hr], stream=stream()).hr
    levels = [level_of(side.crops(number).crops)[0] for number in range(32)]
    assert levels[::2] != levels[1::2]


def test_the_order_of_an_epoch_is_its_own():
    orders = {tuple(epoch_order(epoch, 20, seed)) for epoch in range(3) for seed in range(3)}
    assert len(orders) == 9


@pytest.mark.filterwarnings("ignore:This process")
def test_closing_the_stream_ends_its_workers(flat_sets):
    lr, hr = flat_sets
    visits = UnpairedDataset(lr=lr, hr=[hr], stream=stream(workers=2))
    given = unpaired_batches(visits, start=0, on_refused=lambda refusal: None)
    next(given)
    assert len(multiprocessing.active_children()) == 2
    given.close()
    assert not multiprocessing.active_children()


def test_noise_inputs_are_of_the_images_of_the_crops_unless_crops_are_asked_for(tmp_path):
    """One image has noise of 4 levels, one of 12: noise goes with its image, its stripes do not."""
    rng, images = np.random.default_rng(0), []
    for sigma in (4, 12):
        image = np.full((64, 96, 3), 120.0)
        image[:, :32:2] = 60
        images.append(np.clip(image + rng.normal(0, sigma, image.shape), 0, 255).astype(np.uint8))
    lr, hr = saved(tmp_path / "lr", images), saved(tmp_path / "hr", flat([3, 4], 64))
    drawn = first(6, lr, hr, crop_px=64)
    assert same(drawn, first(6, lr, hr, crop_px=64))
    fine = [noise.float() - slow_part(crops.float()) for crops, _, noise in drawn]
    levels = torch.cat([one.std((1, 2, 3)) for one in fine])
    assert sorted({round(level / 4) for level in levels.tolist()}) == [1, 3]
    assert all(
        torch.equal(crops, noise) for crops, _, noise in first(6, lr, hr, crop_px=64, noise_input=NoiseInput.CROP)
    )


def test_an_empty_set_and_an_odd_crop_are_refused(flat_sets):
    lr, hr = flat_sets
    with pytest.raises(DataError, match="empty"):
        UnpairedDataset(lr=lr, hr=[hr, ImageSet(images=())], stream=stream())
    with pytest.raises(DataError, match="empty"):
        UnpairedDataset(lr=lr, hr=[], stream=stream())
    with pytest.raises(ConfigError, match="--crop must be a multiple of 4, got"):
        UnpairedDataset(lr=lr, hr=[hr], stream=stream(crop_px=18))
