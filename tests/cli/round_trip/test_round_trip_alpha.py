"""Transparency: no fringes over any background, and nothing of what lies unseen."""

import numpy as np
import pytest
import pyvips
from PIL import Image

from tests.helpers.image_files import deep_png, encoded, noise

pyvips.cache_set_max(0)  # else a name that was read once comes back as it was then

SIDE = 28
COLOR = np.array((230, 120, 20))
BACKGROUNDS = {"black": 0, "white": 255, "any": None}


def sprite(below, *, two_colors=False):
    """A hard-edged disc; `below`: what lies under full transparency, a level or None for noise."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    inside = x**2 + y**2 < (SIDE // 3) ** 2
    unseen = noise(SIDE, SIDE, 3) if below is None else np.full((SIDE, SIDE, 3), below, np.uint8)
    colors = np.where(inside[..., None], COLOR, unseen)
    if two_colors:
        colors = np.where((inside & (x > 0))[..., None], COLOR[::-1], colors)
    return np.dstack([colors, np.where(inside, 255, 0)]).astype(np.uint8)


def file(samples, bits):
    return deep_png(samples.astype(np.uint16) * 257) if bits == 16 else encoded(Image.fromarray(samples), "PNG")


@pytest.fixture
def with_default_model(ddnsr, tmp_path):
    """`with_default_model(data, "-s", "2.5")`: the result through the model that comes with the program."""

    def run(data, *words, to="out.png"):
        source, target = tmp_path / "in.png", tmp_path / to
        source.write_bytes(data)
        target.unlink(missing_ok=True)
        done = ddnsr("upscale", source, "-o", target, "--offline", *words)
        assert done.code == 0, done.err
        return target

    return run


def all_bits(path):
    return pyvips.Image.new_from_file(str(path)).numpy()


@pytest.mark.parametrize("bits", [8, 16])
def test_what_lies_unseen_leaves_no_trace(with_default_model, bits):
    results = [all_bits(with_default_model(file(sprite(below), bits))) for below in BACKGROUNDS.values()]
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])  # the colors under transparency, too


@pytest.mark.parametrize("words", [(), ("-s", "2.5"), ("-s", "6")], ids=str)
def test_a_hard_edge_has_no_fringe_over_any_background(with_default_model, words):
    samples = np.asarray(Image.open(with_default_model(file(sprite(0), 8), *words))).astype(float)
    colors, alpha = samples[..., :3], samples[..., 3:] / 255
    assert np.abs(colors - COLOR)[alpha[..., 0] > 2 / 255].max() < 12  # below, resizing leaves a color but few steps
    assert (np.abs(colors - COLOR) * alpha).max() < 3
    for background in (0.0, 255.0):
        seen = alpha * colors + (1 - alpha) * background
        # every pixel is a mixture of the background and of the sprite: nothing darker, nothing lighter
        assert (seen >= np.minimum(COLOR, background) - 2).all()
        assert (seen <= np.maximum(COLOR, background) + 2).all()


def test_a_sprite_of_two_colors_looks_as_the_same_image_without_a_hole(with_default_model):
    cut = sprite(0, two_colors=True)
    whole = np.broadcast_to(np.where(np.arange(SIDE)[:, None] > SIDE // 2, COLOR[::-1], COLOR), (SIDE, SIDE, 3))
    colors = [
        np.asarray(Image.open(with_default_model(data)).convert("RGBA")).astype(float)
        for data in (file(cut, 8), file(whole.astype(np.uint8), 8))
    ]
    away = np.abs(colors[0] - colors[1])[..., :3].max(axis=2)
    seen = away[colors[0][..., 3] > 0]
    assert np.quantile(seen, 0.95) < 12  # but for the spots where two colors and the hole meet
    assert seen.mean() < 4


def test_clear_and_opaque_areas_are_exactly_so(with_default_model):
    alpha = np.asarray(Image.open(with_default_model(file(sprite(255), 8))))[..., 3]
    y, x = (np.mgrid[: 4 * SIDE, : 4 * SIDE] + 0.5) / 4 - SIDE // 2 - 0.5
    distance = np.hypot(x, y) - SIDE // 3
    assert (alpha[distance > 2] == 0).all()
    assert (alpha[distance < -2.5] == 255).all()
    assert len(np.unique(alpha)) > 2  # the edge between is smooth


@pytest.mark.parametrize("to", ["out.webp", "out.tif", "out.avif"])
def test_other_formats_keep_it_too(with_default_model, to):
    target = with_default_model(file(sprite(0), 8), "--quality", "95", to=to)
    with Image.open(target) as image:
        assert image.mode == "RGBA"
        samples = np.asarray(image).astype(float)
    alpha = samples[..., 3:] / 255
    over_white = alpha * samples[..., :3] + (1 - alpha) * 255
    assert (over_white >= np.minimum(COLOR, 255) - 24).all()


def test_an_image_that_is_clear_everywhere_stays_so(with_default_model):
    samples = np.dstack([noise(12, 12, 3), np.zeros((12, 12, 1), np.uint8)])
    assert np.asarray(Image.open(with_default_model(file(samples, 8))))[..., 3].max() == 0
