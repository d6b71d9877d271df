"""Typed options as JSON and back, strictly: an unknown or missing key is refused, never skipped.

With the choices that the command line offers, too: it must not load what learns.
"""

import dataclasses
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from ddnsr_cli.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SCALE = 4
"""HR pixels per LR pixel along a side: of the degrader, and wherever nothing says otherwise."""

Options = TypeVar("Options", bound="DataclassInstance")


class Precision(StrEnum):
    """The number format of the networks that learn, of a teacher, and of VGG19 where it looks at HR images. Weights and
    losses stay in float32, and so does VGG19 where it looks at LR images."""

    AUTO = "auto"
    """bfloat16 on a GPU, float32 elsewhere."""

    BF16 = "bf16"
    """bfloat16: on a CPU with instructions for it, more than twice as fast."""

    FP32 = "fp32"


class TargetType(StrEnum):
    """What a clean HR image is."""

    DIV2K = "div2k"
    """The images of the HR folder, as they are."""

    CLEANUP = "cleanup"
    """The noisy source images, shrunk twice by antialiased bicubic: near the source in content and color."""

    MIXED = "mixed"
    """Both of the above, half the crops each."""

    CANON = "canon"
    """Images of another, better camera: the HR folder, as it is."""


def options_to_json(options: "DataclassInstance") -> dict[str, Any]:
    """A frozen dataclass of options, nested ones included, as what `json.dumps` takes."""
    return dataclasses.asdict(options)


def options_from_json(kind: type[Options], raw: Mapping[str, Any]) -> Options:
    """The inverse of `options_to_json`.

    Raises ConfigError for a key that `kind` does not have, or lacks.
    """
    hints = get_type_hints(kind)
    wanted = {field.name for field in dataclasses.fields(kind)}
    if odd := sorted(wanted ^ set(raw)):
        raise ConfigError(f"Options of {kind.__name__} do not match this version: {', '.join(odd)}.")
    return kind(**{name: _value_from_json(hints[name], value) for name, value in raw.items()})


def _value_from_json(hint: object, value: object) -> object:
    """JSON knows no tuples, no enums and no dataclasses: make them again from the field's type, `X | None` included."""
    for kind in (hint, *get_args(hint)):
        if get_origin(kind) is tuple and isinstance(value, list | tuple):
            return tuple(_value_from_json(get_args(kind)[0], item) for item in value)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
            return options_from_json(kind, value)
        if isinstance(kind, type) and issubclass(kind, StrEnum) and isinstance(value, str):
            return kind(value)
    return value


def changed_options(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    """Dotted name -> (before, after) of every value that differs between two `options_to_json` results.

    Options in a list have their place in it, from 1, as a name.
    """
    changed: dict[str, tuple[Any, Any]] = {}
    for name in sorted(before.keys() | after.keys()):
        old, new = _plain(before.get(name)), _plain(after.get(name))
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changed |= changed_options(old, new, f"{prefix}{name}.")
        elif old != new:
            changed[f"{prefix}{name}"] = (old, new)
    return changed


def unlike_names(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names that only one of two `options_to_json` results has, as of two versions; sorted."""
    names = [f"{prefix}{name}" for name in before.keys() ^ after.keys() if not name.isdigit()]  # lists may grow
    for name in before.keys() & after.keys():
        old, new = _plain(before[name]), _plain(after[name])
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            names += unlike_names(old, new, f"{prefix}{name}.")
    return sorted(names)


_OPTION_OF = (
    (r"stream\.crop_px", "--crop"),
    (r"schedule\.milestones", "--lr-milestones"),
    (r"compiled", "--compile"),
    (r"model_sha256", "-m"),
    (r"noise_set_sha256", "--noise-source"),
    (r"hr_source_sha256", "SHA-256 of the HR image"),
    (r"noise_sha256", "SHA-256 of the noisy image"),
    (r"hr_source_bytes", "bytes of the HR image"),
    (r"(?:sources\.\d+\.)?degradation(?:\.(\w+))?", r"--degradation \1"),
    (r"losses\.(\w+)", r"--loss \1"),
    (r"sources\.(\d+)(?:\.share)?", r"--mix number \1"),
    (r"sharpen(?:\.(\w+))?", r"--sharpen-targets \1"),
    (r"teacher\.truth_share", "--truth-share"),
)
_SAME_NAME = re.compile(
    r"(?:(?:sr_net|network)\.(features|blocks|growth|scale)"
    r"|stream\.(batch|seed|workers|noise_input)"
    r"|schedule\.(steps|learning_rate|warmup_steps)"
    r"|layers\.(perceptual|as_authors)"
    r"|(discriminator|gan|precision|teacher|degrader_only_steps|degrader_pretrain_steps|discriminator_first_steps"
    r"|discriminator_learning_rate|method|seed|cleanup|sigma|patch_variance|noise_input|kernels|kernel_steps))"
)


def option_of(name: str) -> str:
    """What a user calls a value by its dotted name: the option of the command line; the name itself where none is."""
    if match := _SAME_NAME.fullmatch(name):
        return f"--{match[match.lastindex or 0]}".replace("_", "-")
    found = (match.expand(option).strip() for pattern, option in _OPTION_OF if (match := re.fullmatch(pattern, name)))
    return next(found, name)


def in_words(value: object) -> str:
    """A value of an option for a message; options that only one side has are too many for a line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else "{...}" if isinstance(value, Mapping) else str(value)


def _plain(value: object) -> object:
    """Tuples as JSON has them, and lists of options by their places."""
    if not isinstance(value, list | tuple):
        return value
    if any(isinstance(item, Mapping) for item in value):
        return {str(place): item for place, item in enumerate(value, 1)}
    return list(value)
