"""SIGTERM at each call to the system that touches a result: nothing unfinished is left behind."""

import contextlib
import dis
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from ddnsr_cli import files
from ddnsr_cli.cli.terminal import leaving_in_order
from ddnsr_cli.data import sampler
from ddnsr_cli.inference import pipeline
from tests.helpers.joint_run import joint_words, last_state, vgg_file, write_images
from tests.helpers.pair_folders import tree

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")

CALLS = {
    os: ("open", "close", "ftruncate", "fchmod", "fsync", "unlink", "replace", "link"),
    files.fcntl: ("flock",),
    tempfile: ("mkstemp", "mkdtemp"),
    Path: ("replace", "chmod", "unlink", "mkdir"),
}


@pytest.fixture
def stop_after(monkeypatch):
    """`stop_after(n)`: SIGTERM comes with the n-th call; `.count` is how many there were."""

    class Stop:
        count = 0
        at = -1

        def __call__(self, number):
            self.count, self.at = 0, number

    stop = Stop()

    def stopping(real):
        def call(*words, **named):
            try:
                return real(*words, **named)
            finally:
                stop.count += 1
                if stop.count == stop.at:
                    os.kill(os.getpid(), signal.SIGTERM)

        return call

    for owner, names in CALLS.items():
        for name in names:
            monkeypatch.setattr(owner, name, stopping(getattr(owner, name)))
    return stop


def leftovers(*folders):
    return [path for folder in folders for path in folder.rglob("*") if ".part" in path.name or "ddnsr-" in path.name]


