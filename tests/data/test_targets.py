import json
from pathlib import Path

import pytest
from PIL import Image

from ddnsr_cli.config import TargetType, options_from_json, options_to_json
from ddnsr_cli.data.targets import ImageSet, TargetOptions, target_sets, usable_part
from ddnsr_cli.errors import ConfigError, DataError

HR = [Path("hr/a.png"), Path("hr/b.png")]
LR = [Path("lr/c.png")]


@pytest.fixture
def image_set(tmp_path):
    """Three good images of 40x64, 64x40 (by its EXIF orientation) and 300x300, one of 63x39, and a broken one."""
    Image.new("RGB", (40, 64)).save(tmp_path / "tall.png")
    Image.new("RGB", (64, 40)).save(tmp_path / "wide.png")
    Image.new("RGB", (300, 300)).save(tmp_path / "large.png")
    Image.new("RGB", (63, 39)).save(tmp_path / "small.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n????")
    return ImageSet(images=tuple(tmp_path / f"{name}.png" for name in ("tall", "small", "wide", "broken", "large")))


@pytest.mark.parametrize(
    ("kind", "sets"),
    [
        ("div2k", (ImageSet(images=tuple(HR)),)),
        ("canon", (ImageSet(images=tuple(HR)),)),
        ("cleanup", (ImageSet(images=tuple(LR), shrink=2),)),
        ("mixed", (ImageSet(images=tuple(HR)), ImageSet(images=tuple(LR), shrink=2))),
    ],
)
def test_each_target_takes_its_images(kind, sets):
    assert target_sets(TargetOptions(kind=TargetType(kind)), hr=HR, lr=LR) == sets


def test_only_cleanup_needs_no_hr_folder():
    assert [kind for kind in TargetType if not TargetOptions(kind=kind).needs_hr_folder] == [TargetType.CLEANUP]


@pytest.mark.parametrize("kind", TargetType)
def test_a_target_survives_json(kind):
    options = TargetOptions(kind=kind)
    back = options_from_json(TargetOptions, json.loads(json.dumps(options_to_json(options))))
    assert back == options
    assert isinstance(back.kind, TargetType)


def test_an_unknown_target_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"no target type 'nikon'. Known: div2k, cleanup, mixed, canon."):
        TargetOptions(kind="nikon")


def test_images_too_small_or_broken_are_named_and_the_rest_kept_in_order(image_set):
    usable, refused = usable_part(image_set, crop_px=40)
    assert [path.stem for path in usable.images] == ["tall", "wide", "large"]
    assert [refusal.path.stem for refusal in refused] == ["small", "broken"]
    assert refused[0].reason == f"{image_set.images[1]} has 63x39 pixels; a side needs 40. Remove it."
    assert "broken.png is damaged" in refused[1].reason


def test_pixels_are_not_decoded_to_tell_the_size(image_set):
    cut = image_set.images[4]
    cut.write_bytes(cut.read_bytes()[:60])  # the header and little more; the stream meets the rest
    assert cut in usable_part(image_set, crop_px=40)[0].images


def test_an_image_that_is_shrunk_must_be_larger(image_set):
    shrunk = ImageSet(images=image_set.images, shrink=2)
    usable, refused = usable_part(shrunk, crop_px=32)
    assert ([path.stem for path in usable.images], usable.shrink, len(refused)) == (["large"], 2, 4)


def test_a_set_without_a_usable_image_is_refused(image_set):
    told = r"None of 5 images has 301 pixels or more a side. First: .*tall.png has 40x64.* or a smaller --crop\."
    with pytest.raises(DataError, match=told):
        usable_part(image_set, crop_px=301)
