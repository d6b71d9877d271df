"""Options of degradations by rule, as `ddnsr train` and `ddnsr degrade` take them."""

from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddnsr_cli.cli.train_values import named
from ddnsr_cli.errors import ConfigError

if TYPE_CHECKING:
    from ddnsr_cli.data.degradation_config import DegradationConfig


class DegradationPreset(StrEnum):
    """What LR images made by rule look like: names of `PRESETS`."""

    CLASSIC = "classic"
    PHOTO = "photo"
    MILD = "mild"
    TRACK1 = "track1"


Preset = Annotated[
    DegradationPreset | None,
    typer.Option(
        "--degradation-preset",
        help="LR made by rule looks like this: classic (default), photo (of phones and the web), mild, or track1.",
        rich_help_panel="Method",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--degradation",
        help="One setting of the preset is changed, as in --degradation noise_sigma=0,30; again for more.",
        rich_help_panel="Method",
    ),
]


def degradation(preset: DegradationPreset | None, given: Iterable[str] | None) -> "DegradationConfig":
    """A preset refined by ["noise_sigma=0,30", "jpeg_chance=0.8"]. Raises ConfigError."""
    from ddnsr_cli.data.degradation_config import PRESETS

    chosen = PRESETS[preset or DegradationPreset.CLASSIC]
    plain = vars(chosen)
    changed: dict[str, Any] = {}
    for name, value, text in named(given or [], "--degradation", [name for name in plain if name != "scale"]):
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
    return replace(chosen, **changed)
