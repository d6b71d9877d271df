"""Which worker on Ray gets which image, and what becomes of those that die: against a stand-in for Ray."""

import pickle
import re
from copy import copy
from pathlib import Path
from types import SimpleNamespace

import pytest

from ddnsr_cli.commands import ray_workers as module
from ddnsr_cli.commands.ray_workers import Failure, RayOptions, RayWorkers, Ready, Sentence, ray_workers
from ddnsr_cli.commands.upscale.jobs import Job
from ddnsr_cli.commands.upscale.options import Skipped, Started, UpscaleOptions
from ddnsr_cli.errors import DeviceError, ImageReadError, UnexpectedError, WeightsError

READY = Ready(model=("net", "5e"), pid=1, host="here", sentences=(Sentence(to="note", text="mind the terms"),))


class RayError(Exception):
    pass


class RayTaskError(RayError):
    cause = ValueError("other\nversion")


def done(job):
    yield Started(input=job.source, output=job.target, remade=None)
    yield Skipped(input=job.source, output=job.target)


class FakeActor:
    """Answers with `answer` when it starts, and a job with what `does` gives."""

    def __init__(self, answer=READY, does=done):
        self.answer, self.does, self.killed = answer, does, False
        self.start = SimpleNamespace(remote=self._start)
        self.work = SimpleNamespace(options=lambda num_returns: SimpleNamespace(remote=self._work))

    def _start(self):
        return Reference(self.answer)

    def _work(self, job):
        return map(Reference, self.does(job))


class Reference:
    def __init__(self, value):
        self.value = value


def get(reference):
    if isinstance(reference.value, Exception):
        raise reference.value
    return pickle.loads(pickle.dumps(reference.value))  # as between processes


def fake_ray(wait=lambda turns, num_returns, timeout: (turns[-1:], turns[:-1])):
    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
    return SimpleNamespace(wait=wait, get=get, kill=lambda actor: setattr(actor, "killed", True), exceptions=exceptions)


@pytest.fixture
def notes():
    return []


@pytest.fixture
def say(notes):
    return lambda to, text: notes.append(text) if to == "note" else None


@pytest.fixture
def workers(say):
    """`workers(*actors)`: those, begun; who dies is replaced by a copy of the last."""

    def begin(*actors, ray=None):
        coming = list(actors)
        begun = RayWorkers(
            ray or fake_ray(), lambda: coming.pop(0) if coming else copy(actors[-1]), say, begins=Started
        )
        begun.begin(len(actors))
        return begun

    return begin


def jobs(number):
    return [Job(source=Path(f"{index}.png"), target=Path(f"out/{index}.png")) for index in range(number)]


def ended(outcomes):
    """Names of the images by what they ended with."""
    return {job.source.stem: outcome for job, outcome in outcomes if not isinstance(outcome, Started)}


def test_all_images_are_done_and_no_more_are_taken_than_there_are_workers(workers, notes):
    taken = []
    actors = [FakeActor(), FakeActor(), FakeActor()]
    begun = workers(*actors)
    finished = 0
    for _, outcome in begun.outcomes(taken.append(job) or job for job in jobs(50)):
        assert len(taken) <= finished + 3
        finished += not isinstance(outcome, Started)
    assert finished == len(taken) == 50
    assert notes == ["mind the terms"]  # once, whoever says it
    begun.end()
    assert all(actor.killed for actor in actors)


def test_the_image_of_a_dead_worker_is_done_again_and_no_other(workers, notes):
    seen = []

    def dies_once(job):
        seen.append(job.source.stem)
        if seen.count("2") == 1 and job.source.stem == "2":
            return iter([Started(input=job.source, output=job.target, remade=None), RayError()])
        return done(job)

    outcomes = list(workers(FakeActor(does=dies_once)).outcomes(jobs(5)))
    assert sorted(seen) == ["0", "1", "2", "2", "3", "4"]
    assert all(isinstance(outcome, Skipped) for outcome in ended(outcomes).values())
    assert len([1 for _, outcome in outcomes if isinstance(outcome, Skipped)]) == 5
    assert notes[-1] == "2.png: its worker died; it is done again"


def test_an_image_that_kills_its_worker_fails_at_the_third_time_and_the_rest_go_on(workers):
    seen = []

    def dies(job):
        seen.append(job.source.stem)
        return iter([RayError()]) if job.source.stem == "1" else done(job)

    actors = [FakeActor(does=dies), FakeActor(does=dies)]
    end = ended(workers(*actors).outcomes(jobs(4)))
    assert seen.count("1") == 3
    assert isinstance(end["1"], DeviceError)
    assert "1.png: 3 workers died of it" in str(end["1"])
    assert [type(end[name]) for name in "023"] == [Skipped] * 3


def test_a_death_after_the_last_message_repeats_nothing(workers):
    seen = []

    def dies_late(job):
        seen.append(job.source.stem)
        yield from done(job)
        yield RayError()

    assert len(ended(workers(FakeActor(does=dies_late)).outcomes(jobs(3)))) == 3
    assert seen == ["0", "1", "2"]


