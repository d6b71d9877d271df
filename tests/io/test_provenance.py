"""Notes inside image files."""

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.io.image import Metadata, RasterImage
from ddnsr_cli.io.provenance import MOST_BYTES, add_stamp, read_stamp
from ddnsr_cli.io.read import read_image
from ddnsr_cli.io.write import write_image

EXTENSIONS = ["png", "jpg", "webp", "tiff", "avif", "bmp"]


def sized(size):
    return b'{"size": %12d}' % size


@pytest.fixture
def written(tmp_path):
    """`written("png")`: a small image file of ours."""

    def write(extension, **metadata):
        path = tmp_path / f"image.{extension}"
        pixels = np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)
        write_image(RasterImage(pixels=pixels, metadata=Metadata(**metadata)), path)
        return path

    return write


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_note_is_found_and_knows_the_size_of_the_file(written, extension):
    path = written(extension)
    assert read_stamp(path) is None
    add_stamp(path, sized)
    assert read_stamp(path) == sized(path.stat().st_size)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_readers_see_no_difference(written, extension):
    path = written(extension, dpi=(72.0, 72.0), text={"Title": "x"} if extension == "png" else {})
    before, seen = read_image(path), np.asarray(Image.open(path).convert("RGB"))
    add_stamp(path, sized)
    after = read_image(path)
    assert np.array_equal(after.pixels, before.pixels)
    assert np.array_equal(np.asarray(Image.open(path).convert("RGB")), seen)
    assert (after.metadata, after.notes) == (before.metadata, before.notes)


def test_a_note_is_found_whatever_its_checksum(written):
    path = written("png")
    sound = path.read_bytes()
    for number in range(1024):  # one checksum in 256 begins with the colon that makes a mark of the end of a note
        path.write_bytes(sound)
        note = b'{"number": %4d}' % number
        add_stamp(path, lambda _size, note=note: note)
        assert read_stamp(path) == note


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_file_cut_short_has_no_note(written, extension):
    path = written(extension)
    add_stamp(path, sized)
    path.write_bytes(path.read_bytes()[:-40])
    assert read_stamp(path) is None


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_another_program_that_saves_the_image_drops_the_note(written, extension):
    path = written(extension)
    add_stamp(path, sized)
    with Image.open(path) as image:
        image.load()
    image.save(path)
    assert read_stamp(path) is None


def test_a_png_with_a_note_has_all_its_sums_right(written):
    path = written("png")
    add_stamp(path, sized)
    with Image.open(path) as image:
        image.verify()


def test_the_size_that_a_webp_tells_counts_the_note(written):
    path = written("webp")
    add_stamp(path, sized)
    assert int.from_bytes(path.read_bytes()[4:8], "little") == path.stat().st_size - 8


def test_a_note_that_is_too_long_or_changes_its_length_is_refused(written):
    path = written("png")
    before = path.read_bytes()
    for note in (lambda size: bytes(MOST_BYTES + 1), lambda size: b"x" * (size % 7 + 1)):
        with pytest.raises(ValueError, match="length"):
            add_stamp(path, note)
    assert path.read_bytes() == before
