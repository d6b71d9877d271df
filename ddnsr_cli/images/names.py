"""Naming results."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.images.formats import format_of


@dataclass(frozen=True, kw_only=True)
class Found:
    """A picture, or what claims to be one."""

    source: Path
    """Where it is."""

    relative: Path
    """Where it is below the folder that was given; for a file that was named, its name."""

    stem: str
    """What its result is called, without suffix and extension; see `distinct_stems`."""


@dataclass(frozen=True, kw_only=True)
class OutputNames:
    """Where results go."""

    folder: Path | None
    """The folder of the results, in which the tree of the sources is repeated; None: each beside its source."""

    suffix: str = ""
    """Put after the stem."""

    extension: str | None = "png"
    """Format of the results, without a dot; None: as the source, or png where that cannot be written."""

    def __post_init__(self) -> None:
        if {"/", "\0", os.sep} & set(self.suffix):
            raise ConfigError(f"A suffix is a part of a name, without slashes; got {self.suffix!r}.")

    def target(self, found: Found) -> Path:
        """The path of the result for one picture."""
        name = self.name(found.source.name, found.stem)
        return found.source.with_name(name) if self.folder is None else self.folder / found.relative.with_name(name)

    def name(self, source_name: str, stem: str) -> str:
        """The file name of the result for a picture of that file name, with that distinct stem."""
        if self.extension is not None:
            return f"{stem}{self.suffix}.{self.extension}"
        source = Path(source_name)
        return stem + self.suffix + (source.suffix.lower() if format_of(source) else ".png")


def distinct_stems(names: Iterable[str]) -> dict[str, str]:
    """For each file name of one folder a stem for its result; no two are the same.

    It is the name without its extension. Where two would be the same both keep their extension: `a.jpg` and `a.png`
    give `a_jpg` and `a_png`, in whatever order they come.
    """
    choices = {name: (stem_of(name), "_".join(name.rsplit(".", 1)), name) for name in names}
    levels = dict.fromkeys(choices, 0)
    while True:
        stems = {name: choices[name][level] for name, level in levels.items()}
        times = Counter(stems.values())
        shared = [name for name, stem in stems.items() if times[stem] > 1 and levels[name] < 2]
        if not shared:
            return stems
        levels |= {name: levels[name] + 1 for name in shared}


def stem_of(name: str) -> str:
    """A file name without its extension, as `Path.stem` gives it, at a tenth of the time."""
    dot = name.rfind(".")
    return name[:dot] if 0 < dot < len(name) - 1 else name


def extension_of(name: str) -> str:
    """The extension of a file name in small letters, with its dot; none: empty."""
    return name[len(stem_of(name)) :].lower()
