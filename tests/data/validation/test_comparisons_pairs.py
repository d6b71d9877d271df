"""What is wrong with pairs whose names and sizes fit."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from ddnsr_cli.data.images import ImagePair
from ddnsr_cli.data.validation.comparisons import check_pairs, pair_flaws
from ddnsr_cli.data.validation.report import Role, Trouble
from tests.helpers.drawn_images import drawn_image, jpeg, noisy, resized


@pytest.fixture(scope="module")
def scenes():
    return [drawn_image(seed, 256) for seed in range(3)]


def blurred(image):
    return resized(resized(image, 1 / 2), 2)


WAYS = {
    "bicubic": lambda image: resized(image, 1 / 4),
    "noisy": lambda image: noisy(resized(image, 1 / 4), 10),
    "jpeg": lambda image: jpeg(resized(blurred(image), 1 / 4), 50),
}


def remarks(lr, hr):
    return [flaw.remark for flaw in pair_flaws(lr, hr)]


@pytest.mark.parametrize("way", WAYS)
def test_sound_pairs_have_no_flaw(scenes, way):
    for scene in scenes:
        assert remarks(WAYS[way](scene), scene) == []
        gray = np.repeat(scene[..., 1:2], 3, axis=2)
        assert remarks(WAYS[way](gray), gray) == []


SHIFTS = {
    (1, 0): "1 pixel down",
    (0, -2): "2 pixels to the left",
    (3, 2): "3 pixels down and 2 pixels to the right",
    (-24, 16): "24 pixels up and 16 pixels to the right",
}
CASES = [("bicubic", shift) for shift in SHIFTS] + [("noisy", shift) for shift in SHIFTS if shift != (1, 0)]


@pytest.mark.parametrize(("way", "shift"), CASES)
def test_a_shift_is_told_to_the_pixel(scenes, way, shift):
    """One pixel, a quarter of an LR pixel, goes under in noise."""
    for scene in scenes:
        moved = np.roll(scene, shift, (0, 1))
        assert remarks(WAYS[way](scene), moved) == [f"is shifted against {{partner}}: {SHIFTS[shift]}"]


def test_another_image_and_one_that_was_turned(scenes):
    small = WAYS["bicubic"](scenes[0])
    assert remarks(small, scenes[1]) == ["does not show what {partner} shows"]
    assert remarks(small, scenes[0][:, ::-1]) == ["is mirrored against {partner}"]
    assert remarks(small, np.rot90(scenes[0], 3))[0].startswith("is turned by ")


@pytest.mark.parametrize(
    ("order", "names"), [((2, 1, 0), "red and blue"), ((1, 0, 2), "red and green"), ((1, 2, 0), "red, green and blue")]
)
def test_exchanged_channels(scenes, order, names):
    swapped = WAYS["bicubic"](scenes[0])[..., order]
    assert remarks(swapped, scenes[0]) == [f"has {names} exchanged against {{partner}}"]


def test_exchanged_channels_of_an_image_that_is_darker_or_flat(scenes):
    named = ["has red and blue exchanged against {partner}"]
    assert remarks((WAYS["bicubic"](scenes[0])[..., ::-1] * 0.7).astype(np.uint8), scenes[0]) == named
    sky = np.broadcast_to(np.uint8((90, 140, 220)), (256, 256, 3)).copy()
    assert remarks(noisy(sky[::4, ::4, ::-1], 8), sky) == named


def test_what_repeats_itself_and_is_mirrored_is_not_called_shifted():
    bricks = np.repeat(data.brick()[96:416, 64:448, None], 3, axis=2)
    small = WAYS["bicubic"](bricks)
    assert remarks(small, bricks) == []
    assert remarks(small, np.ascontiguousarray(bricks[:, ::-1])) == ["is mirrored against {partner}"]


def test_gray_against_color(scenes):
    small = WAYS["bicubic"](scenes[0])
    gray = np.repeat(small.mean(2, keepdims=True).astype(np.uint8), 3, axis=2)
    assert remarks(gray, scenes[0]) == ["is in color and {partner} is gray"]
    large = np.repeat(scenes[0].mean(2, keepdims=True).astype(np.uint8), 3, axis=2)
    assert remarks(small, large) == ["is gray and {partner} is in color"]
    assert remarks(noisy(WAYS["bicubic"](large), 15), large) == []  # the noise is in color, not the image


def test_what_is_too_flat_or_too_small_is_not_judged(scenes):
    sky = np.full((256, 256, 3), 180, np.uint8)
    assert remarks(noisy(sky[::4, ::4], 8), sky) == []
    assert remarks(scenes[0][:8, :8].copy(), scenes[1][:32, :32].copy()) == []


def test_finished_images_of_the_same_size(scenes):
    assert remarks(jpeg(scenes[0], 60), scenes[0]) == []
    assert remarks(np.roll(scenes[0], 1, 0), scenes[0]) == ["is shifted against {partner}: 1 pixel up"]


def test_depths_and_twins_of_files(scenes, tmp_path):
    pairs = []
    for number, scene in enumerate((scenes[0], scenes[1], scenes[1])):
        pair = ImagePair(name=str(number), lr=tmp_path / f"{number}l.png", hr=tmp_path / f"{number}h.png")
        Image.fromarray(WAYS["bicubic"](scene)).save(pair.lr)
        Image.fromarray(scene).save(pair.hr)
        pairs.append(pair)
    Image.fromarray(scenes[0][..., 1].astype(np.uint16) * 257).save(pairs[0].hr)
    found = {finding.trouble: finding for finding in check_pairs(pairs)}
    assert found.keys() == {Trouble.DEPTHS, Trouble.COLOR, Trouble.TWINS}
    assert found[Trouble.DEPTHS].sentence == f"{pairs[0].hr} has 16 bits a sample and {pairs[0].lr} 8."
    assert str(pairs[2].hr) in found[Trouble.TWINS].sentence
    pairs[0].lr.write_bytes(b"no image")
    found = {finding.trouble: finding for finding in check_pairs(pairs)}
    assert found.keys() == {Trouble.UNREADABLE, Trouble.TWINS}
    assert (found[Trouble.UNREADABLE].role, found[Trouble.UNREADABLE].path) == (Role.LR, pairs[0].lr)
    pairs[0].hr.write_bytes(b"no image")
    pairs[0].lr.write_bytes(pairs[1].lr.read_bytes())
    assert Trouble.UNREADABLE not in {finding.trouble for finding in check_pairs(pairs)}  # of HR another tells
    assert check_pairs(pairs[1:2], most=1) == ()


@pytest.mark.parametrize(
    ("lr", "hr", "told"),
    [
        ([0, 1, 2], [0, 0, 0], None),  # what `degrade --per-image 3` makes
        ([0, 1, 0], [0, 0, 0], "2h.png and its partner have the bytes of "),
        ([0, 0, 1], [0, 1, 2], "differ, but their partners have the same bytes: "),
    ],
)
def test_several_lr_images_of_one_hr_image_are_no_twins(scenes, tmp_path, lr, hr, told):
    pairs = [ImagePair(name=f"{n}", lr=tmp_path / f"{n}l.png", hr=tmp_path / f"{n}h.png") for n in range(3)]
    for pair, small, large in zip(pairs, lr, hr, strict=True):
        Image.fromarray(noisy(WAYS["bicubic"](scenes[0]), 2, seed=small)).save(pair.lr)
        Image.fromarray(scenes[0] ^ np.uint8(large)).save(pair.hr)
    twins = [finding.sentence for finding in check_pairs(pairs)]
    assert len(twins) == (0 if told is None else 1)
    assert all(told in sentence for sentence in twins)


@pytest.mark.parametrize(
    ("shift", "way"), [((1, 0), "1 pixel down"), ((-1, 1), "1 pixel up and 1 pixel to the right"), ((0, 0), None)]
)
def test_a_shift_that_goes_under_in_noise_is_told_where_all_pairs_have_it(scenes, tmp_path, shift, way):
    pairs = []
    for number in range(9):
        scene = np.roll(scenes[number % 3], 40 * number, (0, 1))
        lr = noisy(resized(blurred(scene), 1 / 4), 22, seed=number)
        paths = [tmp_path / f"{side}{number}.png" for side in ("lr", "hr")]
        for path, pixels in zip(paths, (lr, np.roll(scene, shift, (0, 1))), strict=True):
            Image.fromarray(pixels).save(path)
        pairs.append(ImagePair(name=str(number), lr=paths[0], hr=paths[1]))
    told = [finding.sentence for finding in check_pairs(pairs)]
    if way is None:
        assert told == []
    else:
        assert len(told) == 1
        assert f"shifted against LR, all by the same {way} (mean of 9 pairs)" in told[0]
    assert check_pairs(pairs[:2]) == ()  # too few to tell
