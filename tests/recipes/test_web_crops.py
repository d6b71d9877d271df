"""LR crops as the web gives them: their size, how sharp they are, and that a seed says which."""

import numpy as np
import pytest
from PIL import Image
from web_crops import CROP_PX, SIDE_PX, crops, drawn, main, shrunk_part, spoiled

from ddnsr_cli.errors import DataError
from ddnsr_cli.io.read import read_rgb
from tests.helpers.drawn_images import drawn_image


def photos(count=2, side=200):
    return [drawn_image(seed, side) for seed in range(count)]


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_the_same_seed_gives_the_same_crops_of_both_kinds(tmp_path):
    (tmp_path / "photos").mkdir()
    for number, photo in enumerate(photos()):
        Image.fromarray(photo).save(tmp_path / "photos" / f"{number}.png")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        words = ["--images", str(tmp_path / "photos"), "--out", str(tmp_path / name)]
        main([*words, "--count", "12", "--seed", str(seed)])
    one, same, other = (files_of(tmp_path / name) for name in ("a", "b", "c"))
    assert one == same
    assert len(one) == 12
    assert set(one.values()).isdisjoint(other.values())
    assert {path.parts[0] for path in one} == {"web", "drawn"}
    for path in one:
        assert read_rgb(tmp_path / "a" / path).shape == (CROP_PX, CROP_PX, 3)


def test_the_busiest_of_some_places_is_taken():
    photo = np.full((1000, 1000, 3), 128, np.uint8)
    photo[:, 600:] = np.random.default_rng(0).integers(0, 256, (1000, 400, 3))
    busy = [np.asarray(shrunk_part(photo, np.random.default_rng(seed))).std() > 5 for seed in range(30)]
    assert 15 < sum(busy) < 30  # one place alone would be busy in some 12


def test_a_photo_that_is_hardly_larger_than_a_crop_is_hardly_shrunk():
    part = shrunk_part(drawn_image(0, SIDE_PX + 2), np.random.default_rng(0))
    assert part.size == (SIDE_PX, SIDE_PX)


def test_twigs_and_words_stand_out_from_what_is_behind_them():
    found = [np.asarray(drawn(photos(), np.random.default_rng(seed)), np.float32) for seed in range(20)]
    assert all(image.shape == (SIDE_PX, SIDE_PX, 3) for image in found)
    steps = [np.abs(np.diff(image.mean(axis=2), axis=1)).max() for image in found]
    assert np.median(steps) > 40  # levels from one pixel to the next: sharp


def test_most_crops_are_compressed_and_a_part_is_noisy():
    flat = Image.new("RGB", (SIDE_PX, SIDE_PX), (120, 130, 140))
    found = [spoiled(flat, np.random.default_rng(seed)) for seed in range(200)]
    noisy = np.mean([crop.std(axis=(0, 1)).max() > 0.5 for crop in found])
    assert 0.2 < noisy < 0.5  # some of the weak noise is lost in strong compression


def test_crops_of_both_kinds_come_in_their_shares():
    kinds = [kind for kind, _ in crops(photos(), 60, np.random.default_rng(3))]
    assert 4 <= kinds.count("drawn") <= 22


def test_photos_that_are_too_small_are_told(tmp_path):
    (tmp_path / "photos").mkdir()
    Image.fromarray(drawn_image(0, SIDE_PX)).save(tmp_path / "photos" / "a.png")
    with pytest.raises(DataError, match=f"more than {SIDE_PX} pixels"):
        main(["--images", str(tmp_path / "photos"), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
