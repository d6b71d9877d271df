"""Models from Python: the command's own pixels, for images of every kind."""

import numpy as np
import pytest
import torch
from PIL import Image

import ddnsr_cli as ddnsr_api
from ddnsr_cli.errors import ConfigError, DataError, DeviceError, ImageReadError, WeightsError
from tests.helpers.drawn_images import drawn_image, noisy


@pytest.fixture
def files(rgb, alpha):
    deep = rgb.astype(np.uint16) * 257 - np.arange(36, dtype=np.uint16)[:, None]
    return {
        "rgb": rgb,
        "gray": rgb[..., 0],
        "alpha": np.dstack([rgb, alpha]),
        "deep": deep,
        "deep_gray": deep[..., 0],
        "deep_alpha": np.dstack([deep, alpha.astype(np.uint16) * 257]),
    }


@pytest.mark.parametrize("kind", ["rgb", "gray", "alpha", "deep", "deep_gray", "deep_alpha"])
def test_arrays_get_the_pixels_of_the_command(ddnsr, model, quick_model, files, tmp_path, kind):
    source, target = tmp_path / "in.png", tmp_path / "out.png"
    ddnsr_api.write_image(files[kind], source)
    assert ddnsr("upscale", source, "-o", target, "-m", quick_model, "--device", "cpu").code == 0
    by_command = np.asarray(ddnsr_api.read_image(target))
    by_array = model.upscale(files[kind])
    assert by_array.dtype == files[kind].dtype
    assert np.array_equal(by_array, by_command)
    assert np.array_equal(np.asarray(model.upscale(ddnsr_api.read_image(source))), by_command)


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "I;16"])
def test_images_of_pillow_too(ddnsr, model, quick_model, files, tmp_path, mode):
    source, target = tmp_path / "in.png", tmp_path / "out.png"
    image = Image.fromarray(files["deep_gray"] if mode == "I;16" else files["alpha"])
    image = image if mode in {"I;16", "RGBA"} else image.convert("RGB" if mode == "P" else mode).convert(mode)
    image.save(source)
    assert ddnsr("upscale", source, "-o", target, "-m", quick_model, "--device", "cpu").code == 0
    larger = model.upscale(image)
    assert larger.mode == {"P": "RGB"}.get(mode, mode)
    with Image.open(target) as by_command:
        assert np.array_equal(np.asarray(larger), np.asarray(by_command))


def test_options_are_those_of_the_command(ddnsr, model, quick_model, rgb, tmp_path):
    source, target = tmp_path / "in.png", tmp_path / "out.png"
    ddnsr_api.write_image(rgb, source)
    words = ("--scale", 2.5, "--strength", 0.6, "--no-color-fix", "--grain", 1, "--seed", 3)
    assert ddnsr("upscale", source, "-o", target, "-m", quick_model, "--device", "cpu", *words).code == 0
    larger = model.upscale(rgb, scale=2.5, strength=0.6, color_fix=False, grain=1, seed=3)
    assert larger.shape == (100, 90, 3)
    assert np.array_equal(larger, np.asarray(ddnsr_api.read_image(target)))


def test_tensors_come_back_as_tensors_and_near_the_levels(model, rgb):
    levels = model.upscale(rgb)
    one = torch.from_numpy(rgb).movedim(-1, 0) / 255
    larger = model.upscale(one)
    assert (larger.shape, larger.dtype) == ((3, 160, 144), torch.float32)
    away = (larger.movedim(0, -1) * 255 - torch.from_numpy(levels).float()).abs()
    assert away.mean() <= 0.51  # of rounding; a processor that multiplies in bf16 computes 8 bits in it, floats in fp32
    assert away.max() <= 2
    batch = model.upscale(torch.stack([one, one.flip(2)]).double())
    assert (batch.shape, batch.dtype) == ((2, 3, 160, 144), torch.float64)
    assert torch.equal(batch[0].float(), larger)
    assert not torch.equal(batch[0], batch[1])


