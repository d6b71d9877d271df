import os

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.data.images import decode_rgb, list_photos, photo_size, split_by_size
from ddnsr_cli.errors import DataError, ImageReadError

ORIENTATION = 0x0112
LOSSLESS = ["png", "tif", "bmp"]


def stepped(height=12, width=20):
    """A picture with no symmetry: the rows count in red, the columns in green."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 10, columns * 10, np.full_like(rows, 7)], axis=2).astype(np.uint8)


def saved(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def turned(path, orientation, pixels):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return saved(path, pixels, exif=exif)


def upright(pixels, orientation):
    """What a viewer shows, by the EXIF standard's table of where row 0 and column 0 lie."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def test_photos_are_listed_below_the_folder_in_the_order_of_their_paths(tmp_path):
    names = ["b.png", "a/2.JPG", "a-1/x.webp", "a/deep/1.tiff", "é.avif", "B.bmp"]
    others = ["notes.txt", ".hidden.png", "a/thumbs.db", "png"]
    for name in names + others:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.relative_to(tmp_path).as_posix() for path in list_photos(tmp_path)] == sorted(names)


def test_linked_folders_are_followed_once(tmp_path):
    """A circle ends, and of two ways to one folder the first in the order of names is taken."""
    for name in ("away/1.png", "away/deep/2.png", "in/z/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "in" / "a").symlink_to(tmp_path / "away")
    (tmp_path / "in" / "b").symlink_to(tmp_path / "away")
    (tmp_path / "in" / "z" / "round").symlink_to(tmp_path / "in")
    found = [path.relative_to(tmp_path / "in").as_posix() for path in list_photos(tmp_path / "in")]
    assert found == ["a/1.png", "a/deep/2.png", "z/3.png"]


def test_a_folder_that_cannot_be_looked_into_is_told(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "1.png").touch()
    look = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may look everywhere
    with pytest.raises(DataError, match=r"closed cannot be looked into \(Permission denied\)"):
        list_photos(tmp_path)


def test_a_folder_without_photos_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"holds no photos.*\.png"):
        list_photos(tmp_path)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="missing is not a folder"):
        list_photos(tmp_path / "missing")


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_pixels_come_back_as_they_were(tmp_path, suffix):
    pixels = stepped()
    assert np.array_equal(decode_rgb(saved(tmp_path / f"a.{suffix}", pixels)), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_photos_are_turned_upright(tmp_path, suffix, orientation):
    path = turned(tmp_path / f"a.{suffix}", orientation, stepped())
    assert np.array_equal(decode_rgb(path), upright(stepped(), orientation))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif"])
def test_the_size_from_the_header_is_that_of_the_pixels(tmp_path, suffix, orientation):
    path = turned(tmp_path / f"a.{suffix}", orientation, stepped())
    assert photo_size(path) == decode_rgb(path).shape[:2]


def test_gray_is_repeated(tmp_path):
    gray = np.arange(60, dtype=np.uint8).reshape(6, 10)
    assert np.array_equal(decode_rgb(saved(tmp_path / "a.png", gray)), np.stack([gray] * 3, axis=2))


def test_alpha_is_dropped_and_the_colour_below_it_kept(tmp_path):
    alpha = np.zeros((12, 20, 1), np.uint8)
    path = saved(tmp_path / "a.png", np.concatenate([stepped(), alpha], axis=2))
    assert np.array_equal(decode_rgb(path), stepped())


def test_a_palette_is_looked_up(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:, 2:] = (200, 100, 50)
    with Image.fromarray(pixels) as image:
        image.quantize(2).save(tmp_path / "a.png", transparency=b"\x00\x80")
    assert np.array_equal(decode_rgb(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_rounded_to_eight(tmp_path, suffix):
    levels = np.array([[0, 128, 129, 257, 32_768, 65_406, 65_407, 65_535]], np.uint16)
    path = saved(tmp_path / f"a.{suffix}", levels)
    assert decode_rgb(path)[0, :, 0].tolist() == [0, 0, 1, 1, 128, 254, 255, 255]


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_without_a_known_white_are_refused(tmp_path, kind):
    path = saved(tmp_path / "a.tif", np.ones((4, 4), kind))
    with pytest.raises(ImageReadError, match=r"a\.tif cannot be read as a photo \(pixels of mode [IF]\)"):
        decode_rgb(path)


def damaged(path, kind):
    path.write_bytes(b"")
    if kind == "truncated":
        saved(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "text":
        path.write_bytes(b"not a picture")
    elif kind == "missing":
        path.unlink()
    return path


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "missing"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_damaged_photo_is_told_by_name_in_one_line(tmp_path, suffix, kind):
    path = damaged(tmp_path / f"broken.{suffix}", kind)
    with pytest.raises(ImageReadError, match=rf"broken\.{suffix} cannot be read") as caught:
        decode_rgb(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["empty", "text", "missing"])
def test_a_damaged_header_is_told_by_name(tmp_path, kind):
    with pytest.raises(ImageReadError, match=r"broken\.png cannot be read"):
        photo_size(damaged(tmp_path / "broken.png", kind))


def test_photos_are_split_by_their_shorter_side(tmp_path):
    sizes = {"wide": (12, 40), "tall": (40, 12), "square": (13, 13), "narrow": (11, 99), "low": (99, 11)}
    paths = [saved(tmp_path / f"{name}.png", stepped(*size)) for name, size in sizes.items()]
    large, small = split_by_size(paths, 12)
    assert [path.stem for path in large] == ["wide", "tall", "square"]
    assert [path.stem for path in small] == ["narrow", "low"]
