"""The ablations are trained alike, from one start a seed, each once."""

import json
from pathlib import Path

import ablations
import pytest
import torch
import torch.nn.functional as F
import trials
from PIL import Image

from ddnsr_cli.errors import TrainingError
from ddnsr_cli.training.options import small_helpers, track_options
from ddnsr_cli.weights.checkpoint import load_degrader


@pytest.fixture
def commands(monkeypatch):
    """What is asked of ddnsr, instead of doing it."""
    asked = []
    monkeypatch.setattr(trials, "ddnsr", lambda *words: asked.append(words))
    return asked


WORDS = ["--track", "1", "--lite", "--steps", "7"]


def train_all(folder, seeds, words=WORDS):
    for seed in range(seeds):
        for letter in ablations.WITHOUT:
            ablations.train(folder, trials.Run(letter, seed), words)


def test_each_letter_is_trained_once_a_seed_with_the_same_words(commands, tmp_path):
    train_all(tmp_path, 2)
    assert [(words[2], words[4], words[-1]) for words in commands] == [
        (letter, str(seed), str(tmp_path / f"{letter}{seed}")) for seed in (0, 1) for letter in "ABCDE"
    ]
    assert all(list(words[7:-2]) == WORDS for words in commands)
    commands.clear()
    train_all(tmp_path, 2)
    assert commands == []


def test_all_degraders_of_a_seed_begin_with_one_that_only_shrinks(commands, tmp_path):
    train_all(tmp_path, 2)
    starts = [words[words.index("--start-degrader") + 1] for words in commands]
    assert len(set(starts[:5])) == 1
    assert len(set(starts)) == 2
    first, second = (load_degrader(Path(start))[0] for start in (starts[0], starts[-1]))
    assert first.config == small_helpers(track_options(1)).degrader
    hr, noise = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(first(hr, noise), F.avg_pool2d(hr, 4))
    assert not torch.equal(first.merge[0].weight, second.merge[0].weight)


def test_finished_runs_leave_the_start_of_those_that_go_on(commands, tmp_path):
    train_all(tmp_path, 1)
    start = tmp_path / "neutral_0.safetensors"
    before = start.read_bytes()
    train_all(tmp_path, 1, ["--track", "1"])  # as to judge them: of another size, without --lite
    assert start.read_bytes() == before


def test_a_run_that_failed_is_trained_again(monkeypatch, tmp_path):
    def fails(*words):
        if "C" in words:
            raise TrainingError("no")

    monkeypatch.setattr(trials, "ddnsr", fails)
    with pytest.raises(TrainingError):
        train_all(tmp_path, 1, [])
    assert sorted(path.name for path in tmp_path.glob("*.done")) == ["A0.done", "B0.done"]


def test_what_is_known_of_a_run_is_neither_trained_nor_judged_again(monkeypatch, commands, tmp_path):
    judged = []

    def judge(_out, run, _validation, _clean, _noisy):
        judged.append(run.name)
        found = {"psnr_rgb": 20.0 + run.seed + (run.kind == "E"), "lpips_alex": 0.4}
        return {run.name: found, "bicubic": {"psnr_rgb": 23.96}, "the source": {"noise": 8.0}}

    monkeypatch.setattr(ablations, "judge", judge)
    known = {"D0": {"psnr_rgb": 20.0, "lpips_alex": 0.4}}
    (tmp_path / "known.json").write_text(json.dumps(known), encoding="utf-8")
    sets = ["--noise", "noisy", "--val-lr", "lr", "--val-hr", "hr", "--lpips", "lpips"]
    files = ["--out", str(tmp_path / "out"), "--figures", str(tmp_path / "known.json")]
    for _ in range(2):
        ablations.main([*files, *sets, "--seeds", "2", "--letters", "ED", "--", *WORDS])
    assert judged == ["E0", "E1", "D1"]
    assert [words[2] + words[4] for words in commands] == judged
    kept = json.loads((tmp_path / "known.json").read_text(encoding="utf-8"))
    assert list(kept) == ["D0", "E0", "bicubic", "the source", "E1", "D1"]
    ablations.main([*files, *sets, "--seeds", "1", "--first-seed", "3", "--letters", "E", "--", *WORDS])
    assert judged == ["E0", "E1", "D1", "E3"]
    lines = (tmp_path / "out" / "table.md").read_text(encoding="utf-8").splitlines()
    assert "| D: single input | +1.00 ± 0.00: reproduced | +0.000 ± 0.000: undecided |" in lines
    assert "| A: no content loss | none | none |" in lines


def test_the_sheet_is_of_the_runs_that_are_there(monkeypatch, commands, tmp_path):
    monkeypatch.setattr(ablations, "judge", lambda _out, run, *_rest: {run.name: {"psnr_rgb": 20.0}})
    shown = []

    def draw(_image, _out, models):
        shown.append(models)
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr(ablations, "sheet", draw)
    sets = ["--noise", "noisy", "--val-lr", "lr", "--val-hr", "hr", "--lpips", "lpips", "--show", "image.png"]
    ablations.main(["--out", str(tmp_path), *sets, "--seeds", "1", "--letters", "DE", "--", *WORDS])
    assert [words[2] for words in commands] == ["D", "E"]
    assert shown == [{ablations.TITLES[letter]: tmp_path / f"{letter}0" for letter in "DE"}]
    assert (tmp_path / "sheet.png").exists()
