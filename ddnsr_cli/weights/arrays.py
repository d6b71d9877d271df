"""Weights for engines that need no PyTorch: those of files that ddnsr and Real-ESRGAN write as safetensors."""

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.nets.arrays import Weights
from ddnsr_cli.nets.config import SCALES, CompactConfig, RRDBConfig, SrConfig

NETWORK_KEY, DEGRADER_KEY, VERSION_KEY = "ddnsr_network", "ddnsr_degrader", "ddnsr_version"
TERMS_KEY = "ddnsr_terms"
"""What files of ours say of themselves."""

MAX_VALUES = 250_000_000  # 1 GB as float32, 15 times the field's largest; a crafted file can claim any shape
MOST_TERMS = 300  # letters that are told of a file's terms
_STORED = ("F16", "F32")
_BODY = re.compile(r"body\.(\d+)\.")

Shapes = Mapping[str, tuple[int, ...]]


def read_arrays(path: Path) -> tuple[SrConfig, Weights] | None:
    """The sizes and the float32 weights of a network, as they lie in a safetensors file under the names of `nets`.

    None for any other file, damaged or not: `checkpoint.load_sr_net` takes all that can be taken, and says what is
    wrong with the others. That all weights of these sizes are there, and no others, `nets.arrays` will see.
    """
    with suppress(OSError, SafetensorError, ConfigError, LookupError, ValueError, TypeError, AttributeError):
        with safe_open(str(path), framework="numpy") as file:
            parts = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            shapes = {key: tuple(part.get_shape()) for key, part in parts.items()}
            is_degrader = DEGRADER_KEY in (file.metadata() or {})
            if is_degrader or any(part.get_dtype() not in _STORED for part in parts.values()):
                return None
            if sum(map(math.prod, shapes.values())) > MAX_VALUES:
                return None
            config = _sizes(shapes)
            weights = {key: file.get_tensor(key).astype(np.float32, copy=False) for key in parts}
        if all(np.isfinite(values).all() for values in weights.values()):
            return config, weights
    return None


def stated_terms(path: Path) -> str | None:
    """What a safetensors file says of terms under which its weights may be used; None: nothing."""
    with suppress(OSError, SafetensorError, ValueError, AttributeError):
        with safe_open(str(path), framework="numpy") as file:
            terms = str((file.metadata() or {}).get(TERMS_KEY, ""))
        return "".join(filter(str.isprintable, terms))[:MOST_TERMS] or None
    return None


def _sizes(shapes: Shapes) -> SrConfig:
    """As `layouts` has them. Raises LookupError, ValueError or ConfigError for another network."""
    numbers = {int(match[1]) for key in shapes if (match := _BODY.match(key))}
    if "conv_first.weight" in shapes:
        features, channels = shapes["conv_first.weight"][:2]
        (scale,) = (scale for scale in SCALES if channels == 3 * (4 // scale) ** 2)
        growth = shapes["body.0.rdb1.conv1.weight"][0]
        return RRDBConfig(features=features, blocks=len(numbers), growth=growth, scale=scale)
    layers = len(numbers)  # convolutions and slopes by turns
    scale = math.isqrt(shapes[f"body.{layers - 1}.weight"][0] // 3)
    return CompactConfig(features=shapes["body.0.weight"][0], convs=layers // 2 - 1, scale=scale)
