import itertools
import time
from dataclasses import replace

import pytest
import torch

from ddnsr_cli.training.loop import LoopHooks, Meter, Rhythm, StopRequest, run_loop


class Diary:
    """A trainer and hooks that write down what is called, in order."""

    def __init__(self, *, step=0, stop_at=None, clock=time.perf_counter, is_validated=True):
        self.step = step
        self.is_validated = is_validated
        self.samples = []
        self.clock = clock
        self.stop_at = stop_at
        self.stop = StopRequest()
        self.lines = []
        self.reports = []

    def train_step(self, lr, hr):
        self.lines.append(f"step {self.step} on batch {int(lr[0])}")
        if self.step == self.stop_at:
            self.stop.note(15)
        self.step += 1
        return {"l1": float(self.step)}

    def report(self, report):
        self.lines.append(f"report {report.step}")
        self.reports.append(report)

    def hooks(self):
        return LoopHooks(
            validate=lambda step: self.lines.append(f"validate {step}"),
            save=lambda step: self.lines.append(f"save {step}"),
            report=self.report,
            sample=self.samples.append,
            tick=lambda step: self.lines.append(f"tick {step}"),
            is_validated=lambda step: self.is_validated,
        )

    def run(self, *, steps, log=100, save=100, validate=100, sample=10_000):
        rhythm = Rhythm(log_steps=log, save_steps=save, validate_steps=validate, sample_steps=sample)
        numbered = ((torch.full((4,), n), torch.zeros(4)) for n in itertools.count())
        run_loop(self, numbered, steps=steps, rhythm=rhythm, hooks=self.hooks(), stop=self.stop, clock=self.clock)
        return self.lines


def test_a_run_from_first_to_last():
    assert Diary().run(steps=4, log=2, save=2, validate=3) == [
        "step 0 on batch 0",
        "tick 1",
        "step 1 on batch 1",
        "tick 2",
        "report 2",
        "save 2",
        "step 2 on batch 2",
        "tick 3",
        "validate 3",
        "step 3 on batch 3",
        "tick 4",
        "report 4",
        "validate 4",
        "save 4",
    ]


def test_validation_comes_before_the_save_so_that_the_save_knows_its_score():
    lines = Diary().run(steps=3, save=2, validate=2)
    assert lines[lines.index("validate 2") + 1] == "save 2"
    assert lines[-2:] == ["validate 3", "save 3"]


def test_a_resumed_run_does_not_repeat_the_save_it_came_from():
    lines = Diary(step=4).run(steps=6, save=2, validate=2)
    assert lines[0] == "step 4 on batch 0"
    assert "save 4" not in lines
    assert "validate 4" not in lines


def test_what_a_stop_left_out_is_made_up_for():
    diary = Diary(step=4, is_validated=False)
    lines = diary.run(steps=6, save=2, validate=2, sample=4)
    assert lines[:2] == ["validate 4", "step 4 on batch 0"]
    assert lines.count("validate 4") == 1
    assert "save 4" not in lines
    assert diary.samples == [4, 6]
    for step in (3, 0):
        lines = Diary(step=step, is_validated=False).run(steps=6, save=2, validate=2)
        assert lines[0] == f"step {step} on batch 0"


@pytest.mark.parametrize("stop_at", [0, 1, 2])
def test_a_stop_ends_after_the_step_in_hand_and_saves_without_validating(stop_at):
    lines = Diary(stop_at=stop_at).run(steps=50, log=1, save=1, validate=1)
    done = stop_at + 1
    assert lines[-4:] == [f"step {stop_at} on batch {stop_at}", f"tick {done}", f"report {done}", f"save {done}"]


def test_a_stop_before_the_first_step_trains_nothing_and_saves():
    diary = Diary()
    diary.stop.note(2)
    assert diary.run(steps=5) == ["save 0"]


def test_a_run_that_is_already_done_is_validated_and_saved_once_more():
    assert Diary(step=5).run(steps=5) == ["validate 5", "save 5"]


def test_the_end_is_saved_whatever_the_rhythm():
    lines = Diary().run(steps=5, log=100, save=100, validate=100)
    assert lines[-2:] == ["validate 5", "save 5"]
    assert lines.count("save 5") == 1


