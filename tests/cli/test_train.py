"""`ddnsr train --pretrain` as a user runs it: learn, stop, go on, use."""

import hashlib
import json
import signal
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from ddnsr_cli.cli.options import DegradationPreset
from ddnsr_cli.config import options_to_json
from ddnsr_cli.data.config import PRESETS
from ddnsr_cli.training.train_state import load_train_state

pytestmark = pytest.mark.usefixtures("small_runs")
SIZES = {"--features": 4, "--blocks": 1, "--growth": 2, "--batch": 4, "--crop": 32, "--workers": 0}
SMALL = [word for option in SIZES.items() for word in option] + ["--device", "cpu"]


@pytest.fixture
def images(image_file):
    for number in range(3):
        image_file(f"hr/{number}.png", width=80 + 10 * number, height=90)
    return image_file("hr/small.png", width=20, height=20).parent


def last_state(run):
    return (run / "state" / "last.safetensors").read_bytes()


def test_a_run_trains_and_its_folder_is_a_model(ddnsr, images, image_file, tmp_path):
    run = tmp_path / "run"
    done = ddnsr("train", "--pretrain", "--hr", images, "-o", run, "--steps", 4, "--log-every", 2, *SMALL)
    assert done.code == 0, done.err
    assert done.out.strip() == str(run / "sr.safetensors")
    assert "small.png" in done.err
    assert [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()] == [2, 4]
    assert ddnsr("upscale", image_file("in.png"), "-o", tmp_path / "o.png", "-m", run).code == 0
    with Image.open(tmp_path / "o.png") as image:
        assert image.size == (96, 80)


@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
def test_twenty_steps_are_ten_a_stop_and_ten_more_to_the_last_bit(images, tmp_path, number):
    """All in processes of their own: the order of sums, and with it the last bit, follows the number of threads."""
    pytest.importorskip("resource", reason="signals of Unix")
    from tests.helpers.joint_run import saved_step
    from tests.helpers.processes import Processes, slow_disk
    from tests.helpers.small_training import small_training

    words = ["train", "--pretrain", "--hr", images, "--steps", 20, "--save-every", 1, *SMALL, "-o"]
    processes = Processes(tmp_path, before=[(small_training, ())])
    try:
        whole = processes.start(*words, tmp_path / "whole")
        first = processes.start(*words, tmp_path / "parts", first=[(slow_disk, (0.05,))])
        first.until(lambda: saved_step(tmp_path / "parts") >= 10)
        first.send(getattr(signal, number))
        assert first.ended() in {-signal.SIGKILL, 128 + signal.SIGTERM}
        assert 10 <= load_train_state(tmp_path / "parts/state/last.safetensors").step < 20
        second = processes.start(*words, tmp_path / "parts")
        assert (whole.ended(), second.ended()) == (0, 0), second.err
        assert last_state(tmp_path / "whole") == last_state(tmp_path / "parts")
    finally:
        processes.stop()


def test_a_pretraining_begins_with_weights_that_grow_and_that_it_knows_again(ddnsr, images, tmp_path):
    words = ["train", "--pretrain", "--hr", images, *SMALL]
    small, large = tmp_path / "small/sr.safetensors", tmp_path / "large"
    assert ddnsr(*words, "--steps", 1, "-o", small.parent).code == 0
    grown = [*words, "--features", 6, "--start-from", small, "--learning-rate", 1e-9, "-o", large]
    done = ddnsr(*grown, "--steps", 1)
    assert done.code == 0, done.err
    ours, theirs = load_file(large / "sr.safetensors"), load_file(small)
    assert ours["conv_last.weight"].shape[1] == 6
    assert torch.allclose(ours["conv_last.weight"][:, :4], theirs["conv_last.weight"], atol=1e-6)
    with safe_open(large / "sr.safetensors", "pt") as file:
        begun = json.loads(file.metadata()["training"])["start_from"]
    assert begun == {"file": "sr.safetensors", "sha256": hashlib.sha256(small.read_bytes()).hexdigest()}
    assert ddnsr(*grown, "--steps", 2).code == 0
    assert ddnsr("weights", "mix", small, large, "-o", tmp_path / "mix.safetensors").code == 0
    half, grown_net = load_file(tmp_path / "mix.safetensors"), load_file(large / "sr.safetensors")
    assert all(torch.allclose(half[name], grown_net[name], atol=1e-6) for name in half)  # the rate moved nothing
    small.write_bytes((large / "sr.safetensors").read_bytes())
    assert_refused(ddnsr(*grown, "--steps", 3), 10, "--start-from", begun["sha256"][:12], "another -o")
    small.unlink()
    assert ddnsr(*grown, "--steps", 3).code == 0


