"""The package as programs use it, the command beside it, and images of every kind."""

import numpy as np
import pytest

import ddnsr_cli
from tests.helpers.command import ddnsr, quick_model
from tests.helpers.compiled_once import compile_once
from tests.helpers.drawn_images import drawn_image, noisy
from tests.helpers.pair_folders import degrader

__all__ = ["ddnsr", "quick_model"]


@pytest.fixture(autouse=True)
def _compiled_once(monkeypatch):
    compile_once(monkeypatch)


@pytest.fixture(scope="session")
def model(quick_model):
    return ddnsr_cli.load_model(quick_model, device="cpu")


@pytest.fixture(scope="session")
def rgb():
    """(40, 36, 3), uint8."""
    return noisy(drawn_image(0, 40), 6)[:, :36]


@pytest.fixture(scope="session")
def alpha():
    """(40, 36), uint8: clear, half and opaque."""
    steps = np.zeros((40, 36), np.uint8)
    steps[:, 10:20], steps[:, 20:] = 128, 255
    return steps


@pytest.fixture(scope="session")
def small_degrader(tmp_path_factory):
    return degrader(tmp_path_factory.mktemp("degrader") / "small.safetensors")
