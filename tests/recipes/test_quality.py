"""The yardstick: how its test images are made, what its figures see, and that nothing is made twice."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage import data

pytest.importorskip("scipy")

import quality
from quality import Model, Store, markdown, measure, models_of
from quality_figures import against_truth, by_itself
from quality_sets import MADE, SETS, Case, Degradation, Shown, degraded, find_cases
from scipy.ndimage import gaussian_filter

from ddnsr_cli.errors import ConfigError, DataError
from tests.helpers.command import ddnsr
from tests.helpers.lpips_trunks import trunk_shapes

__all__ = ["ddnsr"]

IMAGE = data.astronaut()[:448, :448]


@pytest.fixture
def images(tmp_path):
    for folder, names in {"track1_val/HR": "ab", "bench/Set5": "cd"}.items():
        (tmp_path / folder).mkdir(parents=True)
        for index, name in enumerate(names):
            Image.fromarray(np.roll(IMAGE, 31 * index, 0)).save(tmp_path / folder / f"{name}.png")
    return tmp_path


def luma_noise(how):
    clean = degraded(IMAGE, Degradation(), np.random.default_rng(0)).astype(float)
    return degraded(IMAGE, how, np.random.default_rng(0)) - clean


def test_noise_is_as_strong_as_asked_and_the_same_draw_in_all_sets():
    weak, strong = luma_noise(MADE["noise8"]), luma_noise(MADE["noise25"])
    assert weak[20:60, 20:60].std() == pytest.approx(8, rel=0.1)
    assert np.corrcoef(weak.ravel(), strong.ravel())[0, 1] > 0.9


def test_blur_and_jpeg_do_what_they_say():
    made = [degraded(IMAGE, Degradation(blur=blur), np.random.default_rng(0)).astype(float) for blur in (0, 6)]
    clean, blurred = (np.abs(np.diff(lr, axis=0)).mean() for lr in made)
    assert blurred < 0.7 * clean
    errors = [luma_noise(Degradation(jpeg=quality)).std() for quality in (30, 60, 95)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 4


def test_cases_are_the_same_each_time_and_fewer_are_among_more(images):
    cases = find_cases(images, ["noise8", "jpeg30"], limit=None)
    assert [case.key for case in cases] == [f"{name}/{image}" for name in ("noise8", "jpeg30") for image in "abcd"]
    again = find_cases(images, ["noise8"], limit=2)
    assert {case.key for case in again} < {case.key for case in cases}
    assert (again[0].make().lr == next(case for case in cases if case.key == again[0].key).make().lr).all()
    assert (again[0].make().lr == again[0].make().lr).all()
    assert (cases[0].make().lr != find_cases(images, ["noise8"], limit=None, seed=1)[0].make().lr).any()


def test_real_pairs_are_cut_alike(tmp_path):
    for folder in ("polyu", "cc", "renoir"):
        (tmp_path / "track2_val" / folder).mkdir(parents=True)
        Image.fromarray(IMAGE).save(tmp_path / "track2_val" / folder / "a_clean.png")
        Image.fromarray(IMAGE // 2).save(tmp_path / "track2_val" / folder / "a_noisy.png")
    cases = find_cases(tmp_path, ["track2"], limit=None)
    assert [case.name for case in cases] == ["cc_a_noisy", "polyu_a_noisy", "renoir_a_noisy"]
    shown = cases[0].make()
    assert shown.lr.shape == (128, 128, 3)
    assert (shown.clean // 2 == shown.lr).all()


def test_an_unknown_set_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no set noise9"):
        find_cases(tmp_path, ["noise9"], limit=None)
    with pytest.raises(DataError, match="is not a folder"):
        find_cases(tmp_path, ["real"], limit=None)
    assert {"clean", "track2", "real"} < set(SETS)


def softened(sigma):
    return gaussian_filter(IMAGE.astype(float), (sigma, sigma, 0)).round().astype(np.uint8)


def test_figures_of_the_truth_itself():
    found = against_truth(IMAGE, IMAGE, crop_px=4)
    assert found == {"edges": 1, "coarse": 1, "low": 1, "mid": 1, "high": 1, "speckle": 0, "worms": 0}


def test_softness_shows_in_edges_and_most_in_the_high_band():
    found = against_truth(softened(1.0), IMAGE, crop_px=4)
    assert found["high"] < found["mid"] < found["low"] < found["coarse"] < 1
    assert found["edges"] < 0.8
    assert by_itself(softened(1.0), crop_px=4)["steep"] < by_itself(IMAGE, crop_px=4)["steep"]


def on_a_soft_image(layer):
    return (softened(4.0) + layer[..., None]).clip(0, 255).astype(np.uint8)


def test_grain_lattice_and_worms_in_calm_parts_are_told_apart():
    truth = softened(4.0)
    rows, columns = np.indices(truth.shape[:2])
    grain = on_a_soft_image(np.random.default_rng(0).normal(0, 4, truth.shape[:2]))
    lattice = on_a_soft_image(4 * np.sin(rows * 2 * np.pi / 5) + 4 * np.sin(columns * 2 * np.pi / 5))
    worms = on_a_soft_image(gaussian_filter(np.random.default_rng(1).normal(0, 60, truth.shape[:2]), (0.7, 6)))
    to_truth = [against_truth(image, truth, crop_px=4) for image in (grain, lattice, worms)]
    alone = [by_itself(image, crop_px=4)["lattice"] for image in (grain, lattice, worms)]
    assert min(found["speckle"] for found in to_truth) > 2
    assert to_truth[2]["worms"] > 0.1 > max(found["worms"] for found in to_truth[:2])
    assert min(alone[1:]) > alone[0] + 4


def test_crispness_falls_with_blur_and_grain_and_worms():
    worms = gaussian_filter(np.random.default_rng(1).normal(0, 120, IMAGE.shape[:2]), (1.5, 6))[..., None]
    grain = np.random.default_rng(0).normal(0, 25, IMAGE.shape)
    spoilt = [softened(3.0), *((IMAGE + layer).clip(0, 255).astype(np.uint8) for layer in (grain, worms))]
    crisp, *others = (by_itself(image, crop_px=4)["crisp"] for image in (IMAGE, *spoilt))
    assert crisp > max(others) + 0.05
    assert by_itself(np.full_like(IMAGE, 9), crop_px=4)["crisp"] == 0


@pytest.fixture
def meter():
    """Figures without LPIPS' weights."""

    def measured(sr, shown):
        measured.calls += 1
        return {"psnr": float(sr.mean()), "lpips": 0.5, "niqe": 4.0}

    measured.calls = 0
    return measured


