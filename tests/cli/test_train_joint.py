"""`ddnsr train --track` as a user runs it, with networks of a few thousand parameters and a random VGG19."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.nets.degrader import DegraderConfig
from ddnsr_cli.reports.history import panels_for
from ddnsr_cli.weights.checkpoint import load_degrader, load_sr_net
from tests.helpers.joint_run import SMALL, vgg_file, write_images


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    return vgg_file(tmp_path_factory.mktemp("vgg") / "vgg19.safetensors")


@pytest.fixture
def folders(tmp_path):
    """Clean HR images and noisy LR ones of other scenes."""
    return write_images(tmp_path)


@pytest.fixture
def train(ddnsr, folders, vgg, small_runs):
    hr, lr = folders

    def run(output, *words, hr=hr, lr=lr, vgg=vgg, track=1):
        given = [] if hr is None else ["--hr", hr]
        given += ["--lr", lr, "--vgg", vgg, "--perceptual", "conv3_4"]
        return ddnsr("train", "--track", track, *given, "-o", output, *SMALL, *words)

    return run


def refused(done, code, *parts):
    assert done.code == code, done.err
    line = done.err.splitlines()[-1]
    assert line.startswith("error: ")
    for part in parts:
        assert str(part) in line


def test_a_run_leaves_models_card_samples_and_report(train, ddnsr, tmp_path):
    run = tmp_path / "run"
    done = train(run, "--steps", 2, "--log-every", 1)
    assert done.code == 0, done.err
    assert done.out.strip() == str(run / "sr.safetensors")
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    for figure in ("content", "cycle", "lr_adversarial", "perceptual", "hr_adversarial", "pixel", "disc_hr", "disc_lr"):
        assert np.isfinite(rows[-1][figure])
    degrader, metadata = load_degrader(run / "degrader.safetensors")
    assert degrader.config == DegraderConfig(features=4, blocks=1)  # --lite: half of what small_training makes plain
    assert json.loads(metadata["training"])["vgg"]["source"]
    _, metadata = load_sr_net(run / "sr.safetensors")
    training = json.loads(metadata["training"])
    assert (training["phase"], training["track"], training["step"]) == ("joint", 1, 2)
    assert training["data"] == {"hr": "hr", "lr": "lr", "target": "div2k", "hr_images": 3, "lr_images": 3}
    assert json.loads(metadata["options"]) == json.loads((run / "options.json").read_text())
    assert json.loads(metadata["versions"]).keys() == {"ddnsr", "python", "torch"}
    card = (run / "README.md").read_text()
    scale = training["scales"]["cycle"]
    for part in (
        "track | 1",
        "(noisy LR) | lr, 3 images",
        "vgg19.safetensors, sha256 ",
        f"cycle (conv2_2): {scale:.4g}",
    ):
        assert part in card
    assert "validation | none" in card
    assert "<svg" in (run / "report.html").read_text()
    with Image.open(run / "samples/step_0000002.png") as samples:
        assert samples.width > 5 * 32
    assert ddnsr("upscale", tmp_path / "lr/0.png", "-o", tmp_path / "o.png", "-m", run).code == 0


@pytest.mark.parametrize(
    ("words", "own"),
    [
        (["--loss", "color=1", "--loss", "gradient=1"], {"color", "gradient"}),
        (["--preset", "cyclegan-lr"], {"lr_cycle", "disc_clean_real", "norm_cleaner", "norm_disc_clean"}),
    ],
)
def test_every_figure_of_a_run_has_its_place_in_the_report(train, tmp_path, words, own):
    run = tmp_path / "run"
    assert train(run, "--steps", 2, "--log-every", 1, *words).code == 0
    (figures,) = {frozenset(json.loads(line)) for line in (run / "log.jsonl").read_text().splitlines()}
    assert {"lr_color_drift", "disc_hr_real", "disc_lr_fake", "norm_degrader", "images_per_s"} | own <= figures
    assert "Other" not in {panel.section for panel in panels_for(figures - {"step"})}


@pytest.mark.parametrize(
    ("words", "saved"),
    [
        (["--track", 2], {}),
        (["--l2"], {}),
        (["--ablation", "c"], {}),
        (["--ablation", "D"], {}),
        (["--single-input"], {"dual_input": False}),
        (["--preset", "paper"], {"dual_input": True, "clip_norm": 0, "ema_decay": 0}),
        (["--preset", "dnsr"], {"dual_input": False, "discriminator": "none", "joint_gradients": True}),
    ],
)
def test_every_setting_of_the_paper_trains_and_is_in_the_options_of_the_run(train, tmp_path, words, saved):
    track = 2 if words[0] == "--track" else 1
    rest = [] if words[0] == "--track" else words
    done = train(tmp_path / "run", "--steps", 1, *rest, track=track)
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run" / "options.json").read_text()).items() >= saved.items()


@pytest.mark.parametrize("target", ["cleanup", "mixed"])
def test_targets_made_from_the_source(train, tmp_path, target, folders):
    hr = None if target == "cleanup" else folders[0]
    done = train(tmp_path / "run", "--steps", 1, "--target", target, hr=hr)
    assert done.code == 0, done.err
    saved = json.loads((tmp_path / "run/options.json").read_text())
    assert saved["discriminator"] == "vgg-style"


def test_the_same_command_goes_on_to_the_same_bytes(train, tmp_path):
    assert train(tmp_path / "whole", "--steps", 3).code == 0
    for steps in (1, 3):
        done = train(tmp_path / "parts", "--steps", steps)
        assert done.code == 0, done.err
    states = [(tmp_path / name / "state/last.safetensors").read_bytes() for name in ("whole", "parts")]
    assert states[0] == states[1]


def test_validation_keeps_the_best(train, tmp_path, image_file):
    image_file("val/lr/a.png", width=24, height=24), image_file("val/hr/a.png", width=96, height=96)
    for side in ("lr", "hr"):
        shutil.copy(tmp_path / f"val/{side}/a.png", tmp_path / f"val/{side}/b.png")
    for words in (("--check",), ("--steps", 1)):
        done = train(tmp_path / "run", "--val", tmp_path / "val", *words)
        assert done.code == 0, done.err
        assert len(re.findall(r"warning: .*val/hr/b.png and its partner have the bytes of", done.err)) == 1
    assert (tmp_path / "run/state/best.safetensors").exists()
    card = (tmp_path / "run/README.md").read_text()
    assert re.search(
        r"validation \| latest, of step 1, 2 pairs: psnr_db [\d.]+, ssim [\d.]+; best, of step 1, 2 pairs", card
    )


def rows_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_validation_follows_what_the_degrader_takes_from_its_noise_input(train, tmp_path, image_file):
    """A degrader of a single input takes nothing, and of a clean crop without smooth parts nothing is given."""
    image_file("val/lr/a.png", width=24, height=24), image_file("val/hr/a.png", width=96, height=96)
    words = ("--val", tmp_path / "val", "--steps", 1)
    for noise_input in ("smooth", "crop"):
        assert train(tmp_path / noise_input, *words, "--noise-input", noise_input).code == 0
        (row,) = [row for row in rows_of(tmp_path / noise_input) if "structure_leaked" in row]
        assert "psnr_db" in row
        assert (0 < row["structure_leaked"] < 2) == (noise_input == "crop")
        assert all(0 < row[f"noise_carried_{where}"] < 2 for where in ("flat", "textured"))
    assert train(tmp_path / "single", *words, "--ablation", "D").code == 0
    (row,) = [row for row in rows_of(tmp_path / "single") if "psnr_db" in row]
    assert "structure_leaked" not in row


def test_validation_pairs_are_given_in_one_way(train, tmp_path):
    one, two = ("--val", tmp_path), ("--val-lr", tmp_path, "--val-hr", tmp_path)
    refused(train(tmp_path / "run", *two[:2]), 2, "--val-lr and --val-hr")
    refused(train(tmp_path / "run", *one, *two), 2, "--val stands for both")
    refused(train(tmp_path / "run", "--val", tmp_path / "none"), 8, "one folder lr")


def test_without_vgg_nothing_is_read(ddnsr, tmp_path):
    done = ddnsr("train", "--track", 2, "--hr", tmp_path / "no", "--lr", tmp_path / "no", "-o", tmp_path / "r", *SMALL)
    refused(done, 6, "--vgg")
    assert not (tmp_path / "r").exists()


def test_another_vgg_cannot_take_over(train, tmp_path):
    assert train(tmp_path / "run", "--steps", 1).code == 0
    other = vgg_file(tmp_path / "other.safetensors", seed=2)
    refused(train(tmp_path / "run", "--steps", 2, vgg=other), 10, "was begun with")


def test_other_images_cannot_take_over(train, tmp_path, folders):
    assert train(tmp_path / "run", "--steps", 1).code == 0
    (folders[1] / "0.png").rename(folders[1] / "other.png")
    refused(train(tmp_path / "run", "--steps", 2), 10, "--lr")


def test_images_of_no_use_are_reported(train, folders, tmp_path, ddnsr):
    hr, lr = folders
    refused(train(tmp_path / "run", hr=lr), 8, "same folder")
    refused(train(tmp_path / "run", hr=None), 8, "--hr")
    refused(train(tmp_path / "run", "--crop", 512), 8, "a side needs 128")
    refused(ddnsr("train", "--track", 2, "--hr", hr, "-o", tmp_path / "run"), 2, "--lr")
    refused(ddnsr("train", "--track", 2, "--data", tmp_path, "-o", tmp_path / "run"), 8, "DPEDiphone-tr-x")
    refused(ddnsr("train", "--track", 3, "--hr", hr, "--lr", lr, "-o", tmp_path / "run"), 2, "track")
    assert not (tmp_path / "run").exists()


def test_check_only_looks(train, tmp_path, folders):
    (folders[0] / "broken.png").write_bytes(b"not an image")
    done = train(tmp_path / "run", "--check")
    assert done.code == 0, done.err
    assert next(line for line in done.err.splitlines() if "broken.png" in line).startswith("note: left out: ")
    assert done.out.splitlines()[0].startswith("hr: 4 images, 3 of them measured: 1 unreadable")
    assert done.out.splitlines()[-1] == "a run can begin with these images"
    assert not (tmp_path / "run").exists()


def test_check_fails_where_a_run_would(train, tmp_path):
    done = train(tmp_path / "run", "--check", "--crop", 256)
    refused(done, 8, "a side needs")
    assert done.out.splitlines()[1:] == ["lr: 3 images, 3 of them measured: nothing found"]
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("small_runs")
def test_ntire_folders_are_found(ddnsr, folders, tmp_path, vgg):
    data = tmp_path / "data"
    data.mkdir()
    folders[0].rename(data / "train-target")
    folders[1].rename(data / "DPEDiphone-tr-x")
    words = ("--data", data, "--vgg", vgg, "--perceptual", "conv3_4", "--steps", 1)
    done = ddnsr("train", "--track", 2, *words, "-o", tmp_path / "run", *SMALL)
    assert done.code == 0, done.err


def test_a_folder_that_is_given_fills_the_gap_of_the_challenge(ddnsr, folders, vgg, small_runs, tmp_path):
    (tmp_path / "ntire").mkdir()
    folders[1].rename(tmp_path / "ntire/Corrupted-tr-x")
    words = ("--data", tmp_path / "ntire", "--vgg", vgg, "--perceptual", "conv3_4", "--steps", 1, *SMALL)
    done = ddnsr("train", "--track", 1, "--hr", folders[0], *words, "-o", tmp_path / "run")
    assert done.code == 0, done.err
    refused(ddnsr("train", "--track", 1, *words, "-o", tmp_path / "other"), 8, "clean HR images", "--hr")


def test_a_target_without_hr_images_refuses_those_given_and_leaves_those_found(ddnsr, train, folders, vgg, tmp_path):
    words = ("--target", "cleanup", "--steps", 1)
    refused(train(tmp_path / "run", *words), 2, "--target cleanup", "--hr", "Drop one")
    folders[0].rename(tmp_path / "train-target")
    folders[1].rename(tmp_path / "Corrupted-tr-x")
    found = ("--data", tmp_path, "--vgg", vgg, "--perceptual", "conv3_4", *SMALL)
    hr = ("--hr", tmp_path / "train-target")
    refused(ddnsr("train", "--track", 1, *words, *found, *hr, "-o", tmp_path / "run"), 2, "--target cleanup", "--hr")
    done = ddnsr("train", "--track", 1, *words, *found, "-o", tmp_path / "run")
    assert done.code == 0, done.err
    assert "train-target" not in (tmp_path / "run/README.md").read_text()
