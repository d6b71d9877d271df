"""Zeros in the place of data, where they lie and whether they can be data."""

import random
import zlib

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.errors import ImageReadError
from ddnsr_cli.io.codecs.wholeness import hole_in, inflates, look_at_jpeg
from ddnsr_cli.io.read import read_image
from tests.fuzz.holes import spare_byte
from tests.fuzz.truth import ENCODERS, by_tifffile, scene
from tests.helpers.image_files import encoded, noise, pillow

CHANCE = random.Random(3)
SCENE = scene(CHANCE)
COMPRESSED = [kind for kind in ENCODERS if kind not in {"TIFF none", "JPEG gray", "JPEG CMYK", "JPEG libvips"}]


def with_zeros(data, start, length):
    return data[:start] + bytes(length) + data[start + length :]


@pytest.mark.parametrize("kind", COMPRESSED)
def test_the_last_third_is_zeros(read, kind):
    data = ENCODERS[kind](SCENE, CHANCE)
    start, end = len(data) * 2 // 3, len(data) - (2 if kind.startswith("JPEG") else 12)
    with pytest.raises(ImageReadError):
        read(with_zeros(data, start, end - start))


@pytest.mark.parametrize(
    "kind", ["JPEG 4:2:0", "JPEG 4:4:4", "JPEG optimized", "JPEG restart", "JPEG gray", "JPEG CMYK"]
)
def test_a_block_of_zeros_within_a_jpeg_is_told_with_its_row(read, kind):
    data = ENCODERS[kind](SCENE, random.Random(1))
    image = read(with_zeros(data, len(data) // 2, 512))
    note = next(note for note in image.notes if "damaged" in note or "zeros" in note)
    if "zeros" in note:
        row = int(note.split("from row ")[1].split(" ")[0])
        truth = read(data)
        wrong = np.flatnonzero((image.pixels != truth.pixels).any(axis=(1, 2)))
        assert abs(wrong[0] - row) <= 16


def test_zeros_of_a_flat_area_are_data(read):
    white = Image.new("RGB", (2000, 2000), "white")
    for options in ({"optimize": True}, {"progressive": True}, {}):
        data = encoded(white, "JPEG", **options)
        assert look_at_jpeg(data).zeros is None
        assert read(data).notes == ()
    assert b"\0" * 32 in encoded(white, "JPEG", progressive=True)[600:]


@pytest.mark.parametrize("number", [0, 5, 15])
def test_zeros_that_could_be_data_are_too_many_for_the_image(read, number):
    data = encoded(scene(random.Random(number), 96, 128), "JPEG", quality=30, optimize=True)
    start = len(data) * 2 // 3
    damaged = with_zeros(data, start, len(data) - 2 - start)
    assert look_at_jpeg(damaged).zeros is None
    with pytest.raises(ImageReadError, match="zeros from row"):
        read(damaged)


def test_zeros_behind_the_data_are_padding(read):
    data = ENCODERS["JPEG 4:2:0"](SCENE, random.Random(1))
    truth = read(data).pixels
    for padded in (data[:-2] + bytes(3000), data[:-2] + bytes(3000) + data[-2:], data + bytes(3000)):
        image = read(padded)
        assert np.array_equal(image.pixels, truth)
        assert not any("damaged" in note for note in image.notes)


def test_a_quantization_table_of_zeros_is_refused(read):
    data = ENCODERS["JPEG 4:2:0"](SCENE, random.Random(1))
    at = data.index(b"\xff\xdb")
    with pytest.raises(ImageReadError, match="quantization table"):
        read(with_zeros(data, at + 40, 20))


def test_a_progressive_jpeg_without_its_last_scans_is_coarse_even_with_its_end_mark(read):
    data = encoded(SCENE, "JPEG", progressive=True)
    scans = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    image = read(data[: data.rindex(b"\xff\xc4", 0, scans[-2])] + b"\xff\xd9")
    assert (
        (image.damage,)
        == image.notes
        == ("some of its scans are missing: its pixels are there, but not all their detail",)
    )


def test_only_data_that_inflate_to_their_end_do():

    data = zlib.compress(bytes(5000) + b"x")
    assert inflates(data)
    assert inflates(data + b"behind")
    assert not inflates(data[:-1])
    assert not inflates(b"\0" * 40)


def test_a_hole_among_raw_samples_is_seen_and_a_drawing_is_not():
    samples = np.maximum(noise(60, 300, 3), 1)
    holed = samples.copy()
    holed.reshape(-1)[20_100 : 20_100 + 4096] = 0
    assert hole_in(holed) == "4096 bytes of its samples are zeros, from row 22 on: look at the result"
    holed = samples.copy()
    holed.reshape(-1)[30_000:] = 0
    assert "from row 33 on" in hole_in(holed)
    drawn = samples.copy()
    drawn[10:20] = 0  # a band
    drawn[30, 20:250] = 0  # a line
    drawn[40:50, 30:280] = 0  # a rectangle
    drawn[25, 120:] = drawn[26, :150] = 0  # two lines
    drawn[-4:] = 0  # a letterbox
    assert hole_in(drawn) == ""
    assert hole_in(np.zeros((60, 300, 3), np.uint8)) == ""
    assert hole_in(samples) == ""


def test_holes_beside_black_areas_are_seen_and_slanted_lines_are_not():
    samples = np.maximum(noise(60, 300, 3), 1)
    samples[:, 100:130] = 0  # a black column
    assert hole_in(samples) == ""
    holed = samples.copy()
    holed.reshape(-1)[20_250 : 20_250 + 4096] = 0
    assert hole_in(holed) == "4096 bytes of its samples are zeros, from row 22 on: look at the result"
    holed = samples.copy()
    holed.reshape(-1)[30_150:] = 0
    assert "from row 33 on" in hole_in(holed)
    slanted = np.maximum(noise(60, 300, 3), 1)
    slanted[20, 170:] = slanted[21:24] = slanted[24, :171] = 0
    assert hole_in(slanted) == ""


@pytest.mark.parametrize("kind", ["BMP", "PPM", "TIFF"])
def test_holes_are_told_in_raw_files(read, kind):
    data = encoded(pillow(np.maximum(noise(60, 300, 3), 1)), kind)
    assert read(data).notes == ()
    assert "bytes of its samples are zeros" in read(with_zeros(data, 20_480, 4096)).damage


def beside_black(kind):
    """An image of which black takes more than half, so that rows above and below a hole say little."""
    samples = np.maximum(noise(96, 150, 3), 1)
    if kind == "half":
        samples[:, 60:] = 0
    elif kind == "columns":
        samples[:, 20:55] = samples[:, 90:130] = 0
    elif kind == "rotated":
        samples = np.asarray(pillow(samples).rotate(30))
    else:
        samples[:30] = samples[60:] = 0
    return samples


RAW = {
    "BMP": lambda samples: encoded(pillow(samples), "BMP"),
    "TGA": lambda samples: encoded(pillow(samples), "TGA"),
    "PPM": lambda samples: encoded(pillow(samples), "PPM"),
    "PGM": lambda samples: encoded(pillow(samples).convert("L"), "PPM"),
    "TIFF": lambda samples: encoded(pillow(samples), "TIFF"),
    "TIFF in strips": lambda samples: by_tifffile(pillow(samples), rowsperstrip=7),
}


@pytest.mark.parametrize("kind", ["half", "columns", "rotated", "letterbox"])
@pytest.mark.parametrize("name", RAW)
def test_holes_beside_black_are_told_by_where_blocks_of_a_disk_begin(tmp_path, name, kind):
    def read(data):
        path = tmp_path / f"image.{name.lower()}"  # without its suffix a TGA may be a cursor
        path.write_bytes(data)
        return read_image(path)

    data = RAW[name](beside_black(kind))
    sound = read(data)
    assert sound.notes == ()
    told = wrong = 0
    for start in range(512, len(data) - 4096, 512 * (1 if name == "PGM" else 5)):
        holed = read(with_zeros(data, start, 4096))
        wrong += (holed.pixels != sound.pixels).any(axis=2).mean() > 0.02
        told += "zeros" in holed.damage
    assert told >= 0.3 * wrong > 0  # most others begin and end within black


def test_black_that_ends_at_blocks_is_no_hole_where_much_of_it_ends(read):
    """Lines, letters and nights have many ends that nothing beside them goes on from: some are at blocks by chance."""
    rng = np.random.default_rng(0)
    for number in range(10):
        samples = np.maximum(noise(200, 300, 3), 1)
        for row in range(0, 200, 10):
            start = rng.integers(1, 100)
            samples[row, start : start + rng.integers(171, 190)] = 0
        if number % 2:
            samples[samples < rng.integers(60, 120)] = 0
        assert read(encoded(pillow(samples), "PPM")).damage == ""


def test_lossless_webp_may_hold_zeros(read):
    """A flat one is coded by zeros; it is whole all the same."""
    image = Image.new("RGB", (400, 400), "white")
    image.paste(SCENE, (100, 100))
    for method in range(5):
        assert read(encoded(image, "WEBP", lossless=True, method=method)).notes == ()


def test_lossy_webp_may_hold_and_end_in_zeros(read):
    """Below noise every flat block is some bits, all 0, where nothing says that blocks are left out."""
    samples = np.full((300, 400, 3), 255, np.uint8)
    samples[:150] = noise(150, 400, 3)
    for quality, end in ((20, 300), (90, 300), (20, 270)):
        samples[end:] = noise(300 - end, 400, 3)
        data = encoded(pillow(samples), "WEBP", quality=quality, method=0)
        assert bytes(400) in data
        assert read(data).notes == ()


@pytest.mark.parametrize("length", [8, 30, 200])
@pytest.mark.parametrize("is_tail", [False, True])
def test_few_zeros_in_a_lossy_webp_are_told(read, length, is_tail):
    data = ENCODERS["WebP lossy"](SCENE, random.Random(3))
    assert read(data).notes == ()
    with pytest.raises(ImageReadError, match="zeros"):
        read(with_zeros(data, len(data) - length if is_tail else len(data) // 2, length))


def test_what_a_camera_writes_beside_the_scan_of_a_baseline_file_means_nothing():
    data = encoded(SCENE, "JPEG")
    at = data.index(b"\xff\xda")
    odd = data[: at + 11] + bytes(3) + data[at + 14 :]
    assert data[at + 11 : at + 14] == b"\0\x3f\0"
    assert look_at_jpeg(odd).is_complete


def in_a_palette(kind):
    """A file of many colors whose place 0, which is white, is drawn nowhere."""
    image = Image.fromarray(1 + noise(150, 200, 1)[..., 0] % 255)
    image.putpalette([255, 255, 255, *noise(255, 1, 3).ravel().tolist()])
    assert image.mode == "P"
    return encoded(image, kind)


@pytest.mark.parametrize("kind", ["BMP", "TGA", "TIFF"])
def test_holes_among_places_of_a_palette_are_told_whatever_their_color(read, kind):
    data, name = in_a_palette(kind), f"image.{kind}"
    assert read(data, name=name).notes == ()
    assert "bytes of its samples are zeros, from row " in read(with_zeros(data, 10_240, 4096), name=name).damage
    holed = with_zeros(data, 25_600, len(data) - 25_600)
    assert "zeros" in read(holed, name=name).damage


def test_holes_are_told_in_a_tiff_whose_zeros_are_white(read):
    data = encoded(pillow(np.maximum(noise(150, 200, 1), 1)), "TIFF", tiffinfo={262: 0})
    assert read(data).notes == ()
    assert "bytes of its samples are zeros" in read(with_zeros(data, 10_240, 4096)).damage


@pytest.mark.parametrize("spare", [0, 255])
def test_holes_beside_black_are_told_in_a_bmp_of_32_bits(read, spare):
    samples = np.maximum(noise(60, 300, 3), 1)
    samples[:30, 100:160] = 0
    data = spare_byte(samples, spare)
    assert not any("zeros" in note for note in read(data).notes)
    assert "zeros" in read(with_zeros(data, 47_616, 512)).damage  # ends beside black of the row


def test_areas_of_one_color_of_a_palette_are_no_holes(read):
    samples = 1 + noise(150, 200, 1)[..., 0] % 255
    samples[40:80, 30:150] = samples[100, 20:190] = samples[-10:] = 0
    image = Image.fromarray(samples)
    image.putpalette(bytes(768))
    for kind in ("BMP", "TGA", "TIFF"):
        assert read(encoded(image, kind), name=f"image.{kind}").notes == ()
