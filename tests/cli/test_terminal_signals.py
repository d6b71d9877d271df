"""A stop signal ends a block with its cleaning up, whenever it comes."""

import os
import signal
import time

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
