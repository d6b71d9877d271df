"""Finding pictures."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ddnsr_cli.errors import ImageReadError
from ddnsr_cli.files import is_folder, is_there
from ddnsr_cli.images.formats import (
    CAMERA_RAW_EXTENSIONS,
    FOREIGN_EXTENSIONS,
    HEAD_BYTES,
    READABLE_EXTENSIONS,
    shown,
    sniff,
)
from ddnsr_cli.images.names import Found, OutputNames, distinct_stems, extension_of, stem_of

__all__ = ["Found", "OutputNames", "find_images"]

_PICTURE_EXTENSIONS = READABLE_EXTENSIONS | FOREIGN_EXTENSIONS
_UNFINISHED = {".part", ".partial", ".crdownload", ".download", ".tmp"}
# What lies beside each photo of many a folder and shares its name: to look into it would double the work of listing.
_COMPANIONS = {".xmp", ".aae", ".pp3", ".dop", ".json", ".mov", ".mp4"}
_JUNK_EXTENSIONS = CAMERA_RAW_EXTENSIONS | _UNFINISHED | _COMPANIONS
_JUNK_FOLDERS = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN"))


def find_images(
    inputs: Sequence[Path], *, recursive: bool = True, results: OutputNames | None = None
) -> Iterator[Found]:
    """Pictures named or in folders, one after the other, sorted within each folder, each once.

    A named file is always given, so that reading it tells what is wrong with it. In folders, junk is left out by
    content: hidden files, unfinished downloads, camera raw, whatever neither looks like a picture inside nor is
    called like one. A damaged file with a picture's name is given, and so is a folder that may not be opened.
    With several inputs, what comes from a folder keeps the folder's name in front of its relative path.
    results: what an earlier run has written under these names is left out of the folders.
    Raises ImageReadError, at once, where an input does not exist.
    """
    try:
        once = list({os.path.abspath(path): path for path in inputs}.values())  # noqa: PTH100 - links stay links
    except FileNotFoundError as error:
        raise ImageReadError("The folder that this runs in is gone. Change to one that is there.") from error
    for path in once:
        _check_it_is_there(path)
    return _found(once, recursive=recursive, results=results)


def _check_it_is_there(path: Path) -> None:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise ImageReadError(f"{shown(path)} does not exist. Check the name.") from error
    except OSError as error:
        raise ImageReadError(
            f"{shown(path)} cannot be reached ({error.strerror}). Check name and permissions."
        ) from error


def _found(inputs: list[Path], *, recursive: bool, results: OutputNames | None) -> Iterator[Found]:
    folders = [path for path in inputs if is_folder(path)]
    prefixes = _distinct_tails(folders) if len(inputs) > 1 else {path: Path() for path in folders}
    files = _named_files([path for path in inputs if path not in prefixes])
    given: set[str] = set()
    for path in inputs:
        if path in prefixes:
            found = _walk(path, prefixes[path], recursive=recursive, results=results)
        else:
            found = iter([files[path]])
        for one in found:
            place = os.path.abspath(one.source)  # noqa: PTH100
            if place not in given:
                given.add(place)
                yield one


def _named_files(paths: list[Path]) -> dict[Path, Found]:
    """Files that were named one by one; those of one name in several folders keep the folders' names."""
    relatives = _distinct_tails(paths)
    stems: dict[Path, str] = {}
    for parent in {relative.parent for relative in relatives.values()}:
        group = {path: relative.name for path, relative in relatives.items() if relative.parent == parent}
        by_name = distinct_stems(group.values())
        stems |= {path: by_name[name] for path, name in group.items()}
    return {path: Found(source=path, relative=relatives[path], stem=stems[path]) for path in paths}


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


def _walk(top: Path, prefix: Path, *, recursive: bool, results: OutputNames | None) -> Iterator[Found]:
    """The pictures of a folder, then those of its sub-folders; every folder once, so links in circles do no harm."""
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
            yield Found(source=folder, relative=relative.parent / name, stem=name)  # reading it will tell why
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        yield from _pictures(folder, relative, entries, results)
        if recursive:
            below = [entry.name for entry in entries if _is_folder(entry)]
            waiting += [(folder / name, relative / name) for name in reversed(below)]


def _pictures(
    folder: Path, relative: Path, entries: list[os.DirEntry[str]], results: OutputNames | None
) -> Iterator[Found]:
    """The pictures of one folder. No file is opened before its turn, unless the name of another's result hangs on it.

    A folder of 100,000 files on a slow disk would else be looked at for minutes before the first is given.
    """
    files = {entry.name: entry for entry in entries if _may_be_picture(entry)}
    unsure = {name for name in files if extension_of(name) not in _PICTURE_EXTENSIONS}
    # what has a name of its own is named as if it were a picture, and looked into when it is reached
    taken = Counter(stem_of(name) for name in files)
    no_pictures = {name for name in unsure if taken[stem_of(name)] > 1 and not _looks_like_picture(files[name])}
    stems = distinct_stems(name for name in files if name not in no_pictures)
    made = _results_in(folder, relative, stems, results)
    for name, stem in stems.items():
        if name in unsure and not _looks_like_picture(files[name]):
            continue
        maker = made.get(name)
        if maker is None or (maker in unsure and not _looks_like_picture(files[maker])):
            yield Found(source=folder / name, relative=relative / name, stem=stem)


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
    return not entry.name.startswith(".") and entry.name not in _JUNK_FOLDERS and _is_folder_or_link(entry)


def _may_be_picture(entry: os.DirEntry[str]) -> bool:
    """Whether a file is worth a look, by its name and kind. A link that leads nowhere is, if it is called a picture."""
    extension = extension_of(entry.name)
    if entry.name.startswith(".") or extension in _JUNK_EXTENSIONS or _is_folder_or_link(entry):
        return False
    if entry.is_symlink() and not is_there(Path(entry.path)):
        return extension in _PICTURE_EXTENSIONS
    return entry.is_file()


def _is_folder_or_link(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or leads to one. For all but links the listing has told it already."""
    return is_folder(Path(entry.path)) if entry.is_symlink() else entry.is_dir(follow_symlinks=False)


def _looks_like_picture(entry: os.DirEntry[str]) -> bool:
    try:
        with Path(entry.path).open("rb") as file:
            return sniff(file.read(HEAD_BYTES)) is not None
    except OSError:
        return False  # neither its name nor its content promises a picture
