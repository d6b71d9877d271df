"""The figures of a run, read back from its log."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, float]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One figure over the steps: rising steps, finite values, at least one."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class History:
    """What a log tells."""

    step: int
    """Of the newest row; 0 for an empty log."""

    curves: dict[str, Curve]
    """By the name in the log, in the order of appearance."""

    left_out: int
    """Lines that hold no row, as a kill leaves them."""


def read_history(log: Path) -> History:
    """Read `log.jsonl`; a missing file is an empty log. Raises OSError as the file system does.

    A run that goes on from a save repeats the steps since: when a row's step is below the newest, what stood from
    there on was lost, and is left out. Values that are no finite numbers are left out too.
    """
    points: dict[str, list[Point]] = {}
    newest = left_out = 0
    for line in log.read_bytes().splitlines() if log.exists() else []:
        row = _row(line)
        if row is None:
            left_out += 1
            continue
        step = row["step"]
        if step < newest:
            _forget_from(step, points)
        newest = step
        _add(row, points)
    return History(step=newest, curves={name: _curve(seen) for name, seen in points.items() if seen}, left_out=left_out)


def _row(line: bytes) -> Mapping[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int else None


def _forget_from(step: int, points: Mapping[str, list[Point]]) -> None:
    for seen in points.values():
        while seen and seen[-1][0] >= step:
            seen.pop()


def _add(row: Mapping[str, Any], points: dict[str, list[Point]]) -> None:
    step = row["step"]
    for name, value in row.items():
        if name == "step" or type(value) not in (int, float) or not math.isfinite(value):
            continue
        seen = points.setdefault(name, [])
        if seen and seen[-1][0] == step:
            seen.pop()
        seen.append((step, float(value)))


def _curve(seen: list[Point]) -> Curve:
    steps, values = zip(*seen, strict=True)
    return Curve(steps=np.array(steps, np.int64), values=np.array(values, np.float64))
