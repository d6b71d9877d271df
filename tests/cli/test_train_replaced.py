"""Images that go bad while training goes on, in processes of their own: told, replaced, and told at the end."""

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

pytest.importorskip("resource", reason="signals of Unix")

from ddnsr_cli.commands.train.run import Trained, refuse_replaced
from ddnsr_cli.training.train_state import load_train_state
from ddnsr_cli.weights.checkpoint import load_sr_net
from tests.helpers.joint_run import joint_words, pretrain_words, saved_step, vgg_file, write_images
from tests.helpers.processes import Processes
from tests.helpers.small_training import small_training


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    started = Processes(tmp_path_factory.mktemp("replaced"), before=[(small_training, ())])
    yield started
    started.stop()


@pytest.fixture(params=["joint", "pretrain", "pairs-hr", "pairs-lr"])
def scene(request, tmp_path, processes):
    """`start("--steps", 5)`, a kind of training in `run`, and the image that is to go bad."""
    hr, lr = write_images(tmp_path)
    run, kind = tmp_path / "run", request.param
    words = pretrain_words(hr, run)
    if kind == "joint":
        vgg = vgg_file(tmp_path / "vgg.safetensors")
        words = joint_words((hr, lr), vgg, run, "--ablation", "B", "--l2", track=2)
    elif kind.startswith("pairs"):
        as_jpegs(hr)
        words += ["--lr", partners(hr, tmp_path / "small")]

    def start(*more):
        return processes.start(*words, "--log-every", 1, *more)

    bad = {"pairs-hr": hr / "1.jpg", "pairs-lr": tmp_path / "small/1.jpg"}.get(kind, hr / "1.png")
    return SimpleNamespace(start=start, run=run, bad=bad)


def as_jpegs(folder):
    """Their sizes are known by their headers, also when the rest is spoilt."""
    for path in list(folder.iterdir()):
        with Image.open(path) as image:
            image.save(path.with_suffix(".jpg"))
        path.unlink()


def partners(hr, folder):
    """LR images four times smaller than those of `hr`."""
    folder.mkdir()
    for path in hr.iterdir():
        with Image.open(path) as image:
            image.reduce(4).save(folder / path.name)
    return folder


def rows(run):
    log = run / "log.jsonl"
    return log.read_text().splitlines() if log.exists() else []


def spoil(path):
    """Cut the image short. Returns it whole."""
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])  # the header is whole
    return whole


def assert_told_and_whole(running, scene, steps):
    assert running.ended() == 8, running.err
    note, error = (line for line in running.err.splitlines() if str(scene.bad) in line)
    assert note.startswith(f"note: {scene.bad} is damaged")
    assert error == running.err.splitlines()[-1]
    assert error.startswith(f"error: 1 image could not be read or used, and others came instead: {scene.bad}. ")
    assert "The run itself is whole" in error
    assert "replace or remove it" in error
    assert running.out.strip() == str(scene.run / "sr.safetensors")
    assert load_train_state(scene.run / "state/last.safetensors").step == steps
    _, metadata = load_sr_net(scene.run / "sr.safetensors")
    assert json.loads(metadata["training"])["step"] == json.loads(rows(scene.run)[-1])["step"] == steps
    assert (scene.run / "report.html").exists()


def test_an_image_that_goes_bad_is_replaced_and_the_run_ends_whole_with_an_error(scene):
    running = scene.start("--steps", 40)
    running.until(lambda: len(rows(scene.run)) >= 2)
    whole = spoil(scene.bad)
    assert_told_and_whole(running, scene, 40)
    assert_told_and_whole(scene.start("--steps", 52), scene, 52)  # it is met again, and told again
    scene.bad.write_bytes(whole)
    mended = scene.start("--steps", 56)
    assert mended.ended() == 0, mended.err
    assert str(scene.bad) not in mended.err


def test_a_stop_has_its_own_status_whatever_the_images(scene):
    running = scene.start("--steps", 1_000_000)
    running.until(lambda: len(rows(scene.run)) >= 2)
    spoil(scene.bad)
    running.until(lambda: str(scene.bad) in running.err)
    running.send(signal.SIGTERM)
    assert running.ended() == 128 + signal.SIGTERM
    assert all(line.startswith(("step ", "note: ")) for line in running.err.splitlines()), running.err


def test_the_last_image_ends_the_run(scene):
    running = scene.start("--steps", 1_000_000, "--save-every", 2)
    running.until(lambda: len(rows(scene.run)) >= 4)
    for image in scene.bad.parent.iterdir():
        image.write_bytes(b"")
    assert running.ended() == 8
    last = running.err.splitlines()[-1]
    assert last.startswith(f"error: None of the 3 images can be used. First: {scene.bad.parent}")
    assert load_train_state(scene.run / "state/last.safetensors").step >= 2


def test_a_killed_process_that_decodes_is_one_line_and_the_last_save_stays(tmp_path, processes):
    hr, _ = write_images(tmp_path)
    words = pretrain_words(hr, tmp_path / "run", "--log-every", 1, "--save-every", 2, "--steps", 1_000_000)
    running = processes.start(*words, "--workers", 1)
    running.until(lambda: saved_step(tmp_path / "run") >= 2)
    worker = str(running.pid)
    while below := Path(f"/proc/{worker}/task/{worker}/children").read_text().split():  # from here a server forks it
        worker = below[-1]
    os.kill(int(worker), signal.SIGKILL)
    assert running.ended() == 10, running.err
    last = running.err.splitlines()[-1]
    assert last.startswith("error: A process that decodes images has ended (DataLoader worker (pid")
    assert worker in last
    assert load_train_state(tmp_path / "run/state/last.safetensors").step >= 2


def test_of_many_images_the_first_few_are_named(tmp_path):
    trained = Trained(weights=tmp_path, replaced=tuple(tmp_path / f"{number}.png" for number in range(7)))
    with pytest.raises(Exception, match=r"^7 images could not") as caught:
        refuse_replaced(trained)
    assert caught.value.exit_code == 8
    assert str(caught.value).count(".png") == 3
    assert "2.png and 4 more. The run itself is whole. " in str(caught.value)
    refuse_replaced(Trained(weights=tmp_path))
