"""Images done by workers on a Ray cluster, or by Ray on this machine: each holds its network and does one at a time.

What a worker does, a command says by a function that makes a `Work`. Nothing of Ray is imported before it is asked for,
and nothing but this module knows of it.
"""

import math
import os
import pickle
import platform
import socket
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

from ddnsr_cli.errors import (
    ConfigError,
    DdnsrError,
    DeviceError,
    UnexpectedError,
    WeightsError,
    printable,
    shown,
)
from ddnsr_cli.inference.engine import usable_cores

MISSING = "--ray needs Ray, which is not installed. Get it with: pip install 'ddnsr[ray]'"
MOST_TRIES = 3
"""An image whose worker dies is done again twice; and so often in a row a worker may die before it is ready."""

WAIT_S = 30.0
"""After so long without a worker a note says so."""

CONNECT_TIMEOUT_S = 10.0
_STORE_BYTES = 100 << 20  # of a cluster of our own: images go by way of files, so next to nothing lies in it


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Workers on a Ray cluster, which may be this machine alone."""

    address: str | None = None
    """Of the cluster, as `ray.init` takes it; None: the one that runs here or that RAY_ADDRESS names, else a new one on
    this machine, gone at the end."""

    workers: int | None = None
    """How many, at most; None: one a GPU, or one a core where there are none or the device is the CPU. More than there
    are GPUs share them."""


Notify = Callable[[str, str], None]
"""(to, text): a sentence for the user as `note`, for the curious as `detail`, or for whoever else a command has."""


class HasSource(Protocol):
    """An image to do."""

    @property
    def source(self) -> Path:
        """Its file."""


Job = TypeVar("Job", bound=HasSource)
Event = TypeVar("Event")


class Work(Protocol):
    """What a worker does, once it has its network."""

    @property
    def model(self) -> tuple[str, str]:
        """Name and SHA-256 of the weights."""

    def work(self, job: Any) -> Iterator[Any]:  # noqa: ANN401 - each command has its own
        """Do one image; the events of it."""

    def failure(self, job: Any, error: Exception) -> DdnsrError:  # noqa: ANN401
        """What `work` raised, as the error of the image."""


class Options(Protocol):
    """Those of a command: a dataclass with `ray`, too."""

    @property
    def device(self) -> str:
        """As `choose_device` takes it."""


OpenWork = Callable[[Any, Notify], Work]
"""(options, notify): load the network. A function of a module, or a partial of one: it goes from process to process."""


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A sentence that a worker had."""

    to: str
    """As `Notify` takes it."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An error on its way between processes, where what it was raised from would be lost."""

    error: DdnsrError
    cause: Exception | None

    @classmethod
    def of(cls, error: DdnsrError) -> "Failure":
        """An error that can be pickled, with the traceback of its cause as a note."""
        cause = error.__cause__
        if not isinstance(cause, Exception):
            return cls(error=error, cause=None)
        error.add_note("".join(traceback.format_exception(cause)).rstrip())
        try:
            pickle.loads(pickle.dumps(cause))
        except Exception:  # noqa: BLE001  # classes of other packages fail as they like
            cause = None
        return cls(error=error, cause=cause)

    def restored(self) -> DdnsrError:
        """The error as it was raised."""
        self.error.__cause__ = self.cause
        return self.error


NewActor = Callable[[], Any]
"""Makes a worker; Ray starts it where there is room."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A worker has its network."""

    model: tuple[str, str]
    """Name and SHA-256 of the weights."""

    pid: int
    host: str
    sentences: tuple[Sentence, ...]


class RemoteWorker:
    """A worker in a process of its own: what Ray runs as an actor."""

    def __init__(self, open_work: Callable[[Notify], Work], folder: str) -> None:
        """folder: that of the driver, which relative paths start from; on another machine it may be missing."""
        self._open_work = open_work
        self._sentences: list[Sentence] = []
        self._work: Work | None = None
        with suppress(OSError):
            os.chdir(folder)

    def start(self) -> Ready | Failure:
        """Load the network."""
        import torch

        torch.set_num_threads(1)
        try:
            self._work = self._open_work(lambda to, text: self._sentences.append(Sentence(to=to, text=text)))
        except DdnsrError as error:
            return Failure.of(error)
        return Ready(model=self._work.model, pid=os.getpid(), host=platform.node(), sentences=self._taken())

    def work(self, job: HasSource) -> Iterator[Any]:
        """Do one image."""
        for message in self._messages(job):  # noqa: UP028 - Ray sends values into it, which `yield from` would hand on
            yield message

    def _messages(self, job: HasSource) -> Iterator[Any]:
        assert self._work is not None  # no job is sent before `start` has answered
        try:
            for event in self._work.work(job):
                yield from self._taken()
                yield event
        except Exception as error:  # noqa: BLE001  # a bug that one image meets does not stop the others either
            yield from self._taken()
            yield Failure.of(self._work.failure(job, error))

    def _taken(self) -> tuple[Sentence, ...]:
        sentences = tuple(self._sentences)
        self._sentences.clear()
        return sentences


