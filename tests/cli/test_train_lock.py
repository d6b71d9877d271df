"""A second process at the run folder of one that trains."""

import os
import signal
from types import SimpleNamespace

import pytest

pytest.importorskip("fcntl", reason="locks of Unix")

from tests.helpers.joint_run import joint_words, pretrain_words, vgg_file, write_images
from tests.helpers.processes import Processes, forked_workers, telling_opens
from tests.helpers.small_training import small_training

ENDLESS = ("--steps", 1_000_000, "--log-every", 1)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("lock")
    vgg_file(place / "vgg.safetensors")
    write_images(place / "images")
    return place


@pytest.fixture(params=["joint", "pretrain"])
def scene(request, place):
    """`start(run, *words)`: a process that trains, by each of the two ways."""
    processes = Processes(place, before=[(small_training, ())])
    folders = (place / "images/hr", place / "images/lr")

    def start(run, *more, first=()):
        if request.param == "joint":
            return processes.start(
                *joint_words(folders, place / "vgg.safetensors", run, "--ablation", "B", "--l2", *more), first=first
            )
        return processes.start(*pretrain_words(folders[0], run, *more), first=first)

    yield SimpleNamespace(start=start, images=place / "images")
    processes.stop()


def rows(run):
    log = run / "log.jsonl"
    return log.read_text().splitlines() if log.exists() else []


def test_a_second_process_is_refused_before_it_reads_an_image_and_the_first_goes_on(scene, tmp_path):
    run, report = tmp_path / "run", tmp_path / "opened"
    first = scene.start(run, *ENDLESS)
    first.until(lambda: len(rows(run)) >= 2)
    second = scene.start(run, *ENDLESS, first=[(telling_opens, (str(scene.images), report))])
    assert second.ended() == 10
    assert (
        second.err
        == f"error: {run} is in use: another process trains there. Let it end, or choose another folder"
        + (" with -o.\n")
    )
    assert (second.out, report.read_text()) == ("", "")
    steps = len(rows(run))
    first.until(lambda: len(rows(run)) >= steps + 3)
    third = scene.start(run, *ENDLESS)  # the refused one took no lock away
    assert third.ended() == 10
    first.send(signal.SIGTERM)
    assert first.ended() == 128 + signal.SIGTERM
    assert len(rows(run)) >= steps + 3
    assert not (run / ".lock").exists()


def test_a_killed_process_leaves_no_lock_even_while_its_workers_live(scene, tmp_path):
    run = tmp_path / "run"
    first = scene.start(run, *ENDLESS, "--save-every", 1, "--workers", 1, first=[(forked_workers, ())])
    first.until((run / "state/last.safetensors").exists)
    os.killpg(first.pid, signal.SIGSTOP)  # so that its workers live on, however long what follows takes
    first.send(signal.SIGKILL)
    assert first.ended() == -signal.SIGKILL
    assert (run / ".lock").exists()
    begun = len(rows(run))
    next_one = scene.start(run, "--steps", begun + 3)
    assert next_one.ended() == 0, next_one.err
    os.killpg(first.pid, 0)  # raises when none is left
    first.kill()
    assert not (run / ".lock").exists()


def test_a_look_at_the_images_takes_no_lock(scene, tmp_path):
    run = tmp_path / "run"
    first = scene.start(run, *ENDLESS)
    first.until(lambda: len(rows(run)) >= 1)
    check = scene.start(run, "--check")
    assert check.ended() == 0, check.err
    assert scene.start(tmp_path / "other", "--check").ended() == 0
    assert not (tmp_path / "other").exists()
