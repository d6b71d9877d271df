"""Soft images: what of an image is enlarged, and where it comes from."""

import numpy as np
import pytest
from enlarge import SIDES_PX, enlarge, enlarged
from PIL import Image

from ddnsr_cli.errors import DataError
from ddnsr_cli.io.read import read_rgb


def slope(height, width):
    rows, columns = np.indices((height, width))
    return np.stack([rows // 2, columns // 2, np.full_like(rows, 77)], axis=2).astype(np.uint8)


@pytest.mark.parametrize("times", SIDES_PX)
def test_the_middle_is_enlarged(times):
    image = slope(480, 500)
    side = SIDES_PX[times]
    top, left = (480 - side) // 2, (500 - side) // 2
    larger = enlarged(image, times)
    assert larger.shape == (side * times, side * times, 3)
    squares = larger.reshape(side, times, side, times, 3).mean((1, 3))
    assert np.abs(squares - image[top : top + side, left : left + side]).max() <= 1


def test_of_a_small_image_all_is_enlarged():
    assert enlarged(slope(100, 140), 3).shape == (300, 300, 3)


def test_every_image_is_there_in_all_sizes(tmp_path):
    source = slope(64, 80)
    Image.fromarray(source).save(tmp_path / "a.png")
    written = enlarge([tmp_path / "a.png"], tmp_path / "out")
    assert [path.name for path in written] == ["a_1.png", "a_2.png", "a_3.png"]
    images = [read_rgb(path) for path in written]
    assert (images[0] == source).all()
    assert [image.shape[:2] for image in images] == [(64, 80), (128, 128), (192, 192)]


def test_two_images_of_one_name_are_refused(tmp_path):
    with pytest.raises(DataError, match="one name"):
        enlarge([tmp_path / "a.png", tmp_path / "a.jpg"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
