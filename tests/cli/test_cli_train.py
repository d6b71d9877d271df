"""`ddnsr train --fidelity` as a user runs it: learn, stop, go on, use."""

import json
import signal

import pytest
from PIL import Image

from ddnsr_cli.training.snapshot import load_snapshot

SIZES = {"--features": 4, "--blocks": 1, "--growth": 2, "--batch": 4, "--crop": 32, "--workers": 0}
SMALL = [word for option in SIZES.items() for word in option] + ["--device", "cpu"]


@pytest.fixture
def photos(photo):
    for number in range(3):
        photo(f"hr/{number}.png", width=80 + 10 * number, height=90)
    return photo("hr/small.png", width=20, height=20).parent


def last_state(run):
    return (run / "state" / "last.safetensors").read_bytes()


def test_a_run_trains_and_its_folder_is_a_model(ddnsr, photos, photo, tmp_path):
    run = tmp_path / "run"
    done = ddnsr("train", "--fidelity", "--hr", photos, "-o", run, "--steps", 4, "--log-every", 2, *SMALL)
    assert done.code == 0, done.err
    assert done.out.strip() == str(run / "sr.safetensors")
    assert "small.png" in done.err
    assert [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()] == [2, 4]
    assert ddnsr("upscale", photo("in.png"), "-o", tmp_path / "o.png", "-m", run).code == 0
    with Image.open(tmp_path / "o.png") as image:
        assert image.size == (96, 80)


@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
def test_twenty_steps_are_ten_a_stop_and_ten_more_to_the_last_bit(photos, tmp_path, number):
    """All in processes of their own: the order of sums, and with it the last bit, follows the number of threads."""
    pytest.importorskip("resource", reason="signals of Unix")
    from processes import Processes, slow_disk

    words = ["train", "--fidelity", "--hr", photos, "--steps", 20, "--save-every", 1, *SMALL, "-o"]
    state = tmp_path / "parts/state/last.safetensors"
    processes = Processes(tmp_path)
    try:
        whole = processes.start(*words, tmp_path / "whole")
        first = processes.start(*words, tmp_path / "parts", first=[(slow_disk, (0.05,))])
        first.until(lambda: state.exists() and steps_saved(state) >= 10)
        first.send(getattr(signal, number))
        assert first.ended() in {-signal.SIGKILL, 128 + signal.SIGTERM}
        assert 10 <= steps_saved(state) < 20
        second = processes.start(*words, tmp_path / "parts")
        assert (whole.ended(), second.ended()) == (0, 0), second.err
        assert last_state(tmp_path / "whole") == last_state(tmp_path / "parts")
    finally:
        processes.stop()


def steps_saved(state):
    return load_snapshot(state).step


def test_validation_scores_are_logged(ddnsr, photos, photo, tmp_path):
    for name in ("a.png", "b.png"):
        photo(f"val/LR/{name}", width=24, height=24)
        photo(f"val/HR/{name}", width=96, height=96)
    words = ("--val-lr", tmp_path / "val/LR", "--val-hr", tmp_path / "val/HR")
    run = tmp_path / "run"
    assert ddnsr("train", "--fidelity", "--hr", photos, "-o", run, "--steps", 1, *SMALL, *words).code == 0
    figures, row = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert (figures["step"], row["step"], "l1" in figures) == (1, 1, True)
    assert 10 < row["psnr_db"] < 60
    assert 0 < row["ssim"] < 1


def assert_refused(done, code, *parts):
    assert done.code == code, done.err
    line = done.err.splitlines()[-1]
    assert line.startswith("error: ")
    for part in parts:
        assert str(part) in line


def test_what_cannot_be_trained_is_told(ddnsr, photos, photo, tmp_path):
    run = tmp_path / "run"
    assert_refused(ddnsr("train", "--hr", photos, "-o", run), 2, "--fidelity")
    assert_refused(ddnsr("train", "--fidelity", "--hr", tmp_path / "gone", "-o", run), 8, "gone")
    (tmp_path / "empty").mkdir()
    assert_refused(ddnsr("train", "--fidelity", "--hr", tmp_path / "empty", "-o", run), 8, "empty")
    assert_refused(ddnsr("train", "--fidelity", "--hr", photos, "-o", run, "--crop", 512), 8, "at least 2")
    assert_refused(ddnsr("train", "--fidelity", "--hr", photos, "-o", run, "--val-lr", photos), 2, "--val-hr")
    (tmp_path / "file").write_text("")
    assert_refused(ddnsr("train", "--fidelity", "--hr", photos, "-o", tmp_path / "file/x", *SMALL), 10, "-o")
    assert not run.exists()


def test_other_options_in_the_same_folder_are_refused(ddnsr, photos, tmp_path):
    words = ("train", "--fidelity", "--hr", photos, "-o", tmp_path / "run", *SMALL, "--steps", 1)
    assert ddnsr(*words).code == 0
    before = last_state(tmp_path / "run")
    assert_refused(ddnsr(*words, "--seed", 7), 10, "stream.seed", "0 -> 7")
    assert last_state(tmp_path / "run") == before
    assert ddnsr(*words, "--steps", 2).code == 0


def test_a_damaged_save_is_refused_and_kept(ddnsr, photos, tmp_path):
    words = ("train", "--fidelity", "--hr", photos, "-o", tmp_path / "run", *SMALL, "--steps", 1)
    assert ddnsr(*words).code == 0
    state = tmp_path / "run/state/last.safetensors"
    state.write_bytes(state.read_bytes()[:200])
    assert_refused(ddnsr(*words), 10, state)


def test_other_photos_in_the_same_folder_are_refused(ddnsr, photos, photo, tmp_path):
    words = ("train", "--fidelity", "--hr", photos, "-o", tmp_path / "run", *SMALL)
    assert ddnsr(*words, "--steps", 1).code == 0
    photo("hr/new.png", width=90, height=90)
    assert_refused(ddnsr(*words, "--steps", 2), 10, "--hr")
    (photos / "new.png").unlink()
    assert ddnsr(*words, "--steps", 2).code == 0
