"""Joint training in two processes, as `torchrun` starts them: one run, one curve, one voice."""

import contextlib
import json
import os
import re
import signal
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("resource", reason="signals and limits of Unix")

from torch.distributed import TCPStore

from ddnsr_cli.training.train_state import load_train_state
from tests.helpers.joint_run import joint_words, vgg_file, write_images
from tests.helpers.processes import (
    Processes,
    as_one_of,
    as_torchrun,
    killed_once,
    no_larger_files,
    telling_opens,
)
from tests.helpers.small_training import small_training

LOSSES = 1e-5  # relative: sums of float32 in another order, and what three steps make of it; seen: 2e-7
NORMS = 1e-3  # batch norm over few samples magnifies rounding in gradients; seen: 1e-6
BATCH = ("--batch", 4, "--log-every", 1)
QUICK = ("--ablation", "B", "--l2", *BATCH)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    place = tmp_path_factory.mktemp("torchrun")
    processes = Processes(place, before=[(small_training, ())])
    folders, vgg = write_images(place / "images"), vgg_file(place / "vgg.safetensors")

    def words(run, *more, vgg=vgg, folders=folders):
        return joint_words(folders, vgg, run, *more, track=2)

    yield SimpleNamespace(processes=processes, words=words, meeting_places=[])
    processes.stop()


def pair(scene, run, *words, of_rank=((), ()), err=(None, None), start=0):
    """Two processes with what torchrun gives them. of_rank: what each does first. start: as `as_one_of` takes it."""
    if not start:  # else they meet where those before them did
        scene.meeting_places.append(TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))
    port = scene.meeting_places[-1].port
    return [
        scene.processes.start(
            *scene.words(run, *words), first=[(as_one_of, (2, rank, port, start)), *of_rank[rank]], err=err[rank]
        )
        for rank in range(2)
    ]


def rows(run):
    log = run / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def assert_same_curve(ours, theirs):
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"images_per_s", "waiting"}:
            tolerance = NORMS if name.startswith("norm_") else LOSSES
            assert other[name] == pytest.approx(one[name], rel=tolerance, abs=1e-7), (one["step"], name)


def said(log, rank, stream, *, start=0):
    (file,) = log.glob(f"*/attempt_{start}/{rank}/{stream}.log")
    return file.read_text()


def test_torchrun_gives_the_curve_of_one_process_though_one_of_two_is_killed(scene, tmp_path):
    """They start again from the last save; only the first process talks."""
    more = (*BATCH, "--steps", 4, "--save-every", 2)
    words = scene.words(tmp_path / "two", *more)
    log = tmp_path / "log"
    be_torchrun = partial(as_torchrun, restarts=1, first=[(killed_once, (3,))])
    launcher = scene.processes.start(first=[(be_torchrun, (words, log))])
    assert launcher.ended() == 0, launcher.err
    alone = scene.processes.start(*scene.words(tmp_path / "one", *more))
    assert alone.ended() == 0, alone.err
    resumed = rows(tmp_path / "two")[-2:]
    assert_same_curve(rows(tmp_path / "one"), [*rows(tmp_path / "two")[:2], *resumed])
    assert said(log, 0, "stderr", start=1).startswith(f"note: resumed {tmp_path / 'two'} at step 2")
    assert said(log, 0, "stderr", start=1).count("step ") == 1 + len(resumed)
    assert said(log, 0, "stdout", start=1).strip() == str(tmp_path / "two/sr.safetensors")
    assert [said(log, 1, stream, start=1) for stream in ("stdout", "stderr")] == ["", ""]


