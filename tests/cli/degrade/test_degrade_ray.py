"""`ddnsr degrade --ray`, with a stand-in for Ray: workers in this process, with all that goes between them pickled."""

import pickle
from contextlib import contextmanager
from dataclasses import replace

import pytest

from ddnsr_cli.commands.degrade import run
from ddnsr_cli.errors import DeviceError
from tests.helpers.pair_folders import refused, tree


class Here:
    """One worker, which images of some names kill; images come back to front."""

    def __init__(self):
        self.asked, self.dies_of = [], ()

    @contextmanager
    def begin(self, ray, options, open_work, say):
        self.asked.append(ray.workers)
        self.work = pickle.loads(pickle.dumps(open_work))(replace(options, ray=None, device="cpu"), say)
        assert len(self.work.model) == 2
        yield self

    def outcomes(self, jobs):
        for job in reversed(list(jobs)):
            if job.source.name in self.dies_of:
                yield job, DeviceError(f"{job.source}: 3 workers died of it.")
                continue
            for event in self.work.work(pickle.loads(pickle.dumps(job))):
                yield job, pickle.loads(pickle.dumps(event))


@pytest.fixture
def workers(monkeypatch):
    here = Here()
    monkeypatch.setattr(run, "ray_workers", here.begin)
    return here


@pytest.mark.parametrize("words", [(), ("--method", "patches", "--patch-variance", 2000, "--per-image", 2)])
def test_pairs_manifest_and_what_is_said_are_those_of_the_local_command(make, scene, workers, words):
    (scene / "hr/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno header")
    (scene / "noisy/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno header")
    here = make("here", *words)
    there = make("there", *words, "--ray", "auto", "--ray-workers", 3)
    assert (here.code, there.code, workers.asked) == (9, 9, [3])
    assert tree(scene / "there") == tree(scene / "here")
    assert sorted(there.err.replace("there", "here").splitlines()) == sorted(here.err.splitlines())
    assert sorted(there.out.replace("there", "here").splitlines()) == sorted(here.out.splitlines())


def test_the_pairs_of_an_image_whose_workers_die_are_made_by_the_next_run(make, scene, workers):
    workers.dies_of = ["b.jpg"]
    done = make("pairs", "--ray", "auto")
    refused(done, 9, "1 of 3 images failed", "b.jpg")
    assert len(done.out.splitlines()) == 2
    again = make("pairs")
    assert [line.rpartition("/")[2] for line in again.out.splitlines()] == ["b.png"]
    make("whole")
    assert tree(scene / "pairs") == tree(scene / "whole")
    assert make("pairs", "--ray", "auto").out == ""
    assert workers.asked == [None]  # nothing is left for them: none begin


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ray-workers", 2], "--ray-workers belongs to --ray"),
        (["--ray", "auto", "--workers", 2], "say --ray-workers"),
    ],
)
def test_what_does_not_go_with_ray_is_refused(make, words, said):
    refused(make("pairs", *words), 2, said)
