"""Every option of a training run, saved as JSON beside its weights."""

import math
from dataclasses import dataclass

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.nets.rrdb import RRDBConfig

LITE = RRDBConfig(features=32, blocks=3, growth=32)
"""A reconstruction network that a CPU runs quickly: 1.3 million parameters. Other programs read growth 32 only."""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Learning rate over the steps: a rise, a plateau, a straight fall to zero."""

    steps: int = 20_000
    """Optimiser steps in all."""

    peak: float = 5e-4
    """Learning rate on the plateau."""

    rise_steps: int = 100
    """Steps from zero to the plateau."""

    fall_share: float = 0.3
    """Share of all steps, at the end, over which the rate falls to zero."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.rise_steps < 0 or not 0 <= self.fall_share <= 1 or not 0 < self.peak < math.inf:
            raise ConfigError(f"A schedule needs steps >= 1, a peak > 0 and a fall_share in [0, 1], got {self}.")

    def rate(self, step: int, *, first: int = 0) -> float:
        """Learning rate of step `step`, counted from 0, of a network that learns from step `first` on."""
        rise = min(1.0, max(0.0, (step - first + 1) / self.rise_steps)) if self.rise_steps else 1.0
        fall_steps = max(1.0, self.fall_share * self.steps)
        fall = min(1.0, max(0.0, (self.steps - step) / fall_steps))
        return self.peak * min(rise, fall)


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