def test_only_what_is_new_is_made(tmp_path, meter):
    lr = IMAGE[:40, :40]
    cases = [Case(set="noise8", name=name, make=lambda: Shown(lr=lr, truth=IMAGE[:160, :160])) for name in "ab"]
    models, store = models_of(["bicubic", "ours=ddnsr-lite"]), Store(tmp_path)
    first = measure(models[:1], cases[:1], store, meter)
    assert meter.calls == 1
    both = measure(models, cases, store, meter)
    assert meter.calls == 4
    assert both["bicubic"]["noise8/a"] == first["bicubic"]["noise8/a"]
    changed = [Case(set="noise8", name="a", make=lambda: Shown(lr=255 - lr, truth=IMAGE[:160, :160]))]
    again = measure(models[:1], changed, store, meter)
    assert meter.calls == 5
    assert again["bicubic"]["noise8/a"]["psnr"] == pytest.approx(255 - first["bicubic"]["noise8/a"]["psnr"], abs=1)
    table = markdown(both, "closing")
    assert "| ours |" in table
    assert "noise8 (2)" in table


def test_results_are_those_of_upscale(tmp_path, ddnsr):
    """Colors fixed, and in the number format of the tool."""
    Image.fromarray(IMAGE[:40, :48]).save(tmp_path / "a.png")
    assert ddnsr("upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", "--device", "cpu").code == 0
    ours = Model("ours", "ddnsr-lite").enlarged(IMAGE[:40, :48])
    assert (ours == np.array(Image.open(tmp_path / "b.png"))).all()


@pytest.fixture
def random_lpips(tmp_path):
    generator = torch.Generator().manual_seed(1)
    shapes = trunk_shapes("alex")
    state = {name: torch.randn(shape, generator=generator) / 10 for name, shape in shapes.items()}
    save_file(state, tmp_path / "alex.safetensors")
    return tmp_path / "alex.safetensors"


def test_the_command_writes_its_table(images, tmp_path, random_lpips):
    words = ["--data", str(images), "--out", str(tmp_path / "out"), "--lpips", str(random_lpips)]
    quality.main([*words, "--models", "bicubic", "--sets", "noise8", "mixed", "--limit", "1"])
    told = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert set(told["means"]) == {"noise8", "mixed"}
    assert 15 < told["means"]["noise8"]["bicubic"]["psnr"] < 40
    assert (tmp_path / "out" / "quality.md").read_text().startswith("| PSNR / LPIPS / NIQE |")


def test_two_models_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="one name"):
        models_of(["a=bicubic", "a=ddnsr-lite"])


def test_two_images_that_would_be_one_case_are_refused(tmp_path):
    for part in ("track1_val/HR", "bench/Set5", "bench/Set14"):
        (tmp_path / part).mkdir(parents=True)
    for path in ("track1_val/HR/a.png", "bench/Set5/img_001.png", "bench/Set14/img_001.png"):
        Image.fromarray(IMAGE).save(tmp_path / path)
    with pytest.raises(DataError, match="2 images would be clean/img_001"):
        find_cases(tmp_path, ["clean"], limit=None)