def test_a_failing_step_saves_nothing():
    diary = Diary()

    def fail(lr, hr):
        raise ValueError("bad")

    diary.train_step = fail
    with pytest.raises(ValueError, match="bad"):
        diary.run(steps=5, save=1)
    assert diary.lines == []


def test_reports_are_means_since_the_last_report():
    diary = Diary()
    diary.run(steps=7, log=3)
    means = [(3, {"l1": 2.0}), (6, {"l1": 5.0}), (7, {"l1": 7.0})]
    assert [(report.step, report.figures) for report in diary.reports] == means


def test_steps_since_the_last_report_are_reported_at_the_end():
    assert Diary().run(steps=2)[-3:] == ["report 2", "validate 2", "save 2"]
    assert Diary(stop_at=1).run(steps=50)[-2:] == ["report 2", "save 2"]


class Clock:
    """Stands still but for what the test lets pass."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_the_speed_counts_the_images_of_every_batch(clock):
    diary = Diary(clock=clock)
    step = diary.train_step

    def one_second(lr, hr):
        clock.now += 1.0
        return step(lr, hr)

    diary.train_step = one_second
    diary.run(steps=6, log=3)
    assert [report.images_per_s for report in diary.reports] == [4.0, 4.0]  # batches of four


def slow_batches(clock, *, wait_s):
    while True:
        clock.now += wait_s
        yield torch.zeros(4), torch.zeros(4)


def test_the_meter_tells_speed_and_waiting(clock):
    meter = Meter(clock)
    stream = slow_batches(clock, wait_s=0.5)
    for loss in (1.0, 2.0, 6.0):
        meter.wait(stream)
        clock.now += 1.5
        meter.add({"l1": loss, "rate": 0.25}, images=8)
    report = meter.report(30)
    assert report.step == 30
    assert report.figures == {"l1": 3.0, "rate": 0.25}
    assert report.images_per_s == pytest.approx(24 / 6.0)
    assert report.waiting_share == pytest.approx(0.25)


def test_each_report_is_of_the_steps_since_the_last(clock):
    def batches():
        for wait_s in (5.0, 5.0, 1.0, 1.0):
            clock.now += wait_s
            yield torch.zeros(4), torch.zeros(4)

    diary = Diary(clock=clock)
    rhythm = Rhythm(log_steps=2)
    run_loop(diary, batches(), steps=4, rhythm=rhythm, hooks=diary.hooks(), stop=diary.stop, clock=clock)
    assert [report.figures["l1"] for report in diary.reports] == [1.5, 3.5]
    assert [report.images_per_s for report in diary.reports] == pytest.approx([8 / 10, 8 / 2])
    assert [report.waiting_share for report in diary.reports] == pytest.approx([1, 1])


def test_samples_come_after_the_scores_and_before_the_save():
    diary = Diary()
    hooks = replace(diary.hooks(), sample=lambda step: diary.lines.append(f"sample {step}"))
    rhythm = Rhythm(log_steps=100, save_steps=2, validate_steps=2, sample_steps=2)
    numbered = ((torch.full((4,), n), torch.zeros(4)) for n in itertools.count())
    run_loop(diary, numbered, steps=3, rhythm=rhythm, hooks=hooks, stop=diary.stop)
    events = [line for line in diary.lines if line.split()[0] in {"validate", "sample", "save"}]
    assert events == ["validate 2", "sample 2", "save 2", "validate 3", "sample 3", "save 3"]


@pytest.mark.parametrize(("at", "saved"), [(2, ["save 2"]), (3, ["save 2", "save 3"])])
def test_what_was_learned_is_saved_before_an_error_of_a_validation(at, saved):
    diary = Diary()
    hooks = diary.hooks()

    def validate(step):
        if step == at:
            raise LookupError

    diary.hooks = lambda: replace(hooks, validate=validate)
    with pytest.raises(LookupError):
        diary.run(steps=3, save=2, validate=1)
    assert [line for line in diary.lines if line.startswith("save")] == saved
    assert [line for line in diary.lines if line.startswith("step")] == [f"step {n} on batch {n}" for n in range(at)]


def test_a_validation_that_fails_where_a_run_goes_on_writes_nothing():
    diary = Diary(step=3)
    hooks = replace(diary.hooks(), validate=lambda _step: 1 / 0)
    diary.hooks = lambda: hooks
    with pytest.raises(ZeroDivisionError):
        diary.run(steps=3)
    assert diary.lines == []