@pytest.mark.parametrize("command", ["upscale", "degrade"])
def test_a_stop_at_any_call_leaves_nothing_unfinished(
    ddnsr, image_file, quick_model, tmp_path, monkeypatch, stop_after, command
):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    image_file("in/a.png", width=36, height=32)
    way = ("-m", quick_model, "--compare") if command == "upscale" else ("--method", "bicubic", "--workers", "1")
    words = (command, tmp_path / "in", *way)
    assert ddnsr(*words, "-o", tmp_path / "whole").code == 0
    calls, whole = stop_after.count, tree(tmp_path / "whole")
    assert calls > 10
    ends = set()
    for number in range(1, calls + 1, max(1, calls // 8)):
        place = tmp_path / f"out{number}"
        stop_after(number)
        done = ddnsr(*words, "-o", place)
        stop_after(-1)  # where it came to no such call: the next may be that of pytest
        ends.add(done.code)
        assert done.code in (0, 128 + signal.SIGTERM), done.err
        assert leftovers(tmp_path) == [], number
        assert not place.exists() or any(place.iterdir()), number
        assert tree(place).items() <= whole.items() or command == "degrade", number  # its manifest may be short
    assert 128 + signal.SIGTERM in ends


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """(folders of images, VGG19) of a joint run."""
    folder = tmp_path_factory.mktemp("scene")
    return write_images(folder), vgg_file(folder / "vgg19.safetensors")


def test_a_stop_of_a_training_at_any_call_leaves_it_whole(ddnsr, scene, small_runs, tmp_path, stop_after):
    """Its run goes on from there to the bytes of one that was never stopped, and what was never begun has no folder."""

    def train(run):
        return ddnsr(*joint_words(*scene, run, "--steps", 2, "--save-every", 1))

    assert train(tmp_path / "whole").code == 0
    calls, whole = stop_after.count, last_state(tmp_path / "whole")
    assert calls > 50
    ends = set()
    for number in range(1, calls + 1, max(1, calls // 3)):
        run = tmp_path / f"run{number}"
        stop_after(number)
        done = train(run)
        ends.add(done.code)
        assert done.code in (0, 128 + signal.SIGTERM), done.err
        assert leftovers(tmp_path) == [], number
        assert not run.exists() or any(run.iterdir()), number
        stop_after(-1)
        assert train(run).code == 0, number
        assert last_state(run) == whole, number
    assert 128 + signal.SIGTERM in ends


def test_a_file_in_the_making_is_removed(tmp_path, stop_after):
    """With a handler that raises wherever it is called, as that of the command, but for the moments that are kept."""

    class Ended(BaseException):
        pass

    def raising(_number, _frame):
        if not files.UNINTERRUPTED.now:
            raise Ended

    before = signal.signal(signal.SIGTERM, raising)
    try:
        stop_after(-1)
        with files.atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("whole")
        calls = stop_after.count
        for number in range(1, calls + 1):
            stop_after(number)
            with contextlib.suppress(Ended), files.atomic_path(tmp_path / f"{number}.txt") as temporary:
                temporary.write_text("whole")
            assert leftovers(tmp_path) == []
            stop_after(1)
            with contextlib.suppress(Ended), files.temporary_folder("stopped-") as folder:
                assert folder.is_dir()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert all(path.read_text() == "whole" for path in tmp_path.glob("*.txt"))
    assert list(Path(tempfile.gettempdir()).glob("stopped-*")) == []


class StopAtPoint:
    """A trace function: SIGTERM comes at the n-th point of some modules at which Python looks for signals."""

    LOOKS = ("RESUME", "CALL", "JUMP_BACKWARD")

    def __init__(self, number, modules):
        self.at = number
        self.count = 0
        self._files = {module.__file__ for module in modules}

    def __call__(self, frame, _event, _argument):
        if frame.f_code.co_filename not in self._files:
            return None
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame, event, _argument):
        if event == "opcode" and dis.opname[frame.f_code.co_code[frame.f_lasti]].startswith(self.LOOKS):
            self.count += 1
            if self.count == self.at:
                os.kill(os.getpid(), signal.SIGTERM)
        return self._step


def whole(place):
    with files.atomic_path(place / "a.txt") as temporary:
        temporary.write_text("whole")


def broken_off(place):
    with files.atomic_path(place / "a.txt") as temporary:
        temporary.write_text("half")
        raise ValueError


def handed_over(place):
    def use(numbers, _check):
        with files.atomic_path(place / "a.txt") as temporary:
            temporary.write_text("whole" if list(numbers) == [0, 1] else "half")

    pipeline.handed_over(iter(range(2)), use)


def handed_over_in_vain(place):
    def use(numbers, _check):
        with files.atomic_path(place / "a.txt"):
            next(numbers)
            raise ValueError

    pipeline.handed_over(iter(range(2)), use)


def handed_over_in_part(place):
    def use(numbers, _check):
        with files.atomic_path(place / "a.txt") as temporary:
            temporary.write_text("whole" if list(numbers) == [0, 1] else "half")

    def items():
        yield 0
        raise ValueError

    pipeline.handed_over(items(), use)


# a file that is opened is closed by its end of life where the stop comes before its block
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("work", [whole, broken_off, handed_over, handed_over_in_vain, handed_over_in_part])
def test_a_stop_at_any_point_leaves_no_file_and_no_thread(tmp_path, capfd, work):
    def run(number):
        stop, before = StopAtPoint(number, (files, pipeline)), sys.gettrace()
        with contextlib.suppress(SystemExit, ValueError), leaving_in_order():
            sys.settrace(stop)
            try:
                work(tmp_path)
            finally:
                sys.settrace(before)
        return stop.count

    points = run(-1)
    assert points > 20
    for number in range(1, points + 1):
        run(number)
        assert leftovers(tmp_path) == [], number
        assert [thread.name for thread in threading.enumerate() if "(run)" in thread.name] == [], number
        assert all(path.read_text() == "whole" for path in tmp_path.iterdir()), number


def test_a_worker_serves_as_long_as_its_trainer_works(monkeypatch):
    used, alarms, ends = iter([0.0, 10.0, 40.0, 41.0]), [], []
    monkeypatch.setattr(signal, "alarm", alarms.append)
    monkeypatch.setattr(os, "_exit", ends.append)
    lingering = sampler.Lingering(60, lambda: next(used))
    lingering.asked(signal.SIGTERM, None)
    lingering.late(signal.SIGALRM, None)  # half a minute was computed: a step
    assert (alarms, ends) == ([60, 60], [])
    lingering.late(signal.SIGALRM, None)  # a second: it waits
    assert ends == [0]
    assert sampler._parent_cpu_s() is None or sampler._parent_cpu_s() >= 0
