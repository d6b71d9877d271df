"""The ablations are trained alike, once, and told in one table."""

import json
from dataclasses import replace
from pathlib import Path

import ablations
import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.errors import TrainingError
from ddnsr_cli.metrics.realism import gather, measure_image


@pytest.fixture
def commands(monkeypatch):
    """What is asked of ddnsr, instead of doing it."""
    asked = []
    monkeypatch.setattr(ablations, "_ddnsr", lambda *words: asked.append(words))
    return asked


def measured(sigma):
    rng = np.random.default_rng(0)
    flat = [np.clip(128 + rng.normal(0, sigma, (96, 96, 3)), 0, 255).astype(np.uint8) for _ in range(3)]
    return gather([measure_image(image) for image in flat])


def test_each_letter_is_trained_once_with_the_same_words(commands, tmp_path):
    runs = ablations.train_all(tmp_path, ["--track", "1", "--steps", "7"])
    assert [(words[2], words[3:-1], words[-1]) for words in commands] == [
        (letter, ("--track", "1", "--steps", "7", "-o"), str(tmp_path / letter)) for letter in "ABCDE"
    ]
    commands.clear()
    assert ablations.train_all(tmp_path, ["--track", "1", "--steps", "7"]) == runs
    assert commands == []


def test_a_run_that_failed_is_trained_again(monkeypatch, tmp_path):
    def fails(*words):
        if "C" in words:
            raise TrainingError("no")

    monkeypatch.setattr(ablations, "_ddnsr", fails)
    with pytest.raises(TrainingError):
        ablations.train_all(tmp_path, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["A.done", "B.done"]


def test_scores_are_those_of_the_command(monkeypatch, tmp_path):
    def evaluates(*words):
        row = {"mean": {name: {"mean": float(place)} for place, name in enumerate(ablations.FIGURES)}}
        Path(words[words.index("--json") + 1]).write_text(json.dumps({"models": {"bicubic": row}}))

    monkeypatch.setattr(ablations, "_ddnsr", evaluates)
    judged = ablations.Judging(lr=tmp_path, hr=tmp_path, noise=tmp_path, lpips=tmp_path)
    assert ablations.scores({}, judged, tmp_path) == {"bicubic": {"psnr_rgb": 0.0, "ssim_rgb": 1.0, "lpips_alex": 2.0}}


def test_the_table_has_a_line_a_run_and_the_source():
    means = {"bicubic": {"psnr_rgb": 23.964, "ssim_rgb": 0.615, "lpips_alex": 0.628}}
    means["D"] = {"psnr_rgb": 20.0, "ssim_rgb": 0.5, "lpips_alex": 0.7}
    none = replace(measured(4), noise=None, neighbors=None, channels=None)
    lines = ablations.table(means, {"D": none}, measured(8)).splitlines()
    assert lines[2] == "| bicubic | 23.96 dB | 0.615 | 0.628 | | | |"
    assert lines[3] == "| D: single input | 20.00 dB | 0.500 | 0.700 | none | none | none |"
    assert float(lines[4].split("|")[5]) == pytest.approx(8, rel=0.1)
    assert len({line.count("|") for line in lines}) == 1


def test_the_sheet_shows_the_middle_of_each(monkeypatch, tmp_path):
    Image.new("RGB", (200, 160), (10, 20, 30)).save(tmp_path / "image.png")

    def upscales(*words):
        Image.new("RGB", (800, 640), (200, 0, 0)).save(words[words.index("-o") + 1])

    monkeypatch.setattr(ablations, "_ddnsr", upscales)
    drawn = ablations.sheet(tmp_path / "image.png", {"A": tmp_path, "E": tmp_path}, tmp_path)
    side = 4 * ablations.SHOWN_PX
    assert drawn.getpixel((side // 2, side // 2)) == (10, 20, 30)
    assert (
        drawn.getpixel((side + side // 2, side // 2))
        == drawn.getpixel((2 * side + side // 2, side // 2))
        == (200, 0, 0)
    )
