"""Options that several commands share, and values of options that are written as text."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddnsr_cli.data.config import NoiseInput
from ddnsr_cli.errors import ConfigError, ImageReadError
from ddnsr_cli.files import StorePath, ends_in_separator, is_folder, is_there, path_at

if TYPE_CHECKING:
    from ddnsr_cli.commands.ray_workers import RayOptions
    from ddnsr_cli.io.selection import Selection, Shard

if TYPE_CHECKING:
    from ddnsr_cli.commands.train.pair_sources import SourcePaths
    from ddnsr_cli.data.config import DegradationConfig
    from ddnsr_cli.training.paired_options import PairSource, SourceKind

Model = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        help="Model: a name of ddnsr weights list, which marks the default; or a file, a run folder, or "
        "org/repo[:file] on the Hub.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", "-g", help="Device to compute on: auto, cpu, cuda, cuda:1, mps ... (-1 is cpu, 0 is cuda:0)."
    ),
]
LrSuffix = Annotated[
    str | None,
    typer.Option(
        "--lr-suffix",
        help="What the names of LR images end in and those of their partners lack, as x4 for 0001x4.png. By default "
        "it is found where all have it.",
        rich_help_panel="Pairs",
    ),
]
ModCrop = Annotated[
    bool,
    typer.Option(
        "--mod-crop",
        help="Cut HR images to whole LR pixels, on the right and below, where sizes are no multiples.",
        rich_help_panel="Pairs",
    ),
]
NullEnded = Annotated[
    bool,
    typer.Option("-0", "--null", help="End each path on stdout with a NUL instead of a line feed, as for xargs -0."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the network.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print results and errors only.")]
ImageList = Annotated[
    Path | None,
    typer.Option("--list", help="File that names the images, one path a line, without quotes. - reads it from stdin."),
]
Again = Annotated[
    bool, typer.Option("--again", help="Take results of ddnsr itself in folders, too. By default they are left out.")
]
ShardOf = Annotated[
    str | None,
    typer.Option(
        "--shard", metavar="<i/n>", help="Do only part i of n, from 1/n to n/n, for several processes or machines."
    ),
]


def path_of(text: str) -> Path:
    """A path as it was given. Raises ConfigError where nothing was: `Path` makes the whole current folder of that."""
    if not text:
        raise ConfigError("A path on the command line is empty: was a variable not set? For this folder say '.'.")
    if isinstance(path_at(text), StorePath):
        raise ConfigError(f"{text} is the address of a store, and here files are meant. Copy it to a folder.")
    return Path(text)


def path_or_address(text: str) -> Path:
    """A path, or the address of a store. Raises ConfigError as `path_of`."""
    path = path_at(text)
    return path if isinstance(path, StorePath) else path_of(text)


def folder_of(text: str) -> Path:
    """A path of what cannot go to standard output. Raises ConfigError for `-`, and as `path_of`."""
    if text == "-":
        raise ConfigError(
            "- is standard output, which takes no folder and no page. Name a place, or ./- if you mean it."
        )
    return path_of(text)


def file_of(text: str) -> Path:
    """A path of a file, as `folder_of`. Raises ConfigError for one that ends in a separator, too."""
    if ends_in_separator(text):
        raise ConfigError(f"{text} ends in {text[-1]}, as a folder does, and here a file is meant. Name one in it.")
    return folder_of(text)


def dashed_file(words: Iterable[str]) -> str | None:
    """How to write the first word that is taken for options, and is the name of a file: `-top.png` as `./-top.png`."""
    dashed = (word for word in words if len(word) > 1 and word[0] == "-" != word[1] and is_there(Path(word)))
    return next((f"./{word}" for word in dashed), None)


def path_end(*, null: bool, as_json: bool) -> bytes:
    """What ends a path on stdout. Raises ConfigError where there are to be lines of JSON instead of paths."""
    if null and as_json:
        raise ConfigError("--json prints lines of JSON, and -0 ends paths. Give one of them.")
    return b"\0" if null else b"\n"


def selected(
    named: list[Path], image_list: Path | None, shard: str | None, *, again: bool = False, example: str
) -> "tuple[list[Path], Selection]":
    """(the inputs, and which of their images are meant). example: a command to try where nothing was named.

    Raises ConfigError for options that say nothing or two things, ImageReadError for a list that cannot be read.
    """
    from ddnsr_cli.io.selection import Selection, read_list

    if not named and image_list is None:
        dashed = dashed_file(sys.argv[1:])
        way_out = f"If {dashed[2:]} is meant, write {dashed}" if dashed else f"Try: {example}"
        raise ConfigError(f"No image was given. {way_out}")
    part = None if shard is None else _shard(shard)
    if image_list is None:
        return named, Selection(shard=part, again=again)
    if named:
        raise ConfigError("Images are given by name and by --list. Give one of them.")
    try:
        content = sys.stdin.buffer.read() if str(image_list) == "-" else image_list.read_bytes()
    except OSError as error:
        raise ImageReadError(
            f"The list {image_list} cannot be read ({error.strerror or error}). Check the name."
        ) from error
    return read_list(content, str(image_list)), Selection(from_list=True, shard=part, again=again)


def _shard(text: str) -> "Shard":
    from ddnsr_cli.io.selection import Shard

    index, slash, count = text.partition("/")
    if not (slash and index.isascii() and index.isdigit() and count.isascii() and count.isdigit()):
        raise ConfigError(f"--shard takes I/N, as in 1/4 for the first of four parts; got {text!r}.")
    return Shard(index=int(index), count=int(count))


Folders = tuple[Path | None, Path | None]
"""(hr, lr)"""


def steps_of(text: str | None) -> tuple[int, ...] | None:
    """ "5000,8000" as numbers. Raises ConfigError."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError as cause:
        raise ConfigError(f"--lr-milestones takes steps with commas between, as in 5000,8000; got {text!r}.") from cause