def test_weights_of_no_use_to_begin_with_are_reported(ddnsr, images, tmp_path):
    words = ("train", "--pretrain", "--hr", images, *SMALL, "--steps", 1, "-o", tmp_path / "run", "--start-from")
    assert_refused(ddnsr(*words, tmp_path / "gone.safetensors"), 5, "gone.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    assert_refused(ddnsr(*words, tmp_path / "text.safetensors"), 5, "text.safetensors")
    assert not (tmp_path / "run/state").exists()


def test_the_degradations_of_a_pretraining_can_be_chosen(ddnsr, images, tmp_path):
    words = ["train", "--pretrain", "--hr", images, *SMALL, "--steps", 1, "-o"]
    asked = [
        "--degradation",
        "noise_sigma=0,30",
        "--degradation",
        "jpeg_chance=1",
        "--degradation",
        "jpeg_quality=10,20",
    ]
    assert ddnsr(*words, tmp_path / "run", *asked).code == 0
    options = json.loads((tmp_path / "run/options.json").read_text())["sources"][0]["degradation"]
    assert (options["noise_sigma"], options["jpeg_chance"], options["jpeg_quality"]) == ([0, 30], 1, [10, 20])
    assert options["blur_sigma"] == [0.4, 2.6]
    assert_refused(ddnsr(*words, tmp_path / "run"), 10, "--degradation noise_sigma [0.0, 30.0] -> [0.0, 16.0]")


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("noise=0,30", ("noise_sigma", "'noise'")),
        ("noise_sigma=30", ("noise_sigma=LOW,HIGH", "'noise_sigma=30'")),
        ("noise_sigma=0,much", ("noise_sigma=LOW,HIGH", "much")),
        ("noise_sigma=0,1,2", ("noise_sigma=LOW,HIGH", "0,1,2")),
        ("jpeg_quality=40,60.5", ("whole numbers", "60.5")),
        ("blur_chance=0,1", ("blur_chance=CHANCE", "0,1")),
        ("blur_chance", ("blur_chance=CHANCE",)),
        ("blur_chance=2", ("Chances lie in",)),
        ("noise_sigma=nan,nan", ("low to high",)),
        ("scale=2", ("'scale'",)),
    ],
)
def test_degradations_of_no_use_are_reported(ddnsr, images, tmp_path, given, parts):
    words = ("train", "--pretrain", "--hr", images, *SMALL, "--steps", 1, "-o", tmp_path / "run")
    assert_refused(ddnsr(*words, "--degradation", given), 2, *parts)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", list(DegradationPreset))
def test_a_preset_is_taken_and_refined(ddnsr, images, tmp_path, name):
    words = ["train", "--pretrain", "--hr", images, *SMALL, "--steps", 1, "-o", tmp_path / "run"]
    done = ddnsr(*words, "--degradation-preset", name, "--degradation", "noise_sigma=0,3")
    assert done.code == 0, done.err
    options = json.loads((tmp_path / "run/options.json").read_text())["sources"][0]["degradation"]
    expected = options_to_json(replace(PRESETS[name], noise_sigma=(0.0, 3.0)))
    assert options == json.loads(json.dumps(expected))


def test_each_preset_has_its_word():
    assert {str(name) for name in DegradationPreset} == PRESETS.keys()


