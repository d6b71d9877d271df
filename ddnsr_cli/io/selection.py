"""Which images there are to do, where a list names them or several processes share them."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddnsr_cli.errors import ConfigError, ImageReadError, shown
from ddnsr_cli.io.discovery import Found, OutputNames, distinct_stems, find_images


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One of several parts of the same images, for several processes that know nothing of each other.

    Which part an image belongs to follows from its relative path alone, so it stays there when others come or go.
    """

    index: int
    """From 1 to `count`."""

    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ConfigError(f"--shard I/N counts from 1 to N, as in 1/4 ... 4/4; got {self.index}/{self.count}.")

    def holds(self, relative: Path) -> bool:
        """Whether an image is of this part."""
        digest = hashlib.sha256(os.fsencode(relative.as_posix())).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How the images are named, and which of them are meant."""

    from_list: bool = False
    """The inputs are the lines of a list; see `listed_images`."""

    shard: Shard | None = None
    """None: all images."""

    def find(self, inputs: Sequence[Path], *, results: OutputNames) -> Iterator[Found]:
        """The images of all parts. Raises ImageReadError, at once, as `find_images` or `listed_images`."""
        return listed_images(inputs) if self.from_list else find_images(inputs, results=results)

    def holds(self, found: Found) -> bool:
        """Whether an image is meant."""
        return self.shard is None or self.shard.holds(found.relative)


def read_list(content: bytes, name: str) -> list[Path]:
    """The paths of a list, one a line, whatever their encoding; empty lines count as none.

    Raises ImageReadError where there is no path. name: what the list is called in a message.
    """
    lines = [line.rstrip(b"\r") for line in content.split(b"\n")]
    paths = [Path(os.fsdecode(line)) for line in lines if line.strip()]
    if not paths:
        raise ImageReadError(f"The list {name} is empty. Give a file with one path a line.")
    return paths


def listed_images(paths: Sequence[Path]) -> Iterator[Found]:
    """The images of a list, in its order, each once. Whether they can be read is reported when they are.

    The relative path of each is the path as it is listed, without the root and without `..`: it does not depend on the
    other lines. Raises ImageReadError, at once, where two files have the same, or a line can be no file's.
    """
    by_parts: dict[tuple[str, ...], Path] = {}
    names: dict[tuple[str, ...], list[str]] = {}
    for path in paths:
        parts = _below(path)
        if parts not in by_parts:
            by_parts[parts] = path
            names.setdefault(parts[:-1], []).append(parts[-1])
        elif os.path.abspath(by_parts[parts]) != os.path.abspath(path):  # noqa: PTH100 - links stay links
            first = shown(by_parts[parts])
            raise ImageReadError(f"{first} and {shown(path)} of the list would have one result. Take one out.")
    stems = {folder: distinct_stems(inside) for folder, inside in names.items()}
    return (
        Found(source=path, relative=Path(*parts), stem=stems[parts[:-1]][parts[-1]]) for parts, path in by_parts.items()
    )


def _below(path: Path) -> tuple[str, ...]:
    """The parts of a path below the root. Raises ImageReadError for a path without a name, such as `..`."""
    parts = tuple(part for part in path.parts if part not in (path.anchor, ".."))
    if not parts or path.name == "..":
        raise ImageReadError(f"The list names {shown(path)}, which is a folder. Name files, one a line.")
    return parts
