"""Files that appear whole or not at all, objects in stores, hashes, and the head of a file that holds tensors."""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import struct
import tempfile
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


_UMASK = threading.Lock()
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG)
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


class StorePath(type(Path())):  # type: ignore[misc]  # PosixPath, on this system
    """An object in a store, or what the names of several begin with, by its address: s3://bucket/folder/image.png.

    It is asked for its status and opened as a file is, by fsspec, whose errors are OSError here. What else files can do
    it cannot: objects are fetched and put whole.
    """

    def __str__(self) -> str:
        return str(super().__str__()).replace(":/", "://", 1)

    def resolve(self, strict: bool = False) -> "StorePath":  # noqa: ARG002 - as pathlib has it
        """Itself: an address begins nowhere else, and a store has no links."""
        return self

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:  # noqa: ARG002 - a store has no links
        """Kind, bytes and time of writing. Raises OSError."""
        with _store_of(self) as store:
            info = store.info(str(self))
        kind = stat.S_IFDIR if info["type"] == "directory" else stat.S_IFREG
        written = info.get("LastModified") or info.get("mtime") or info.get("created")
        seconds = written.timestamp() if isinstance(written, datetime) else float(written or 0)
        whole, exact = int(seconds), int(seconds * 1e9)
        size = int(info["size"] or 0)
        return os.stat_result((kind, 0, 0, 1, 0, 0, size, *(whole,) * 3, *(seconds,) * 3, *(exact,) * 3))

    def open(self, mode: str = "r", *_: object, **__: object) -> Any:  # noqa: ANN401
        """Its bytes, which are fetched as they are read. Raises OSError."""
        with _store_of(self) as store:
            return store.open(str(self), mode)

    def fetch(self, target: Path) -> None:
        """The object as a local file. Raises OSError."""
        with _store_of(self) as store:
            store.get_file(str(self), str(target))

    def put(self, source: Path) -> None:
        """A local file as the object: stores show it when all of it is there. Raises OSError."""
        with _store_of(self) as store:
            store.put_file(str(source), str(self))

    def names(self) -> tuple[list[str], list[str]]:
        """(folders, objects) of what lies one step below, sorted. Raises OSError, also for an empty part of a name."""
        with _store_of(self) as store:
            top = store._strip_protocol(str(self)).rstrip("/")
            found = store.ls(str(self), detail=True)
        names: tuple[list[str], list[str]] = [], []
        for entry in found:
            name = entry["name"].rstrip("/")
            if name != top:
                names[entry["type"] != "directory"].append(name.rpartition("/")[2])
            elif entry["type"] == "directory":  # else an empty object that stands for the folder itself
                raise OSError(errno.EINVAL, "it holds a name with an empty part (//)")
        return sorted(names[0]), sorted(names[1])


class FolderPath(type(Path())):  # type: ignore[misc]  # as above
    """A path that was written with a separator at its end: a folder, whatever its name looks like."""


class StoreFolderPath(FolderPath, StorePath):
    """The same in a store."""


def ends_in_separator(text: str) -> bool:
    """Whether a path is written as that of a folder."""
    return text.endswith((os.sep, os.altsep or os.sep))


def output_at(text: str) -> Path:
    """As `path_at`; a FolderPath where `text` ends in a separator, which Path itself forgets."""
    path = path_at(text)
    if not ends_in_separator(text):
        return path
    return StoreFolderPath(text) if isinstance(path, StorePath) else FolderPath(text)


def path_at(text: str) -> Path:
    """A path, or the address of a store. Raises ConfigError for one without a bucket, as of a variable not set."""
    from ddnsr_cli.errors import ConfigError

    if (address := _ADDRESS.match(text)) is None:
        return Path(text)
    if text[address.end() :].startswith("/") or text == address[0]:
        raise ConfigError(f"{text} names no bucket. Write it as {address[0]}bucket/folder.")
    return StorePath(text)