def test_a_failure_comes_with_what_it_was_raised_from(workers):
    def fails(job):
        error = ImageReadError("x.png is damaged.")
        error.__cause__ = OSError(28, "No space left on device")
        yield Failure.of(error)

    (error,) = ended(workers(FakeActor(does=fails)).outcomes(jobs(1))).values()
    assert (str(error), error.__cause__.errno) == ("x.png is damaged.", 28)
    assert "No space left" in error.__notes__[0]


def test_what_a_worker_cannot_take_is_a_failure_of_that_image(workers):
    end = ended(workers(FakeActor(does=lambda job: iter([RayTaskError()]))).outcomes(jobs(2)))
    assert [type(error) for error in end.values()] == [UnexpectedError] * 2
    assert "(other version)" in str(end["0"])


def test_a_worker_that_dies_early_is_left_out_and_without_any_the_run_ends(workers):
    actors = [FakeActor(), FakeActor(answer=RayError())]
    assert len(ended(workers(*actors).outcomes(jobs(6)))) == 6
    with pytest.raises(DeviceError, match="die before they are ready"):
        workers(FakeActor(answer=RayError()))


def test_an_error_of_the_start_is_raised(workers):
    with pytest.raises(WeightsError, match="no such"):
        workers(FakeActor(answer=Failure.of(WeightsError("no such"))))


def test_workers_that_do_not_come_are_reported_once(workers, notes):
    answers = [[], [], None]

    def wait(turns, num_returns, timeout):
        answer = answers.pop(0)
        return (turns if answer is None else answer), []

    workers(FakeActor(), ray=fake_ray(wait))
    assert notes == ["no worker has started yet: the cluster has no room, or is slow", "mind the terms"]


@pytest.mark.parametrize(
    ("device", "asked", "resources", "each", "count"),
    [
        ("auto", None, {"CPU": 6.0}, {"num_cpus": 1, "num_gpus": 0}, 6),
        ("auto", 2, {"CPU": 6.0}, {"num_cpus": 1, "num_gpus": 0}, 2),
        ("auto", None, {"CPU": 64.0, "GPU": 4.0}, {"num_cpus": 1, "num_gpus": 1}, 4),
        ("cuda", 12, {"CPU": 64.0, "GPU": 4.0}, {"num_cpus": 1, "num_gpus": 1 / 3}, 12),
        ("cpu", None, {"CPU": 64.0, "GPU": 4.0}, {"num_cpus": 1, "num_gpus": 0}, 64),
    ],
)
def test_a_worker_has_a_gpu_a_share_of_one_or_a_core(say, monkeypatch, device, asked, resources, each, count):
    made, wanted = [], {}

    def remote(**needs):
        wanted.update(needs)
        return lambda _: SimpleNamespace(remote=lambda *given, **_: made.append(given) or FakeActor())

    ray = fake_ray()
    ray.remote, ray.cluster_resources, ray.is_initialized = remote, lambda: resources, lambda: True
    monkeypatch.setattr(module, "import_ray", lambda: ray)
    options = UpscaleOptions(device=device, ray=RayOptions(workers=asked))
    with ray_workers(options.ray, options, tuple, say, begins=Started) as workers:
        assert len(ended(workers.outcomes(jobs(3)))) == 3
    assert (wanted, len(made)) == (each, count)
    assert made[0][0].args[0].device == ("cpu" if not each["num_gpus"] else device)


def test_a_gpu_that_no_node_has_is_refused(say, monkeypatch):
    ray = fake_ray()
    ray.cluster_resources, ray.is_initialized = lambda: {"CPU": 4.0}, lambda: True
    monkeypatch.setattr(module, "import_ray", lambda: ray)
    options = UpscaleOptions(device="cuda")
    with pytest.raises(DeviceError, match="has a GPU"), ray_workers(RayOptions(), options, tuple, say):
        pass


def test_the_local_path_imports_nothing_of_ray():
    package = Path(__file__).parents[2] / "ddnsr_cli"
    imports = r"^( *)(?:import ray\b|from ray\b)"
    found = [(path, depth) for path in package.rglob("*.py") for depth in re.findall(imports, path.read_text(), re.M)]
    ((path, depth),) = found
    assert path == package / "commands" / "ray_workers.py"
    assert depth  # within a function, when it is asked for


def test_workers_with_other_weights_under_the_same_name_are_refused(workers):
    other = Ready(model=("net", "6f"), pid=2, host="there", sentences=())
    in_turn = fake_ray(wait=lambda turns, num_returns, timeout: (turns[:1], turns[1:]))
    begun = workers(FakeActor(), FakeActor(answer=other), FakeActor(), ray=in_turn)
    with pytest.raises(WeightsError, match="another file for net"):
        list(begun.outcomes(jobs(9)))
