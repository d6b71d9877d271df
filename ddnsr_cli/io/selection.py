"""Which images there are to do, where a list names them or several processes share them."""

import codecs
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddnsr_cli.errors import ConfigError, ImageReadError, shown
from ddnsr_cli.files import StorePath, path_at
from ddnsr_cli.io.discovery import Found, OutputNames, distinct_stems, find_images
from ddnsr_cli.io.provenance import made_as


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

    again: bool = False
    """Take results of ddnsr itself that lie in folders, too."""

    def find(self, inputs: Sequence[Path], *, results: OutputNames, own: "OwnResults") -> Iterator[Found]:
        """The images of all parts, some results of ours still among them: `own.without` takes them out.

        Raises ImageReadError, at once, as `find_images` or `listed_images`.
        """
        if self.from_list:
            return listed_images(inputs)
        on_own = None if self.again else own.leave_out
        return find_images(inputs, results=results, on_own=on_own, on_empty=own.empty.append)

    def holds(self, found: Found) -> bool:
        """Whether an image is meant. Images of every shard may be in a folder that cannot be listed."""
        return self.shard is None or found.unlisted or self.shard.holds(found.relative)


class OwnResults:
    """What ddnsr made itself: left out where it lies in folders, for else each run would enlarge what the last made.

    It is known by the note in the file, whatever it is called, and beside its source by the name of its result, too.
    """

    def __init__(self, *, again: bool) -> None:
        """again: results are taken like all other images; sheets are not."""
        self.left_out: list[Path] = []
        self.empty: list[Path] = []
        """Folders that were named and in which nothing was found."""
        self._again = again

    def leave_out(self, path: Path) -> None:
        """Count a file or folder that was left out."""
        self.left_out.append(path)

    def without(self, found: Iterable[Found]) -> Iterator[Found]:
        """The images but those of ours. None is opened before its turn; what was named by itself always stays."""
        for one in found:
            if not one.named and (kind := made_as(one.source)) is not None and not (self._again and kind == "result"):
                self.leave_out(one.source)
            else:
                yield one

    @property
    def notes(self) -> list[str]:
        """Sentences for the user: on folders in which nothing was found, and on what was left out."""
        notes = [f"no image is in {shown(path)}" for path in self.empty]
        if self.left_out:
            notes.append(f"{self.listed} taken for ddnsr's own and left out (--again takes such files, too)")
        return notes

    @property
    def listed(self) -> str:
        """What was left out, as the beginning of a sentence. There has to be something."""
        first, more = shown(self.left_out[0]), len(self.left_out) - 1
        return f"{first} and {more} more were" if more else f"{first} was"

    def refusal(self, named: str) -> ImageReadError:
        """That nothing was found. named: the inputs, in words."""
        if not self.left_out:
            return ImageReadError(f"{named}: no image is in there. Name an image, or a folder that holds some.")
        made = len(self.left_out)
        return ImageReadError(
            f"{named}: all that is in there ({made}) was made by ddnsr. --again takes it all the same."
        )


def read_list(content: bytes, name: str) -> list[Path]:
    """The paths of a list, one a line, whatever their encoding; empty lines count as none.

    A byte order mark, with which programs on Windows begin a file, is no part of the first path; one of UTF-16 tells
    how to read the list. Raises ImageReadError where there is no path. name: what the list is called in a message.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and b"\0" in content:
        content = content.decode("utf-16", "replace").encode("utf-8", "replace")
    content = content.removeprefix(codecs.BOM_UTF8)
    lines = [line.rstrip(b"\r") for line in content.split(b"\n")]
    paths = [path_at(os.fsdecode(line)) for line in lines if line.strip()]
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
        Found(source=path, relative=Path(*parts), stem=stems[parts[:-1]][parts[-1]], named=True)
        for parts, path in by_parts.items()
    )


def _below(path: Path) -> tuple[str, ...]:
    """The parts of a path below the root. Raises ImageReadError for a path without a name, such as `..`."""
    parts = tuple(part for part in path.parts if part not in (path.anchor, ".."))
    if isinstance(path, StorePath):
        parts = parts[1:]
    if not parts or path.name == "..":
        raise ImageReadError(f"The list names {shown(path)}, which is a folder. Name files, one a line.")
    return parts
