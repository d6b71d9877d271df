"""`ddnsr eval` where there is no HR: self-consistency, clean references of the LR's size, the paper's table."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from ddnsr_cli.commands.evaluate import models
from ddnsr_cli.metrics.niqe import niqe
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig, start_as_area
from ddnsr_cli.weights.checkpoint import save_degrader
from ddnsr_cli.weights.feature_weights import load_niqe_model
from ddnsr_cli.weights.registry import read_registry
from tests.helpers.eval_files import levels, save, write_pairs


@pytest.fixture(autouse=True)
def no_lpips(monkeypatch):
    monkeypatch.delenv("DDNSR_LPIPS", raising=False)


def psnr(a, b):
    return -10 * np.log10(np.square((a.astype(float) - b) / 255).mean())


def write_enlarged(folder, lr, times=4):
    """Finished images in which every LR pixel is a square."""
    for path in lr.rglob("*.png"):
        square = levels(path).repeat(times, axis=0).repeat(times, axis=1)
        save(folder / path.relative_to(lr), square)
    return folder


def test_self_consistency_is_the_psnr_of_the_way_back(eval_json, tmp_path):
    lr, _ = write_pairs(tmp_path)
    squares = write_enlarged(tmp_path / "squares", lr)
    found = eval_json("--lr", lr, "--sr", squares)
    assert list(found["metrics"]) == ["self_consistency_db"]
    assert list(found["models"]) == ["bicubic", "squares"]
    for name in ("a", "b", "deep/c"):
        with Image.open(squares / f"{name}.png") as image:
            back = np.asarray(image.resize((image.width // 4, image.height // 4), Image.Resampling.BICUBIC))
        expected = psnr(back[1:-1, 1:-1], levels(lr / f"{name}.png")[1:-1, 1:-1])
        assert found["models"]["squares"]["values"][name]["self_consistency_db"] == pytest.approx(expected, abs=1e-9)


def test_a_result_that_left_the_image_is_less_consistent(eval_json, tmp_path):
    lr, _ = write_pairs(tmp_path)
    for path in write_enlarged(tmp_path / "squares", lr).rglob("*.png"):
        save(tmp_path / "warmer" / path.relative_to(tmp_path / "squares"), levels(path) + np.array([20.0, 0, -20]))
    means = eval_json("--lr", lr, "--sr", tmp_path / "squares", "--sr", tmp_path / "warmer")["models"]
    assert (
        means["squares"]["mean"]["self_consistency_db"]["low"] > means["warmer"]["mean"]["self_consistency_db"]["high"]
    )


@pytest.fixture
def run(tmp_path):
    """A run folder with a degrader that averages squares of 4 x 4 and adds no noise."""
    net = Degrader(DegraderConfig(features=4, blocks=1))
    start_as_area(net, torch.Generator().manual_seed(0))
    (tmp_path / "run").mkdir()
    save_degrader(tmp_path / "run" / "degrader.safetensors", net, metadata={}, half=False)
    return tmp_path / "run"


def test_the_way_back_may_be_a_learned_degrader(eval_json, run, tmp_path):
    lr, _ = write_pairs(tmp_path)
    squares = write_enlarged(tmp_path / "squares", lr)
    found = eval_json("--lr", lr, "--sr", squares, "--degrader", run)
    assert list(found["metrics"]) == ["self_consistency_learned_db"]
    assert found["models"]["squares"]["mean"]["self_consistency_learned_db"]["mean"] == 100


@pytest.mark.parametrize("dual_input", [True, False])
def test_the_degrader_takes_its_noise_from_the_lr_itself(eval_json, tmp_path, dual_input):
    lr, _ = write_pairs(tmp_path)
    squares = write_enlarged(tmp_path / "squares", lr)
    torch.manual_seed(0)
    net = Degrader(DegraderConfig(features=4, blocks=1))
    options = {} if dual_input else {"options": json.dumps({"dual_input": False})}
    save_degrader(tmp_path / "d.safetensors", net, metadata=options, half=False)
    values = eval_json("--lr", lr, "--sr", squares, "--degrader", tmp_path / "d.safetensors")["models"]["squares"][
        "values"
    ]
    sr, small = (
        torch.from_numpy(levels(folder / "a.png").copy()).permute(2, 0, 1)[None] / 255 for folder in (squares, lr)
    )
    with torch.inference_mode():
        back = net(sr, small if dual_input else torch.zeros_like(small))[0].clamp(0, 1).mul(255).round()
    expected = psnr(back.permute(1, 2, 0).numpy()[1:-1, 1:-1], levels(lr / "a.png")[1:-1, 1:-1])
    assert values["a"]["self_consistency_learned_db"] == pytest.approx(expected, abs=1e-3)


def test_with_truth_and_degrader_both_are_reported(eval_json, run, tmp_path):
    lr, hr = write_pairs(tmp_path)
    found = eval_json("--lr", lr, "--hr", hr, "--degrader", run, "-m", "bicubic")
    assert list(found["metrics"]) == ["psnr_rgb", "ssim_rgb", "psnr_y", "ssim_y", "self_consistency_learned_db"]


def test_clean_references_of_the_lrs_size(eval_json, tmp_path):
    lr, clean = write_pairs(tmp_path, scale=1, height=64, width=72, sigma=10)
    write_enlarged(tmp_path / "perfect", clean)
    found = eval_json(
        "--lr", lr, "--hr", clean, "--reference", "lr-size", "--sr", tmp_path / "perfect", "-m", "bicubic"
    )
    assert list(found["metrics"])[-2:] == ["noise_left", "detail_kept"]
    means = {
        model: {key: row["mean"] for key, row in found["models"][model]["mean"].items()} for model in found["models"]
    }
    assert means["bicubic"]["noise_left"] == 1
    assert means["bicubic"]["detail_kept"] == pytest.approx(1, abs=0.1)
    assert means["perfect"]["noise_left"] < 0.3
    assert means["perfect"]["detail_kept"] == pytest.approx(1, abs=0.05)
    assert means["perfect"]["psnr_rgb"] > means["bicubic"]["psnr_rgb"] + 3
    assert "1 LR pixels of border" in found["methodology"]


def test_what_is_sharper_than_the_truth_has_not_kept_more_of_its_detail(eval_json, tmp_path):
    names = [f"{place:02}" for place in range(8)]
    lr, clean = write_pairs(tmp_path, names, scale=1, height=64, width=72)
    write_enlarged(tmp_path / "perfect", clean)
    for name in names:
        with Image.open(clean / f"{name}.png") as image:
            save(tmp_path / "masked" / f"{name}.png", np.asarray(image.filter(ImageFilter.UnsharpMask(2, 300, 0))))
    write_enlarged(tmp_path / "sharp", tmp_path / "masked")
    words = ["--lr", lr, "--hr", clean, "--reference", "lr-size", "--sr", tmp_path / "perfect"]
    found = eval_json(*words, "--sr", tmp_path / "sharp", "--against", "perfect")
    assert found["metrics"]["detail_kept"]["ideal"] == 1
    assert found["models"]["sharp"]["mean"]["detail_kept"]["mean"] > 1.5
    assert found["models"]["sharp"]["against"]["detail_kept"]["verdict"] == "worse"
    assert "compared by its distance from 1" in found["methodology"]


IN_CLONE = not read_registry().lacks(read_registry().get("ddnsr-track2"))


@pytest.mark.skipif(not IN_CLONE, reason="packages come without the weights for research")
def test_table3_has_the_rows_at_hand_and_names_the_others(ddnsr, quick_model, tmp_path):
    lr, hr = write_pairs(tmp_path, ("a",))
    done = ddnsr("eval", "--lr", lr, "--hr", hr, "--table3", "-m", f"ddnsr l2={quick_model}", "--lpips", "none")
    assert done.code == 0, done.err
    rows = [line.split("  ")[0] for line in done.out.splitlines()[2:9]]
    own = ["ddnsr-lite", "ddnsr-lite-fidelity", "ddnsr-photo", "ddnsr-track1", "ddnsr-track2"]
    assert rows == ["bicubic", *own, "ddnsr l2"]
    missing, terms = sorted(done.err.splitlines(), key=lambda line: "research" in line)
    assert "ddnsr-track2 is for research only" in terms
    for word in ("ESRGAN (ddnsr weights pull esrgan)", "Impressionism ("):
        assert word in missing
    assert "DDNSR" not in missing


def test_a_model_that_the_preset_has_too_is_one_row(ddnsr, monkeypatch, tmp_path):
    def only_lite(*given, plain=models.rows_at_hand):  # the others take seconds
        here, missing = plain(*given)
        return [found for found in here if found.name == "ddnsr-lite"], missing

    monkeypatch.setattr(models, "rows_at_hand", only_lite)
    lr, hr = write_pairs(tmp_path, ("a",))
    done = ddnsr("eval", "--lr", lr, "--hr", hr, "--table3", "-m", "ddnsr-lite", "--lpips", "none")
    assert done.code == 0, done.err
    assert [line.split("  ")[0] for line in done.out.splitlines()].count("ddnsr-lite") == 1


def test_the_pages_are_written_and_ranks_are_read(ddnsr, quick_model, tmp_path):
    lr, hr = write_pairs(tmp_path)
    pages = ["--report", tmp_path / "report.html", "--ranking", tmp_path / "ranking.html"]
    done = ddnsr("eval", "--lr", lr, "--hr", hr, "-m", f"{quick_model},again={quick_model}", *pages)
    assert done.code == 0, done.err
    for name in ("report", "ranking"):
        assert "<html" in (tmp_path / f"{name}.html").read_text()
    for rater, ranks in {"anna": [1, 2], "ben": [1, 2], "cleo": [2, 1]}.items():
        sheet = {"format": "ddnsr-ranks-1", "page": "p", "rater": rater, "models": ["bicubic", "quick"]}
        sheet |= {"images": ["a", "b"], "ranks": [ranks, [2, 1]]}
        (tmp_path / f"{rater}.json").write_text(json.dumps(sheet))
    files = [tmp_path / f"{rater}.json" for rater in ("anna", "ben", "cleo")]
    out = ddnsr("eval", "--mean-opinion", *files).out
    assert "3 raters on 2 images" in out
    lines = out.splitlines()
    assert lines[2].split()[:2] == ["quick", "1.33"]
    assert lines[3].split()[:2] == ["bicubic", "1.67"]
    assert "Raters: anna, ben, cleo." in out
    ranks = json.loads(ddnsr("eval", "--mean-opinion", *files, "--json", "-").out)
    assert ranks["rows"][0]["mean"]["mean"] == pytest.approx(4 / 3)
    assert "| quick | 1.33 [" in ddnsr("eval", "--mean-opinion", *files, "--markdown", "-").out


def test_niqe_is_of_the_results_themselves(eval_json, tmp_path):
    lr, _ = write_pairs(tmp_path, names=("a", "b"), height=26, width=52)
    squares = write_enlarged(tmp_path / "squares", lr)
    found = eval_json("--lr", lr, "--sr", squares, "--niqe")
    assert list(found["metrics"]) == ["niqe", "self_consistency_db"]
    assert not found["metrics"]["niqe"]["higher_is_better"]
    for name in ("a", "b"):
        value = niqe(levels(squares / f"{name}.png"), load_niqe_model(), crop_px=4)
        assert found["models"]["squares"]["values"][name]["niqe"] == pytest.approx(value, rel=1e-12)
    assert "NIQE is that of Mittal" in found["methodology"]


def test_results_that_niqe_cannot_judge_are_named(ddnsr, tmp_path):
    small, _ = write_pairs(tmp_path / "small", names=("a",), height=25, width=52)
    done = ddnsr("eval", "--lr", small, "--sr", write_enlarged(tmp_path / "x", small), "--niqe")
    assert (done.code, done.out) == (8, "")
    assert "a.png: the results have 208x100 pixels; for NIQE a side needs 104." in done.err
    save(tmp_path / "flat" / "a.png", np.full((26, 26, 3), 90))
    done = ddnsr("eval", "--lr", tmp_path / "flat", "--sr", write_enlarged(tmp_path / "y", tmp_path / "flat"), "--niqe")
    assert (done.code, done.out) == (8, "")
    assert "a.png: a result has no contrast that NIQE could judge." in done.err


def test_figures_of_pyiqa_stand_beside_the_others(eval_json, monkeypatch, tmp_path):
    class Brightness:
        lower_better = True

        def __call__(self, image):
            return image.mean()

    listed = lambda metric_mode: ["brightness"] if metric_mode == "NR" else []  # noqa: E731
    package = SimpleNamespace(list_models=listed, create_metric=lambda _name, device: Brightness(), __version__="9.1")
    monkeypatch.setitem(sys.modules, "pyiqa", package)
    lr, _ = write_pairs(tmp_path, names=("a",))
    found = eval_json("--lr", lr, "--sr", write_enlarged(tmp_path / "squares", lr), "--pyiqa", "brightness")
    assert not found["metrics"]["pyiqa_brightness"]["higher_is_better"]
    mean = levels(tmp_path / "squares" / "a.png")[4:-4, 4:-4].mean() / 255
    assert found["models"]["squares"]["values"]["a"]["pyiqa_brightness"] == pytest.approx(mean, rel=1e-6)
    assert "brightness: as pyiqa 9.1 computes them" in found["methodology"]
