import numpy as np
import pytest
import torch

from ddnsr_cli.inference.tiling import to_pixels, to_tensor
from tests.helpers.image_files import noise


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_there_and_back_is_exact(dtype, channels):
    pixels = noise(17, 19, channels, dtype)
    lr = to_tensor(pixels)
    assert (lr.shape, lr.dtype) == ((1, 3, 17, 19), torch.float32)
    assert (lr.min() >= 0, lr.max() <= 1) == (True, True)
    back = to_pixels(lr[0], dtype=dtype, gray=channels == 1)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, pixels)


def test_channels_stay_in_order():
    pixels = np.array([[[255, 128, 0]]], np.uint8)
    torch.testing.assert_close(to_tensor(pixels)[0, :, 0, 0], torch.tensor([1.0, 128 / 255, 0.0]))


def test_results_are_rounded_and_clamped():
    sr = torch.tensor([0.6 / 255, 0.4 / 255, -3.0, 7.0, 254.6 / 255]).expand(3, 1, 5)
    np.testing.assert_array_equal(to_pixels(sr, dtype=np.uint8, gray=True)[0, :, 0], [1, 0, 0, 255, 255])


def test_gray_is_the_mean_of_the_three():
    sr = torch.tensor([0.0, 0.5, 1.0]).reshape(3, 1, 1)
    np.testing.assert_array_equal(to_pixels(sr, dtype=np.uint16, gray=True), [[[32768]]])


def test_half_precision_is_taken_and_gradients_do_no_harm():
    sr = torch.full((3, 2, 2), 0.5, dtype=torch.bfloat16, requires_grad=True)
    assert to_pixels(sr, dtype=np.uint16, gray=False).tolist() == np.full((2, 2, 3), 32768).tolist()


def test_read_only_pixels_are_no_trouble():
    pixels = noise(3, 3, 3)
    pixels.flags.writeable = False
    to_tensor(pixels)