@contextmanager
def _store_of(path: StorePath) -> Iterator[Any]:
    """The store that an address is of, as fsspec gives it. Raises ConfigError where a package for it is missing."""
    from ddnsr_cli.errors import ConfigError

    protocol = path.parts[0].rstrip(":")
    try:
        import fsspec

        yield fsspec.filesystem(protocol, use_listings_cache=False)
    except ImportError as error:
        package = "pip install 'ddnsr[s3]'" if protocol == "s3" else "its package of fsspec"
        raise ConfigError(f"{protocol}:// needs a package that is not installed. Get it with: {package}") from error
    except OSError:
        raise
    except ValueError as error:
        raise ConfigError(f"{path} cannot be used ({error}). Check the address.") from error
    except Exception as error:  # each store has classes of its own
        reason = " ".join(str(error).split())[:200]
        raise OSError(errno.EIO, f"{type(error).__name__}: {reason}") from error


class Uninterrupted:
    """Moments of the main thread that a stop signal waits for: a file is made, and not yet known to whoever removes it.

    Used as a context; handlers of signals ask `now` before they raise, and are to come again. A stop may come just
    before the context is entered; what must be done in any case is done once more behind it, where none is raised, for
    one is on its way: `try: with UNINTERRUPTED: tidy()`, `finally: tidy()`.
    """

    def __init__(self) -> None:
        self._depth = 0

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():  # where handlers run
            self._depth += 1

    def __exit__(self, *_error: object) -> None:
        if threading.current_thread() is threading.main_thread():
            self._depth -= 1

    @property
    def now(self) -> bool:
        """Whether such a moment is."""
        return self._depth > 0


UNINTERRUPTED = Uninterrupted()


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder of its own in that of temporary files, which is gone after the block. Raises OSError."""
    folder: str | None = None

    def tidy() -> None:
        nonlocal folder
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
            folder = None

    try:
        with UNINTERRUPTED:
            folder = tempfile.mkdtemp(prefix=prefix)
        yield Path(folder)
    finally:
        try:
            with UNINTERRUPTED:
                tidy()
        finally:
            tidy()


@contextmanager
def no_empty_folder(folder: Path, *, alone: bool = False) -> Iterator[None]:
    """`folder` and those above it that are made in the block, and are empty where a stop ends it, are removed.

    alone: so are they at any other end, an error as well: nobody else is about to write there.
    """
    stopped, missing = True, [one for one in (folder, *folder.parents) if not is_there(one)]

    def tidy() -> None:
        with suppress(OSError):  # not empty, or never made
            for one in missing if stopped or alone else ():
                one.rmdir()

    try:
        yield
        stopped = False
    except Exception:
        stopped = False
        raise
    finally:
        try:
            with UNINTERRUPTED:
                tidy()
        finally:
            tidy()


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target`; rename it over `target` when the block ends well, else remove it.

    The temporary name starts with a dot and keeps the suffix, so that writers which go by the suffix work.
    The bytes are on the disk before the rename: after a power cut there is the old file or the new one. What a killed
    process leaves under that name is taken over by the next that writes the same target. Permissions of a file that is
    replaced stay. A link is replaced, not followed: where it leads may be precious, and nobody named that.
    Raises OSError as the file system does, and where `target` is a device or a pipe, which would be gone.
    """
    handle: int | None = None
    temporary: Path | None = None
    if is_special(target):
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a file", str(target))

    def tidy() -> None:
        nonlocal handle, temporary
        if temporary is not None:
            temporary.unlink(missing_ok=True)
            temporary = None
        if handle is not None:
            os.close(handle)
            handle = None

    try:
        with UNINTERRUPTED:
            handle, temporary = _temporary(target)
        yield temporary
        _sync(temporary)
        temporary.chmod(_permissions(target))
        with UNINTERRUPTED:
            temporary.replace(target)
            temporary = None  # by now another process may have one of that name
    finally:
        try:
            with UNINTERRUPTED:
                tidy()
        finally:
            tidy()