def test_degradations_are_for_lr_partners_made_on_the_way(ddnsr, images, tmp_path):
    words = ("--degradation", "jpeg_chance=1", "-o", tmp_path / "run")
    assert_refused(ddnsr("train", "--pretrain", "--hr", images, "--lr", images, *words), 2, "--degradation", "--lr")
    assert_refused(ddnsr("train", "--track", 2, "--hr", images, "--lr", images, *words), 2, "for pairs")
    preset = ("--degradation-preset", "photo", "-o", tmp_path / "run")
    assert_refused(ddnsr("train", "--track", 2, "--hr", images, "--lr", images, *preset), 2, "for pairs")
    assert_refused(ddnsr("train", "--pretrain", "--hr", images, "--lr", images, *preset), 2, "--degradation", "--lr")


def test_validation_scores_are_logged(ddnsr, images, image_file, tmp_path):
    for name in ("a.png", "b.png"):
        image_file(f"val/LR/{name}", width=24, height=24)
        image_file(f"val/HR/{name}", width=96, height=96)
    words = ("--val-lr", tmp_path / "val/LR", "--val-hr", tmp_path / "val/HR")
    run = tmp_path / "run"
    assert ddnsr("train", "--pretrain", "--hr", images, "-o", run, "--steps", 1, *SMALL, *words).code == 0
    figures, row = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert (figures["step"], row["step"], "pixel" in figures) == (1, 1, True)
    assert 10 < row["psnr_db"] < 60
    assert 0 < row["ssim"] < 1


def assert_refused(done, code, *parts):
    assert done.code == code, done.err
    line = done.err.splitlines()[-1]
    assert line.startswith("error: ")
    for part in parts:
        assert str(part) in line


def test_what_cannot_be_trained_is_reported(ddnsr, images, image_file, tmp_path):
    run = tmp_path / "run"
    assert_refused(ddnsr("train", "--hr", images, "-o", run), 2, "--pretrain")
    assert_refused(ddnsr("train", "--pretrain", "--hr", tmp_path / "gone", "-o", run), 8, "gone")
    (tmp_path / "empty").mkdir()
    assert_refused(ddnsr("train", "--pretrain", "--hr", tmp_path / "empty", "-o", run), 8, "empty")
    assert_refused(ddnsr("train", "--pretrain", "--hr", images, "-o", run, "--crop", 512), 8, "a side needs 544")
    image_file("few/one.png", width=200, height=200), image_file("few/two.png", width=30, height=30)
    assert_refused(ddnsr("train", "--pretrain", "--hr", tmp_path / "few", "-o", run), 8, "Of 2 images only", "one.png")
    assert_refused(ddnsr("train", "--pretrain", "--hr", images, "-o", run, "--val-lr", images), 2, "--val-hr")
    (tmp_path / "file").write_text("")
    assert_refused(ddnsr("train", "--pretrain", "--hr", images, "-o", tmp_path / "file/x", *SMALL), 10, "-o")
    assert not run.exists()


def test_other_options_in_the_same_folder_are_refused(ddnsr, images, tmp_path):
    words = ("train", "--pretrain", "--hr", images, "-o", tmp_path / "run", *SMALL, "--steps", 1)
    assert ddnsr(*words).code == 0
    before = last_state(tmp_path / "run")
    assert_refused(ddnsr(*words, "--seed", 7), 10, "(--seed 0 -> 7)")
    assert last_state(tmp_path / "run") == before
    assert ddnsr(*words, "--steps", 2).code == 0


def test_a_damaged_save_is_refused_and_kept(ddnsr, images, tmp_path):
    words = ("train", "--pretrain", "--hr", images, "-o", tmp_path / "run", *SMALL, "--steps", 1)
    assert ddnsr(*words).code == 0
    state = tmp_path / "run/state/last.safetensors"
    state.write_bytes(state.read_bytes()[:200])
    assert_refused(ddnsr(*words), 10, state)


def test_other_images_in_the_same_folder_are_refused(ddnsr, images, image_file, tmp_path):
    words = ("train", "--pretrain", "--hr", images, "-o", tmp_path / "run", *SMALL)
    assert ddnsr(*words, "--steps", 1).code == 0
    image_file("hr/new.png", width=90, height=90)
    assert_refused(ddnsr(*words, "--steps", 2), 10, "--hr")
    (images / "new.png").unlink()
    assert ddnsr(*words, "--steps", 2).code == 0
