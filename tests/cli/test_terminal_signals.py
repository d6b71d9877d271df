"""A stop signal ends a block with its cleaning up, whenever it comes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddnsr_cli.cli.terminal import leaving_in_order

NUMBERS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_block_is_left_with_its_cleaning_up(capfd, number):
    before, cleaned = signal.getsignal(number), []

    @leaving_in_order()
    def work():
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), number)  # a second one does not interrupt this
            time.sleep(0.01)
            cleaned.append(True)

    with pytest.raises(SystemExit) as caught:
        work()
    assert caught.value.code == 128 + number
    assert cleaned == [True]
    assert signal.getsignal(number) is before
    err = capfd.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


class Dropper:
    """Sends a signal at the end of its life, when Python drops exceptions."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)


def test_a_dropped_signal_counts_where_the_block_ends_before_it_is_raised_again(capfd):
    @leaving_in_order()
    def work():
        dropper = Dropper()
        del dropper

    with pytest.raises(SystemExit) as caught:
        work()
    assert caught.value.code == 143
    assert capfd.readouterr().err == "error: stopped by SIGTERM.\n"


def test_a_signal_at_a_moment_when_exceptions_are_dropped_still_counts(capfd):
    @leaving_in_order()
    def work():
        dropper = Dropper()
        del dropper
        time.sleep(5)

    begin = time.monotonic()
    with pytest.raises(SystemExit) as caught:
        work()
    assert caught.value.code == 143
    assert time.monotonic() - begin < 4
    assert capfd.readouterr().err == "error: stopped by SIGTERM.\n"


def test_a_signal_that_is_ignored_stays_so(monkeypatch):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with leaving_in_order():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_the_block_set_and_left_stays():
    before, got = signal.getsignal(signal.SIGTERM), []
    try:
        with leaving_in_order():
            signal.signal(signal.SIGTERM, lambda number, _frame: got.append(number))
        assert callable(signal.getsignal(signal.SIGTERM))
        signal.raise_signal(signal.SIGTERM)
        assert got == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_without_a_signal_nothing_happens(capfd):
    with leaving_in_order():
        pass
    assert capfd.readouterr() == ("", "")


ENDS = """
import atexit, sys, types
from ddnsr_cli.cli.terminal import ending_at_once

class Last:
    def __del__(self):
        print("taken apart")

last = Last()
if sys.argv[1] == "torch":
    sys.modules["torch"] = types.ModuleType("torch")

@ending_at_once()
def command():
    atexit.register(print, "at the end")
    sys.exit(7)

command()
"""


@pytest.mark.parametrize(("library", "said"), [("torch", "at the end\n"), ("none", "at the end\ntaken apart\n")])
def test_a_command_with_pytorch_ends_at_once_with_its_status(library, said):
    ended = subprocess.run([sys.executable, "-c", ENDS, library], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, said, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_what_cannot_be_flushed_is_told_as_python_tells_it():
    found = []
    for library in ("torch", "none"):
        with Path("/dev/full").open("w") as full:
            words = [sys.executable, "-c", ENDS.replace("atexit.register(print, ", "print("), library]
            buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
            ended = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=buffered)
        found.append((ended.returncode, "No space left" in ended.stderr))
    assert found == [(120, True)] * 2
