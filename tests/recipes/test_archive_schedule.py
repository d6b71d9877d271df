"""The simulation of a shared archive: nothing is lost in it, and what it says of simple cases is known."""

from collections import deque

import archive_schedule
import numpy as np
import pytest
from archive_schedule import TROUBLES, Run, Trouble, Worker, efficiency, parts

ENDLESS = float("inf")


def run(pieces, workers, trouble=TROUBLES[0]):
    return Run(deque(map(deque, pieces)), workers, trouble, np.random.default_rng(0)).outcome()


def test_equal_images_over_equal_workers_waste_nothing():
    assert efficiency(TROUBLES[0], images=400, workers=4, pieces=400, mean_s=2.0, seed=0) == pytest.approx(1)


def test_a_part_holds_up_who_has_it_and_single_images_do_not():
    both = [Worker(speed=1.0, dies_at=ENDLESS, returns=True) for _ in range(2)]
    assert run([[3.0, 3.0, 3.0], [1.0]], both).seconds == 9
    assert run([[3.0], [3.0], [3.0], [1.0]], both).seconds == 6


def test_a_dead_worker_loses_its_image_and_waits():
    trouble = Trouble(name="x", dies_after_s=1e9, away_s=10.0)
    outcome = run([[4.0, 4.0]], [Worker(speed=1.0, dies_at=5.0, returns=True)], trouble)
    assert (outcome.seconds, outcome.lost, outcome.done) == (19, 1, 2)  # 4, 1 in vain, 10 away, 4


def test_what_a_worker_that_is_gone_had_is_done_by_one_that_had_nothing_more_to_do():
    workers = [Worker(speed=1.0, dies_at=5.0, returns=False), Worker(speed=1.0, dies_at=ENDLESS, returns=True)]
    outcome = run([[4.0, 4.0, 4.0], [1.0]], workers)
    assert (outcome.seconds, outcome.lost, outcome.done) == (13, 1, 4)


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
def test_an_image_at_a_time_is_never_worse_and_chance_is_by_seed_alone(trouble):
    sizes = {"images": 2000, "workers": 8, "mean_s": 60.0, "seed": 3}
    static = efficiency(trouble, pieces=8, **sizes)
    assert static == efficiency(trouble, pieces=8, **sizes)
    assert 0.2 < static < efficiency(trouble, pieces=2000, **sizes) <= 1


def test_every_image_is_in_one_part():
    images = [float(number) for number in range(1000)]
    dealt = parts(images, 16, np.random.default_rng(0))
    assert (len(dealt), sorted(seconds for part in dealt for seconds in part)) == (16, images)


def test_the_table_has_a_line_a_trouble():
    lines = list(archive_schedule.table(images=300, workers=4, mean_s=20.0, seed=0))
    assert len(lines) == 2 + len(TROUBLES)
    assert lines[2].endswith("| 100.0% |")
