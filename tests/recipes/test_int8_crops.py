"""The crops on which int8 measures networks."""

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.inference import openvino

pytest.importorskip("skimage")


def test_the_recipe_makes_the_crops_that_come_along(tmp_path):
    from int8_crops import main

    main(["-o", str(tmp_path / "crops.png")])
    made = np.asarray(Image.open(tmp_path / "crops.png")).transpose(2, 0, 1)
    known = 255 * openvino._crops()[0]
    assert made.shape == (3, 84, 140)
    assert np.abs(made - known).mean() < 0.5  # other versions of the library of JPEG round otherwise
    assert np.abs(made[:, ::-1] - known).mean() > 20
