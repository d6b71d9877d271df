"""Finding images, and naming results."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddnsr_cli.errors import ConfigError, ImageReadError, shown
from ddnsr_cli.files import StorePath, is_folder, is_there
from ddnsr_cli.io.formats import (
    CAMERA_RAW_EXTENSIONS,
    FOREIGN_EXTENSIONS,
    HEAD_BYTES,
    READABLE_EXTENSIONS,
    format_of,
    sniff,
)
from ddnsr_cli.io.provenance import holds_pairs, made_as

__all__ = ["Found", "OutputNames", "find_images"]

_IMAGE_EXTENSIONS = READABLE_EXTENSIONS | FOREIGN_EXTENSIONS
_MOST_WORDS = 10  # of a name that a shell split at its spaces, for a hint
_UNFINISHED = {".part", ".partial", ".crdownload", ".download", ".tmp"}
# What lies beside each image of many a folder and shares its name: to look into it would double the work of listing.
_COMPANIONS = {".xmp", ".aae", ".pp3", ".dop", ".json", ".mov", ".mp4"}
_BACKUPS = {".bak", ".backup", ".old", ".orig", ".sav", ".save", ".swp"}
_THUMBNAILS = {".thm", ".lrv", ".ithmb"}  # small versions that cameras and phones keep; some are JPEGs inside
_JUNK_EXTENSIONS = CAMERA_RAW_EXTENSIONS | _UNFINISHED | _COMPANIONS | _BACKUPS | _THUMBNAILS
_JUNK_ENDINGS = ("_original", "_backup")  # of an extension: editors and exiftool keep the file as it was
_JUNK_FOLDERS = frozenset(  # in small letters: bins, thumbnails and snapshots of systems and storage boxes
    (
        "__macosx",
        "@eadir",
        "@recycle",
        "@recently-snapshot",
        "#recycle",
        "#snapshot",
        "~snapshot",
        "$recycle.bin",
        "recycler",
        "recycled",
        "system volume information",
        "lost+found",
        "network trash folder",
        "temporary items",
        "_gsdata_",
    )
)
_JUNK_FOLDER_EXTENSIONS = (".lrdata", ".cocatalog", ".cosessiondb")  # previews of photo programs


@dataclass(frozen=True, kw_only=True)
class Found:
    """An image, or what claims to be one."""

    source: Path
    """Where it is."""

    relative: Path
    """Where it is below the folder that was given; for a file that was named, its name."""

    stem: str
    """What its result is called, without suffix and extension; see `distinct_stems`."""

    named: bool = False
    """It was named by itself, not found in a folder."""

    unlisted: bool = False
    """It is a folder, and what is in it cannot be told."""


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
        """The path of the result for one image."""
        name = self.name(found.source.name, found.stem)
        return found.source.with_name(name) if self.folder is None else self.folder / found.relative.with_name(name)

    def name(self, source_name: str, stem: str) -> str:
        """The file name of the result for an image of that file name, with that distinct stem."""
        if self.extension is not None:
            return f"{stem}{self.suffix}.{self.extension}"
        source = Path(source_name)
        return stem + self.suffix + (source.suffix.lower() if format_of(source) else ".png")


def distinct_stems(names: Iterable[str]) -> dict[str, str]:
    """For each file name of one folder a stem for its result; no two are the same.

    It is the name without its extension. Where two would be the same both keep their extension: `a.jpg` and `a.png`
    give `a_jpg` and `a_png`, in whatever order they come.
    """
    choices = {name: _choices(name) for name in names}
    levels = dict.fromkeys(choices, 0)
    while True:
        stems = {name: choices[name][level] for name, level in levels.items()}
        times = Counter(stems.values())
        shared = [name for name, stem in stems.items() if times[stem] > 1 and levels[name] < 2]
        if not shared:
            return stems
        levels |= {name: levels[name] + 1 for name in shared}


def _choices(name: str) -> tuple[str, str, str]:
    """What the result of a file may be called, from the shortest on."""
    return stem_of(name), "_".join(name.rsplit(".", 1)), name


def _contested(names: Sequence[str]) -> list[str]:
    """The names whose results might be called as those of others."""
    times = Counter(choice for name in names for choice in {*_choices(name)})
    return [name for name in names if any(times[choice] > 1 for choice in _choices(name))]


def stem_of(name: str) -> str:
    """A file name without its extension, as `Path.stem` gives it, at a tenth of the time."""
    dot = name.rfind(".")
    return name[:dot] if 0 < dot < len(name) - 1 else name


def extension_of(name: str) -> str:
    """The extension of a file name in small letters, with its dot; none: empty."""
    return name[len(stem_of(name)) :].lower()


def find_images(
    inputs: Sequence[Path],
    *,
    recursive: bool = True,
    results: OutputNames | None = None,
    on_own: Callable[[Path], None] | None = None,
    on_empty: Callable[[Path], None] | None = None,
) -> Iterator[Found]:
    """Images named or in folders, one after the other, sorted within each folder, each once.

    A named file is always given, by its own name even if its folder is named as well, so that reading it tells what is
    wrong with it. In folders, junk is left out by content: hidden files, unfinished downloads, camera raw, backups and
    thumbnails beside their image, bins, whatever neither looks like an image inside nor is called like one. A damaged
    file with an image's name is given, and so is a folder that may not be opened.
    With several inputs, what comes from a folder keeps the folder's name in front of its relative path.
    on_own: told of each folder of pairs of ours, and of each result of ours that would change how others are called:
    both are left out. All other results are given, as they are not opened here; `made_as` tells them. None: all are
    given.
    results: where they go. That folder is left out below others, and so is, without a word, what lies beside its source
    under the name of its result and is ours by its note; with on_own only.
    on_empty: told of each folder among the inputs in which nothing was found.
    Raises ImageReadError, at once, where an input does not exist.
    """
    try:
        once = list({os.path.abspath(path): path for path in inputs}.values())  # noqa: PTH100 - links stay links
    except FileNotFoundError as error:
        raise ImageReadError("The folder that this runs in is gone. Change to one that is there.") from error
    for index, path in enumerate(once):
        _check_it_is_there(path, once[index + 1 : index + _MOST_WORDS])
    return _found(once, recursive=recursive, results=results, on_own=on_own, on_empty=on_empty)


def _check_it_is_there(path: Path, others: Sequence[Path]) -> None:
    """others: those named after it, in case a shell split its name at spaces."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        whole = str(path)
        for other in others:
            whole = f"{whole} {other}"
            if os.path.lexists(whole):
                raise ImageReadError(
                    f'{shown(path)} does not exist. Put quotes around it: "{shown(Path(whole))}"'
                ) from error
        raise ImageReadError(f"{shown(path)} does not exist. Check the name.") from error
    except OSError as error:
        raise ImageReadError(
            f"{shown(path)} cannot be reached ({error.strerror}). Check name and permissions."
        ) from error