@pytest.mark.parametrize(("number", "to_all"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_a_launcher_that_is_stopped_leaves_a_save(scene, tmp_path, number, to_all):
    """SIGINT as a terminal sends it, to all processes, whereupon torchrun hands it on: they get it twice."""
    run = tmp_path / "run"
    log = tmp_path / "log"
    words = scene.words(run, *QUICK, "--steps", 1_000_000)
    launcher = scene.processes.start(first=[(as_torchrun, (words, log))])
    launcher.until(lambda: len(rows(run)) >= 2)
    (os.killpg if to_all else os.kill)(launcher.pid, number)
    assert launcher.ended() != 0  # torchrun's own status for what it was reported to stop
    assert load_train_state(run / "state/last.safetensors").step == rows(run)[-1]["step"]
    assert all(line.startswith(("step ", "note: ")) for line in said(log, 0, "stderr").splitlines())
    assert said(log, 1, "stderr") == ""


def test_a_run_goes_on_with_any_number_of_processes(scene, tmp_path):
    run = tmp_path / "run"
    assert [running.ended() for running in pair(scene, run, *QUICK, "--steps", 1)] == [0, 0]
    assert scene.processes.start(*scene.words(run, *QUICK, "--steps", 2)).ended() == 0
    assert [running.ended() for running in pair(scene, run, *QUICK, "--steps", 3)] == [0, 0]
    assert scene.processes.start(*scene.words(tmp_path / "one", *QUICK, "--steps", 3)).ended() == 0
    assert_same_curve(rows(tmp_path / "one"), rows(run))


def test_the_second_process_writes_nothing_and_shows_no_bar(scene, tmp_path):
    run, report = tmp_path / "run", tmp_path / "opened"
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)
    try:
        first, second = pair(
            scene,
            run,
            *(*QUICK, "--steps", 2),
            of_rank=((), [(telling_opens, (str(run), report))]),
            err=(None, Path(os.ttyname(theirs))),
        )
        assert (first.ended(), second.ended()) == (0, 0), first.err
        with pytest.raises(BlockingIOError):
            os.read(ours, 1)
    finally:
        os.close(ours)
        os.close(theirs)
    assert not re.search(r"^w ", report.read_text(), re.MULTILINE)
    assert (run / "sr.safetensors").exists()


def errors(processes):
    lines = [line for running in processes for line in running.err.splitlines()]
    return [line for line in lines if not line.startswith(("step ", "note: "))]


@pytest.mark.parametrize("start", [0, 1])
def test_what_is_wrong_for_all_is_reported_once_a_start(scene, tmp_path, start):
    processes = pair(scene, tmp_path / "run", *QUICK, "--batch", 1, "--steps", 1, start=start)
    assert {running.ended() for running in processes} <= {2, 10}
    (line,) = errors(processes)
    assert line == "error: A batch of 1 cannot be shared by 2 processes. Choose at least 2."


def test_what_ends_the_first_process_ends_all_and_is_reported_once(scene, tmp_path):
    full = [(no_larger_files, (150_000,))]
    processes = pair(scene, tmp_path / "run", *QUICK, "--save-every", 1, of_rank=(full, ()))
    assert [running.ended() for running in processes] == [10, 10]
    (line,) = errors(processes)
    assert "last.safetensors could not be saved" in line


def test_a_process_that_leaves_already_is_not_disturbed_by_its_own_signal(scene, tmp_path):
    """Launchers send it to one after the other, and all stop with the first of them."""
    first, second = pair(scene, tmp_path / "run", *QUICK, "--steps", 1_000_000)
    first.until(lambda: len(rows(tmp_path / "run")) >= 2)
    first.send(signal.SIGTERM)
    with contextlib.suppress(ProcessLookupError):
        while second.process.is_alive():
            second.send(signal.SIGTERM)
            time.sleep(0.001)
    assert first.ended() == 128 + signal.SIGTERM
    assert second.ended() in {0, 128 + signal.SIGTERM}
    assert errors([first, second]) == []
    assert load_train_state(tmp_path / "run/state/last.safetensors").step == rows(tmp_path / "run")[-1]["step"]


def test_a_process_that_is_killed_ends_the_other_with_a_line(scene, tmp_path):
    first, second = pair(scene, tmp_path / "run", *QUICK, "--steps", 1_000_000)
    first.until(lambda: rows(tmp_path / "run"))
    second.kill()
    assert first.ended() == 10
    (line,) = errors([first])
    assert line.startswith("error: Another process of the run has ended or cannot be reached")


def test_bad_images_are_told_by_the_first_process_and_all_end_alike(scene, tmp_path):
    hr, lr = write_images(tmp_path)
    whole = (hr / "1.png").read_bytes()
    (hr / "1.png").write_bytes(whole[: len(whole) // 2])
    own = SimpleNamespace(
        processes=scene.processes, meeting_places=scene.meeting_places, words=partial(scene.words, folders=(hr, lr))
    )
    processes = pair(own, tmp_path / "run", *QUICK, "--steps", 3)
    assert [running.ended() for running in processes] == [8, 8]
    (line,) = errors(processes)
    assert line.startswith("error: 1 image could not be read or used")
    assert processes[1].err == ""
    assert load_train_state(tmp_path / "run/state/last.safetensors").step == 3


def test_a_second_pair_at_the_same_folder_is_refused(scene, tmp_path):
    run = tmp_path / "run"
    first = pair(scene, run, *QUICK, "--steps", 1_000_000)
    first[0].until(lambda: len(rows(run)) >= 2)
    second = pair(scene, run, *QUICK, "--steps", 1_000_000)
    assert [running.ended() for running in second] == [10, 10]
    (line,) = errors(second)
    assert line.startswith(f"error: {run} is in use")
    steps = len(rows(run))
    first[0].until(lambda: len(rows(run)) >= steps + 2)
    for running in first:
        running.kill()
