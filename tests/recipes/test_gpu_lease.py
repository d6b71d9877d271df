"""The driver keeps its time, whatever the training does: here a program stands in for it that does as it is told."""

import time

import pytest
import train
from pieces import Limits, join, read_state

from ddnsr_cli.errors import ConfigError, TrainingError

STAND_IN = """
import signal
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))

import json, pathlib, sys, time
import numpy as np
from safetensors.numpy import save_file

manner, run = sys.argv[2], pathlib.Path(sys.argv[-1])

def save(step):
    (run / "state").mkdir(parents=True, exist_ok=True)
    state = {"format": "ddnsr-run-1", "step": step, "numbers": {"options": {"network": {}}}}
    tensors = {"net.w": np.full((2, 2), step, np.float32), "ema.w": np.full((2, 2), step, np.float32)}
    save_file(tensors, run / "state/new", metadata={"ddnsr_run": json.dumps(state)})
    (run / "state/new").replace(run / "state/last.safetensors")

if manner == "fail":
    save(5)
    sys.exit(3)
if manner != "never saves":
    save(1)
pathlib.Path("begun").touch()
while not asked or manner == "deaf":
    time.sleep(0.02)
if manner != "never saves":
    save(2)
sys.exit(143)
"""


class Clock:
    """Stands still until the training has begun; then it is moved by what sleeps alone, which takes no time."""

    def __init__(self, begun):
        self.begun, self.now = begun, 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        if self.begun.exists():
            self.now += seconds
        else:
            time.sleep(0.01)


@pytest.fixture
def clock(tmp_path, monkeypatch):
    clock = Clock(tmp_path / "begun")
    monkeypatch.setattr(train, "time", clock)
    return clock


@pytest.fixture
def lease(tmp_path, monkeypatch, clock):
    """`lease(manner)`: train for 200 seconds of the clock with the stand-in; what was brought."""
    (tmp_path / "code/ddnsr_cli").mkdir(parents=True)
    (tmp_path / "code/ddnsr_cli/__init__.py").touch()  # else an installed package goes before it
    (tmp_path / "code/ddnsr_cli/__main__.py").write_text(STAND_IN, encoding="utf-8")
    monkeypatch.setattr(train, "CODE", tmp_path / "code")
    monkeypatch.chdir(tmp_path)  # -m looks in the current folder first

    def run(manner, *, seconds=200.0, reserve=120.0, bring_every=600.0):
        times = train.Lease(seconds=seconds, reserve=reserve, bring_every=bring_every)
        return train.train([manner], tmp_path / "run", tmp_path / "out", times, Limits())

    return run


def brought_step(tmp_path):
    join(tmp_path / "out", tmp_path / "joined")
    return read_state(tmp_path / "joined")[0]["net.w"][0, 0]


def test_the_training_is_asked_to_save_and_ends_in_time(lease, tmp_path, clock):
    assert lease("obeys") == "whole"
    assert clock.now == pytest.approx(80, abs=0.3)
    assert brought_step(tmp_path) == 2


def test_one_that_does_not_listen_is_killed_and_its_last_save_brought(lease, tmp_path, clock, capsys):
    with pytest.raises(TrainingError, match="status -9"):
        lease("deaf", seconds=4.0, reserve=1.6)
    assert "did not end within 1 s and was killed" in capsys.readouterr().err
    assert clock.now == pytest.approx(2.4, abs=0.3)
    assert brought_step(tmp_path) == 1


def test_saves_are_brought_while_it_goes_on(lease, tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr(train, "split", lambda run, *_: steps.append(read_state(run)[0]["net.w"][0, 0]) or "whole")
    lease("obeys", seconds=124.0, bring_every=0.3)
    assert len(steps) > 2
    assert steps[0] == 1
    assert steps[-1] == 2


def test_a_failure_is_reported_after_its_save_was_brought(lease, tmp_path):
    with pytest.raises(TrainingError, match=r"status 3; .* Brought: whole"):
        lease("fail")
    assert brought_step(tmp_path) == 5


def test_without_a_save_nothing_is_brought_and_that_is_reported(lease, tmp_path):
    assert "no step was saved" in lease("never saves")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("seconds", "reserve", "every"), [(10, 10, 1), (10, 0, 1), (10, 5, 0)])
def test_times_that_cannot_be_are_refused(seconds, reserve, every):
    with pytest.raises(ConfigError, match="--reserve"):
        train.Lease(seconds=seconds, reserve=reserve, bring_every=every)