def test_floats_are_exact_to_16_bits(model, rgb):
    wide = model.upscale(rgb.astype(np.uint16) * 257)
    larger = model.upscale(rgb / 255)
    assert larger.dtype == np.float64
    assert np.array_equal(larger, wide / 65535)


def test_a_sideways_image_is_set_upright_and_keeps_its_profile(model, rgb):
    from PIL import ImageCms

    image = Image.fromarray(rgb)
    exif = image.getexif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.info.update(exif=exif.tobytes(), icc_profile=profile)
    larger = model.upscale(image)
    assert larger.size == (160, 144)
    assert (larger.getexif()[0x010F], larger.getexif().get(0x0112, 1)) == ("Camera", 1)
    assert larger.info["icc_profile"] == profile


def test_progress_and_notes_are_reported(model, rgb):
    told, notes = [], []
    model.upscale(rgb, progress=lambda done, tiles: told.append((done, tiles)))
    assert told[-1][0] == told[-1][1] >= 1
    model.upscale(np.zeros((9, 9, 3), np.uint8), grain=1, on_note=notes.append)
    assert any("no grain was added" in note for note in notes)


def test_nothing_is_printed_and_the_input_stays(model, rgb, capfd):
    before = rgb.copy()
    model.upscale(rgb, grain=1)
    assert np.array_equal(rgb, before)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (np.zeros((4, 4, 5), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "shape"),
        (np.zeros((4, 4), np.int64), "int64"),
        (np.full((4, 4), 200.0), "Scale"),
        (np.full((4, 4), np.nan), "finite"),
        (torch.zeros(4, 4), "shape"),
        (torch.full((3, 4, 4), 2.0), "Scale"),
        (torch.zeros(9, 9, 3), r"\(3, H, W\).*\(9, 9, 3\)"),
        (torch.zeros(2, 5, 4, 4), r"\(2, 5, 4, 4\)"),
        (Image.new("F", (4, 4), 200.0), "Scale"),
        (Image.new("F", (0, 4)), "no pixels: 0 x 4"),
        (Image.new("RGB", (4, 4)).crop((2, 2, 2, 2)), "no pixels: 0 x 0"),
        (Image.new("I", (4, 4), 70_000), "mode I"),
        ("image.png", "read_image"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(model, wrong, word):
    with pytest.raises(ImageReadError, match=word) as refusal:
        model.upscale(wrong)
    assert "\n" not in str(refusal.value)


def test_models_and_options_without_meaning_are_refused(model, rgb):
    with pytest.raises(WeightsError, match="no-such"):
        ddnsr_api.load_model("no-such", offline=True)
    with pytest.raises(DeviceError, match="abacus"):
        ddnsr_api.load_model(device="abacus")
    with pytest.raises(ConfigError, match="fp8"):
        ddnsr_api.load_model(dtype="fp8")
    with pytest.raises(ConfigError, match="onnx"):
        ddnsr_api.load_model(engine="onnx")
    with pytest.raises(ConfigError, match="scale"):
        model.upscale(rgb, scale=-1)
    with pytest.raises(ConfigError, match="strength"):
        model.upscale(rgb, strength=2)
    with pytest.raises(ConfigError, match="scale must be above 0"):
        model.upscale(rgb, scale="2")
    with pytest.raises(ConfigError, match="strength must be a number, got None"):
        model.upscale(rgb, strength=None)
    with pytest.raises(ConfigError, match=r"seed must be a whole number, got 1\.5"):
        model.upscale(rgb, grain=1, seed=1.5)
    with pytest.raises(ConfigError, match="tile_px must be a whole number, got 'auto'"):
        ddnsr_api.load_model(tile_px="auto")


@pytest.mark.parametrize("mode", ["I", "F", "I;16B"])
def test_deep_gray_of_pillow_comes_back_as_it_was_given(model, rgb, mode):
    levels = rgb[..., 0].astype(np.uint16) * 257
    arrays = {"I": levels.astype(np.int32), "F": (levels / 65535).astype(np.float32)}
    image = Image.frombytes("I;16B", (36, 40), levels.astype(">u2").tobytes())
    larger = model.upscale(Image.fromarray(arrays[mode]) if mode in arrays else image)
    assert larger.mode == {"I;16B": "I;16"}.get(mode, mode)
    samples = np.asarray(larger) * (65535 if mode == "F" else 1)
    assert np.allclose(samples, model.upscale(levels), atol=0.01)


def test_a_model_says_which_it_is(model, quick_model):
    assert (model.name, model.scale, model.device.type) == (str(quick_model), 4, "cpu")
    assert ddnsr_api.load_model().name == "ddnsr-lite"


def test_a_degraded_image_is_what_the_command_makes(ddnsr, small_degrader, tmp_path):
    hr, noise = drawn_image(1, 129), noisy(drawn_image(2, 32), 9)  # as large as LR: there is only one crop
    for name, image in {"hr/a.png": hr, "noisy/n.png": noise}.items():
        (tmp_path / name).parent.mkdir()
        ddnsr_api.write_image(image, tmp_path / name)
    words = ("--noise-source", tmp_path / "noisy", "-o", tmp_path / "pairs", "--device", "cpu", "-m", small_degrader)
    assert ddnsr("degrade", tmp_path / "hr", *words, "--noise-input", "crop").code == 0
    by_command = np.asarray(ddnsr_api.read_image(tmp_path / "pairs/lr/a.png"))
    degrader = ddnsr_api.load_degrader(small_degrader, device="cpu")
    assert (degrader.name, degrader.scale, degrader.takes_noise) == (small_degrader.name, 4, True)
    assert np.array_equal(degrader.degrade(hr, noise, noise_input="crop"), by_command)
    assert np.array_equal(
        np.asarray(degrader.degrade(Image.fromarray(hr), Image.fromarray(noise), noise_input="crop")), by_command
    )
    tensor = degrader.degrade(torch.from_numpy(hr).movedim(-1, 0) / 255, noise, noise_input="crop")
    assert np.array_equal((tensor.movedim(0, -1) * 255).round().numpy(), by_command)


def test_the_seed_draws_the_noise(small_degrader):
    hr, noise = drawn_image(1, 64), noisy(drawn_image(2, 90), 9)
    degraded = [
        ddnsr_api.degrade(hr, noise, model=small_degrader, seed=seed, device="cpu").tobytes() for seed in (0, 0, 1)
    ]
    assert degraded[0] == degraded[1] != degraded[2]


def test_noise_comes_of_smooth_parts_or_of_a_crop(small_degrader):
    degrader = ddnsr_api.load_degrader(small_degrader, device="cpu")
    hr, smooth, rough = (
        drawn_image(1, 64),
        noisy(drawn_image(2, 90), 9),
        np.random.default_rng(0).integers(0, 255, (40, 40, 3)),
    )
    by_kind = [degrader.degrade(hr, smooth, noise_input=kind) for kind in ("smooth", "crop")]
    assert not np.array_equal(*by_kind)
    assert np.array_equal(degrader.degrade(hr, smooth), by_kind[0])
    with pytest.raises(DataError, match="no smooth part"):
        degrader.degrade(hr, rough.astype(np.uint8))
    assert degrader.degrade(hr, rough.astype(np.uint8), noise_input="crop").shape == (16, 16, 3)
    with pytest.raises(ConfigError, match="smooth or crop"):
        degrader.degrade(hr, smooth, noise_input="all")


def test_degrading_without_what_it_needs_is_refused(small_degrader):
    degrader = ddnsr_api.load_degrader(small_degrader, device="cpu")
    hr, noise = drawn_image(1, 64), drawn_image(2, 40)
    with pytest.raises(ConfigError, match="noise"):
        degrader.degrade(hr)
    with pytest.raises(ConfigError, match="seed"):
        degrader.degrade(hr, noise, seed=-1)
    with pytest.raises(DataError, match="32"):
        degrader.degrade(hr[:20], noise)
    with pytest.raises(DataError, match="32"):
        degrader.degrade(hr, noise[:31])
    with pytest.raises(WeightsError, match="enlarges"):
        ddnsr_api.load_degrader("ddnsr-lite")
