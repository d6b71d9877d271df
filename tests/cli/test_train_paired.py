"""`ddnsr train --paired` as a user runs it, with networks of a few thousand parameters and a random VGG19."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ddnsr_cli.commands.train import networks
from ddnsr_cli.config import changed_options, options_to_json
from ddnsr_cli.data.config import PRESETS
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.reports.history import panels_for
from ddnsr_cli.weights.arrays import TERMS_KEY, stated_terms
from ddnsr_cli.weights.checkpoint import load_rrdb_net, save_degrader, save_sr_net
from tests.helpers.joint_run import SIZES, last_state, vgg_file, write_images

pytestmark = pytest.mark.usefixtures("small_runs")
RUN = [word for option in SIZES.items() for word in option if option[0] not in {"--features", "--blocks", "--growth"}]
RUN += ["--device", "cpu", "--offline"]
TINY = RRDBConfig(features=4, blocks=1, growth=2)
SMALL = ["--features", 4, "--blocks", 1, "--growth", 2, *RUN]


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    return vgg_file(tmp_path_factory.mktemp("vgg") / "vgg19.safetensors")


@pytest.fixture
def folders(tmp_path):
    """Clean HR images and noisy LR ones of other scenes."""
    return write_images(tmp_path)


@pytest.fixture
def judge(vgg):
    return ["--vgg", vgg, "--perceptual", "conv2_2=0.4,conv3_4=1"]


@pytest.fixture
def train(ddnsr, folders, judge):
    """`train(run, "--steps", 2)`: by equation 2, on clean images degraded by rule."""

    def run(output, *words, hr=folders[0], sizes=SMALL):
        given = [] if hr is None else ["--hr", hr]
        return ddnsr("train", "--paired", *given, *judge, "-o", output, *sizes, "--steps", 1, *words)

    return run


@pytest.fixture
def pairs(tmp_path):
    """A folder of ready pairs, as `ddnsr degrade` leaves it."""
    rng = np.random.default_rng(0)
    for number in range(2):
        lr = rng.integers(0, 256, (20, 24, 3)).astype(np.uint8)
        for side, pixels in (("lr", lr), ("hr", lr.repeat(4, axis=0).repeat(4, axis=1))):
            (tmp_path / "pairs" / side).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / f"pairs/{side}/{number}.png")
    return tmp_path / "pairs"


@pytest.fixture
def degrader(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "camera.safetensors"
    save_degrader(path, Degrader(DegraderConfig(features=4, blocks=1)), metadata={}, half=False)
    return path


def sr_file(path, config=TINY):
    torch.manual_seed(1)
    save_sr_net(path, RRDBNet(config), metadata={}, half=False)
    return path


def rows_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def options_of(run):
    return json.loads((run / "options.json").read_text())


def refused(done, code, *parts):
    assert done.code == code, done.err
    (line,) = done.err.splitlines()
    assert line.startswith("error: ")
    assert len(line) < 500
    for part in parts:
        assert str(part) in line


def test_a_run_leaves_a_model_card_samples_and_report(train, ddnsr, image_file, tmp_path):
    for name in ("a.png", "b.png"):
        image_file(f"val/lr/{name}", width=24, height=24)
        image_file(f"val/hr/{name}", width=96, height=96)
    run = tmp_path / "run"
    done = train(run, "--steps", 2, "--log-every", 1, "--val", tmp_path / "val", "--validate-every", 2)
    assert done.code == 0, done.err
    assert done.out.strip() == str(run / "sr.safetensors")
    first, second, scores = rows_of(run)
    for figure in ("pixel", "perceptual", "hr_adversarial", "disc_hr", "disc_hr_real", "color_drift", "norm_disc_hr"):
        assert np.isfinite(first[figure])
    assert second["perceptual"] != first["perceptual"]
    assert 5 < scores["psnr_db"] < 60
    assert "Other" not in {panel.section for panel in panels_for(first.keys() - {"step"})}
    card = (run / "README.md").read_text()
    for part in (
        "| pairs | 3 images of hr, degraded by rule (share 1) |",
        "vgg19.safetensors, sha256 ",
        "perceptual conv2_2: ",
        "perceptual conv3_4: ",
        "by pixel, perceptual and adversarial losses (equation 2",
        "| begun with | nearest-neighbor start |",
        "latest, of step 2, 2 pairs: psnr_db",
        "4 features, 1 blocks, growth 2",
    ):
        assert part in card
    assert "<svg" in (run / "report.html").read_text()
    with Image.open(run / "samples/step_0000002.png") as samples:
        assert samples.width > 3 * 32
    assert list((run / "tensorboard").iterdir())
    assert options_of(run)["discriminator"] == "unet"
    assert ddnsr("upscale", image_file(), "-o", tmp_path / "o.png", "-m", run).code == 0
    with Image.open(tmp_path / "o.png") as image:
        assert image.size == (96, 80)


def test_a_mixed_run_goes_on_to_the_same_bytes(train, folders, pairs, degrader, tmp_path):
    mix = ["--lr", folders[1], "--mix", "photo=0.5", "--mix", f"{pairs}=0.3", "--mix", f"{degrader}=0.2"]
    for name, steps in (("whole", [4]), ("parts", [2, 4])):
        for count in steps:
            done = train(
                tmp_path / name,
                *mix,
                "--steps",
                count,
                "--sharpen-targets",
                "0.5,8,10",
                "--discriminator-first-steps",
                1,
            )
            assert done.code == 0, done.err
    assert last_state(tmp_path / "whole") == last_state(tmp_path / "parts")
    sources = options_of(tmp_path / "whole")["sources"]
    assert [(source["kind"], source["share"]) for source in sources] == [
        ("rule", 0.5),
        ("ready", 0.3),
        ("learned", 0.2),
    ]
    assert sources[0]["degradation"]["twice_chance"] > 0  # the image preset's
    assert sources[1]["degradation"] is None
    card = (tmp_path / "whole/README.md").read_text()
    assert (
        "3 images of hr, degraded by rule (share 0.5); 2 images of hr, with ready partners in lr (share 0.3); " in card
    )
    assert "3 images of hr, degraded with noise of lr by camera.safetensors, sha256 " in card


def test_other_sources_in_the_same_folder_are_refused(train, pairs, tmp_path):
    run, mix = tmp_path / "run", ["--mix", "photo=0.5", "--mix", f"{pairs}=0.5", "--steps"]
    assert train(run, *mix, 1).code == 0
    before = last_state(run)
    refused(train(run, *mix, 2, "--mix", "mild=1"), 10, "(--mix number 3 none -> {...})", "another -o")
    refused(train(run, "--mix", "photo=0.5", "--mix", f"{pairs}=0.6", "--steps", 2), 10, "--mix number 2 0.5 -> 0.6)")
    refused(train(run, *mix, 2, "--sharpen-targets", "1,8,10"), 10, "(--sharpen-targets none -> {...})")
    more = len(changed_options(options_to_json(PRESETS["photo"]), options_to_json(PRESETS["mild"]))) - 8
    other = train(run, "--mix", "mild=0.5", "--mix", f"{pairs}=0.5", "--steps", 2)
    assert (other.code, other.err.count("\n"), other.err.count(" -> ")) == (10, 1, 8)
    assert f"and {more} more). Use the former values, or another -o." in other.err
    refused(train(run, *mix, 2, "--gan", "relativistic"), 10, "--gan plain -> relativistic")
    for side, px in (("lr", 20), ("hr", 80)):
        Image.fromarray(np.zeros((px, px, 3), np.uint8)).save(pairs / side / "new.png")
    refused(train(run, *mix, 2), 10, "--mix number 2 (hr) and --mix number 2 (lr)")
    assert last_state(run) == before
    for side in ("lr", "hr"):
        (pairs / side / "new.png").unlink()
    assert train(run, *mix, 2, "--learning-rate", 1e-6, "--discriminator-learning-rate", 1e-6).code == 0


def test_a_whole_run_is_checked_and_nothing_is_written(train, folders, pairs, tmp_path):
    (folders[0] / "broken.png").write_bytes(b"no image")
    done = train(tmp_path / "run", "--check", "--mix", "photo=1", "--mix", f"{pairs}=1")
    assert done.code == 0, done.err
    assert "broken.png" in done.err
    assert len(done.out.splitlines()) == 3  # a line a folder of clean images, and the last
    assert done.out.endswith("\na run can begin with these images\n")
    done = train(tmp_path / "run", "--check", "--crop", 256)
    assert (done.code, len(done.out.splitlines())) == (8, 1), done.err  # fails where a run would
    assert not (tmp_path / "run").exists()


def test_check_lists_all_that_are_too_small_and_looks_at_a_folder_of_several_sources_once(
    train, folders, degrader, tmp_path
):
    for number in range(7):  # as large as a crop, but not as the margin that is degraded beside it
        Image.fromarray(np.full((40, 40, 3), 9 * number, np.uint8)).save(folders[0] / f"small{number}.png")
    mix = ("--mix", "photo=0.5", "--lr", folders[1], "--mix", f"{degrader}=0.5")
    done = train(tmp_path / "run", "--check", *mix)
    assert done.code == 0, done.err
    assert [line.partition(" ")[0] for line in done.out.splitlines()] == ["hr:", "lr:", "a"]
    assert sum("has 40x40 pixels; a side needs 64" in line for line in done.err.splitlines()) == 7
    assert "more images" not in done.err
    done = train(tmp_path / "run", *mix)
    assert sum("has 40x40 pixels; a side needs 64" in line for line in done.err.splitlines()) == 4
    assert "3 more images cannot be used; --check lists them all." in done.err


def test_a_damaged_lr_partner_is_told_before_the_first_step(ddnsr, judge, pairs, tmp_path):
    damaged = pairs / "lr" / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:-600])
    words = ("--hr", pairs / "hr", "--lr", pairs / "lr", *judge, "-o", tmp_path / "run", *SMALL)
    done = ddnsr("train", "--paired", *words, "--check")
    assert done.code == 0, done.err
    assert sum(line.startswith(f"note: warning: {damaged} is damaged") for line in done.err.splitlines()) == 1
    done = ddnsr("train", "--paired", *words, "--steps", 8)
    assert done.code == 8
    assert sum(line.startswith("note: ") and str(damaged) in line for line in done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--discriminator", "patchgan"], {"discriminator": "patchgan", "gan": "plain"}),
        (["--discriminator", "projected"], {"discriminator": "projected", "gan": "plain"}),
        (
            ["--discriminator", "vgg-style", "--gan", "relativistic"],
            {"discriminator": "vgg-style", "gan": "relativistic"},
        ),
        (["--loss", "hr_adversarial=0"], {"discriminator": "none"}),
        (["--discriminator-learning-rate", "1e-5"], {"discriminator_learning_rate": 1e-5}),
        (["--degradation-preset", "track1"], {}),
    ],
)
def test_every_setting_trains(train, tmp_path, words, options):
    done = train(tmp_path / "run", "--steps", 1, *words)
    assert done.code == 0, done.err
    assert options.items() <= options_of(tmp_path / "run").items()


def test_a_taught_run_goes_on_to_the_same_bytes_and_names_its_teacher(train, tmp_path):
    teacher, other = (sr_file(tmp_path / name, replace(TINY, blocks=count)) for count, name in ((2, "t.pth"), (3, "o")))
    words = ("--sharpen-targets", "0.5,1.5,0", "--loss", "gradient=1", "--teacher")
    for name, steps in (("whole", [3]), ("parts", [1, 3])):
        for count in steps:
            done = train(tmp_path / name, "--steps", count, *words, teacher)
            assert done.code == 0, done.err
    assert last_state(tmp_path / "whole") == last_state(tmp_path / "parts")
    assert "| taught by | t.pth, sha256 " in (tmp_path / "whole/README.md").read_text()
    assert options_of(tmp_path / "whole")["teacher"] == {"truth_share": 0.15}
    assert options_of(tmp_path / "whole")["sharpen"] == {"amount": 0.5, "sigma_px": 1.5, "threshold": 0.0}
    before = last_state(tmp_path / "whole")
    refused(train(tmp_path / "whole", "--steps", 4, *words, other), 10, "--teacher", "another -o")
    refused(train(tmp_path / "whole", "--steps", 4, *words[:-1]), 10, "--teacher {...} -> none")
    assert last_state(tmp_path / "whole") == before


def test_another_degrader_or_an_ncnn_teacher_of_other_weights_is_refused(train, ddnsr, folders, degrader, tmp_path):
    """The text of an ncnn pair is the same for all weights of a network."""
    mix = ["--lr", folders[1], "--mix", "photo=0.5", "--mix", f"{degrader}=0.5"]
    assert train(tmp_path / "mixed", "--steps", 1, *mix).code == 0
    save_degrader(degrader, Degrader(DegraderConfig(features=4, blocks=1)), metadata={}, half=False)
    refused(train(tmp_path / "mixed", "--steps", 2, *mix), 10, "--mix number 2", " -> ", "another -o")
    teachers = tmp_path / "one.param", tmp_path / "two.param"
    for number, text in enumerate(teachers):
        torch.manual_seed(number)
        save_sr_net(tmp_path / "net.safetensors", RRDBNet(TINY), metadata={}, half=False)
        assert ddnsr("weights", "convert", tmp_path / "net.safetensors", "-o", text).code == 0
    assert teachers[0].read_bytes() == teachers[1].read_bytes()
    assert train(tmp_path / "taught", "--steps", 1, "--teacher", teachers[0]).code == 0
    refused(train(tmp_path / "taught", "--steps", 2, "--teacher", teachers[1]), 10, "--teacher", "another -o")


def test_with_other_images_to_validate_on_the_best_state_is_found_anew(train, image_file, tmp_path):
    for name in ("one", "two"):
        image_file(f"{name}/lr/{name}.png", width=24, height=24)
        image_file(f"{name}/hr/{name}.png", width=96, height=96)
    run, each = tmp_path / "run", ["--validate-every", 1]
    assert train(run, "--steps", 1, *each, "--val", tmp_path / "one").code == 0
    best = run / "state/best.safetensors"
    before = best.read_bytes()
    done = train(run, "--steps", 2, *each, "--val", tmp_path / "two")
    assert done.code == 0
    assert "note: the images to validate on are others than before" in done.err
    assert best.read_bytes() != before
    assert "best, of step 2, 1 pair" in (run / "README.md").read_text()
    done = train(run, "--steps", 3, *each, "--val", tmp_path / "two")
    assert "others than before" not in done.err


def test_terms_of_weights_go_with_all_that_learned_with_them(train, ddnsr, tmp_path):
    terms, run = "net is for research only: its images are.", tmp_path / "run"
    start = tmp_path / "start.safetensors"
    save_sr_net(start, RRDBNet(TINY), metadata={TERMS_KEY: terms}, half=False)
    for steps in (1, 2):
        done = train(run, "--steps", steps, "--start-from", start)
        assert f"note: {terms}" in done.err.splitlines()
    assert stated_terms(run / "sr.safetensors") == terms
    assert terms in (run / "README.md").read_text()
    done = ddnsr("weights", "push", run, "a/b", "--dry-run", "--license", "MIT")
    assert f"note: of what it learned with: {terms}" in done.err


def test_a_path_behind_an_equals_sign_may_begin_at_home_and_a_long_one_is_no_fault_of_the_program(
    train, monkeypatch, tmp_path
):
    sr_file(tmp_path / "start.safetensors")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert train(tmp_path / "run", "--start-from=~/start.safetensors").code == 0
    refused(train(tmp_path / "other", "--start-from", 300 * "x" + "/y"), 5, "cannot be read")
    refused(train(tmp_path / "other", "--mix", f"{5000 * 'x'}=1", "--lr", tmp_path), 5, "x" * 9)


@pytest.mark.parametrize("given", ["", "0", "-1", "two"])
def test_an_environment_that_names_no_number_of_processes_is_refused(train, monkeypatch, tmp_path, given):
    monkeypatch.setenv("WORLD_SIZE", given)
    refused(train(tmp_path / "run"), 2, "WORLD_SIZE", repr(given))


def test_an_environment_that_does_not_say_how_processes_meet_is_refused(train, monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(train(tmp_path / "run"), 2, "WORLD_SIZE", "RANK", "torchrun")


def test_a_discriminator_that_no_loss_asks_is_refused(train, tmp_path):
    words = ["--loss", "hr_adversarial=0"]
    refused(train(tmp_path / "run", *words, "--discriminator", "unet"), 2, "--discriminator unet", "hr_adversarial")
    for more in (["--gan", "relativistic"], ["--discriminator-first-steps", 50], ["--discriminator-learning-rate", 1]):
        refused(train(tmp_path / "run", *words, *more), 2, more[0], "hr_adversarial", "Leave it out")
    assert train(tmp_path / "run", *words).code == 0


def test_what_no_source_and_no_perceptual_loss_looks_at_is_refused(ddnsr, train, folders, degrader, tmp_path):
    run, noise = tmp_path / "run", ["--noise-input", "crop"]
    refused(train(run, *noise), 2, "--noise-input", "--mix", "--paired")
    refused(ddnsr("train", "--pretrain", "--hr", folders[0], "-o", run, "--steps", 1, *noise), 2, "--pretrain")
    refused(train(run, "--as-authors", "--perceptual", "lpips-vgg"), 2, "--as-authors", "--perceptual lpips-vgg")
    refused(train(run, "--perceptual-weights", "x"), 2, "--perceptual-weights", "--perceptual conv2_2=0.4,conv3_4=1")
    done = train(run, *noise, "--lr", folders[1], "--mix", f"{degrader}=1")
    assert done.code == 0, done.err


def test_a_teacher_of_another_scale_or_none_is_refused(train, tmp_path):
    teacher = sr_file(tmp_path / "twice.safetensors", replace(TINY, scale=2))
    refused(train(tmp_path / "run", "--teacher", teacher), 2, "4 times", "twice.safetensors 2 times")
    refused(train(tmp_path / "run", "--teacher", tmp_path / "gone"), 5, "gone")
    refused(train(tmp_path / "run", "--truth-share", "0.2"), 2, "--teacher")
    refused(train(tmp_path / "run", "--teacher", teacher, "--truth-share", "1"), 2, "below 1")
    assert not (tmp_path / "run").exists()


def test_what_goes_with_pairs_is_refused_where_there_are_none(train, pairs, tmp_path):
    run, given = tmp_path / "run", ("--lpips", tmp_path / "alex.safetensors")
    refused(train(run, *given), 2, "--lpips", "nothing to validate on without --val")
    refused(train(run, *given, "--val", pairs), 5, "alex.safetensors")
    for words in (("--lr-suffix", "x4"), ("--mod-crop",)):
        refused(train(run, *words), 2, words[0], "Leave it out")
    assert train(run, "--mod-crop", "--mix", f"{pairs}=1", hr=None).code == 0


def test_a_run_without_steps_left_says_so(train, tmp_path):
    run = tmp_path / "run"
    assert train(run, "--steps", 2).code == 0
    assert f"note: resumed {run} at step 2: none of 1 steps is left. Give more --steps to go on" in train(run).err
    assert f"note: resumed {run} at step 2\n" in train(run, "--steps", 3).err


@pytest.mark.parametrize("text", ["0.5", "0.5,8", "a,b,c", "0.5,8,10,1", ""])
def test_sharpening_needs_its_three_numbers(train, tmp_path, text):
    refused(train(tmp_path / "run", "--sharpen-targets", text), 2, "0.5,8,10", repr(text))


def test_ready_pairs_are_learned_by_equation_2(ddnsr, judge, pairs, tmp_path):
    words = ["--hr", pairs / "hr", "--lr", pairs / "lr", "-o", tmp_path / "run", *SMALL, "--steps", 1]
    done = ddnsr("train", "--paired", *words, *judge)
    assert done.code == 0, done.err
    assert "2 images of hr, with ready partners in lr (share 1)" in (tmp_path / "run/README.md").read_text()


def test_a_pretraining_needs_no_feature_network(ddnsr, folders, tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "load_vgg19", None)
    done = ddnsr("train", "--pretrain", "--hr", folders[0], "-o", tmp_path / "run", *SMALL, "--steps", 1)
    assert done.code == 0, done.err
    assert "feature networks behind the losses | none" in (tmp_path / "run/README.md").read_text()


@pytest.mark.parametrize("kind", ["--paired", "--pretrain"])
def test_sizes_are_those_of_the_weights_to_begin_with(ddnsr, judge, folders, tmp_path, kind):
    begin, run = sr_file(tmp_path / "begin.safetensors"), tmp_path / "run"
    words = ["train", kind, "--hr", folders[0], *(judge if kind == "--paired" else []), *RUN, "--learning-rate", 1e-9]
    done = ddnsr(*words, "--start-from", begin, "-o", run, "--steps", 1)
    assert done.code == 0, done.err
    ours, theirs = load_file(run / "sr.safetensors"), load_file(begin)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)
    wider = ddnsr(*words, "--start-from", begin, "--features", 6, "-o", tmp_path / "wider", "--steps", 1)
    assert wider.code == 0, wider.err
    assert load_rrdb_net(tmp_path / "wider/sr.safetensors")[0].config == replace(TINY, features=6)
    begin.unlink()  # not needed any more: the run knows its sizes
    assert ddnsr(*words, "-o", run, "--steps", 2).code == 0
    lite = ddnsr(*words, "--lite", "-o", run, "--steps", 3)
    refused(lite, 10, "--features 4 -> 32")


@pytest.mark.parametrize("scale", [2, 1])
def test_networks_of_other_scales_learn_too(train, ddnsr, image_file, tmp_path, scale):
    begin = sr_file(tmp_path / "begin.safetensors", replace(TINY, scale=scale))
    image_file("val/lr/a.png", width=40, height=40), image_file("val/hr/a.png", width=40 * scale, height=40 * scale)
    words = ("--start-from", begin, "--steps", 1, "--val", tmp_path / "val", "--degradation-preset", "photo")
    done = train(tmp_path / "run", *words, sizes=RUN)
    assert done.code == 0, done.err
    assert f"Enlarges images {scale} times" in (tmp_path / "run/README.md").read_text()
    assert options_of(tmp_path / "run")["sources"][0]["degradation"]["scale"] == scale
    assert ddnsr("upscale", image_file(), "-o", tmp_path / "o.png", "-m", tmp_path / "run").code == 0
    with Image.open(tmp_path / "o.png") as image:
        assert image.size == (24 * scale, 20 * scale)


def test_a_network_for_scale_4_begins_one_for_2(train, tmp_path):
    begin = sr_file(tmp_path / "begin.safetensors", TINY)
    done = train(tmp_path / "run", "--start-from", begin, "--scale", 2, "--steps", 1, sizes=RUN)
    assert done.code == 0, done.err
    assert load_rrdb_net(tmp_path / "run/sr.safetensors")[0].config == replace(TINY, scale=2)
    again = train(tmp_path / "run", "--scale", 1, "--steps", 2, sizes=RUN)
    refused(again, 10, "--scale 2 -> 1")
    refused(train(tmp_path / "other", "--scale", 3, sizes=RUN), 2, "scale", "3")


def test_a_degrader_is_for_networks_of_its_scale(train, folders, degrader, tmp_path):
    begin = sr_file(tmp_path / "begin.safetensors", replace(TINY, scale=2))
    done = train(tmp_path / "run", "--start-from", begin, "--lr", folders[1], "--mix", f"{degrader}=1", sizes=RUN)
    refused(done, 2, "A degrader shrinks 4 times but the network enlarges 2 times")


def test_sources_that_are_none_are_reported(train, folders, pairs, degrader, tmp_path):
    run, empty = tmp_path / "run", tmp_path / "empty"
    empty.mkdir()
    refused(train(run, "--mix", "photo"), 2, "SOURCE=SHARE", "'photo'")
    refused(train(run, "--mix", "photo=much"), 2, "SOURCE=SHARE", "'photo=much'")
    for share in ("0", "-1", "nan", "inf"):
        refused(train(run, "--mix", f"photo={share}"), 2, "share above 0", f"'photo={share}'")
    refused(train(run, "--mix", "=1"), 2, "SOURCE=SHARE", "'=1'")
    refused(train(run, "--mix", "photo=1", "--mix", "mild=0.001"), 2, "at least a hundredth")
    refused(train(run, "--mix", "images=1"), 2, "classic, photo, mild, track1", "'images'")
    refused(train(run, "--mix", f"{degrader}=1"), 2, "--lr noisy images", degrader)
    refused(train(run, "--mix", f"{empty}=1"), 8, empty)
    refused(train(run, "--mix", "photo=1", hr=None), 2, "--mix photo degrades clean images", "--hr")
    refused(train(run, hr=None), 2, "--hr", "--mix")
    refused(train(run, "--mix", "photo=1", "--degradation-preset", "mild"), 2, "--mix mild=", "--degradation-preset")
    refused(train(run, "--lr", folders[1], "--mix", f"{tmp_path / 'gone.safetensors'}=1"), 5, "gone")
    refused(train(run, "--lr", folders[1], "--mix", f"{sr_file(tmp_path / 'sr.safetensors')}=1"), 5, "sr.safetensors")
    refused(
        train(run, "--lr", pairs / "lr", "--degradation", "blur_chance=1", hr=pairs / "hr"), 2, "--degradation", "--lr"
    )
    assert not run.exists()


def test_what_no_source_reads_is_reported(train, folders, pairs, tmp_path):
    refused(train(tmp_path / "run", "--lr", folders[1], "--mix", "photo=1"), 2, "a use for --lr", "Leave it out")
    refused(train(tmp_path / "run", "--mix", f"{pairs}=1"), 2, "a use for --hr")
    words = ("--degradation", "blur_chance=1", "--mix", f"{pairs}=1")
    refused(train(tmp_path / "run", *words, hr=None), 2, "a use for --degradation")


def test_bundled_degraders_are_sources_too(train, folders, tmp_path):
    done = train(tmp_path / "run", "--lr", folders[1], "--mix", "degrader-lite=1", "--steps", 1)
    assert done.code == 0, done.err
    assert "by degrader" in (tmp_path / "run/README.md").read_text()


@pytest.mark.parametrize(
    ("kind", "words", "why"),
    [
        ("--paired", ["--l2"], "belongs to --track"),
        ("--paired", ["--target", "mixed"], "belongs to --track"),
        ("--paired", ["--data", "x"], "belongs to --track"),
        ("--paired", ["--degrader-only-steps", 5], "belongs to --track"),
        ("--paired", ["--lr-milestones", "5"], "belongs to --track"),
        ("--pretrain", ["--ablation", "A"], "belongs to --track"),
        ("--pretrain", ["--compile"], "belongs to --track"),
        ("--pretrain", ["--vgg", "vgg.pth"], "not for --pretrain"),
        ("--pretrain", ["--loss", "pixel=2"], "not for --pretrain"),
        ("--pretrain", ["--discriminator", "unet"], "not for --pretrain"),
        ("--track=2", ["--mix", "photo=1"], "is for pairs"),
        ("--track=2", ["--degradation-preset", "photo"], "is for pairs"),
        ("--track=2", ["--sharpen-targets", "1,1,1"], "is for pairs"),
        ("--track=2", ["--teacher", "x.safetensors"], "is for pairs"),
        ("--track=2", ["--discriminator-learning-rate", "1e-5"], "is for pairs"),
        ("--track=2", ["--discriminator-first-steps", "3"], "is for pairs"),
    ],
)
def test_options_of_another_kind_of_training_are_refused(ddnsr, folders, tmp_path, kind, words, why):
    given = [] if kind != "--track=2" else ["--lr", folders[1]]
    refused(ddnsr("train", kind, "--hr", folders[0], *given, "-o", tmp_path / "run", *words), 2, words[0], why)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--loss", "cycle=1"], "--loss cycle is the degrader's"),
        (["--loss", "pixel=-1"], "pixel -1"),
        (["--perceptual", "conv9_9"], "conv2_2=0.4,conv3_4=1"),
        (["--crop", "36"], "multiples of 8 pixels; got 36"),
        (["--crop", "40", "--discriminator", "vgg-style"], "multiples of 32 pixels; got 40"),
        (["--crop", "16", "--discriminator", "patchgan"], "24 pixels or more, got 16. Give --crop 24"),
        (["--crop", "24", "--perceptual", "lpips-alex"], "31 pixels or more, got 24. Give --crop 32"),
        (["--crop", "16", "--perceptual", "lpips-squeeze"], "17 pixels or more, got 16. Give --crop 24"),
        (["--batch", "1", "--discriminator", "vgg-style"], "a batch of 2 or more at crops of 32 pixels, got 1"),
        (["--discriminator-learning-rate", "0"], "discriminator_learning_rate"),
        (["--discriminator-learning-rate", "nan"], "discriminator_learning_rate"),
        (["--discriminator", "none"], "hr_adversarial"),
        (["--learning-rate", "0"], "learning_rate > 0"),
    ],
)
def test_options_without_sense_are_reported(train, tmp_path, words, told):
    done = train(tmp_path / "run", "--steps", 1, *words)
    assert done.code == 2
    assert "Traceback" not in done.err
    if words[1] != "none":  # that one is for the parser of the command line to refuse
        refused(done, 2, told)
    assert not (tmp_path / "run").exists()


def test_one_kind_of_training_at_a_time(ddnsr, folders, tmp_path):
    for kinds in ([], ["--paired", "--pretrain"], ["--paired", "--track", 1]):
        done = ddnsr("train", *kinds, "--hr", folders[0], "-o", tmp_path / "run")
        refused(done, 2, "--track 1, --track 2, --paired, or --pretrain")


def test_images_too_small_to_validate_on_are_told_before_the_first_step(train, image_file, tmp_path):
    image_file("val/lr/a.png", width=4, height=4), image_file("val/hr/a.png", width=16, height=16)
    for more in ((), ("--check",)):
        done = train(tmp_path / "run", "--val", tmp_path / "val", *more)
        assert done.code == 8, done.err
        assert "too few to validate on" in done.err.splitlines()[-1]
