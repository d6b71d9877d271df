import multiprocessing
import warnings

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.errors import ImageReadError
from ddnsr_cli.io.read import image_size, read_rgb, stored_size
from tests.fuzz.seed_files import images
from tests.helpers.image_files import png

ORIENTATION = 0x0112
KINDS = images()
LOSSLESS = ["png", "tif", "bmp"]


def stepped(height=12, width=20):
    """An image with no symmetry: the rows count in red, the columns in green."""
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


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_pixels_come_back_as_they_were(tmp_path, suffix):
    pixels = stepped()
    assert np.array_equal(read_rgb(saved(tmp_path / f"a.{suffix}", pixels)), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_images_are_turned_upright(tmp_path, suffix, orientation):
    path = turned(tmp_path / f"a.{suffix}", orientation, stepped())
    assert np.array_equal(read_rgb(path), upright(stepped(), orientation))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif"])
def test_the_size_from_the_header_is_that_of_the_pixels(tmp_path, suffix, orientation):
    path = turned(tmp_path / f"a.{suffix}", orientation, stepped())
    assert image_size(path) == read_rgb(path).shape[:2]


def test_gray_is_repeated(tmp_path):
    gray = np.arange(60, dtype=np.uint8).reshape(6, 10)
    assert np.array_equal(read_rgb(saved(tmp_path / "a.png", gray)), np.stack([gray] * 3, axis=2))


def test_alpha_is_dropped_and_the_color_below_it_kept(tmp_path):
    alpha = np.zeros((12, 20, 1), np.uint8)
    path = saved(tmp_path / "a.png", np.concatenate([stepped(), alpha], axis=2))
    assert np.array_equal(read_rgb(path), stepped())


def test_a_palette_is_looked_up(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:, 2:] = (200, 100, 50)
    with Image.fromarray(pixels) as image:
        image.quantize(2).save(tmp_path / "a.png", transparency=b"\x00\x80")
    assert np.array_equal(read_rgb(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_rounded_to_eight(tmp_path, suffix):
    levels = np.array([[0, 128, 129, 257, 32_768, 65_406, 65_407, 65_535]], np.uint16)
    path = saved(tmp_path / f"a.{suffix}", levels)
    assert read_rgb(path)[0, :, 0].tolist() == [0, 0, 1, 1, 128, 254, 255, 255]


def damaged(path, kind):
    path.write_bytes(b"")
    if kind == "truncated":
        saved(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "text":
        path.write_bytes(b"not an image")
    elif kind == "missing":
        path.unlink()
    return path


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "missing"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_damaged_image_is_told_by_name_in_one_line(tmp_path, suffix, kind):
    path = damaged(tmp_path / f"broken.{suffix}", kind)
    with pytest.raises(ImageReadError, match=rf"broken\.{suffix} ") as caught:
        read_rgb(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["empty", "text", "missing"])
def test_a_damaged_header_is_told_by_name(tmp_path, kind):
    with pytest.raises(ImageReadError, match=r"broken\.png "):
        image_size(damaged(tmp_path / "broken.png", kind))


@pytest.mark.parametrize("name", KINDS)
def test_the_size_of_every_kind_is_that_of_its_pixels(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(KINDS[name])
    height, width = read_rgb(path).shape[:2]
    assert image_size(path) == (height, width)
    assert stored_size(path) in {(height, width), (width, height)}


def test_a_size_beyond_the_limit_is_refused_by_the_line_of_the_reader(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(60_000, 60_000, bits=1, color_type=0, rows=[b""]))
    for ask in (image_size, stored_size, read_rgb):
        with pytest.raises(ImageReadError, match="60000 x 60000 pixels, more than the limit"):
            ask(path)


def read_in_a_child(path, queue):
    queue.put(int(read_rgb(path).sum()))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no forks here")
@pytest.mark.parametrize("name", ["deep.png", "exif.png", "full.jpg", "deep.avif", "lzw.tif", "ink.tif"])
def test_a_forked_process_reads_what_its_parent_has_read(tmp_path, name):
    """As the data loaders of training do, when the images were looked at before."""
    path = tmp_path / name
    path.write_bytes(KINDS[name])
    total = int(read_rgb(path).sum())
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of any fork beside threads
        child = context.Process(target=read_in_a_child, args=(path, queue))
        child.start()
    child.join(60)
    if child.is_alive():
        child.kill()
        pytest.fail("the child waits for ever")
    assert queue.get() == total
