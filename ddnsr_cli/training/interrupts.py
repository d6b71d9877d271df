"""Ask a run to stop: the step in hand is finished, the state saved, then it ends."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class StopAsked(Exception):  # noqa: N818  # no error: it was wished
    """A stop was asked for before there was anything to save."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("Stopped before the first step.")
        self.exit_code = exit_code


class StopRequest:
    """Remembers the first stop signal. A SIGINT after it interrupts at once."""

    def __init__(self, *, copies_s: float = 0.0) -> None:
        """copies_s: seconds in which a SIGINT is a copy of the first: a launcher hands on a Ctrl-C that the terminal
        has sent to all its processes already.
        """
        self.signal_number: int | None = None
        self._copies_s = copies_s
        self._since = 0.0

    def __bool__(self) -> bool:
        return self.signal_number is not None

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells report it; 0 when nobody asked."""
        return 0 if self.signal_number is None else 128 + self.signal_number

    def note(self, number: int, _frame: FrameType | None = None) -> None:
        """Signal handler."""
        if self.signal_number is None:
            self.signal_number, self._since = number, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._since >= self._copies_s:
            raise KeyboardInterrupt


@contextmanager
def stop_on_signals(*, copies_s: float = 0.0) -> Iterator[StopRequest]:
    """Catch SIGINT, SIGTERM and SIGUSR1 inside the block; give the handlers back after it.

    copies_s: as `StopRequest` takes it. With it, the handlers stay: the processes of a run stop together as soon as the
    first of them is asked, so that another's own signal may come while it is leaving, which it must not disturb.
    """
    request = StopRequest(copies_s=copies_s)
    before = {number: signal.signal(number, request.note) for number in STOP_SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items() if not copies_s else ():
            signal.signal(number, handler)
