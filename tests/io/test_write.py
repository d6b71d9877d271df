"""Round trips, and what happens when the disk does not take it."""

import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
import pyvips
from PIL import Image

from ddnsr_cli.errors import ConfigError, ImageWriteError
from ddnsr_cli.io import write
from ddnsr_cli.io.codecs import tiff
from ddnsr_cli.io.image import Metadata, RasterImage, to_8_bits
from ddnsr_cli.io.read import read_image
from ddnsr_cli.io.write import WriteOptions, write_image
from tests.helpers.image_files import FORMATS, GRAY, SRGB, exif_block, linear_gray_profile, noise, smooth

EXTENSIONS = [".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".avif", ".bmp"]


def drawn_image(channels=3, dtype=np.uint8, *, alpha=False, size=(37, 53), **metadata):
    return RasterImage(
        pixels=noise(*size, channels, dtype),
        alpha=noise(*size, 1, dtype, seed=1)[..., 0] if alpha else None,
        metadata=Metadata(**metadata),
    )


def assert_same(one, other):
    np.testing.assert_array_equal(one.pixels, other.pixels)
    assert one.pixels.dtype == other.pixels.dtype
    assert one.has_alpha == other.has_alpha
    if one.alpha is not None:
        np.testing.assert_array_equal(one.alpha, other.alpha)


def by_libvips(path):
    image = pyvips.Image.new_from_file(str(path), fail_on="error")
    return image.numpy().reshape(image.height, image.width, image.bands)


@pytest.mark.parametrize("size", [(1, 1), (37, 53), (1, 400), (900, 700)])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_lossless_formats_are_exact_for_us_and_for_others(tmp_path, extension, dtype, channels, alpha, size):
    made, path = drawn_image(channels, dtype, alpha=alpha, size=size), tmp_path / f"a{extension}"
    assert write_image(made, path) == ()
    assert_same(read_image(path), made)
    expected = made.pixels if made.alpha is None else np.dstack((made.pixels, made.alpha))
    np.testing.assert_array_equal(by_libvips(path), expected)
    if dtype == np.uint8:
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image).reshape(expected.shape), expected)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_takes_over_the_byte_order_of_its_exif(tmp_path, order):
    made = drawn_image(dtype=np.uint16, exif=exif_block(order, orientation=1))
    write_image(made, tmp_path / "a.tif")
    assert (tmp_path / "a.tif").read_bytes()[:2] == (b"II" if order == "<" else b"MM")
    assert_same(read_image(tmp_path / "a.tif"), made)
    np.testing.assert_array_equal(by_libvips(tmp_path / "a.tif"), made.pixels)


def test_a_tiff_that_may_pass_4_gib_is_a_big_one(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "CLASSIC_BYTES", 1000)
    made = drawn_image(dtype=np.uint16, alpha=True, exif=exif_block(orientation=1), icc=SRGB)
    write_image(made, tmp_path / "a.tif")
    assert (tmp_path / "a.tif").read_bytes()[:4] == b"II+\0"
    read = read_image(tmp_path / "a.tif")
    assert_same(read, made)
    assert read.metadata.icc == SRGB
    assert b"Camera" in read.metadata.exif
    assert by_libvips(tmp_path / "a.tif").shape == (37, 53, 4)


@pytest.mark.parametrize("compression", [0, 1, 9])
@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_compression_changes_the_size_only(tmp_path, extension, compression):
    made = RasterImage(pixels=smooth(60, 80))
    path = tmp_path / f"a{extension}"
    write_image(made, path, WriteOptions(compression=compression))
    assert_same(read_image(path), made)
    assert (path.stat().st_size > made.pixels.nbytes) == (compression == 0)


@pytest.mark.parametrize("extension", [".jpg", ".webp", ".avif", ".bmp"])
def test_16_bits_are_rounded_for_formats_of_8(tmp_path, extension):
    levels = np.array([[0, 128, 129, 385, 386, 65535, 65406, 65407]], np.uint16)
    np.testing.assert_array_equal(to_8_bits(levels)[0], [0, 0, 1, 1, 2, 255, 254, 255])
    made = RasterImage(pixels=smooth(40, 40).astype(np.uint16) * 257 + 100)
    write_image(made, tmp_path / f"a{extension}")
    read = read_image(tmp_path / f"a{extension}")
    assert read.depth_bits == 8
    assert np.abs(read.pixels.astype(int) - smooth(40, 40)).mean() < 2


def test_jpeg_colors_are_not_halved_and_quality_counts(tmp_path):
    made, path = RasterImage(pixels=noise(64, 64, 3)), tmp_path / "a.jpg"
    sizes = []
    for quality in (30, 95):
        write_image(made, path, WriteOptions(quality=quality))
        sizes.append(path.stat().st_size)
        with Image.open(path) as image:
            assert image.layer[0][1:3] == image.layer[1][1:3] == (1, 1)
    assert sizes[1] > 2 * sizes[0]


