"""The ablations are trained alike, once, and told in one table, with intervals over the seeds."""

import json
from pathlib import Path

import ablations
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from ddnsr_cli.errors import TrainingError
from ddnsr_cli.training.options import small_helpers, track_options
from ddnsr_cli.weights.checkpoint import load_degrader


@pytest.fixture
def commands(monkeypatch):
    """What is asked of ddnsr, instead of doing it."""
    asked = []
    monkeypatch.setattr(ablations, "_ddnsr", lambda *words: asked.append(words))
    return asked


WORDS = ["--track", "1", "--lite", "--steps", "7"]


def figures(**given):
    return {**dict.fromkeys(ablations.COLUMNS, 0.5), **given}


def of_all(letter_gains, seeds=3):
    """Figures of every run: the whole method's LPIPS is 0.3, and each ablation's worse by its gain, which wobbles."""
    return {
        ablations.Run(letter, seed): figures(lpips_alex=0.3 + letter_gains.get(letter, 0) * (1 + 0.1 * seed))
        for letter in "ABCDE"
        for seed in range(seeds)
    }


def test_each_letter_is_trained_once_a_seed_with_the_same_words(commands, tmp_path):
    runs = ablations.train_all(tmp_path, 2, WORDS)
    assert [(words[2], words[4], words[-1]) for words in commands] == [
        (letter, str(seed), str(tmp_path / f"{letter}{seed}")) for seed in (0, 1) for letter in "ABCDE"
    ]
    assert all(list(words[7:-2]) == WORDS for words in commands)
    commands.clear()
    assert ablations.train_all(tmp_path, 2, WORDS) == runs
    assert commands == []


def test_all_degraders_of_a_seed_begin_with_one_that_only_shrinks(commands, tmp_path):
    ablations.train_all(tmp_path, 2, WORDS)
    starts = [words[words.index("--start-degrader") + 1] for words in commands]
    assert len(set(starts[:5])) == 1
    assert len(set(starts)) == 2
    first, second = (load_degrader(Path(start))[0] for start in (starts[0], starts[-1]))
    assert first.config == small_helpers(track_options(1)).degrader
    hr, noise = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(first(hr, noise), F.avg_pool2d(hr, 4))
    assert not torch.equal(first.merge[0].weight, second.merge[0].weight)


def test_a_run_that_failed_is_trained_again(monkeypatch, tmp_path):
    def fails(*words):
        if "C" in words:
            raise TrainingError("no")

    monkeypatch.setattr(ablations, "_ddnsr", fails)
    with pytest.raises(TrainingError):
        ablations.train_all(tmp_path, 1, [])
    assert sorted(path.name for path in tmp_path.glob("*.done")) == ["A0.done", "B0.done"]


def test_scores_are_those_of_the_command(monkeypatch, tmp_path):
    def evaluates(*words):
        assert words[words.index("--models") + 1] == f"A1={tmp_path / 'A1'}"
        row = {"mean": {name: {"mean": float(place)} for place, name in enumerate(ablations.SCORES)}}
        Path(words[words.index("--json") + 1]).write_text(json.dumps({"models": {"bicubic": row}}))

    monkeypatch.setattr(ablations, "_ddnsr", evaluates)
    judged = ablations.Judging(lr=tmp_path, hr=tmp_path, noise=tmp_path, lpips=tmp_path)
    found = ablations.scores(tmp_path, [ablations.Run("A", 1)], judged)
    assert found == {"bicubic": {"psnr_rgb": 0.0, "ssim_rgb": 1.0, "lpips_alex": 2.0}}


def test_the_table_has_a_line_an_ablation_with_means_and_intervals():
    runs = of_all({"A": 0.1, "D": 0.2})
    runs[ablations.Run("D", 1)] = figures(noise=None)
    lines = ablations.table(runs, {"psnr_rgb": 23.964}, {"noise": 8.04}).splitlines()
    assert lines[2] == "| bicubic | 23.96 | | | | | | | |"
    assert lines[3].startswith("| A: no content loss | 0.50 ± 0.00 | 0.500 ± 0.000 | 0.410 ± 0.025 | 0.5 ± 0.0 |")
    assert "| none |" in lines[6]  # one of its degraders makes no noise
    assert lines[8].startswith("| the source | | | | 8.0 |")
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ([0.1, 0.11, 0.12], "reproduced"),
        ([-0.1, -0.11, -0.12], "the other way round"),
        ([0.1, 0.01, 0.3], "undecided"),
        ([0.1], "undecided"),
    ],
)
def test_an_interval_that_holds_nothing_decides_nothing(gains, said):
    assert ablations.verdict(gains) == said


def test_students_interval_is_that_of_the_textbook():
    assert ablations.half_width([1.0, 2.0, 3.0]) == pytest.approx(4.303 / 3**0.5, rel=1e-3)


def test_a_claim_is_judged_by_lpips_where_less_is_better():
    told = ablations.claims(of_all({"A": 0.1, "B": -0.1})).splitlines()
    assert told[2].endswith("| -0.110 ± 0.025: reproduced |")
    assert told[3].endswith("| +0.110 ± 0.025: the other way round |")
    assert told[4].endswith("+0.000 ± 0.000: undecided |")


def test_the_sheet_shows_the_middle_of_each(monkeypatch, tmp_path):
    Image.new("RGB", (200, 160), (10, 20, 30)).save(tmp_path / "image.png")

    def upscales(*words):
        Image.new("RGB", (800, 640), (200, 0, 0)).save(words[words.index("-o") + 1])

    monkeypatch.setattr(ablations, "_ddnsr", upscales)
    runs = [ablations.Run("A", 0), ablations.Run("E", 0), ablations.Run("E", 1)]
    drawn = ablations.sheet(tmp_path / "image.png", tmp_path, runs)
    side = 4 * ablations.SHOWN_PX
    assert drawn.getpixel((side // 2, side // 2)) == (10, 20, 30)
    assert (
        drawn.getpixel((side + side // 2, side // 2))
        == drawn.getpixel((2 * side + side // 2, side // 2))
        == (200, 0, 0)
    )
