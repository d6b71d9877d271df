"""The order of things in a run, the same for every kind of training: stop?, validate, sample, save, step, log; and what
every kind of step needs: number formats, levels as floats, averages of weights.

When a run is asked to stop, the step in hand is finished and the state saved; then it ends.
"""

import copy
import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ddnsr_cli.config import Precision
from ddnsr_cli.errors import ConfigError, DeviceError, NotFiniteError

Clock = Callable[[], float]
"""Seconds since some moment."""

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class StopAsked(Exception):  # noqa: N818  # no error: it was wished
    """A stop was asked for before there was anything to save."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("Stopped before the first step.")
        self.exit_code = exit_code


class StopRequest:
    """Remembers the first stop signal. A SIGINT after it interrupts at once."""

    def __init__(self, *, copies_s: float = 0.0, clock: Clock = time.monotonic) -> None:
        """copies_s: seconds in which a SIGINT is a copy of the first: a launcher hands on a Ctrl-C that the terminal
        has sent to all its processes already.
        """
        self.signal_number: int | None = None
        self._copies_s = copies_s
        self._clock = clock
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
            self.signal_number, self._since = number, self._clock()
        elif number == signal.SIGINT and self._clock() - self._since >= self._copies_s:
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


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """What happens every so many steps. Changes nothing in what is learned."""

    log_steps: int = 50
    """Steps between log lines."""

    save_steps: int = 500
    """Steps between saves: what a kill can cost."""

    keep_steps: int = 50_000
    """Steps between the saves of which a numbered copy is kept."""

    validate_steps: int = 1000
    """Steps between validations."""

    sample_steps: int = 1000
    """Steps between sample sheets."""

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 1:
            raise ConfigError(f"Steps between events are at least 1, got {self}.")


class Trainer(Protocol):
    """What the loop drives."""

    step: int

    @property
    def train_step(self) -> Callable[..., dict[str, float]]:
        """One step on a batch; gives its figures by name."""


class Stop(Protocol):
    """True once the run shall end."""

    def __bool__(self) -> bool:
        """Asked between steps."""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """The mean figures of the steps since the last report."""

    step: int
    figures: dict[str, float]
    images_per_s: float
    waiting_share: float
    """Share of the time spent waiting for data, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class LoopHooks:
    """What happens beside the steps. Each is given the number of steps done."""

    validate: Callable[[int], None]
    save: Callable[[int], None]
    report: Callable[[StepReport], None]
    tick: Callable[[int], None]
    """After every step; must be quick."""
    sample: Callable[[int], None] = lambda _step: None

    is_validated: Callable[[int], bool] = lambda _step: True
    """Whether the run that goes on from this step was validated there: one that was stopped there was not."""


def run_loop(
    trainer: Trainer,
    batches: Iterator[tuple[Tensor, ...]],
    *,
    steps: int,
    rhythm: Rhythm,
    hooks: LoopHooks,
    stop: Stop,
    clock: Clock = time.perf_counter,
) -> None:
    """Train until `steps` are done or a stop is asked for. The end is always reported and saved, and validated unless
    a stop was asked for.
    """
    meter = Meter(clock)
    start = trainer.step
    is_missed = start > 0 and start % rhythm.validate_steps == 0 and not hooks.is_validated(start)
    while trainer.step < steps and not stop:
        is_new = trainer.step > start
        if is_new or is_missed:
            if trainer.step % rhythm.validate_steps == 0:
                _validate(hooks, trainer.step, is_saved=not is_new)
            if trainer.step % rhythm.sample_steps == 0:
                hooks.sample(trainer.step)
        if is_new and trainer.step % rhythm.save_steps == 0:
            hooks.save(trainer.step)
        is_missed = False
        batch = meter.wait(batches)
        meter.add(trainer.train_step(*batch), images=len(batch[0]))
        hooks.tick(trainer.step)
        if trainer.step % rhythm.log_steps == 0:
            report, meter = meter.report(trainer.step), Meter(clock)
            hooks.report(report)
    if meter.rows:
        hooks.report(meter.report(trainer.step))
    if not stop:
        _validate(hooks, trainer.step, is_saved=trainer.step == start)
        hooks.sample(trainer.step)
    hooks.save(trainer.step)