@pytest.mark.parametrize("extension", [".png", ".jpg", ".tif", ".avif"])
def test_gray_stays_gray(tmp_path, extension):
    write_image(RasterImage(pixels=smooth(40, 40)[..., :1]), tmp_path / f"a{extension}")
    assert read_image(tmp_path / f"a{extension}").is_gray


@pytest.mark.parametrize("extension", [".png", ".tif", ".avif"])
def test_gray_with_alpha_stays_gray_with_alpha(tmp_path, extension):
    alpha = smooth(40, 40)[..., 1]
    write_image(RasterImage(pixels=smooth(40, 40)[..., :1], alpha=alpha), tmp_path / f"a{extension}")
    read = read_image(tmp_path / f"a{extension}")
    assert read.is_gray
    assert np.abs(read.alpha.astype(int) - alpha).mean() < 2


@pytest.mark.parametrize("alpha", [False, True])
def test_a_gray_image_becomes_srgb_in_webp(tmp_path, alpha):
    levels = np.full((32, 32, 1), 55, np.uint8)  # as much light as level 128 of sRGB
    opacity = np.full((32, 32), 200, np.uint8) if alpha else None
    for profile, seen in ((linear_gray_profile(), 128), (GRAY, 55), (None, 55)):
        image = RasterImage(pixels=levels, alpha=opacity, metadata=Metadata(icc=profile))
        notes = write_image(image, tmp_path / "a.webp")
        read = read_image(tmp_path / "a.webp")
        assert any("converted to sRGB" in note for note in notes) == (profile is not None)
        assert read.metadata.icc is None
        assert np.abs(read.pixels.astype(int) - seen).max() <= 2
        assert (read.alpha is not None and (read.alpha == 200).all()) == alpha


@pytest.mark.parametrize("options", [{"quality": 0}, {"quality": 101}, {"compression": -1}, {"compression": 10}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match="got"):
        WriteOptions(**options)


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("encoder"), KeyboardInterrupt()]
)
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, extension, error):
    path = tmp_path / f"a{extension}"
    path.write_bytes(b"old")

    def half_a_file(_image, file, _options):
        file.write(b"half a file")
        raise error

    monkeypatch.setitem(write._WRITERS, write.format_of(path), half_a_file)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ImageWriteError):
        write_image(drawn_image(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on file sizes")
def test_a_full_disk_gives_one_line_and_no_file(tmp_path):
    """A real EFBIG from the system, in every format, in a process of its own."""
    program = f"""
import resource
import numpy as np
from pathlib import Path
from ddnsr_cli.errors import ImageWriteError
from ddnsr_cli.io.image import RasterImage
from ddnsr_cli.io.write import write_image
made = RasterImage(pixels=np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8))
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
for extension in {EXTENSIONS}:
    try:
        write_image(made, Path({str(tmp_path)!r}, "a" + extension))
        print("written", extension)
    except ImageWriteError as error:
        assert "File too large" in str(error) and "\\n" not in str(error), error
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_writing_leaves_stderr_clean(tmp_path, capfd):
    for extension in FORMATS.values():
        if extension != ".gif":
            write_image(drawn_image(), tmp_path / f"a{extension}")
    assert capfd.readouterr() == ("", "")


def test_pixels_that_lie_in_a_file_can_be_written(tmp_path):
    pixels = np.memmap(tmp_path / "canvas", np.uint16, "w+", shape=(50, 60, 3))
    pixels[:] = noise(50, 60, 3, np.uint16)
    write_image(RasterImage(pixels=pixels), tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, pixels)


def test_a_tiff_of_many_strips_comes_back_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "BAND_BYTES", 500)
    made = drawn_image(dtype=np.uint16, alpha=True)
    write_image(made, tmp_path / "a.tif")
    assert_same(read_image(tmp_path / "a.tif"), made)


def test_every_checksum_of_a_png_is_right(tmp_path):
    write_image(drawn_image(dtype=np.uint16, alpha=True), tmp_path / "a.png")
    with Image.open(BytesIO((tmp_path / "a.png").read_bytes())) as image:
        image.verify()  # checks every CRC


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_profile_beyond_what_a_jpeg_holds_is_left_out_and_told(tmp_path, beyond):
    icc = SRGB.ljust(255 * 65_519 + beyond, b"\0")
    notes = write_image(drawn_image(icc=icc), tmp_path / "a.jpg")
    assert ["profile is too long for JPEG" in note for note in notes] == [True] * beyond
    assert read_image(tmp_path / "a.jpg").metadata.icc == (None if beyond else icc)