def loss_weights(given: Iterable[str]) -> dict[str, float]:
    """["pixel=0.1"] as {"pixel": 0.1}. Raises ConfigError."""
    from ddnsr_cli.training.options import LossWeights

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


NoiseFrom = Annotated[
    NoiseInput | None,
    typer.Option(
        help="What the degrader is given of a noisy image: the noise of its smooth parts (smooth, the default), or a "
        "crop as it is (crop), whose subject shows faintly in the result.",
        rich_help_panel="Method",
    ),
]


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
        help="Make LR images by rule as classic (the default), photo (phones and the web), mild, or track1.",
        rich_help_panel="Method",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--degradation",
        help="Change a setting of the preset, as in --degradation noise_sigma=0,30. Repeat it for more.",
        rich_help_panel="Method",
    ),
]


def degradation(preset: DegradationPreset | None, given: Iterable[str] | None) -> "DegradationConfig":
    """A preset refined by ["noise_sigma=0,30", "jpeg_chance=0.8"]. Raises ConfigError."""
    from ddnsr_cli.data.config import PRESETS

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


Rule = tuple[DegradationPreset | None, Sequence[str]]
"""(preset, settings) of degradations made on the way."""


def source_of(folders: Folders, rule: Rule) -> tuple["PairSource", "SourcePaths"]:
    """The only source: HR images with ready LR partners, or degraded on the way. Raises ConfigError."""
    from ddnsr_cli.commands.train.pair_sources import SourcePaths
    from ddnsr_cli.training.paired_options import PairSource, SourceKind

    (hr, lr), (preset, settings) = folders, rule
    if hr is None:
        raise ConfigError("Pairs need clean images. Give their folder with --hr, or sources with --mix.")
    if lr is None:
        made = degradation(preset, settings)
        return PairSource(degradation=made), SourcePaths(hr=hr)
    if preset or settings:
        raise ConfigError("--degradation is for LR partners made on the way; --lr gives ready ones. Leave one out.")
    return PairSource(kind=SourceKind.READY, degradation=None), SourcePaths(hr=hr, lr=lr)


