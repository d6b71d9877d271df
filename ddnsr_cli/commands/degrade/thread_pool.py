"""Work done by several threads, its results in the order of the work."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Stopped(BaseException):
    """The work in hand is given up: whoever wanted it has gone."""


def in_order(
    work: Callable[[Job, Callable[[], None]], Result], jobs: Iterable[Job], *, workers: int
) -> Iterator[Result]:
    """`work` done on every job by `workers` threads; no more jobs are begun than are soon to be taken.

    work: is given a job and a check to call now and then, which raises `Stopped` once the iterator is closed.
    """
    closed = threading.Event()

    def check() -> None:
        if closed.is_set():
            raise Stopped

    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(work, job, check))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            closed.set()
            pool.shutdown(wait=False, cancel_futures=True)


class Tally:
    """Progress of pictures in work by several threads, in pictures: tiles count as parts of one."""

    def __init__(self, total: int, on_share: Callable[[float, int], None]) -> None:
        self._total = total
        self._on_share = on_share
        self._lock = threading.Lock()
        self._done = 0.0

    def add(self, share: float) -> None:
        """So much of a picture is done."""
        with self._lock:
            self._done += share
            self._on_share(min(self._done, self._total), self._total)
