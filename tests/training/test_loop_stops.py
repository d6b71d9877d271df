import os
import signal
import time

import pytest

from ddnsr_cli.training.loop import STOP_SIGNALS, StopRequest, stop_on_signals
from ddnsr_cli.training.train_state import load_train_state


def send(number):
    """To this process, once it is sure to survive it."""
    assert callable(signal.getsignal(number))
    signal.raise_signal(number)


def test_the_signals_of_terminals_and_schedulers_are_caught():
    assert {signal.SIGINT, signal.SIGTERM} <= set(STOP_SIGNALS)
    assert not hasattr(signal, "SIGUSR1") or signal.SIGUSR1 in STOP_SIGNALS


def test_nobody_asked():
    request = StopRequest()
    assert not request
    assert request.exit_code == 0


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_is_noted_and_gives_the_shells_exit_code(number):
    with stop_on_signals() as request:
        assert not request
        send(number)
        assert request
    assert request.exit_code == 128 + number


def noted(*numbers):
    request = StopRequest()
    try:
        for number in numbers:
            request.note(number)
    except KeyboardInterrupt:  # would end the test run
        pytest.fail("interrupted")
    return request


def test_the_codes_are_the_ones_that_shells_know():
    assert (noted(signal.SIGINT).exit_code, noted(signal.SIGTERM).exit_code) == (130, 143)


def test_the_first_signal_is_the_one_remembered():
    assert noted(signal.SIGINT, signal.SIGTERM).signal_number == signal.SIGINT


def test_a_second_sigterm_does_not_interrupt():
    assert noted(signal.SIGTERM, signal.SIGTERM).signal_number == signal.SIGTERM


@pytest.mark.parametrize("first", STOP_SIGNALS)
def test_a_later_sigint_interrupts_at_once(first):
    with stop_on_signals() as request:
        send(first)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert request.signal_number == first


@pytest.fixture
def ours():
    """A SIGTERM handler that was there before."""

    def ours(_number, _frame):
        """Never called."""

    theirs = signal.signal(signal.SIGTERM, ours)
    yield ours
    signal.signal(signal.SIGTERM, theirs)


def handlers():
    return [signal.getsignal(number) for number in STOP_SIGNALS]


def test_the_handlers_are_given_back(ours):
    before = handlers()
    with stop_on_signals():
        assert ours not in handlers()
    assert handlers() == before
    assert ours in before


def test_the_handlers_are_given_back_after_a_failure(ours):
    before = handlers()

    def fail():
        with stop_on_signals():
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert handlers() == before


def test_one_of_several_processes_is_not_disturbed_while_it_leaves(ours):
    """It was reported to stop by the others, and left the block before its own signal came."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        with stop_on_signals(copies_s=2.0) as stop:
            pass
        for number in STOP_SIGNALS:
            assert signal.getsignal(number) == stop.note
            send(number)
        assert stop.signal_number == STOP_SIGNALS[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.skipif(os.name == "nt", reason="process groups and signals of Unix")
def test_a_stopped_run_finishes_its_step_and_saves_it(processes, tmp_path):
    # To the whole group, as terminals and schedulers send it: the worker that decodes gets it too.
    from tests.helpers.processes import forked_workers
    from tests.helpers.tiny_run import be_tiny_run, write_images

    write_images(tmp_path / "images")
    run = processes.start(first=[(forked_workers, ()), (be_tiny_run, (tmp_path,))])
    run.until_lines(1)
    os.killpg(run.pid, signal.SIGTERM)
    sent = time.monotonic()
    assert run.ended() == 128 + signal.SIGTERM
    assert time.monotonic() - sent < 60
    assert run.err == ""
    first, *_, last = map(int, f"1 {run.out}".split())
    assert (first, load_train_state(tmp_path / "state.safetensors").step) == (1, last)


def test_a_launchers_copy_of_ctrl_c_does_not_interrupt():
    now = [100.0]
    request = StopRequest(copies_s=2.0, clock=lambda: now[0])

    def interrupts(late):
        now[0] += late
        try:
            request.note(signal.SIGINT)
        except KeyboardInterrupt:  # would end the test run
            return True
        return False

    assert [interrupts(late) for late in (0.0, 0.1, 1.8, 0.2)] == [False, False, False, True]
    assert request.signal_number == signal.SIGINT