@contextmanager
def ray_workers(
    ray_options: RayOptions, options: Options, open_work: OpenWork, notify: Notify, *, begins: type | None = None
) -> Iterator["RayWorkers[Any, Any]"]:
    """Workers that have started, one at least; they are gone after the block, and so is a cluster of our own.

    begins: the event that is not the last of its image.

    Raises ConfigError where Ray is missing or the device is none that Ray gives out, DeviceError where no cluster
    answers or no worker starts, and what loading the network raises.
    """
    if options.device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"With --ray, --device is auto, cpu or cuda: Ray gives out the GPUs; got {options.device}.")
    ray = import_ray()
    ours = _connect(ray, ray_options)
    workers: RayWorkers[Any, Any] | None = None
    try:
        new, count = _actors(ray, ray_options, options, open_work)
        workers = RayWorkers(ray, new, notify, begins=begins)
        workers.begin(count)
        yield workers
    finally:
        if workers is not None:
            workers.end()
        if ours:
            ray.shutdown()


def import_ray() -> Any:  # noqa: ANN401 - an optional package
    """Ray, with nothing to say on stdout, where events go: it would tell of dead workers there, as we do.

    Raises ConfigError where it is missing.
    """
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")  # read when it is imported
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ConfigError(MISSING) from error
    return ray


def _connect(ray: Any, options: RayOptions) -> bool:  # noqa: ANN401
    """Connect to the cluster; whether we did. Raises DeviceError."""
    if ray.is_initialized():  # by the program that calls us
        return False
    quiet = {"log_to_driver": False, "logging_level": "error"}
    asked = options.address or os.environ.get("RAY_ADDRESS")
    try:
        _refuse_unreachable(asked or _noted_address())
        ray.init(address=options.address or "auto", **quiet)
    except (ConnectionError, ValueError, OSError, RuntimeError) as error:
        if asked is not None:
            reason = printable(" ".join(str(error).split())[:200])
            raise DeviceError(
                f"Ray at {asked} cannot be used ({reason}). Give host:port as `ray start` shows it, or auto."
            ) from error
        cores = max(usable_cores(), options.workers or 0)
        ray.init(address="local", num_cpus=cores, object_store_memory=_STORE_BYTES, include_dashboard=False, **quiet)
    return True


def _refuse_unreachable(address: str | None) -> None:
    """Raises OSError where nobody listens at an address: Ray itself would try for a minute and a half."""
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()


def _noted_address() -> str | None:
    """Where the cluster of this machine was started; if it was killed since, the note of it is still there."""
    with suppress(OSError, ValueError):
        return Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster").read_text().strip()
    return None


def _actors(
    ray: Any,  # noqa: ANN401
    ray_options: RayOptions,
    options: Any,  # noqa: ANN401 - `Options`, and a dataclass
    open_work: OpenWork,
) -> tuple[NewActor, int]:
    """What makes a worker, and how many there are to be: one a GPU, or one a core; more than GPUs share them."""
    resources = ray.cluster_resources()
    gpus = 0 if options.device == "cpu" else int(resources.get("GPU", 0))
    if options.device == "cuda" and not gpus:
        raise DeviceError("No node of the Ray cluster has a GPU. Say --device cpu, or add one.")
    count = ray_options.workers or gpus or max(1, int(resources.get("CPU", 1)))
    actor = ray.remote(num_cpus=1, num_gpus=1 / math.ceil(count / gpus) if gpus else 0)(RemoteWorker)
    here = replace(options, ray=None, device=options.device if gpus else "cpu")
    return partial(actor.remote, partial(open_work, here), str(Path.cwd())), count


@dataclass(kw_only=True)
class _Assignment(Generic[Job]):
    """What one worker is at."""

    actor: Any

    job: Job | None
    """None: it starts."""

    tries: int = 1
    """With this one."""

    messages: Any = field(repr=False)
    """Of Ray, a generator of references; of a start one reference."""