def _found(
    inputs: list[Path],
    *,
    recursive: bool,
    results: OutputNames | None,
    on_own: Callable[[Path], None] | None,
    on_empty: Callable[[Path], None] | None,
) -> Iterator[Found]:
    folders = [path for path in inputs if is_folder(path)]
    prefixes = _distinct_tails(folders) if len(inputs) > 1 else {path: Path() for path in folders}
    files = _named_files([path for path in inputs if path not in prefixes])
    named = {os.path.abspath(path) for path in files}  # noqa: PTH100 - links stay links
    given: set[str] = set()

    def tell(own: Path) -> None:
        if on_own is not None and os.path.abspath(own) not in named:  # noqa: PTH100
            on_own(own)

    for path in inputs:
        if path in prefixes and isinstance(path, StorePath):
            found = _walk_store(path, prefixes[path], results=results, on_own=on_own and tell)
        elif path in prefixes:
            found = _walk(path, prefixes[path], recursive=recursive, results=results, on_own=on_own and tell)
        else:
            found = iter([files[path]])
        is_empty = True
        for one in found:
            is_empty = False
            place = os.path.abspath(one.source)  # noqa: PTH100
            if place not in given and (one.named or place not in named):
                given.add(place)
                yield one
        if is_empty and on_empty is not None:
            on_empty(path)


def _named_files(paths: list[Path]) -> dict[Path, Found]:
    """Files that were named one by one; those of one name in several folders keep the folders' names."""
    relatives = _distinct_tails(paths)
    stems: dict[Path, str] = {}
    for parent in {relative.parent for relative in relatives.values()}:
        group = {path: relative.name for path, relative in relatives.items() if relative.parent == parent}
        by_name = distinct_stems(group.values())
        stems |= {path: by_name[name] for path, name in group.items()}
    return {path: Found(source=path, relative=relatives[path], stem=stems[path], named=True) for path in paths}


def _distinct_tails(paths: list[Path]) -> dict[Path, Path]:
    """The last part of each path, with as many parts before it as it takes to tell it from the others."""
    parts = {path: Path(os.path.abspath(path)).parts for path in paths}  # noqa: PTH100
    depths = dict.fromkeys(paths, 1)
    while True:
        tails = {path: parts[path][-depth:] for path, depth in depths.items()}
        times = Counter(tails.values())
        shared = [path for path in paths if times[tails[path]] > 1 and depths[path] < len(parts[path]) - 1]
        if not shared:
            return {path: Path(*tail) for path, tail in tails.items()}
        depths |= {path: depths[path] + 1 for path in shared}


def _walk(
    top: Path,
    prefix: Path,
    *,
    recursive: bool,
    results: OutputNames | None,
    on_own: Callable[[Path], None] | None,
) -> Iterator[Found]:
    """The images of a folder, then those of its sub-folders; every folder once, so links in circles do no harm."""
    results_folder = None if results is None or results.folder is None else results.folder.resolve()
    waiting = [(top, prefix)]
    seen: set[tuple[int, int]] = set()
    while waiting:
        folder, relative = waiting.pop()
        if folder != top and folder.resolve() == results_folder:
            continue
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            name = folder.resolve().name
            # reading it will tell why
            yield Found(source=folder, relative=relative.parent / name, stem=name, unlisted=True)
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        if on_own is not None and folder != top and holds_pairs(folder, [entry.name for entry in entries]):
            on_own(folder)
            continue
        yield from _images(folder, relative, entries, results, on_own)
        if recursive:
            below = [entry.name for entry in entries if _is_folder(entry)]
            waiting += [(folder / name, relative / name) for name in reversed(below)]


