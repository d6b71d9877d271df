"""Figures from Python: those of scikit-image, of `ddnsr eval`, and refusals."""

import inspect
import math
from typing import TypeVar

import numpy as np
import pytest
import torch
from PIL import Image

import ddnsr_cli as ddnsr_api
from ddnsr_cli.errors import ConfigError, DataError, ImageReadError
from tests.helpers.drawn_images import drawn_image, noisy

SR, HR = noisy(drawn_image(0, 64), 5), drawn_image(0, 64)


def test_psnr_and_ssim_are_those_of_scikit_image():
    # Here: it takes seconds, which every process that collects tests would spend.
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    figures = ddnsr_api.evaluate(SR, HR, crop_px=0)
    assert list(figures) == ["psnr", "ssim"]
    assert figures["psnr"] == pytest.approx(peak_signal_noise_ratio(HR, SR, data_range=255), abs=1e-9)
    theirs = structural_similarity(
        HR, SR, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, full=True
    )[1]
    assert figures["ssim"] == pytest.approx(theirs[5:-5, 5:-5].mean(), abs=1e-9)


def test_a_border_is_left_out_and_luma_counts_by_itself():
    spoiled = SR.copy()
    spoiled[:4] = 255
    names = ("psnr_y", "ssim_y")
    assert ddnsr_api.evaluate(spoiled, HR, names) == ddnsr_api.evaluate(SR, HR, names)
    assert ddnsr_api.evaluate(spoiled, HR, names, crop_px=3) != ddnsr_api.evaluate(SR, HR, names, crop_px=3)
    assert ddnsr_api.evaluate(SR, HR, names)["psnr_y"] > ddnsr_api.evaluate(SR, HR)["psnr"] + 2


def test_kinds_may_differ_and_a_batch_gives_means():
    whole = ddnsr_api.evaluate(SR, HR)
    assert ddnsr_api.evaluate(Image.fromarray(SR), HR.astype(np.uint16) * 257) == pytest.approx(whole)
    two = torch.stack([torch.from_numpy(one).movedim(-1, 0) for one in (SR, HR)])
    truth = torch.from_numpy(HR).movedim(-1, 0).expand(2, -1, -1, -1)
    assert ddnsr_api.evaluate(two, truth, ["ssim"])["ssim"] == pytest.approx((whole["ssim"] + 1) / 2)
    assert ddnsr_api.evaluate(HR, HR) == {"psnr": math.inf, "ssim": pytest.approx(1)}


def test_types_let_kinds_differ_as_well():
    for function, names in ((ddnsr_api.evaluate, ("sr", "hr")), (ddnsr_api.write_image, ("image",))):
        parameters = inspect.signature(function).parameters
        assert not any(isinstance(parameters[name].annotation, TypeVar) for name in names)


def test_one_metric_may_be_named_by_itself():
    assert ddnsr_api.evaluate(SR, HR, "psnr") == {"psnr": ddnsr_api.evaluate(SR, HR)["psnr"]}


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda: ddnsr_api.evaluate(SR, HR, ["psnr", "beauty"]), ConfigError, "'beauty'"),
        (lambda: ddnsr_api.evaluate(SR[:60], HR), DataError, "one size"),
        (lambda: ddnsr_api.evaluate(SR[:18], HR[:18]), DataError, "19 pixels"),
        (lambda: ddnsr_api.evaluate(SR, HR, crop_px=-1), DataError, "crop_px=-1"),
        (lambda: ddnsr_api.evaluate(SR, None), ImageReadError, "NoneType"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, error, word):
    with pytest.raises(error, match=word):
        call()
