"""Runs from several seeds are told in one table, with intervals, and claims judged by them."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trials
from PIL import Image

from ddnsr_cli.errors import TrainingError

TITLES = {"A": "A: no content loss", "D": "D: single input", "E": "the whole method"}
JUDGED = ("psnr_rgb", "ssim_rgb", "lpips_alex", "niqe")
COLUMNS = {**trials.COLUMNS, "noise": ("noise, levels", 1)}


def figures(**given):
    return {**dict.fromkeys((*JUDGED, "noise"), 0.5), **given}


def of_all(letter_gains, seeds=3):
    """Figures of every run: the whole method's LPIPS is 0.3, and each ablation's worse by its gain, which wobbles."""
    return {
        trials.Run(letter, seed): figures(lpips_alex=0.3 + letter_gains.get(letter, 0) * (1 + 0.1 * seed))
        for letter in TITLES
        for seed in range(seeds)
    }


def test_what_is_done_is_not_done_again(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(trials, "ddnsr", lambda *words: asked.append(words))
    for _ in range(2):
        trials.once(tmp_path / "run.1", "train", "--lite")
    assert asked == [("train", "--lite", "-o", str(tmp_path / "run.1"))]


def test_a_command_that_fails_is_named(monkeypatch, tmp_path):
    with pytest.raises(TrainingError, match="ddnsr no-such-command failed"):
        trials.ddnsr("no-such-command")


def test_scores_are_those_of_the_command(monkeypatch, tmp_path):
    def evaluates(*words):
        assert words[words.index("--models") + 1] == "A1=runs/A1,other=other.pth"
        assert words[words.index("--reference") + 1] == "lr-size"
        row = {"mean": {name: {"mean": float(place)} for place, name in enumerate(["psnr_rgb", "psnr_y", "niqe"])}}
        Path(words[words.index("--json") + 1]).write_text(json.dumps({"models": {"bicubic": row}}))

    monkeypatch.setattr(trials, "ddnsr", evaluates)
    validation = trials.Validation(lr=tmp_path, hr=tmp_path, lpips=tmp_path, reference="lr-size")
    found = trials.scores(tmp_path / "scores.json", {"A1": "runs/A1", "other": "other.pth"}, validation)
    assert found == {"bicubic": {"psnr_rgb": 0.0, "niqe": 2.0}}  # brightness alone is in no table


def test_without_truth_images_are_judged_by_themselves(tmp_path):
    assert trials.Validation(lr=tmp_path).words() == ["--lr", str(tmp_path), "--niqe"]


def test_the_table_has_a_line_a_kind_with_means_and_intervals():
    runs = of_all({"A": 0.1, "D": 0.2})
    runs[trials.Run("D", 1)] = figures(noise=None)
    others = {"bicubic": {"psnr_rgb": 23.964}, "the source": {"noise": 8.04}}
    lines = trials.table(TITLES, runs, others, COLUMNS).splitlines()
    assert lines[2].startswith("| A: no content loss | 0.50 ± 0.00 | 0.500 ± 0.000 | 0.410 ± 0.025 | 0.50 ± 0.00 |")
    assert "| none |" in lines[3]  # one of its degraders makes no noise
    assert lines[5] == "| bicubic | 23.96 | | | | |"
    assert lines[6] == "| the source | | | | | 8.0 |"
    assert len({line.count("|") for line in lines}) == 1


def test_a_cell_is_empty_where_a_kind_has_no_such_figure():
    """The joint method makes no pairs whose noise could be told."""
    runs = {trials.Run("A", 1): {"niqe": 5.0, "noise": 2.0}, trials.Run("E", 1): {"niqe": 4.0}}
    lines = trials.table(TITLES, runs, {}, COLUMNS).splitlines()
    assert lines[0] == "| | NIQE | noise, levels |"
    assert lines[2::2] == ["| A: no content loss | 5.00 | 2.0 |", "| the whole method | 4.00 | |"]


def test_where_there_is_no_truth_niqe_judges_claims():
    runs = {trials.Run(kind, seed): {"niqe": 4.0 + (kind == "A") + seed / 10} for kind in "AE" for seed in range(3)}
    told = trials.gains({"A": TITLES["A"], "E": TITLES["E"]}, runs, "E").splitlines()
    assert told == [
        "| the whole method against | NIQE |",
        "|---|---|",
        "| A: no content loss | -1.00 ± 0.00: reproduced |",
    ]


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
    assert trials.verdict(gains) == said


def test_students_interval_is_that_of_the_textbook():
    assert trials.half_width([1.0, 2.0, 3.0]) == pytest.approx(4.303 / 3**0.5, rel=1e-3)
    twelve = [0.0, 2.0] * 6
    assert trials.half_width(twelve) == pytest.approx(2.201 * (12 / 11) ** 0.5 / 12**0.5, rel=1e-3)
    assert trials.half_width([1.0]) == math.inf


def test_a_claim_is_judged_by_lpips_where_less_is_better():
    told = trials.gains(TITLES, of_all({"A": 0.1, "D": -0.1}), "E").splitlines()
    assert told[0].startswith("| the whole method against |")
    assert told[2] == "| A: no content loss | +0.00 ± 0.00: undecided | -0.110 ± 0.025: reproduced |"
    assert told[3].endswith("| +0.110 ± 0.025: the other way round |")
    assert len(told) == 4


def test_the_sheet_shows_the_middle_of_each(monkeypatch, tmp_path):
    Image.new("RGB", (200, 160), (10, 20, 30)).save(tmp_path / "image.png")
    colors = {"first": (200, 0, 0), "second": (0, 200, 0)}

    def upscales(*words):
        Image.new("RGB", (800, 640), colors[words[words.index("-m") + 1]]).save(words[words.index("-o") + 1])

    monkeypatch.setattr(trials, "ddnsr", upscales)
    models = {"A": Path("first"), "E": Path("second")}
    drawn = trials.sheet(tmp_path / "image.png", tmp_path / "shown", models)
    side = 4 * trials.SHOWN_PX
    shown = [drawn.getpixel((place * side + side // 2, side // 2)) for place in range(3)]
    assert shown == [(10, 20, 30), *colors.values()]


def test_what_two_runs_find_at_once_is_kept(tmp_path):
    path = tmp_path / "figures.json"

    def find(run):
        for seed in range(40):
            trials.keep(path, {f"{run}{seed}": {"psnr_rgb": float(seed)}})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(find, "AB"))
    assert len(trials.known_figures(path)) == 80
