"""Being asked to stop: whatever is half done is taken away before the program ends."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_STDERR = 2
_INSIST_S = 0.5
_ASK_TO_STOP = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def leaving_in_order() -> Iterator[None]:
    """Inside the block a stop signal ends the program as an error does: with its cleaning up, status 128 + number.

    Left to the system SIGTERM and SIGHUP would end it on the spot, half-written files and all; of SIGINT (Ctrl-C) Typer
    makes an end without a word. A signal that is ignored, as under nohup, stays so; code inside may set its own, and
    where it leaves them they stay.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: handler for number in _ASK_TO_STOP if (handler := signal.getsignal(number)) in usual}
    leave, hook = _Leave(), sys.unraisablehook
    for number in before:
        signal.signal(number, leave)
    try:
        yield
    finally:
        leave.done.set()
        for number, handler in before.items():
            if signal.getsignal(number) is leave:
                signal.signal(number, handler)
        sys.unraisablehook = hook
        leave.tell()


class _Leave:
    """Signal handler that raises SystemExit, until it has got through.

    An exception in a handler may come at a moment when Python drops it (the end of an object's life), so it is raised
    again until the block is left, but for the time when it is being dealt with: cleaning up is not interrupted.
    """

    def __init__(self) -> None:
        self.done = threading.Event()
        self._number = 0

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if not self._number:
            self._number = number
            sys.unraisablehook = lambda _dropped: None  # of what is dropped on the way out nobody wants to hear
            threading.Thread(target=self._insist, daemon=True).start()
        if not isinstance(sys.exc_info()[1], SystemExit):
            raise SystemExit(128 + self._number)

    def tell(self) -> None:
        """Say why the block was left, now that its own use of standard error is over."""
        if self._number:
            what = "interrupted" if self._number == signal.SIGINT else f"stopped by {signal.Signals(self._number).name}"
            with suppress(OSError):  # not through sys.stderr: what was interrupted may have been writing to it
                os.write(_STDERR, f"error: {what}.\n".encode())

    def _insist(self) -> None:
        if hasattr(signal, "pthread_kill"):  # not on Windows, where only Ctrl-C comes, and seldom at such a moment
            while not self.done.wait(_INSIST_S):
                signal.pthread_kill(threading.main_thread().ident or 0, self._number)
