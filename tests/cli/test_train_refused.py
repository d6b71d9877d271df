"""Joint runs that cannot begin or go on: one clear line each, and nothing is spoilt."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ddnsr_cli.nets.degrader import Degrader, DegraderConfig
from ddnsr_cli.weights.checkpoint import save_degrader
from tests.helpers.joint_run import SMALL, joint_words, last_state, vgg_file, write_images

pytestmark = pytest.mark.usefixtures("small_runs")
QUICK = ("--ablation", "B", "--l2")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    place = tmp_path_factory.mktemp("refused")
    return write_images(place / "images"), vgg_file(place / "vgg.safetensors")


@pytest.fixture
def train(ddnsr, scene):
    def run(output, *words, folders=scene[0], vgg=scene[1]):
        return ddnsr(*joint_words(folders, vgg, output, *QUICK, *words, track=2))

    return run


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """Where the tests of this file find a run of one step, once the first of them has begun it."""
    return tmp_path_factory.mktemp("begun") / "run"


@pytest.fixture
def begun(train, first_run, tmp_path):
    """A run of one step."""
    if not first_run.exists():
        done = train(first_run, "--steps", 1)
        assert done.code == 0, done.err
    return shutil.copytree(first_run, tmp_path / "run")


def refused(done, code, *parts):
    assert done.code == code, done.err
    line = done.err.splitlines()[-1]
    assert line.startswith("error: ")
    assert len(line) < 400
    for part in parts:
        assert str(part) in line
    assert "Traceback" not in done.err


def rewritten(state, change):
    """The state with `change(tensors, header)` applied."""
    with safe_open(state, "pt") as file:
        header = json.loads(file.metadata()["ddnsr_run"])
    tensors = load_file(state)
    change(tensors, header)
    save_file(tensors, state, metadata={"ddnsr_run": json.dumps(header)})


DAMAGE = {
    "empty": lambda state: state.write_bytes(b""),
    "cut": lambda state: state.write_bytes(state.read_bytes()[:-100]),
    "no state": lambda state: save_file({}, state),
    "another version": lambda state: rewritten(state, lambda _, header: header.update(format="ddnsr-run-0")),
    "no numbers": lambda state: rewritten(state, lambda _, header: header.pop("numbers")),
    "no options": lambda state: rewritten(state, lambda _, header: header["numbers"].pop("options")),
    "no images": lambda state: rewritten(state, lambda _, header: header["numbers"].pop("images")),
    "no weight": lambda state: rewritten(state, lambda tensors, _: tensors.pop("nets.sr_net.conv_first.weight")),
    "no moment": lambda state: rewritten(state, lambda tensors, _: tensors.pop("adam.degrader.3.exp_avg")),
    "one too many": lambda state: rewritten(
        state, lambda tensors, _: tensors.update({"ema.sr_net.more": tensors["adam.sr_net.0.step"].clone()})
    ),
}


def test_a_state_that_cannot_be_used_is_reported_and_left_alone(train, begun):
    state = begun / "state/last.safetensors"
    good = state.read_bytes()
    for spoil in DAMAGE.values():
        state.write_bytes(good)
        spoil(state)
        bad = state.read_bytes()
        refused(train(begun, "--steps", 2), 10, "tart a new run")
        assert state.read_bytes() == bad
    state.write_bytes(good)
    assert train(begun, "--steps", 2).code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--seed", 3], "--seed 0 -> 3"),
        (["--degrader-only-steps", 5], "--degrader-only-steps 0 -> 5"),
        (["--precision", "bf16"], "--precision auto -> bf16"),
        (["--loss", "color=1"], "--loss color 0.0 -> 1.0"),
        (["--features", 8], "--features 4 -> 8"),
    ],
)
def test_a_changed_option_that_matters_is_reported(train, begun, words, told):
    before = last_state(begun)
    refused(train(begun, "--steps", 2, *words), 10, told, "another -o")
    assert last_state(begun) == before


def test_options_that_do_not_matter_may_change(train, begun):
    words = ("--workers", 1, "--log-every", 1, "--keep-every", 1, "--learning-rate", 5e-5)
    assert train(begun, "--steps", 2, *words).code == 0


def test_a_run_of_another_kind_is_reported(ddnsr, train, scene, tmp_path, begun):
    pretrain_words = [word for word in SMALL if word not in {"--lite", "--offline"}]
    pretrain = ("train", "--pretrain", "--hr", scene[0][0], *pretrain_words, "--steps", 1, "-o")
    assert ddnsr(*pretrain, tmp_path / "pretrained").code == 0
    refused(train(tmp_path / "pretrained", "--steps", 2), 10, "another kind", "-o")
    refused(ddnsr(*pretrain, begun), 10, "another kind", "-o")


def test_other_images_and_other_judges_are_reported(train, scene, tmp_path, begun):
    (hr, lr), _ = scene
    fewer = shutil.copytree(hr, tmp_path / "hr")
    (fewer / "2.png").unlink()
    refused(train(begun, "--steps", 2, folders=(fewer, lr)), 10, "--hr")
    other = vgg_file(tmp_path / "other.safetensors", seed=2)
    refused(train(begun, "--steps", 2, vgg=other), 10, "vgg.safetensors", "--vgg")


@pytest.mark.parametrize("is_begun", [True, False])
def test_a_page_that_is_none_of_ours_is_left_alone(train, begun, tmp_path, is_begun):
    run = begun if is_begun else tmp_path / "new"
    run.mkdir(exist_ok=True)
    (run / "report.html").write_text("my notes")
    refused(train(run, "--steps", 2), 10, run / "report.html", "is no page of ddnsr", "Choose another folder with -o")
    assert (run / "report.html").read_text() == "my notes"


def test_folders_of_no_use_are_reported(train, scene, tmp_path):
    (hr, lr), _ = scene
    run, empty = tmp_path / "run", tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "link").symlink_to(lr)
    (hr / "sub").mkdir()
    refused(train(run, folders=(empty, lr)), 8, empty, "no images")
    refused(train(run, folders=(hr, empty)), 8, empty, "no images")
    refused(train(run, folders=(hr, tmp_path / "gone")), 8, "gone")
    refused(train(run, folders=(lr, lr)), 8, "same folder")
    refused(train(run, folders=(tmp_path / "link", lr)), 8, "same folder")
    (tmp_path / "both").mkdir()
    shutil.copytree(hr, tmp_path / "both/hr")
    refused(train(run, folders=(tmp_path / "both/hr", tmp_path / "both")), 8, "one inside the other")
    refused(train(run, "--crop", 256), 8, "a side needs")
    assert not run.exists()


def test_a_file_where_samples_are_to_be_is_reported_before_the_first_step(train, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "samples").write_bytes(b"")
    done = train(run, "--steps", 1, "--log-every", 1)
    refused(done, 10, run / "samples", "-o")
    assert "step 1" not in done.err


def test_the_same_folder_twice_is_one_line(train, scene, tmp_path):
    (_, lr), _ = scene
    done = train(tmp_path / "run", folders=(lr, lr))
    refused(done, 8, "same folder")
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("side", [0, 1])
def test_a_set_of_one_image_is_reported(train, tmp_path, side):
    folders = write_images(tmp_path)
    for path in sorted(folders[side].glob("*.png"))[1:]:
        path.unlink()
    run = tmp_path / "run"
    refused(train(run, "--steps", 1, folders=folders), 8, ("--hr", "--lr")[side], folders[side] / "0.png", "one image")
    refused(train(run, "--check", folders=folders), 8, ("--hr", "--lr")[side])
    assert not run.exists()


def test_one_image_beside_cleaned_up_ones_will_do(train, tmp_path):
    hr, lr = write_images(tmp_path)
    for path in sorted(hr.glob("*.png"))[1:]:
        path.unlink()
    assert train(tmp_path / "run", "--steps", 1, "--target", "mixed", folders=(hr, lr)).code == 0


def test_files_that_a_run_is_given_are_read_before_its_images(train, scene, tmp_path, image_file):
    nowhere = (tmp_path / "gone", tmp_path / "gone")  # would be refused with 8
    run = tmp_path / "run"
    refused(
        train(run, "--start-from", tmp_path / "no.safetensors", folders=nowhere), 5, "no weights file", "no.safetensors"
    )
    refused(train(run, "--start-from", scene[1], folders=nowhere), 5, scene[1].name)
    image_file("val/lr/a.png", width=16, height=16), image_file("val/hr/b.png", width=64, height=64)
    words = ("--val-lr", tmp_path / "val/lr", "--val-hr", tmp_path / "val/hr")
    no_lpips = ("--lpips", tmp_path / "no.safetensors")
    refused(train(run, *words, *no_lpips, folders=nowhere), 5, "no.safetensors", "--lpips")
    refused(train(run, *words, folders=nowhere), 8, "a.png")
    assert not run.exists()


def test_weights_to_begin_with_are_needed_only_at_the_beginning(train, begun, tmp_path):
    words = ("--start-from", tmp_path / "warm.safetensors")
    shutil.copy(begun / "sr.safetensors", words[1])
    assert train(tmp_path / "next", *words, "--steps", 1).code == 0
    words[1].unlink()
    assert train(tmp_path / "next", *words, "--steps", 2).code == 0
    assert "warm.safetensors" in (tmp_path / "next/README.md").read_text()


def test_another_target_track_or_beginning_is_reported(train, begun, tmp_path):
    before = last_state(begun)
    refused(train(begun, "--steps", 2, "--target", "mixed"), 10, "--target div2k -> mixed", "another -o")
    refused(train(begun, "--steps", 2, "--track", 1), 10, "--track 2 -> 1")
    warm = shutil.copy(begun / "sr.safetensors", tmp_path / "warm.safetensors")
    refused(train(begun, "--steps", 2, "--start-from", warm), 10, "--start-from nothing -> ")
    camera = shutil.copy(begun / "degrader.safetensors", tmp_path / "camera.safetensors")
    words = ("--start-from", warm, "--start-degrader", camera)
    assert train(tmp_path / "next", "--steps", 1, *words).code == 0
    assert train(tmp_path / "next", "--steps", 2, *words).code == 0
    assert last_state(begun) == before
    assert train(begun, "--steps", 2).code == 0
    shutil.copy(begun / "degrader.safetensors", camera)
    refused(train(tmp_path / "next", "--steps", 3, *words), 10, "--start-degrader ", " -> ")


def test_a_degrader_to_begin_with(train, begun, tmp_path):
    words = ("--start-degrader", tmp_path / "camera.safetensors", "--learning-rate", 1e-9)
    shutil.copy(begun / "degrader.safetensors", words[1])
    assert train(tmp_path / "next", *words, "--steps", 1).code == 0
    ours, theirs = (load_file(path / "degrader.safetensors") for path in (begun, tmp_path / "next"))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)
    assert "camera.safetensors" in (tmp_path / "next/README.md").read_text()
    words[1].unlink()
    assert train(tmp_path / "next", *words, "--steps", 2).code == 0
    shutil.copy(begun / "sr.safetensors", words[1])
    refused(train(tmp_path / "other", *words), 5, "camera.safetensors")
    save_degrader(words[1], Degrader(DegraderConfig(features=80, blocks=1)), metadata={}, half=False)
    refused(train(tmp_path / "other", *words), 10, "camera.safetensors", "its own sizes or larger")


def test_smaller_weights_grow(train, tmp_path):
    torch.manual_seed(0)
    begin = tmp_path / "small.safetensors"
    save_degrader(begin, Degrader(DegraderConfig(features=2, blocks=1)), metadata={}, half=False)
    done = train(tmp_path / "next", "--start-degrader", begin, "--learning-rate", 1e-9, "--steps", 1)
    assert done.code == 0, done.err
    small, large = load_file(begin), load_file(tmp_path / "next/degrader.safetensors")
    assert large["conv_last.weight"].shape[1] > 2
    assert torch.allclose(large["conv_last.weight"][:, :2], small["conv_last.weight"], atol=1e-6)
    assert torch.all(large["conv_last.weight"][:, 2:].abs() < 1e-6)


def test_lpips_as_the_judge_asks_for_its_own_option(ddnsr, scene, tmp_path, monkeypatch):
    monkeypatch.delenv("DDNSR_LPIPS", raising=False)
    words = joint_words(*scene, tmp_path / "run", "--perceptual", "lpips-squeeze", track=2)
    refused(ddnsr(*words), 5, "--perceptual-weights FILE", "DDNSR_LPIPS")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--loss", "pixels=1"], "knows perceptual, hr_adversarial"),
        (["--loss", "pixel"], "got 'pixel'"),
        (["--loss", "pixel=much"], "got 'pixel=much'"),
        (["--loss", "pixel=nan"], "pixel nan"),
        (["--loss", "pixel=inf"], "pixel inf"),
        (["--loss", "cycle=-1"], "cycle -1"),
        (["--loss", "squared=0"], "no loss left"),
        (["--loss", "hr_adversarial=1"], "belong together"),
        (["--lr-milestones", "5,3"], "rising milestones"),
        (["--lr-milestones", "soon"], "got 'soon'"),
        (["--lr-milestones=-5"], "milestones"),
        (["--learning-rate", "nan"], "learning_rate > 0"),
        (["--learning-rate", "0"], "learning_rate > 0"),
        (["--seed", "18446744073709551616"], "9223372036854775807"),
        (["--perceptual", "conv9_9"], "conv5_4"),
        (["--perceptual", "lpips-x"], "lpips-squeeze"),
    ],
)
def test_options_without_sense_are_reported(train, tmp_path, words, told):
    refused(train(tmp_path / "run", *words, "--steps", 1), 2, told)
    assert not (tmp_path / "run").exists()


def test_the_discriminator_goes_with_its_loss(ddnsr, scene, tmp_path):
    words = joint_words(*scene, tmp_path / "run", "--loss", "hr_adversarial=0", "--steps", 1, "--log-every", 1, track=2)
    done = ddnsr(*words)
    assert done.code == 0, done.err
    assert "disc_hr" not in done.err
    assert json.loads((tmp_path / "run/options.json").read_text())["discriminator"] == "none"


def test_networks_are_drawn_from_the_largest_seed(ddnsr, scene, tmp_path):
    words = ("--preset", "cyclegan-lr", "--seed", 2**63 - 1, "--steps", 1)
    done = ddnsr(*joint_words(*scene, tmp_path / "run", *words))
    assert done.code == 0, done.err


def test_a_machine_without_a_compiler_is_reported(train, monkeypatch, tmp_path):
    def compile_net(_net):
        def run(_input):
            raise RuntimeError("No C++ compiler found.\n\nSet TORCHDYNAMO_VERBOSE=1 for more")

        return run

    monkeypatch.setattr(torch, "compile", compile_net)
    done = train(tmp_path / "run", "--steps", 1, "--compile")
    refused(done, 7, "--compile", "(RuntimeError: No C++ compiler found.)", "leave --compile out")
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_the_schedule_is_the_one_asked_for(train, tmp_path):
    words = ("--learning-rate", 0.001, "--warmup-steps", 2, "--lr-milestones", "3,4", "--steps", 5, "--log-every", 1)
    assert train(tmp_path / "run", *words).code == 0
    rates = [json.loads(line)["rate"] for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert rates == [0.0005, 0.001, 0.001, 0.0005, 0.00025]


def test_the_checks_name_four_images_of_a_kind_and_check_all(train, scene, tmp_path):
    hr, lr = write_images(tmp_path)
    for number in range(6):
        (lr / f"bad{number}.png").write_bytes(b"no image")
    done = train(tmp_path / "run", "--steps", 1, folders=(hr, lr))
    assert done.code == 0, done.err
    assert sum("bad" in line for line in done.err.splitlines()) == 4
    assert "2 more images with the same trouble (unreadable)" in done.err
    again = train(tmp_path / "run", "--steps", 2, folders=(hr, lr))  # the checks are not made again
    assert sum("bad" in line for line in again.err.splitlines()) == 4
    assert "2 more images cannot be used" in again.err
    checked = train(tmp_path / "other", "--check", folders=(hr, lr))
    assert sum("bad" in line for line in checked.err.splitlines()) == 6


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "discriminator of LR images needs"),
        (["--discriminator", "vgg-style", "--loss", "lr_adversarial=0"], "vgg-style discriminator needs"),
    ],
)
def test_a_batch_of_one_small_crop_is_refused_where_batch_norm_learns_nothing(ddnsr, scene, tmp_path, words, part):
    told = (part, "a batch of 2 or more at crops of 32 pixels, got 1", "--batch", "--crop 64")
    refused(ddnsr(*joint_words(*scene, tmp_path / "run", "--batch", 1, *words, track=2)), 2, *told)
    assert not (tmp_path / "run").exists()


def test_a_batch_of_one_small_crop_will_do_where_nothing_is_normed_by_it(ddnsr, scene, tmp_path):
    words = ("--batch", 1, "--steps", 1, "--discriminator", "unet", "--loss", "lr_adversarial=0")
    done = ddnsr(*joint_words(*scene, tmp_path / "run", *words))
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--preset", "paper", "--noise-input", "smooth"], "--noise-input"),
        (["--preset", "dnsr", "--l2"], "--l2"),
        (["--discriminator", "unet", "--l2"], "--discriminator unet"),
        (["--discriminator", "patchgan", "--preset", "dnsr"], "--discriminator patchgan"),
        (["--preset", "cyclegan-lr", "--ablation", "A"], "--preset cyclegan-lr"),
        (["--preset", "cyclegan-lr", "--ablation", "b"], "--ablation b"),
        (["--preset", "cyclegan-lr", "--ablation", "C"], "--ablation C"),
        (["--noise-input", "crop", "--single-input"], "--single-input"),
        (["--noise-input", "crop", "--preset", "dnsr"], "--preset dnsr"),
        (["--as-authors", "--perceptual", "lpips-alex"], "--perceptual lpips-alex"),
        (["--perceptual-weights", "file.safetensors"], "--perceptual conv3_4"),
        (["--gan", "plain", "--l2"], "hr_adversarial"),
    ],
)
def test_what_contradicts_an_option_is_refused_instead_of_dropped(ddnsr, scene, tmp_path, words, part):
    done = ddnsr(*joint_words(*scene, tmp_path / "run", "--steps", 1, *words, track=2))
    refused(done, 2, words[0], part, "Leave")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("px", "code", "told"), [(16, 3, "damaged"), (4, 8, "too few to validate on: 19 a side")])
def test_images_that_no_validation_can_use_are_told_before_the_first_step(train, tmp_path, px, code, told):
    write_noise_pair(tmp_path / "val", px)
    if px == 16:
        cut = tmp_path / "val/hr/1.png"
        cut.write_bytes(cut.read_bytes()[:3000])
    for more in ((), ("--check",)):
        done = train(tmp_path / "run", "--val", tmp_path / "val", "--steps", 2, "--log-every", 1, *more)
        assert done.code == code, done.err
        assert told in done.err
        assert "step" not in done.err
    assert not (tmp_path / "run/state").exists()


def write_noise_pair(folder, px):
    for name, side in (("lr", px), ("hr", 4 * px)):
        (folder / name).mkdir(parents=True)
        noise = np.random.default_rng(side).integers(0, 256, (side, side, 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / name / "1.png")


def test_an_ablation_without_noise_inputs_may_be_told_of_them_as_the_others_are(ddnsr, scene, tmp_path):
    more = ("--ablation", "D", "--noise-input", "crop", "--steps", 1)
    done = ddnsr(*joint_words(*scene, tmp_path / "run", *more, track=2))
    assert done.code == 0, done.err
