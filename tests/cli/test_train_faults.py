"""Joint training that is stopped, killed, or meets a full disk or damaged images, in processes of its own."""

import json
import random
import shutil
import signal
from types import SimpleNamespace

import pytest

pytest.importorskip("resource", reason="signals and limits of Unix")

from ddnsr_cli.training.train_state import load_train_state
from tests.helpers.joint_run import joint_words, saved_step, vgg_file, write_images
from tests.helpers.processes import Processes, no_larger_files, slow_disk, telling_opens
from tests.helpers.small_training import small_training

ENDLESS = ("--steps", 1_000_000, "--log-every", 1)
QUICK = ("--ablation", "B", "--l2")  # no discriminators: the state has 16 MB


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Images, a VGG19, a run of two steps, and `start` for more."""
    place = tmp_path_factory.mktemp("faults")
    processes = Processes(place, before=[(small_training, ())])
    vgg = vgg_file(place / "vgg.safetensors")
    folders = write_images(place / "images")

    def start(run, *words, first=(), folders=folders, vgg=vgg):
        return processes.start(*joint_words(folders, vgg, run, *words, track=2), first=first)

    begun = start(place / "begun", "--steps", 2, *QUICK)
    assert begun.ended() == 0, begun.err
    yield SimpleNamespace(start=start, folders=folders, vgg=vgg, begun=place / "begun", place=place)
    processes.stop()


@pytest.fixture
def begun(scene, tmp_path):
    """A copy of the run of two steps, to be spoilt; its log is empty, so that a disk is not full of that."""
    run = shutil.copytree(scene.begun, tmp_path / "run")
    (run / "log.jsonl").unlink()
    return run


def state_of(run):
    return run / "state" / "last.safetensors"


def rows(run):
    log = run / "log.jsonl"
    return log.read_text().splitlines() if log.exists() else []


def one_line(running, *parts):
    """The only line that is no figures and no note, which tells an error."""
    lines = [line for line in running.err.splitlines() if not line.startswith(("step ", "note: "))]
    assert len(lines) == 1, running.err
    assert lines[0].startswith("error: ")
    for part in parts:
        assert str(part) in lines[0]


def lines_with(running, name):
    return sum(str(name) in line for line in running.err.splitlines())


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_finishes_the_step_saves_and_gives_the_shells_status(scene, tmp_path, number):
    run = tmp_path / "run"
    running = scene.start(run, *ENDLESS, *QUICK)
    running.until(lambda: len(rows(run)) >= 2)
    running.send(number)
    assert running.ended() == 128 + number
    assert running.out.strip() == str(run / "sr.safetensors")
    assert all(line.startswith(("step ", "note: ")) for line in running.err.splitlines()), running.err
    last = json.loads(rows(run)[-1])["step"]
    steps = ENDLESS[ENDLESS.index("--steps") + 1]
    assert running.err.splitlines()[-1] == f"note: stopped at step {last} of {steps}; the same command goes on"
    assert load_train_state(state_of(run)).step == last
    assert (run / "degrader.safetensors").exists()
    assert "<svg" in (run / "report.html").read_text()  # before any sample was due


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_kills_at_any_moment_change_no_byte_of_what_is_learned(scene, tmp_path, precision):
    words = ("--steps", 12, "--degrader-only-steps", 3, "--save-every", 1, "--log-every", 1, "--precision", precision)
    whole = scene.start(tmp_path / "whole", *words)
    run = tmp_path / "parts"
    state = run / "state"
    halves = 0
    moments = random.Random(precision)
    for steps_more in (2, 3, 2):  # in the lead, over its end, after it
        running = scene.start(run, *words, first=[(slow_disk, (0.05,))])
        done = saved_step(run)
        running.until(lambda: saved_step(run) >= done + steps_more)  # noqa: B023
        if moments.random() < 0.7:  # in a save, else anywhere
            running.until(lambda: any(state.glob(".last-*.part*")))
        running.kill()
        halves += any(state.glob(".last-*.part*"))
        assert 0 < load_train_state(state / "last.safetensors").step < 12
    assert halves, "no kill met a save: the test is weaker than it says"
    last = scene.start(run, *words)
    assert (whole.ended(), last.ended()) == (0, 0), last.err
    for name in ("state/last.safetensors", "sr.safetensors", "degrader.safetensors"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not list(run.rglob(".*.part*"))  # what the kills left was taken over


@pytest.mark.parametrize(
    ("most_bytes", "name"),
    [(1_400, "tensorboard"), (6_000, "log.jsonl"), (20_000, "report.html"), (150_000, "state/last.safetensors")],
)
def test_a_full_disk_is_one_line_and_the_last_save_stays(scene, begun, most_bytes, name):
    before = state_of(begun).read_bytes()
    words = ("--steps", 30, "--log-every", 1, "--sample-every", 5, "--save-every", 10, *QUICK)
    if name == "log.jsonl":
        (begun / name).write_text(f"{json.dumps({'step': 1})}\n" * (most_bytes // 12))
    running = scene.start(begun, *words, first=[(no_larger_files, (most_bytes,))])
    assert running.ended() == 10
    one_line(running, begun / name, "File too large")
    assert state_of(begun).read_bytes() == before
    assert not list(begun.rglob(".*.part*"))
    if name.startswith("state"):
        again = scene.start(begun, "--steps", 3, *QUICK)
        assert again.ended() == 0, again.err
        assert load_train_state(state_of(begun)).step == 3


def test_images_that_go_bad_in_the_middle_are_reported_once_and_the_last_one_ends_the_run(scene, tmp_path):
    hr, lr = write_images(tmp_path)
    run = tmp_path / "run"
    words = (*ENDLESS, *QUICK, "--save-every", 2)
    running = scene.start(run, *words, folders=(hr, lr))
    running.until(lambda: len(rows(run)) >= 2)
    whole = (hr / "1.png").read_bytes()
    (hr / "1.png").write_bytes(whole[: len(whole) // 2])
    running.until(lambda: str(hr / "1.png") in running.err)
    steps = len(rows(run))
    running.until(lambda: len(rows(run)) >= steps + 9)  # it was its turn again
    assert lines_with(running, hr / "1.png") == 1
    for image in hr.glob("*.png"):
        image.write_bytes(b"")
    assert running.ended() == 8
    one_line(running, "None of the 3 images can be used", hr)
    assert saved_step(run) >= 2


def test_images_bad_from_the_start_are_reported_once(scene, tmp_path):
    hr, lr = write_images(tmp_path)
    whole = (hr / "1.png").read_bytes()
    (hr / "1.png").write_bytes(whole[: len(whole) // 2])  # the header is good: the run takes it for one of its images
    (lr / "bad.png").write_bytes(b"no image")
    running = scene.start(tmp_path / "run", "--steps", 1, *QUICK, folders=(hr, lr))
    assert running.ended() == 8, running.err
    *notes, error = running.err.splitlines()
    for name in (hr / "1.png", lr / "bad.png"):
        assert sum(str(name) in note for note in notes) == 1, running.err
    assert error.startswith(f"error: 1 image could not be read or used, and others came instead: {hr / '1.png'}. ")


def test_without_vgg_weights_no_image_is_looked_at(scene, tmp_path):
    report = tmp_path / "opened"
    images = str(scene.place / "images")
    lacking = scene.start(
        tmp_path / "run", "--steps", 1, *QUICK, vgg=tmp_path / "no.pth", first=[(telling_opens, (images, report))]
    )
    assert lacking.ended() == 5
    one_line(lacking, "no.pth", "--vgg FILE")
    assert report.read_text() == ""
    assert not (tmp_path / "run").exists()
    given = scene.start(tmp_path / "run", "--steps", 1, *QUICK, first=[(telling_opens, (images, report))])
    assert given.ended() == 0  # and now they are, which the hook sees
    assert str(scene.folders[0] / "0.png") in report.read_text()
    assert "w " not in report.read_text()
