import threading
import time

import pytest

from ddnsr_cli.commands.degrade.options import DegradeOptions
from ddnsr_cli.commands.degrade.run import ProgressCounter, in_order
from ddnsr_cli.data.config import DegradationConfig
from ddnsr_cli.errors import ConfigError


def test_results_keep_the_order_of_the_jobs():
    def work(job, _check):
        time.sleep(0.01 * (job % 3))
        return job * 2

    assert list(in_order(work, range(20), workers=4)) == list(range(0, 40, 2))
    assert list(in_order(work, [], workers=4)) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_as_many_work_at_a_time_as_are_asked_for(workers):
    together = threading.Barrier(workers, timeout=10)
    assert list(in_order(lambda job, _check: together.wait() >= 0, range(2 * workers), workers=workers))


def test_no_more_is_begun_than_is_soon_taken():
    begun = []
    results = in_order(lambda job, _check: begun.append(job), range(1000), workers=2)
    for _ in range(3):
        next(results)
    time.sleep(0.1)
    assert len(begun) < 10
    results.close()


def test_an_error_comes_where_its_job_was():
    def work(job, _check):
        if job == 3:
            raise ValueError("three")
        return job

    results = in_order(work, range(9), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_closing_ends_the_work_in_hand():
    begun = threading.Event()

    def work(job, check):
        while job:
            begun.set()
            time.sleep(0.01)
            check()

    results = in_order(work, [0, 1, 1, 1, 1], workers=2)
    next(results)
    assert begun.wait(10)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 5


def test_progress_adds_up_over_threads():
    told = []
    tally = ProgressCounter(40, lambda *now: told.append(now))
    threads = [threading.Thread(target=lambda: [tally.add(0.01) for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told[-1] == (pytest.approx(40), 40)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_rule_of_another_scale_is_refused():
    with pytest.raises(ConfigError, match="has a scale of 2"):
        DegradeOptions(method="classical", degradation=DegradationConfig(scale=2))
