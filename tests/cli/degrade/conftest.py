"""A scene to make pairs of, and the command that makes them."""

import numpy as np
import pytest
from PIL import Image

from tests.helpers.pair_folders import degrader


@pytest.fixture(scope="session")
def small_degrader(tmp_path_factory):
    return degrader(tmp_path_factory.mktemp("degrader") / "small.safetensors")


@pytest.fixture
def scene(image_file, tmp_path):
    """Three clean images, one in a sub-folder, and three noisy images, one of them small."""
    image_file("hr/a.png", 65, 50), image_file("hr/b.jpg", 48, 40), image_file("hr/deep/c.png", 120, 36)
    rng = np.random.default_rng(0)
    (tmp_path / "noisy/in").mkdir(parents=True)
    for name, side in {"x.png": 60, "y.png": 90, "in/z.png": 33}.items():
        grain = np.clip(120 + rng.normal(0, 9, (side, side + 5, 3)), 0, 255)
        Image.fromarray(np.rint(grain).astype(np.uint8)).save(tmp_path / "noisy" / name)
    return tmp_path


@pytest.fixture
def make(ddnsr, scene, small_degrader):
    """`make("pairs", "--seed", 1)`: the scene's pairs in a folder."""

    def run(folder, *words, noise="noisy", model=small_degrader, hr="hr"):
        given = ["-m", model] if "--method" not in words else []
        source = ["--noise-source", scene / noise] if noise else []
        return ddnsr("degrade", scene / hr, *source, "-o", scene / folder, "--device", "cpu", *given, *words)

    return run