def _walk_store(
    top: StorePath, prefix: Path, *, results: OutputNames | None, on_own: Callable[[Path], None] | None
) -> Iterator[Found]:
    """The images below an address, as `_walk` gives those of folders; here the extension tells what is one."""
    waiting = [(top, prefix)]
    while waiting:
        folder, relative = waiting.pop()
        if folder != top and results is not None and str(folder) == str(results.folder):
            continue
        try:
            folders, objects = folder.names()
        except OSError:
            # fetching it will tell why
            yield Found(source=folder, relative=relative, stem=folder.name, unlisted=True)
            continue
        names = [name for name in objects if extension_of(name) in _IMAGE_EXTENSIONS and not name.startswith(".")]
        stems = distinct_stems(names)
        made = {} if on_own is None else _results_in(folder, relative, stems, results)
        for name in names:
            if name not in made:
                yield Found(source=folder / name, relative=relative / name, stem=stems[name])
            elif on_own is not None and made_as(folder / name) is None:
                on_own(folder / name)
        waiting += [(folder / name, relative / name) for name in reversed(folders) if not _is_junk_folder(name)]


def _images(
    folder: Path,
    relative: Path,
    entries: list[os.DirEntry[str]],
    results: OutputNames | None,
    on_own: Callable[[Path], None] | None,
) -> Iterator[Found]:
    """The images of one folder. No file is opened before its turn, unless the name of another's result hangs on it.

    A folder of 100,000 files on a slow disk would else be looked at for minutes before the first is given.
    """
    files = {entry.name: entry for entry in entries if _may_be_image(entry)}
    unsure = {name for name in files if extension_of(name) not in _IMAGE_EXTENSIONS}
    # what has a name of its own is named as if it were an image, and looked into when it is reached
    taken = Counter(stem_of(name) for name in files)
    no_images = {name for name in unsure if taken[stem_of(name)] > 1 and not looks_like_image(files[name])}
    names = [name for name in files if name not in no_images]
    own = set() if on_own is None else {name for name in _contested(names) if made_as(folder / name) is not None}
    stems = distinct_stems(name for name in names if name not in own)
    made = {} if on_own is None else _results_in(folder, relative, stems, results)
    if on_own is not None:
        for name in sorted(own - made.keys()):
            on_own(folder / name)
    for name, stem in stems.items():
        if name in unsure and not looks_like_image(files[name]):
            continue
        maker = made.get(name)
        has_maker = maker is not None and (maker not in unsure or looks_like_image(files[maker]))
        if not has_maker:
            yield Found(source=folder / name, relative=relative / name, stem=stem)
        elif on_own is not None and made_as(folder / name) is None:  # edited since, or a user's own of such a name
            on_own(folder / name)


def _results_in(folder: Path, relative: Path, stems: dict[str, str], results: OutputNames | None) -> dict[str, str]:
    """Names that results have in the folder of their sources, if that is where they go, each with its source's."""
    if results is None:
        return {}
    place = folder if results.folder is None else results.folder / relative
    if os.path.abspath(place) != os.path.abspath(folder):  # noqa: PTH100 - links stay links
        return {}
    named = ((results.name(name, stem), name) for name, stem in stems.items())
    return {result: name for result, name in named if result != name}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return not _is_junk_folder(entry.name) and _is_folder_or_link(entry)


def _is_junk_folder(name: str) -> bool:
    small = name.lower()
    return small.startswith(".") or small in _JUNK_FOLDERS or small.endswith(_JUNK_FOLDER_EXTENSIONS)


def _may_be_image(entry: os.DirEntry[str]) -> bool:
    """Whether a file is worth a look, by its name and kind. A link that leads nowhere is, if it is called an image."""
    extension = extension_of(entry.name)
    if entry.name.startswith((".", "~$")) or _is_companion(entry.name, extension) or _is_folder_or_link(entry):
        return False
    if entry.is_symlink() and not is_there(Path(entry.path)):
        return extension in _IMAGE_EXTENSIONS
    return entry.is_file()


def _is_companion(name: str, extension: str) -> bool:
    """Whether a file is of use to a program only, or a version that another stands for."""
    is_backup = name.endswith("~") or extension.endswith(_JUNK_ENDINGS) or (name[0] + name[-1]) == "##"
    return is_backup or extension in _JUNK_EXTENSIONS


def _is_folder_or_link(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or leads to one. For all but links the listing has told it already."""
    return is_folder(Path(entry.path)) if entry.is_symlink() else entry.is_dir(follow_symlinks=False)


def looks_like_image(entry: os.DirEntry[str]) -> bool:
    """Whether the first bytes of a file are those of an image."""
    try:
        with Path(entry.path).open("rb") as file:
            return sniff(file.read(HEAD_BYTES)) is not None
    except OSError:
        return False  # neither its name nor its content promises an image
