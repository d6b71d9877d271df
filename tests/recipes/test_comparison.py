"""Each way to make pairs is trained on alike, and takes what it makes pairs with from the right run."""

import json
from pathlib import Path

import comparison
import numpy as np
import pytest
import trials
from PIL import Image

from ddnsr_cli.errors import ConfigError


def write_noisy(folder, *, sigma):
    """Flat images with Gaussian noise."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for place in range(3):
        levels = 110 + 10 * place + rng.normal(0, sigma, (96, 96, 3))
        Image.fromarray(levels.round().astype(np.uint8)).save(folder / f"{place}.png")


@pytest.fixture
def commands(monkeypatch):
    """What is asked of ddnsr, instead of doing it; `ddnsr eval` finds the same figures of all, noise is of 2 levels."""
    asked = []

    def run(*words):
        asked.append(words)
        if words[0] == "eval":
            names = [pair.partition("=")[0] for pair in words[words.index("--models") + 1].split(",")]
            row = {"mean": {name: {"mean": 0.5} for name in ("psnr_rgb", "ssim_rgb", "lpips_alex", "niqe")}}
            told = {"models": dict.fromkeys(["bicubic", *names], row)}
            Path(words[words.index("--json") + 1]).write_text(json.dumps(told))
        if words[0] == "degrade":
            write_noisy(Path(words[-1]) / "lr", sigma=2)

    monkeypatch.setattr(trials, "ddnsr", run)
    return asked


@pytest.fixture
def noisy_folder(tmp_path):
    write_noisy(tmp_path / "noisy", sigma=8)
    return tmp_path / "noisy"


@pytest.fixture
def compare(tmp_path, noisy_folder):
    def run(*words, truth=True):
        fixed = ["--hr", "hr", "--noise", str(noisy_folder), "--val-lr", "l", "--lpips", "f"]
        fixed += ["--val-hr", "h"] if truth else []
        comparison.main(["--out", str(tmp_path / "out"), "--seeds", "1", *fixed, *words, "--", "--steps", "7"])
        return (tmp_path / "out/table.md").read_text().splitlines()

    return run


def asked_for(commands, folder):
    (words,) = (words for words in commands if words[-1].endswith(f"/{folder}"))
    return words


def option(words, name):
    return words[words.index(name) + 1]


def test_all_pairs_are_learned_from_alike(commands, compare):
    compare("--lite")
    paired = [words for words in commands if "--paired" in words]
    assert len(paired) == 5
    own = {"--hr", "--lr", "-o"}
    shared = {tuple(word for at, word in enumerate(words) if not own & {word, words[at - 1]}) for words in paired}
    assert len(shared) == 1
    (words,) = shared
    assert [option(words, name) for name in ("--discriminator", "--gan", "--steps")] == [
        "vgg-style",
        "relativistic",
        "7",
    ]
    assert words.count("--loss") == 3
    for line in paired:
        pairs = Path(option(line, "--hr")).parent
        assert pairs.name == f"pairs_{Path(line[-1]).name}"
        assert Path(option(line, "--lr")) == pairs / "lr"
        assert asked_for(commands, pairs.name)[0] == "degrade"


def test_each_degrader_makes_the_pairs_of_its_way(commands, compare, noisy_folder):
    compare("--lite")
    joint, alone = asked_for(commands, "joint0"), asked_for(commands, "alone0")
    assert "--single-input" not in joint
    assert "--single-input" in alone
    assert option(joint, "--noise-input") == "crop"
    assert "--noise-input" not in alone  # which ddnsr would refuse beside the other
    assert option(joint, "--start-degrader") == option(alone, "--start-degrader")
    assert option(asked_for(commands, "pairs_learned0"), "-m") == joint[-1]
    assert option(asked_for(commands, "pairs_learned0"), "--noise-source") == str(noisy_folder)
    assert option(asked_for(commands, "pairs_single0"), "-m") == alone[-1]
    assert "--noise-source" not in asked_for(commands, "pairs_single0")
    assert option(asked_for(commands, "pairs_impressionism0"), "--method") == "impressionism"
    assert "--sigma" not in asked_for(commands, "pairs_bicubic0")


def test_gaussian_noise_is_as_strong_as_that_of_the_noisy_images(commands, compare):
    compare()
    assert float(option(asked_for(commands, "pairs_gaussian0"), "--sigma")) == pytest.approx(8, abs=0.4)


def test_runs_of_the_ablations_are_taken(commands, compare, tmp_path):
    ablations = tmp_path / "ablations"
    ablations.mkdir()
    for name in ("E0.done", "D0.done"):
        (ablations / name).touch()
    compare("--ablations", str(ablations))
    assert not any("--track" in words for words in commands)
    assert option(asked_for(commands, "pairs_learned0"), "-m") == str(ablations / "E0")
    assert option(asked_for(commands, "pairs_single0"), "-m") == str(ablations / "D0")
    assert f"joint0={ablations / 'E0'}" in [option(words, "--models") for words in commands if words[0] == "eval"]


def test_the_table_tells_of_all_and_of_what_stands_beside(commands, compare):
    lines = compare("--beside", "x4plus=file.pth")
    titles = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert titles[2:11] == [*comparison.TITLES.values(), "bicubic", "x4plus", "the source"]
    assert titles[11] == "the joint method against"
    assert titles[13:] == list(comparison.TITLES.values())[1:]
    assert option(commands[-1], "--models") == "x4plus=file.pth"


def test_noise_of_pairs_stands_beside_that_of_the_source(commands, compare):
    lines = compare()
    assert lines[0].endswith("| noise, levels | neighbors | channels |")
    (joint,) = (line for line in lines[:10] if line.startswith("| the joint method |"))
    assert joint.endswith("| 0.50 | | | |")  # it learns from no pairs
    levels = {line.split("|")[1].strip(): line.split("|")[6].strip() for line in lines[3:10]}
    assert float(levels["the source"]) == pytest.approx(8, abs=0.4)
    assert float(levels["bicubic pairs"]) == pytest.approx(2, abs=0.2)


def test_without_truth_the_lr_images_are_judged_alone(commands, compare):
    compare(truth=False)
    judged = [words for words in commands if words[0] == "eval"]
    assert judged
    assert not any({"--hr", "--lpips-weights"} & set(words) for words in judged)


def test_what_is_known_is_not_trained_again_but_for_what_others_need(commands, compare, tmp_path):
    known = tmp_path / "known.json"
    compare("--figures", str(known))
    found = json.loads(known.read_text(encoding="utf-8"))
    assert sorted(found) == sorted(["bicubic", "the source", *(f"{kind}0" for kind in comparison.TITLES)])
    commands.clear()
    lines = compare("--figures", str(known), "--beside", "x4plus=file.pth")
    assert [words[0] for words in commands] == ["eval"]
    del found["learned0"]
    known.write_text(json.dumps(found), encoding="utf-8")
    (tmp_path / "out" / "learned0.done").unlink()
    commands.clear()
    assert compare("--figures", str(known)) == [line for line in lines if "x4plus" not in line]
    assert [(words[0], Path(words[-1]).name) for words in commands if words[0] != "eval"] == [("train", "learned0")]


def test_seeds_are_those_from_the_first_one_on(commands, compare):
    compare("--first-seed", "2")
    assert {words[words.index("--seed") + 1] for words in commands if "--seed" in words} == {"2"}
    assert asked_for(commands, "joint2")


def test_what_stands_beside_has_a_name(commands, compare):
    with pytest.raises(ConfigError, match=r"--beside takes NAME=MODEL, got file.pth"):
        compare("--beside", "file.pth")
    assert commands == []  # not after days of training


def test_the_sheet_is_of_the_runs_that_are_there(monkeypatch, commands, compare, tmp_path):
    shown = []

    def draw(_image, _out, models):
        shown.append(models)
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr(comparison, "sheet", draw)
    compare()
    (tmp_path / "out" / "single0.done").unlink()
    compare("--show", "image.png")  # what is known of a run that another machine has trained
    assert [sorted(models) for models in shown] == [
        sorted(title for kind, title in comparison.TITLES.items() if kind != "single")
    ]
