"""Values of `ddnsr train` that are written as text: steps, loss weights, degradations."""

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from ddnsr_cli.errors import ConfigError

if TYPE_CHECKING:
    from ddnsr_cli.data.degradation_config import DegradationConfig


def steps_of(text: str | None) -> tuple[int, ...] | None:
    """ "5000,8000" as numbers. Raises ConfigError."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError as cause:
        raise ConfigError(f"--halve-at takes steps with commas between, as in 5000,8000; got {text!r}.") from cause


def loss_weights(given: Iterable[str]) -> dict[str, float]:
    """["pixel=0.1"] as {"pixel": 0.1}. Raises ConfigError."""
    from ddnsr_cli.training.joint_options import LossWeights

    known = [field.name for field in fields(LossWeights)]
    weights = {}
    for name, value, text in _named(given, "--loss", known):
        try:
            weights[name] = float(value)
        except ValueError as cause:
            raise ConfigError(f"--loss takes NAME=NUMBER, as in pixel=0.1; got {text!r}.") from cause
    return weights


def degradation(preset: str, given: Iterable[str]) -> "DegradationConfig":
    """A preset refined by ["noise_sigma=0,30", "jpeg_chance=0.8"]. Raises ConfigError."""
    from ddnsr_cli.data.degradation_config import PRESETS

    plain = vars(PRESETS[preset])
    changed: dict[str, Any] = {}
    for name, value, text in _named(given, "--degradation", [name for name in plain if name != "scale"]):
        kind = type(plain[name])
        parts = value.split(",")
        try:
            numbers = tuple(int(part) if name == "jpeg_quality" else float(part) for part in parts)
        except ValueError:
            numbers = ()
        if len(numbers) != (2 if kind is tuple else 1):
            wanted = f"{name}=LOW,HIGH" if kind is tuple else f"{name}=CHANCE"
            raise ConfigError(f"--degradation takes {wanted} here, in whole numbers for jpeg_quality; got {text!r}.")
        changed[name] = numbers if kind is tuple else numbers[0]
    return replace(PRESETS[preset], **changed)


def _named(given: Iterable[str], option: str, known: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """(name, value, both as given). Raises ConfigError for a name that is not known."""
    for text in given:
        name, _, value = text.partition("=")
        if name not in known:
            raise ConfigError(f"{option} knows {', '.join(known)}; got {name!r}.")
        yield name, value, text