def _permissions(target: Path) -> int:
    """Of the file that is there; of a new one as usual, for mkstemp makes private files."""
    with suppress(OSError):
        mode = target.lstat().st_mode
        if stat.S_ISREG(mode):
            return stat.S_IMODE(mode)
    return 0o666 & ~_umask()


def is_special(path: Path) -> bool:
    """Whether a path is or leads to a device or a pipe, or is one of the names among devices, as /dev/stdout is."""
    if path.absolute().parent == Path("/dev"):
        return True
    mode = _mode(path)
    return mode != 0 and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def is_pipe(path: Path) -> bool:
    """Whether a path is or leads to a pipe, as those that shells make of `>(command)` do."""
    return not isinstance(path, StorePath) and stat.S_ISFIFO(_mode(path))


def _temporary(target: Path) -> tuple[int | None, Path]:
    """An empty private file beside `target`, and the open file by which it is locked, if it is."""
    start, end = f".{target.stem[:40]}-", f".part{target.suffix}"
    usual = target.with_name(f"{start}{zlib.crc32(os.fsencode(target.name)):08x}{end}")
    if (held := _locked(usual)) is not None:
        return held, usual
    handle, name = tempfile.mkstemp(prefix=start, suffix=end, dir=target.parent)
    os.close(handle)
    return None, Path(name)


def _locked(path: Path) -> int | None:
    """`path` made or taken over, emptied and locked; None where another process is at it, or where that cannot be."""
    if fcntl is None:
        return None
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine, there = os.fstat(handle), path.lstat()
        # the one who held it may have renamed it in the meantime, and a file of another's making may be read by them
        if (mine.st_dev, mine.st_ino, mine.st_uid, mine.st_nlink) == (there.st_dev, there.st_ino, os.geteuid(), 1):
            os.ftruncate(handle, 0)
            os.fchmod(handle, 0o600)
            return handle
    except OSError:
        pass  # held by another process, or a file system without locks
    os.close(handle)
    return None


def is_there(path: Path, *, strict: bool = False) -> bool:
    """Whether something is at `path`; False, too, where the system will not say: no permission, a name too long.

    `Path.exists` raises OSError there. strict: so does this where a store or a mount does not answer.
    """
    if strict:
        try:
            path.stat()
        except OSError as error:
            if error.errno in _NOT_THERE or isinstance(error, FileNotFoundError | PermissionError):
                return False
            raise
        return True
    if isinstance(path, StorePath):
        return _mode(path) != 0
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: Path) -> bool:
    """Whether a folder is at `path`; False where the system will not say, as in `is_there`."""
    if isinstance(path, StorePath):
        return stat.S_ISDIR(_mode(path))
    return os.path.isdir(path)  # noqa: PTH112


def _mode(path: Path) -> int:
    """0 where there is nothing, or the system or the store will not say."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, says that the disk or the user's share of it has no room left."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            return True
        error = error.__cause__
    return False


def sha256_of(*paths: Path) -> str:
    """The SHA-256 of a file's bytes, or of several files' one after the other, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def safetensors_head(tensors: Mapping[str, tuple[str, tuple[int, ...], int]], metadata: Mapping[str, str]) -> bytes:
    """Length and JSON head of a safetensors file that holds these tensors, one behind the other.

    tensors: (type as the format names it, shape, bytes) by name. Equal arguments, equal bytes: the library's own
    writer orders metadata at random.
    """
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    start = 0
    for name, (dtype, shape, size) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, start + size]}
        start += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data start at a multiple of 8, as the format's readers like it
    return struct.pack("<Q", len(text)) + text


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    with UNINTERRUPTED, _UMASK:  # it is the whole process's, and can only be told by changing it
        mask = os.umask(0)
        os.umask(mask)
    return mask
