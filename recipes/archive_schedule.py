"""How well work on a large archive is shared out: a simulation of parts (`--shard`) and an image at a time (`--ray`).

    python recipes/archive_schedule.py --images 200000 --workers 64 --seed 0

Sizes are drawn log-normally (the largest some 100 times the smallest), parts by chance as by a hash. Each trouble comes
on top of those before: sizes that differ, workers of half the speed, workers that die and come back, workers that are
gone for good. A dead worker loses what it had of its image; the rest of its part waits for it, or, if it is gone, for
the next who is free. Efficiency is the work over what all workers could have done until the last image was: they could
have worked while they were away, too.
"""

import argparse
import heapq
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

HOUR_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What goes wrong."""

    name: str

    spread: float = 0.0
    """Of the sizes: the standard deviation of the logarithm; 0: all are as large as each other."""

    slow: int = 0
    """Workers of half the speed."""

    dies_after_s: float = float("inf")
    """The mean of the time that a worker lives."""

    away_s: float = 600.0
    """Until a dead one works again."""

    gone: int = 0
    """Workers that never come back after their first death, which comes within the first half of the run."""


TROUBLES = (
    Trouble(name="equal sizes"),
    Trouble(name="sizes differ", spread=0.8),
    Trouble(name="and 3 workers at half speed", spread=0.8, slow=3),
    Trouble(name="and each dies every 12 hours", spread=0.8, slow=3, dies_after_s=12 * HOUR_S),
    Trouble(name="and 2 are gone for good", spread=0.8, slow=3, dies_after_s=12 * HOUR_S, gone=2),
)


@dataclass(kw_only=True)
class Worker:
    """One of those that share the work."""

    speed: float
    dies_at: float
    returns: bool
    piece: deque[float] = field(default_factory=deque)
    """The images it has still to do, seconds at full speed."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run went."""

    seconds: float
    """Until the last image was done."""

    lost: float
    """What was computed for nothing, seconds."""

    done: int


def image_seconds(number: int, mean_s: float, spread: float, rng: np.random.Generator) -> list[float]:
    """What each image takes a worker of full speed."""
    sizes = np.exp(spread * rng.standard_normal(number).clip(-2.9, 2.9))
    return list(map(float, sizes * (mean_s / sizes.mean())))


def parts(images: Sequence[float], number: int, rng: np.random.Generator) -> deque[deque[float]]:
    """The images in so many parts by chance; with one image a part, in as many."""
    if number >= len(images):
        return deque(deque([seconds]) for seconds in images)
    found: list[deque[float]] = [deque() for _ in range(number)]
    for seconds, index in zip(images, rng.integers(0, number, len(images)), strict=True):
        found[index].append(seconds)
    return deque(found)


def make_workers(number: int, trouble: Trouble, half_s: float, rng: np.random.Generator) -> list[Worker]:
    """Slow ones first, those that will be gone last."""
    finite = np.isfinite(trouble.dies_after_s)
    lives = rng.exponential(trouble.dies_after_s, number) if finite else [np.inf] * number
    workers = [
        Worker(speed=0.5 if index < trouble.slow else 1.0, dies_at=float(life), returns=True)
        for index, life in enumerate(lives)
    ]
    for worker in workers[number - trouble.gone :]:
        worker.dies_at, worker.returns = float(rng.uniform(0, half_s)), False
    return workers


class Run:
    """Workers that do all pieces; each takes the next when its own is done."""

    def __init__(
        self, queue: deque[deque[float]], workers: Sequence[Worker], trouble: Trouble, rng: np.random.Generator
    ) -> None:
        self._queue = deque(piece for piece in queue if piece)
        self._workers = workers
        self._trouble = trouble
        self._rng = rng
        self._free = [(0.0, index) for index in range(len(workers))]  # a heap: when, who
        self._idle: list[int] = []
        self._end, self._lost, self._done = 0.0, 0.0, 0

    def outcome(self) -> Outcome:
        """Let them work until nothing is left."""
        while self._free:
            now, index = heapq.heappop(self._free)
            worker = self._workers[index]
            if not worker.piece and self._queue:
                worker.piece = self._queue.popleft()
            if not worker.piece:
                self._idle.append(index)
            elif now + worker.piece[0] / worker.speed <= worker.dies_at:
                self._do(now + worker.piece.popleft() / worker.speed, index)
            else:
                self._die(now, index)
        return Outcome(seconds=self._end, lost=self._lost, done=self._done)

    def _do(self, finished: float, index: int) -> None:
        self._end, self._done = max(self._end, finished), self._done + 1
        heapq.heappush(self._free, (finished, index))

    def _die(self, now: float, index: int) -> None:
        worker, died = self._workers[index], max(now, self._workers[index].dies_at)
        self._lost += died - now
        if worker.returns:
            back = died + self._trouble.away_s
            worker.dies_at = back + self._rng.exponential(self._trouble.dies_after_s)
            heapq.heappush(self._free, (back, index))
            if len(worker.piece) > 1:  # a part waits for its worker, a single image does not
                return
        self._queue.appendleft(worker.piece)
        worker.piece = deque()
        if self._idle:
            heapq.heappush(self._free, (died, self._idle.pop()))


def efficiency(trouble: Trouble, *, images: int, workers: int, pieces: int, mean_s: float, seed: int) -> float:
    """The share of what the workers could have done, in one run."""
    rng = np.random.default_rng(seed)
    seconds = image_seconds(images, mean_s, trouble.spread, rng)
    ideal = sum(seconds) / (workers - trouble.slow / 2)
    crew = make_workers(workers, trouble, ideal / 2, rng)
    outcome = Run(parts(seconds, pieces, rng), crew, trouble, rng).outcome()
    assert outcome.done == images
    return ideal / outcome.seconds


def table(*, images: int, workers: int, mean_s: float, seed: int) -> Iterator[str]:
    """Lines of Markdown."""
    schedules = {f"{workers} parts": workers, f"{16 * workers} parts": 16 * workers, "an image at a time": images}
    yield f"| | {' | '.join(schedules)} |"
    yield f"|---|{'---|' * len(schedules)}"
    for trouble in TROUBLES:
        shares = [
            efficiency(trouble, images=images, workers=workers, pieces=pieces, mean_s=mean_s, seed=seed)
            for pieces in schedules.values()
        ]
        yield f"| {trouble.name} | {' | '.join(f'{share:.1%}' for share in shares)} |"


def main() -> None:
    """Write a table to stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20.0, help="Mean time of an image.")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for line in table(images=given.images, workers=given.workers, mean_s=given.seconds, seed=given.seed):
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
