"""`ddnsr upscale`: strength, colors, grain, the figure of consistency, sheets."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ddnsr_cli.weights.checkpoint import load_sr_net, save_sr_net


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), float)


def events(done):
    return [json.loads(line) for line in done.out.splitlines()]


@pytest.fixture
def chart(tmp_path):
    """Gray steps of 32 pixels over a gray ramp, and a few soft colors."""
    steps = np.linspace(0, 255, 8).round()[:, None].repeat(3, axis=1)
    colors = np.array([[200, 120, 90], [90, 160, 220], [240, 220, 180], [40, 80, 40]] * 2)
    rows = [row.repeat(32, axis=0)[None].repeat(32, axis=0) for row in (steps, colors)]
    ramp = np.arange(256)[None, :, None].repeat(32, axis=0).repeat(3, axis=2)
    path = tmp_path / "chart.png"
    Image.fromarray(np.concatenate([*rows, ramp]).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def swapping_model(quick_model, tmp_path):
    """A network that gives red for blue."""
    net, _ = load_sr_net(quick_model)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    for name in ("conv_last.weight", "conv_last.bias"):
        state[name] = state[name][[2, 1, 0]]
    net.load_state_dict(state)
    save_sr_net(tmp_path / "swapping.safetensors", net, metadata={}, half=False)
    return tmp_path / "swapping.safetensors"


@pytest.fixture
def shifting_model(quick_model, tmp_path):
    """A network that makes images six levels brighter."""
    net, _ = load_sr_net(quick_model)
    with torch.no_grad():
        net.conv_last.bias += 6 / 255
    save_sr_net(tmp_path / "shifting.safetensors", net, metadata={}, half=False)
    return tmp_path / "shifting.safetensors"


def test_the_default_shifts_no_gray_and_no_patch_by_half_a_level(ddnsr, chart, tmp_path):
    assert ddnsr("upscale", chart, "-o", tmp_path / "o.png", "--offline").code == 0
    shift = pixels(tmp_path / "o.png").reshape(3, 128, 8, 128, 3).mean((1, 3))
    shift -= pixels(chart).reshape(3, 32, 8, 32, 3).mean((1, 3))
    assert np.abs(shift).max() < 0.5


def test_the_default_shifts_no_saturated_color_by_a_level(ddnsr, tmp_path):
    colors = {"magenta": (255, 0, 255), "violet": (192, 0, 255), "pink": (255, 0, 192), "blue": (64, 0, 255)}
    (tmp_path / "in").mkdir()
    for name, color in colors.items():
        Image.new("RGB", (32, 32), color).save(tmp_path / f"in/{name}.png")
    assert ddnsr("upscale", tmp_path / "in", "-o", tmp_path / "out", "--offline").code == 0
    for name, color in colors.items():
        assert np.abs(pixels(tmp_path / f"out/{name}.png").mean((0, 1)) - color).max() < 1, name


def test_color_fix_mends_a_model_that_shifts(ddnsr, chart, shifting_model, tmp_path):
    shifts = {}
    for words in (("--no-color-fix",), ("--color-fix",)):
        assert ddnsr("upscale", chart, "-o", tmp_path / "o.png", "-m", shifting_model, *words, "--overwrite").code == 0
        shifts[words[0]] = np.abs(pixels(tmp_path / "o.png").mean((0, 1)) - pixels(chart).mean((0, 1))).max()
    assert shifts["--no-color-fix"] > 5
    assert shifts["--color-fix"] < 0.2


def test_strength_0_is_the_plain_enlargement(ddnsr, image_file, quick_model, tmp_path):
    source = image_file()
    ddnsr("upscale", source, "-o", tmp_path / "o.png", "-m", quick_model, "--strength", "0")
    with Image.open(source) as image:
        plain = np.asarray(image.resize((96, 80), Image.Resampling.BICUBIC), float)
    assert np.abs(pixels(tmp_path / "o.png") - plain).max() <= 1  # Pillow rounds between its two passes


def test_grain_is_fine_seeded_and_as_strong_as_asked(ddnsr, quick_model, tmp_path):
    noise = np.random.default_rng(0).normal(128, 6, (96, 96, 3))
    Image.fromarray(noise.round().astype(np.uint8)).save(tmp_path / "noisy.png")

    def result(*words):
        words = ("--strength", "0", "--overwrite", *words)
        done = ddnsr("upscale", tmp_path / "noisy.png", "-o", tmp_path / "o.png", "-m", quick_model, *words)
        assert done.code == 0, done.err
        return pixels(tmp_path / "o.png")

    plain = result()
    added = result("--grain", "1") - plain
    assert added.std() == pytest.approx(6, rel=0.15)
    assert result("--grain", "2").std() > 1.5 * added.std()
    assert np.array_equal(result("--grain", "1") - plain, added)
    assert not np.array_equal(result("--grain", "1", "--seed", "1") - plain, added)


def test_grain_of_another_image_is_another(ddnsr, quick_model, tmp_path):
    grains = []
    for seed in (0, 1):
        noise = np.random.default_rng(seed).normal(128, 6, (64, 64, 3))
        Image.fromarray(noise.round().astype(np.uint8)).save(tmp_path / "noisy.png")
        for grain in ("0", "1"):
            words = ("--strength", "0", "--grain", grain, "-o", tmp_path / f"{seed}{grain}.png", "-m", quick_model)
            ddnsr("upscale", tmp_path / "noisy.png", *words)
        grains.append(pixels(tmp_path / f"{seed}1.png") - pixels(tmp_path / f"{seed}0.png"))
    assert abs(np.corrcoef(grains[0].ravel(), grains[1].ravel())[0, 1]) < 0.05


def test_grain_for_an_image_too_small_to_tell_its_noise(ddnsr, quick_model, tmp_path):
    Image.new("RGB", (5, 5), (9, 9, 9)).save(tmp_path / "tiny.png")
    done = ddnsr("upscale", tmp_path / "tiny.png", "-o", tmp_path / "o.png", "-m", quick_model, "--grain", "1")
    assert done.code == 0
    assert "no grain" in done.err


def test_consistency_is_reported_to_the_curious_and_in_json(ddnsr, image_file, quick_model, tmp_path):
    source = image_file(width=64, height=64)
    done = ddnsr("upscale", source, "-o", tmp_path / "o.png", "-m", quick_model, "-v")
    assert "consistency" in done.err
    assert " dB, drift " in done.err
    assert "left the image" not in done.err
    done = ddnsr("upscale", source, "-o", tmp_path / "o.png", "-m", quick_model, "--json", "--overwrite")
    written = events(done)[1]
    small = pixels(tmp_path / "o.png").reshape(64, 4, 64, 4, 3).mean((1, 3))
    db = -10 * np.log10(np.square((small - pixels(source)) / 255).mean())
    assert written["consistency_db"] == pytest.approx(db, abs=2)  # the file holds whole levels
    assert written["drift_levels"] < 2
    assert written["notes"] == []


def test_a_model_that_left_the_image_is_reported(ddnsr, image_file, swapping_model, tmp_path):
    source = image_file(width=64, height=64)
    done = ddnsr("upscale", source, "-o", tmp_path / "o.png", "-m", swapping_model, "--json")
    assert done.code == 0
    assert "left the image" in done.err
    written = events(done)[1]
    assert written["drift_levels"] > 8
    assert "left the image" in written["notes"][0]


def test_a_sheet_lies_beside_the_result(ddnsr, image_file, quick_model, tmp_path):
    done = ddnsr("upscale", image_file(width=40, height=40), "-o", tmp_path / "o.png", "-m", quick_model, "--compare")
    assert done.out.split() == [str(tmp_path / "o.png"), str(tmp_path / "o.compare.png")]
    with Image.open(tmp_path / "o.compare.png") as sheet:
        assert sheet.width > 2 * 160
        assert sheet.height > 160


def test_sheets_are_no_images_to_enlarge(ddnsr, image_file, quick_model, tmp_path):
    image_file("in/a.png"), image_file("in/b.compare.png")
    words = ("upscale", tmp_path / "in", "-m", quick_model, "--compare")
    first = ddnsr(*words)
    assert len(first.out.split()) == 4
    again = ddnsr(*words)
    assert (again.code, again.out) == (0, "")
    assert len(list((tmp_path / "in").iterdir())) == 6


def test_a_sheet_that_is_wanted_later_is_made_later(ddnsr, image_file, quick_model, tmp_path):
    image_file("in/a.png")
    words = ("upscale", tmp_path / "in", "-o", tmp_path / "out", "-m", quick_model)
    ddnsr(*words)
    assert len(ddnsr(*words, "--compare").out.split()) == 2
    assert ddnsr(*words, "--compare").out == ""
    (tmp_path / "out/a.compare.png").write_bytes(b"mine")
    refused = ddnsr(*words, "--compare")
    assert refused.code == 9
    assert (tmp_path / "out/a.compare.png").read_bytes() == b"mine"


def test_a_sheet_never_takes_the_place_of_an_image_to_read(ddnsr, image_file, quick_model, tmp_path):
    photo = image_file("k/a.compare.png", width=40, height=40)
    image_file("k/a.png")
    before = photo.read_bytes()
    more = ("-m", quick_model, "--compare", "--overwrite")
    alone = ddnsr("upscale", photo, "-o", tmp_path / "k/a.png", *more)
    assert (alone.code, alone.err) == (4, f"error: {photo} is the image to read. Give another output with -o.\n")
    in_place = ddnsr("upscale", tmp_path / "k", "-o", tmp_path / "k", "-f", "jpg", *more)
    assert in_place.code == 9
    assert f"{photo} is an image to read itself, no sheet of ddnsr. Move it away" in in_place.err
    assert photo.read_bytes() == before


def test_a_sheet_never_takes_the_place_of_the_result_of_another(ddnsr, image_file, quick_model, tmp_path):
    image_file("in/a.bmp"), image_file("in/a.compare.png"), image_file("in/b.compare.png"), image_file("in/b.png")
    words = ("upscale", tmp_path / "in", "-o", tmp_path / "out", "-m", quick_model, "--compare")
    for more in ((), ("--overwrite",)):
        done = ddnsr(*words, *more)
        assert "out/a.compare.png is the sheet of another image. Leave --compare out" in done.err
        assert "out/b.compare.png is the result of another image. Leave --compare out" in done.err
        assert done.err.splitlines()[-1].startswith("error: 2 of 4 images failed")
    with Image.open(tmp_path / "out/b.compare.png") as result:
        assert result.size == (96, 80)


def test_to_srgb_converts_by_the_profile(ddnsr, image_file, quick_model, tmp_path):
    pyvips = pytest.importorskip("pyvips")
    image = pyvips.Image.black(4, 4, bands=3).copy(interpretation="srgb")
    icc = bytes(image.icc_transform("p3", input_profile="srgb").get("icc-profile-data"))
    with Image.open(image_file("plain.png")) as raster:
        raster.save(tmp_path / "p3.png", icc_profile=icc)
    profiles, means = {}, {}
    for words in ((), ("--to-srgb",)):
        target = tmp_path / f"{len(words)}.png"
        assert ddnsr("upscale", tmp_path / "p3.png", "-o", target, "-m", quick_model, *words).code == 0
        with Image.open(target) as result:
            profiles[words] = result.info.get("icc_profile")
        means[words] = pixels(target)
    assert profiles[()] == icc
    assert profiles["--to-srgb",] not in (None, icc)
    assert np.abs(means[()] - means["--to-srgb",]).max() > 5


@pytest.mark.parametrize("words", [["--strength", "1.5"], ["--grain", "-1"], ["--strength", "nan"]])
def test_looks_without_meaning(ddnsr, image_file, quick_model, tmp_path, words):
    done = ddnsr("upscale", image_file(), "-o", tmp_path / "o.png", "-m", quick_model, *words)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert words[0].strip("-") in done.err


def test_the_same_input_and_settings_give_the_same_bytes(ddnsr, image_file, quick_model, tmp_path):
    image_file("a/image.png"), image_file("b/image.png")
    for name in ("a", "b"):
        ddnsr(
            "upscale", tmp_path / name / "image.png", "-o", tmp_path / f"{name}.png", "-m", quick_model, "--grain", "1"
        )
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
