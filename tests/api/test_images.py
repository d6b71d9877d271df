"""Image files from Python."""

import os
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

import ddnsr_cli as ddnsr_api
from ddnsr_cli.errors import ConfigError, ImageReadError, ImageWriteError
from ddnsr_cli.io.codecs.pillow import alone_with_pillow
from tests.helpers.image_files import encoded, exif_block, packed_rows, png


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, ">u2", np.float32])
@pytest.mark.parametrize("channels", [0, 1, 2, 3, 4])
def test_png_gives_back_what_was_written(tmp_path, kind, channels):
    rng = np.random.default_rng(0)
    shape = (7, 9, channels) if channels else (7, 9)
    most = np.iinfo(kind).max if np.dtype(kind).kind == "u" else 1
    image = (rng.random(shape) * most).astype(kind)
    ddnsr_api.write_image(image, tmp_path / "a.png")
    back = np.asarray(ddnsr_api.read_image(tmp_path / "a.png"))
    expected = image[..., 0] if channels == 1 else image
    if np.dtype(kind).kind == "f":
        expected = np.rint(expected * 65535)
    assert back.dtype == (np.uint8 if np.dtype(kind).itemsize == 1 else np.uint16)
    assert np.array_equal(back, expected)


def test_metadata_go_along(tmp_path):
    Image.new("RGB", (6, 5)).save(tmp_path / "a.jpg", dpi=(300, 300))
    ddnsr_api.write_image(ddnsr_api.read_image(tmp_path / "a.jpg"), tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_what_a_format_cannot_hold_is_reported_or_refused(tmp_path):
    deep = np.zeros((5, 6, 3), np.uint16)
    assert ddnsr_api.write_image(deep, tmp_path / "a.png") == ()
    with pytest.raises(ImageWriteError, match="transparency"):
        ddnsr_api.write_image(np.zeros((5, 6, 4), np.uint8), tmp_path / "a.jpg")
    ddnsr_api.write_image(np.full((5, 6, 4), 255, np.uint8), tmp_path / "opaque.jpg")
    with pytest.raises(ImageWriteError, match="batch of 2"):
        ddnsr_api.write_image(torch.zeros(2, 3, 5, 6), tmp_path / "a.png")
    with pytest.raises(ConfigError, match="quality"):
        ddnsr_api.write_image(deep, tmp_path / "a.jpg", quality=0)
    with pytest.raises(ImageReadError, match="does not exist"):
        ddnsr_api.read_image(tmp_path / "none.png")
    with pytest.raises(ImageReadError, match="limit"):
        ddnsr_api.read_image(tmp_path / "a.png", max_pixels=29)


@pytest.mark.parametrize("is_copy", [False, True])
@pytest.mark.parametrize("is_loaded", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_clear_gray_of_a_pillow_image_is_found_loaded_or_not(tmp_path, bits, is_loaded, is_copy):
    levels = np.arange(16).reshape(4, 4) % (1 << bits)
    rows = packed_rows(levels[..., None], bits)
    data = png(4, 4, bits=bits, color_type=0, rows=rows, chunks=[(b"tRNS", b"\0\3")])
    with Image.open(BytesIO(data)) as image:
        if is_loaded:
            image.load()
        ddnsr_api.write_image(image.copy() if is_copy else image, tmp_path / "a.png")
    back = np.asarray(ddnsr_api.read_image(tmp_path / "a.png"))
    assert np.array_equal(back[..., 1] == 0, levels == 3)
    assert np.array_equal(back[..., 0], levels * (255 // ((1 << bits) - 1)))


@pytest.mark.parametrize("mode", ["I", "F", "I;16B"])
def test_deep_gray_of_pillow_is_taken(tmp_path, mode):
    levels = np.random.default_rng(0).integers(0, 65536, (5, 6)).astype(np.uint16)
    arrays = {"I": levels.astype(np.int32), "F": (levels / 65535).astype(np.float32)}
    image = Image.frombytes("I;16B", (6, 5), levels.astype(">u2").tobytes())
    image = Image.fromarray(arrays[mode]) if mode in arrays else image
    assert image.mode == mode
    ddnsr_api.write_image(image, tmp_path / "a.png")
    assert np.array_equal(np.asarray(ddnsr_api.read_image(tmp_path / "a.png")), levels)


def exif_written(image, tmp_path):
    ddnsr_api.write_image(image, tmp_path / "written.png")
    with Image.open(tmp_path / "written.png") as written:
        exif = written.getexif()
        return dict(exif) | exif.get_ifd(0x8769), written.size


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
@pytest.mark.parametrize("is_loaded", [False, True])
def test_exif_of_a_tiff_that_pillow_holds_goes_along(tmp_path, mode, is_loaded):
    exif = Image.Exif()
    exif.update({0x10F: "Camera", 0x112: 6, 0x8769: {0x8827: 100}})
    data = encoded(Image.new(mode, (6, 5)), "TIFF", exif=exif.tobytes())
    with Image.open(BytesIO(data)) as image:
        if is_loaded:
            image.load()
        tags, size = exif_written(image, tmp_path)
    assert (tags[0x10F], tags[0x8827], tags.get(0x112, 1), size) == ("Camera", 100, 1, (5, 6))
    assert not {258, 259, 273} & tags.keys()


def test_exif_that_is_changed_in_memory_goes_along_and_stays_in_place_otherwise(tmp_path):
    block = exif_block(orientation=1)
    Image.new("RGB", (6, 5)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + block)
    with Image.open(tmp_path / "a.jpg") as image:
        image.getexif()
        ddnsr_api.write_image(image, tmp_path / "a.png")
        written = ddnsr_api.read_image(tmp_path / "a.png").metadata.exif
        assert written.index(b"MAKER\0") == block.index(b"MAKER\0")
        image.getexif()[0x13B] = "Ann"
        image.getexif()[0x112] = 6
        tags, size = exif_written(image, tmp_path)
    assert (tags[0x13B], tags[0x10F], tags.get(0x112, 1), size) == ("Ann", "Camera", 1, (5, 6))


def test_a_format_of_8_bits_says_that_16_are_rounded(tmp_path):
    (note,) = ddnsr_api.write_image(np.zeros((5, 6, 3), np.uint16), tmp_path / "a.jpg")
    assert "16 are rounded to 8" in note


def test_damaged_exif_of_a_pillow_image_is_left_out(model, recwarn):
    image, notes = Image.new("RGB", (6, 5)), []
    image.info["exif"] = b"Exif\0\0II*\0junk"
    model.upscale(image, on_note=notes.append)
    assert notes[0] == "its EXIF data are damaged and were left out"
    assert not recwarn.list


def test_standard_error_is_silent_for_a_tiff_alone(tmp_path, monkeypatch, capfd):
    broken = bytearray(encoded(Image.effect_noise((64, 64), 99).convert("1"), "TIFF", compression="group4"))
    broken[200:260] = bytes(60)
    (tmp_path / "a.tif").write_bytes(broken)
    Image.new("RGB", (6, 5)).save(tmp_path / "a.jpg")
    load = ImageFile.ImageFile.load

    def loud(image):
        os.write(2, image.format.encode())
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", loud)
    ddnsr_api.read_image(tmp_path / "a.tif")
    assert capfd.readouterr().err == ""
    with alone_with_pillow(100), Image.open(tmp_path / "a.jpg") as image:
        image.load()
    assert capfd.readouterr().err == "JPEG"
