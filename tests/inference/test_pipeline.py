"""From samples to larger samples."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.inference import pipeline
from ddnsr_cli.inference.pipeline import LookOptions, enlarge_image
from ddnsr_cli.io.image import RasterImage
from ddnsr_cli.processing.look import grain_like


@pytest.fixture
def image():
    y, x = np.mgrid[:90, :70]
    rgb = np.stack([x * 2 + 40, y * 2 + 20, 120 + 40 * np.sin(x / 4)], axis=2)
    noise = 3 * np.random.default_rng(0).standard_normal(rgb.shape)
    return RasterImage(pixels=np.rint(rgb + noise).astype(np.uint8))


def bicubic(samples, scale=4):
    size = (samples.shape[1] * scale, samples.shape[0] * scale)
    planes = [Image.fromarray(samples[..., c].astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
              for c in range(samples.shape[2])]  # fmt: skip
    return np.stack([np.asarray(plane) for plane in planes], axis=2).clip(0, np.iinfo(samples.dtype).max)


def test_strength_0_is_the_bicubic_enlargement_and_asks_no_network(image, engine, listener):
    upscaler = engine()
    upscaler.bands = None  # to call it would fail
    larger, faithfulness = enlarge_image(image, upscaler, LookOptions(strength=0), listener)
    assert np.array_equal(larger.pixels, np.rint(bicubic(image.pixels)))
    assert faithfulness.drift_levels is None


def test_strength_1_without_color_fix_is_the_network(image, engine, listener):
    upscaler = engine()
    larger, _ = enlarge_image(image, upscaler, LookOptions(color_fix=False), listener)
    expected = image.pixels * np.array([1.06, 1.0, 0.97]) + 4
    expected = np.rint(expected.clip(0, 255)).repeat(4, axis=0).repeat(4, axis=1)
    assert np.abs(larger.pixels - expected).max() <= 1


@pytest.mark.parametrize("strength", [0.25, 0.5, 0.9])
def test_between_it_is_the_mix_of_both(image, engine, listener, strength):
    ends = [enlarge_image(image, engine(), LookOptions(strength=end), listener)[0].pixels for end in (0.0, 1.0)]
    mixed = enlarge_image(image, engine(), LookOptions(strength=strength), listener)[0].pixels
    plain, network = (end.astype(float) for end in ends)
    assert np.abs(mixed - (plain + strength * (network - plain))).max() <= 1.01


def test_color_fix_takes_the_shift_of_a_network_away(image, engine, listener):
    shifts = {}
    for fix in (False, True):
        larger, _ = enlarge_image(image, engine(), LookOptions(color_fix=fix), listener)
        shifts[fix] = np.abs(larger.pixels.mean((0, 1)) - image.pixels.mean((0, 1))).max()
    assert shifts[False] > 4
    assert shifts[True] < 0.1


@pytest.mark.parametrize("look", [LookOptions(), LookOptions(strength=0.5), LookOptions(strength=0)])
def test_strips_and_tiles_change_nothing(image, engine, listener, monkeypatch, look):
    whole, _ = enlarge_image(image, engine(tile_px=None), look, listener)
    for rows, tile_px in ((1, None), (7, 32), (500, 40)):
        monkeypatch.setattr(pipeline, "LEAST_STRIP_ROWS", rows)
        monkeypatch.setattr(pipeline, "MOST_STRIP_ROWS", rows)
        strips, _ = enlarge_image(image, engine(tile_px=tile_px), look, listener)
        assert np.array_equal(strips.pixels, whole.pixels)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_every_scale_is_done(image, engine, listener, scale):
    larger, _ = enlarge_image(image, engine(scale=scale), LookOptions(strength=0.5), listener)
    assert larger.pixels.shape == (90 * scale, 70 * scale, 3)
    assert abs(larger.pixels.mean() - image.pixels.mean()) < 0.1


def test_gray_and_16_bits_stay_what_they_are(image, engine, listener):
    deep = RasterImage(pixels=(image.pixels[..., :1].astype(np.uint16) * 257))
    larger, _ = enlarge_image(deep, engine(), LookOptions(strength=0.5), listener)
    assert (larger.pixels.shape, larger.pixels.dtype) == ((360, 280, 1), np.uint16)
    assert abs(larger.pixels.mean() - deep.pixels.mean()) < 0.1 * 257
    assert len(np.unique(larger.pixels)) > 1000  # not 8 bits in disguise


def test_alpha_follows_the_strength_and_not_the_color_fix(engine, listener):
    alpha = np.zeros((40, 40), np.uint8)
    alpha[:, 20:] = 255
    image = RasterImage(pixels=np.full((40, 40, 3), 100, np.uint8), alpha=alpha)
    plain, _ = enlarge_image(image, engine(), LookOptions(strength=0), listener)
    assert np.array_equal(plain.alpha, np.rint(bicubic(alpha[..., None]))[..., 0])
    sharp, _ = enlarge_image(image, engine(), LookOptions(), listener)
    assert np.array_equal(np.unique(sharp.alpha[:, :64]), [0])
    assert np.array_equal(np.unique(sharp.alpha[:, 96:]), [255])


def test_faithfulness_is_of_the_result_and_drift_of_the_network(image, engine, listener):
    told = {fix: enlarge_image(image, engine(), LookOptions(color_fix=fix), listener)[1] for fix in (False, True)}
    assert told[True].drift_levels == told[False].drift_levels > 4
    assert told[True].consistency_db > told[False].consistency_db + 10
    larger, _ = enlarge_image(image, engine(), LookOptions(color_fix=False), listener)
    small = larger.pixels.reshape(90, 4, 70, 4, 3).mean((1, 3))
    db = -10 * np.log10(np.square((small - image.pixels) / 255).mean())
    assert told[False].consistency_db == pytest.approx(db, abs=0.2)


@pytest.mark.parametrize("wrong", [{"strength": -0.1}, {"strength": 1.01}, {"grain": -1}, {"grain": 5}, {"seed": -1}])
def test_looks_without_meaning_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LookOptions(**wrong)
    with pytest.raises(ConfigError):
        LookOptions(strength=float("nan"))


def test_what_is_below_transparent_parts_makes_no_grain(image, engine, listener):
    """The right half is clear, and what lies there is noise, stronger than that of the image."""
    hidden = (120 + 12 * np.random.default_rng(1).standard_normal(image.pixels.shape)).astype(np.uint8)
    alpha = np.full((90, 140), 255, np.uint8)
    alpha[:, 70:] = 0
    wide = RasterImage(pixels=np.concatenate([image.pixels, hidden], axis=1), alpha=alpha)
    look = LookOptions(grain=1)
    layers = [pipeline._grain(one, 560, look) for one in (image, wide)]
    ends = [np.full((64, 560, 3), 128, np.uint8) for _ in layers]
    for layer, flat in zip(layers, ends, strict=True):
        layer.lay_on(flat)
    alone, beside = (flat.std() for flat in ends)
    assert alone > 1
    assert beside == pytest.approx(alone, rel=0.05)


def test_an_image_cut_out_as_a_disc_gets_the_grain_of_what_is_seen():
    """What fills the corners, so that nothing shines through, is smoother than anything seen."""
    y, x = np.mgrid[:200, :200]
    noise = 8 * np.random.default_rng(0).standard_normal((200, 200, 3))
    pixels = np.rint(100 + (x + y)[..., None] / 8 + noise).astype(np.uint8)
    disc = np.where(np.hypot(y - 100, x - 100) < 100, 255, 0).astype(np.uint8)
    strengths = [
        grain_like(pipeline._seen_part(RasterImage(pixels=pixels, alpha=alpha))).strength.mean() * 255
        for alpha in (None, disc)
    ]
    assert strengths == pytest.approx([8, 8], rel=0.1)


def test_tiles_are_counted_over_colors_and_alpha(image, engine, listener):
    alpha = image.pixels[..., 0]
    told = []
    watched = replace(listener, tile=lambda done, total: told.append((done, total)))
    for one, look in ((image, LookOptions()), (replace(image, alpha=alpha), LookOptions())):
        told.clear()
        enlarge_image(one, engine(tile_px=40), look, watched)
        assert told == [(index + 1, len(told)) for index in range(len(told))]
        assert len(told) == pipeline.network_runs(one, look) * engine(tile_px=40).plan(90, 70).tiles
    assert pipeline.network_runs(replace(image, alpha=np.full_like(alpha, 9)), LookOptions()) == 1
    assert pipeline.network_runs(image, LookOptions(strength=0)) == 0


def test_what_was_said_of_the_input_is_not_said_of_the_result(image, engine, listener):
    noted = replace(image, notes=("only the first of 2 frames",), damage="cut off")
    larger, _ = enlarge_image(noted, engine(), LookOptions(), listener)
    assert (larger.notes, larger.damage) == ((), "")
