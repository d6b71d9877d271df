"""Weights that a training run begins with: read, grown to the sizes of the run, and told in its record."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from ddnsr_cli.errors import ConfigError, TrainingError
from ddnsr_cli.files import sha256_of
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig
from ddnsr_cli.nets.net2net import grow_degrader, grow_rrdb
from ddnsr_cli.nets.rrdb import RRDBConfig, RRDBNet
from ddnsr_cli.weights.checkpoint import load_degrader, load_rrdb_net

Net = TypeVar("Net", RRDBNet, Degrader)
Sizes = TypeVar("Sizes", RRDBConfig, DegraderConfig)


def initial_sr_net(weights: Path, sizes: RRDBConfig, seed: int) -> RRDBNet:
    """The reconstruction network of a file, in float, grown to `sizes`. seed: of what is new in it.

    Raises WeightsError for a file of no use, TrainingError when a size would shrink.
    """
    return _grown(weights, load_rrdb_net(weights)[0].float(), sizes, seed, grow_rrdb)


def initial_degrader(weights: Path, sizes: DegraderConfig, seed: int) -> Degrader:
    """The same for a degrader."""
    return _grown(weights, load_degrader(weights)[0].float(), sizes, seed, grow_degrader)


def describe_weights(weights: Path | None) -> dict[str, str] | None:
    """What a record says of weights: name and SHA-256."""
    return None if weights is None else {"file": weights.name, "sha256": sha256_of(weights)}


def other_initial_weights(saved: Mapping[str, Any], given: Mapping[str, Path | None]) -> dict[str, tuple[str, str]]:
    """Which weights differ from those that a saved run began with: option -> (before, now), starts of their SHA-256.

    given: by option, as in `--start-from`. Weights to begin with are not needed any more: they may be left out, or
    be gone.
    """
    changed = {}
    for option, weights in given.items():
        if weights is not None and weights.is_file():
            before = (saved.get(option.removeprefix("--").replace("-", "_")) or {}).get("sha256", "nothing")[:12]
            now = sha256_of(weights)[:12]
            if before != now:
                changed[option] = before, now
    return changed


def _grown(weights: Path, net: Net, sizes: Sizes, seed: int, grow: Callable[[Net, Sizes, torch.Generator], Net]) -> Net:
    try:
        return grow(net, sizes, torch.Generator().manual_seed(seed))
    except ConfigError as cause:
        raise TrainingError(f"{weights}: {cause}") from cause
