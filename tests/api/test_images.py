"""Image files from Python."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

import ddnsr_cli as ddnsr_api
from ddnsr_cli.errors import ConfigError, ImageReadError, ImageWriteError
from tests.helpers.image_files import packed_rows, png


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