class RayWorkers(Generic[Job, Event]):
    """Gives each worker an image when it is free. No more images are on their way than there are workers."""

    def __init__(self, ray: Any, new: NewActor, notify: Notify, *, begins: type | None) -> None:  # noqa: ANN401
        self._ray = ray
        self._new = new
        self._notify = notify
        self._begins = begins
        self._assignments: list[_Assignment[Job]] = []
        self._free: list[Any] = []
        self._again: deque[tuple[Job, int]] = deque()
        self._reported: set[Sentence] = set()
        self._model: tuple[str, str] | None = None

    def begin(self, count: int) -> None:
        """Start so many, and wait until one has its network. Raises what that raises."""
        for _ in range(count):
            self._start()
        while self._model is None:
            self._step()

    @property
    def model(self) -> tuple[str, str]:
        """Name and SHA-256 of the weights."""
        assert self._model is not None
        return self._model

    def outcomes(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Event | DdnsrError]]:
        """What happens to the images. One whose worker died is done again by another, MOST_TRIES times in all."""
        waiting = iter(jobs)
        while True:
            self._give_out(waiting)
            if not any(assignment.job for assignment in self._assignments) and not self._again and self._free:
                return
            yield from self._step()

    def end(self) -> None:
        """Stop all workers, whatever they are at."""
        for actor in (*self._free, *(assignment.actor for assignment in self._assignments)):
            self._stop(actor)

    def _stop(self, actor: Any) -> None:  # noqa: ANN401
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor)

    def _give_out(self, waiting: Iterator[Job]) -> None:
        while self._free:
            job, tries = self._again.popleft() if self._again else (next(waiting, None), 0)
            if job is None:
                return
            actor = self._free.pop()
            messages = actor.work.options(num_returns="streaming").remote(job)
            self._assignments.append(_Assignment(actor=actor, job=job, tries=tries + 1, messages=messages))

    def _start(self, tries: int = 1) -> None:
        actor = self._new()
        self._assignments.append(_Assignment(actor=actor, job=None, tries=tries, messages=actor.start.remote()))

    def _step(self) -> list[tuple[Job, Event | DdnsrError]]:
        """Wait for one message of a worker, and take it."""
        by_reference = {assignment.messages: assignment for assignment in self._assignments}
        ready: list[Any] = []
        while not ready:
            ready, _ = self._ray.wait(list(by_reference), num_returns=1, timeout=WAIT_S)
            if not ready and not any(assignment.job for assignment in self._assignments):
                self._report_once(
                    Sentence(to="note", text="no worker has started yet: the cluster has no room, or is slow")
                )
        assignment = by_reference[ready[0]]
        try:
            message = self._received(assignment)
        except self._ray.exceptions.RayTaskError as error:
            return self._broken(assignment, error)
        except self._ray.exceptions.RayError:
            return self._died(assignment)
        return self._taken(assignment, message)

    def _received(self, assignment: _Assignment[Job]) -> Any:  # noqa: ANN401 - an event of a command, or one of ours
        reference = assignment.messages if assignment.job is None else next(assignment.messages)
        return self._ray.get(reference)

    def _taken(self, assignment: _Assignment[Job], message: Any) -> list[tuple[Job, Event | DdnsrError]]:  # noqa: ANN401
        if isinstance(message, Sentence):
            self._notify(message.to, message.text)
            return []
        if isinstance(message, Ready):
            for sentence in message.sentences:
                self._report_once(sentence)
            self._notify("detail", f"a worker is ready: process {message.pid} on {message.host}")
            if self._model not in (None, message.model):
                raise WeightsError(
                    f"{message.host} has another file for {message.model[0]} than the other workers. Put the same "
                    "weights on all machines."
                )
            self._model = message.model
            self._release(assignment)
            return []
        if assignment.job is not None and self._begins is not None and isinstance(message, self._begins):
            return [(assignment.job, cast("Event", message))]
        outcome: Any = message.restored() if isinstance(message, Failure) else message
        if assignment.job is None:
            assert isinstance(outcome, DdnsrError)
            raise outcome
        self._release(assignment)  # by its last message: were it to die now, nothing would be done again
        return [(assignment.job, outcome)]

    def _release(self, assignment: _Assignment[Job]) -> None:
        self._assignments.remove(assignment)
        self._free.append(assignment.actor)

    def _broken(self, assignment: _Assignment[Job], error: Any) -> list[tuple[Job, Event | DdnsrError]]:  # noqa: ANN401
        """What goes between the processes could not be read there: another version, mostly."""
        reason = " ".join(str(error.cause).split())[:300]
        failure = UnexpectedError(f"A worker cannot take its work ({reason}). Is the same ddnsr on all nodes?")
        if assignment.job is None:
            raise failure from error
        self._release(assignment)
        return [(assignment.job, failure)]

    def _died(self, assignment: _Assignment[Job]) -> list[tuple[Job, Event | DdnsrError]]:
        """Another worker takes its place, and its image is done again."""
        self._assignments.remove(assignment)
        self._stop(assignment.actor)  # out of reach it may still be at work
        if assignment.job is None:
            self._died_early(assignment)
            return []
        self._start()
        name = shown(assignment.job.source)
        if assignment.tries >= MOST_TRIES:
            died = f"{name}: {MOST_TRIES} workers died of it. Memory may be short: try fewer (--ray-workers)."
            return [(assignment.job, DeviceError(died))]
        self._notify("note", f"{name}: its worker died; it is done again")
        self._again.append((assignment.job, assignment.tries))
        return []

    def _died_early(self, assignment: _Assignment[Job]) -> None:
        if assignment.tries < MOST_TRIES:
            self._start(assignment.tries + 1)
        elif not self._assignments and not self._free:
            raise DeviceError("The workers die before they are ready. Memory may be short: try fewer (--ray-workers).")

    def _report_once(self, sentence: Sentence) -> None:
        """Hand on once what each worker says when it starts."""
        if sentence not in self._reported:
            self._reported.add(sentence)
            self._notify(sentence.to, sentence.text)
