"""Values of `ddnsr train` that are written as text: steps and loss weights."""

from collections.abc import Iterable, Iterator
from dataclasses import fields

from ddnsr_cli.errors import ConfigError


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
    for name, value, text in named(given, "--loss", known):
        try:
            weights[name] = float(value)
        except ValueError as cause:
            raise ConfigError(f"--loss takes NAME=NUMBER, as in pixel=0.1; got {text!r}.") from cause
    return weights


def named(given: Iterable[str], option: str, known: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """(name, value, both as given). Raises ConfigError for a name that is not known."""
    for text in given:
        name, _, value = text.partition("=")
        if name not in known:
            raise ConfigError(f"{option} knows {', '.join(known)}; got {name!r}.")
        yield name, value, text