def _validate(hooks: LoopHooks, step: int, *, is_saved: bool) -> None:
    """What was learned is saved before an error of a validation ends the run, which goes on with that validation."""
    try:
        hooks.validate(step)
    except Exception:
        if not is_saved:
            hooks.save(step)
        raise


class Meter:
    """Sums figures, images and waiting time between two reports."""

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self.clock = clock
        self.rows: list[dict[str, float]] = []
        self.images = 0
        self.waited_s = 0.0
        self.since = clock()

    def wait(self, batches: Iterator[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """The next batch; the time it takes counts as waiting."""
        start = self.clock()
        batch = next(batches)
        self.waited_s += self.clock() - start
        return batch

    def add(self, figures: dict[str, float], *, images: int) -> None:
        """Take in one step."""
        self.rows.append(figures)
        self.images += images

    def report(self, step: int) -> StepReport:
        """The means so far, of each figure over the steps that have it."""
        seconds = self.clock() - self.since
        seen: dict[str, list[float]] = {}
        for row in self.rows:
            for name, value in row.items():
                seen.setdefault(name, []).append(value)
        means = {name: sum(values) / len(values) for name, values in seen.items()}
        return StepReport(
            step=step,
            figures=means,
            images_per_s=self.images / seconds,
            waiting_share=self.waited_s / seconds,
        )


def mixed_precision(device: torch.device, precision: Precision) -> torch.autocast:
    """Within it, networks compute in the number format asked for."""
    half = precision is Precision.BF16 or (precision is Precision.AUTO and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=half)


def refuse_without_compiler(device: torch.device) -> None:
    """Compile a trifle. Raises DeviceError, saying why, where torch.compile does not work: mostly for want of gcc."""
    try:
        torch.compile(torch.neg)(torch.ones(2, device=device))
    except Exception as cause:  # compilers fail in classes of their own
        reason = " ".join(str(cause).partition("Set TORCHDYNAMO_VERBOSE")[0].split())[:200]
        raise DeviceError(
            f"--compile does not work on {device} here ({type(cause).__name__}: {reason}). Install a C++ compiler, or "
            f"leave --compile out."
        ) from cause


def to_floats(levels: Tensor, device: torch.device) -> Tensor:
    """uint8 levels (N, 3, H, W) as floats in [0, 1] on the device, channels last."""
    return levels.to(device, non_blocking=True).to(memory_format=torch.channels_last).float() / 255


def refuse_not_finite(figures: Mapping[str, float], step: int) -> None:
    """Raises NotFiniteError, naming the step and the figures that are NaN or infinite."""
    wrong = ", ".join(f"{name} {value:g}" for name, value in figures.items() if not math.isfinite(value))
    if wrong:
        raise NotFiniteError(
            f"Step {step} gave values that are not finite ({wrong}). Lower --learning-rate and run again."
        )


Net = TypeVar("Net", bound=nn.Module)


class Ema(Generic[Net]):
    """A slow copy of `net`: less noisy than the weights of any one step.

    The decay rises from 0.1 to `decay` over the first steps, so that the start is soon forgotten.
    """

    def __init__(self, net: Net, decay: float) -> None:
        self.average: Net = copy.deepcopy(net).eval().requires_grad_(requires_grad=False)
        self.decay = decay

    @torch.no_grad()
    def update(self, net: Net, step: int) -> None:
        """Take in the weights after step `step` (from 0)."""
        keep = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(_tensors(self.average.parameters()), _tensors(net.parameters()), 1 - keep)
        for slow, fast in zip(self.average.buffers(), net.buffers(), strict=True):
            slow.copy_(fast)


def _tensors(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [parameter.detach() for parameter in parameters]
