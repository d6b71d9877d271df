"""What is compared: bicubic, networks, and pictures that other programs have made."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image

from ddnsr_cli.checkpoint import load_sr_net
from ddnsr_cli.device import choose_dtype
from ddnsr_cli.errors import ConfigError
from ddnsr_cli.images.tensors import to_pixels, to_tensor
from ddnsr_cli.images.tiles import TileConfig
from ddnsr_cli.inference import Upscaler
from ddnsr_cli.tiling import TensorSource
from ddnsr_cli.weights import FoundWeights
from ddnsr_cli.workflows.evaluation.subjects import SCALE, Opened, Rgb8, open_finished, rgb8

BICUBIC = "bicubic"


class Contestant(Protocol):
    """Something that has, or makes, an SR picture of every subject."""

    @property
    def label(self) -> str:
        """Its name in tables."""

    @property
    def origin(self) -> str:
        """Where its pictures are from, in a few words."""

    def picture(self, opened: Opened) -> Rgb8:
        """The SR picture of a subject, 4 times as large as its LR."""


@dataclass(frozen=True, kw_only=True)
class Bicubic:
    """Pillow's bicubic: what every model has to beat."""

    label: str = BICUBIC
    origin: str = "Pillow"

    def picture(self, opened: Opened) -> Rgb8:
        """See `Contestant`."""
        assert opened.lr is not None  # bicubic takes part only where there are LR pictures
        image = Image.fromarray(rgb8(opened.lr))
        return np.array(image.resize((SCALE * image.width, SCALE * image.height), Image.Resampling.BICUBIC))


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Pictures made elsewhere."""

    label: str
    origin: str
    paths: Mapping[str, Path]
    """By the name of the subject."""

    def picture(self, opened: Opened) -> Rgb8:
        """See `Contestant`. Raises ImageReadError or DataError, naming the file."""
        return open_finished(self.paths[opened.subject.name], opened)


@dataclass(frozen=True, kw_only=True)
class Network:
    """Weights, as they are: nothing is done to the network's result but rounding."""

    label: str
    origin: str
    engine: Upscaler
    note: Callable[[str], None]

    def picture(self, opened: Opened) -> Rgb8:
        """See `Contestant`. Raises what `Upscaler.bands` raises."""
        assert opened.lr is not None  # networks take part only where there are LR pictures
        height, width, channels = opened.lr.pixels.shape
        canvas = np.empty((SCALE * height, SCALE * width, 3), np.uint8)
        source = TensorSource(to_tensor(opened.lr.pixels))
        for band in self.engine.bands(source, on_note=self.note):
            rows = to_pixels(band.rows, dtype=np.uint8, gray=channels == 1)
            canvas[band.top : band.top + len(rows)] = rows
        return canvas


def load_network(found: FoundWeights, label: str, device: torch.device, note: Callable[[str], None]) -> Network:
    """A network on the device. Raises WeightsError for a file that is none, ConfigError for one that is not x4."""
    net, _ = load_sr_net(found.path)
    if net.traits.scale != SCALE:
        raise ConfigError(f"{found.name} enlarges {net.traits.scale} times; all that is compared enlarges {SCALE}.")
    engine = Upscaler(net, device=device, dtype=choose_dtype(device), tiles=TileConfig(), name=found.name)
    origin = f"sha256 {found.sha256}, {str(engine.dtype).removeprefix('torch.')} on {device}"
    return Network(label=label, origin=origin, engine=engine, note=note)


def labelled(text: str) -> tuple[str | None, str]:
    """`NAME=WHAT` as (NAME, WHAT), anything else as (None, it). A path that holds `=` behind a slash is a path."""
    name, equals, what = text.partition("=")
    if equals and name.strip() and what and "/" not in name and "\\" not in name:
        return name.strip(), what
    return None, text


def short_name(path_or_name: str) -> str:
    """What to call weights or a folder: the last part of a path, without a weights suffix; a Hub id as it is."""
    path = Path(path_or_name).expanduser()
    if path.is_dir():
        return path.resolve().name
    return path.stem if path.is_file() else path_or_name


def refuse_doubles(labels: Iterable[str]) -> None:
    """Raises ConfigError when two contestants are called the same."""
    seen: set[str] = set()
    for label in labels:
        if label in seen:
            raise ConfigError(f"Two of those compared are called {label!r}. Name one: NAME=MODEL, or --sr NAME=DIR.")
        seen.add(label)