def sources_of(mix: Sequence[str], folders: Folders, rule: Rule) -> list[tuple["PairSource", "SourcePaths"]]:
    """The sources of `NAME=SHARE`. Raises ConfigError or DataError for a name that is none, or lacks its folders."""
    preset, settings = rule
    if preset is not None:
        raise ConfigError(f"--mix names the presets itself, as in --mix {preset}=0.5. Leave --degradation-preset out.")
    found = [_named_source(name, share, folders, settings) for name, share in _shares(mix)]
    _refuse_unread({source.kind for source, _ in found}, folders, settings)
    return found


def _refuse_unread(kinds: "set[SourceKind]", folders: Folders, settings: Sequence[str]) -> None:
    """Raises ConfigError for an option that no kind of source asks for."""
    from ddnsr_cli.training.paired_options import SourceKind

    rule, learned = SourceKind.RULE in kinds, SourceKind.LEARNED in kinds
    given = {"--hr": folders[0], "--lr": folders[1], "--degradation": settings}
    read = {"--hr": rule or learned, "--lr": learned, "--degradation": rule}
    for option, value in given.items():
        if value and not read[option]:
            raise ConfigError(f"No source of --mix has a use for {option}. Leave it out.")


def _shares(mix: Sequence[str]) -> Iterator[tuple[str, float]]:
    for text in mix:
        name, _, number = text.rpartition("=")
        try:
            share = float(number)
        except ValueError:
            share = 0.0
        if not name or not 0 < share < float("inf"):
            raise ConfigError(f"--mix takes SOURCE=SHARE with a share above 0, as in photo=0.6; got {text!r}.")
        yield name, share


def _named_source(
    name: str, share: float, folders: Folders, settings: Sequence[str]
) -> tuple["PairSource", "SourcePaths"]:
    from ddnsr_cli.commands.train.pair_sources import SourcePaths
    from ddnsr_cli.data.targets import find_pair_folders
    from ddnsr_cli.training.paired_options import PairSource, SourceKind
    from ddnsr_cli.weights.resolve import RUN_WEIGHTS

    hr, lr = folders
    if name in set(DegradationPreset):
        if hr is None:
            raise ConfigError(f"--mix {name} degrades clean images. Give their folder with --hr.")
        made = degradation(DegradationPreset(name), settings)
        return PairSource(share=share, degradation=made), SourcePaths(hr=hr)
    path = home_path(name)
    if is_folder(path) and not (path / RUN_WEIGHTS["degrader"]).is_file():
        ready_lr, ready_hr = find_pair_folders(path)
        ready = PairSource(kind=SourceKind.READY, share=share, degradation=None)
        return ready, SourcePaths(hr=ready_hr, lr=ready_lr)
    if hr is None or lr is None:
        presets = ", ".join(DegradationPreset)
        raise ConfigError(
            f"--mix takes the presets {presets}, folders of pairs, and degraders, for which --hr gives clean and --lr "
            f"noisy images; got {name!r}."
        )
    learned = PairSource(kind=SourceKind.LEARNED, share=share, degradation=None)
    return learned, SourcePaths(hr=hr, lr=lr, degrader=_degrader(name))


def home_path(text: str) -> Path:
    """A path with `~` as the home, where no shell has put it in, as in `--start-from=~/net.safetensors`."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - a user that there is not, is left as it is


def _degrader(name: str) -> Path:
    """The weights file of a degrader on this machine: a bundled name, a file, or a run. Raises WeightsError."""
    from ddnsr_cli.weights.registry import read_registry
    from ddnsr_cli.weights.resolve import find_weights

    return find_weights(name, registry=read_registry(), network="degrader", offline=True).path


ENGINE = "Speed and memory"

RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="<auto|address>",
        help="Work on the Ray cluster at an address; with auto on the one that runs here, or else on this machine.",
        rich_help_panel=ENGINE,
    ),
]
RayWorkers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of workers on Ray; more than GPUs share them. The default is one a GPU, or else one a core.",
        rich_help_panel=ENGINE,
    ),
]


def ray_options(address: str | None, workers: int | None) -> "RayOptions | None":
    """Raises ConfigError for workers of no use."""
    from ddnsr_cli.commands.ray_workers import RayOptions

    if address is None:
        if workers is not None:
            raise ConfigError("--ray-workers belongs to --ray. Add --ray auto, or leave it out.")
        return None
    return RayOptions(address=None if address == "auto" else address, workers=workers)
