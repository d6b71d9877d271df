"""One process at a time trains in a run folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ddnsr_cli.errors import TrainingError
from ddnsr_cli.files import is_there

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


@contextmanager
def alone_in(run: Path) -> Iterator[None]:
    """Keep other processes out of a run folder in the block. The folder is made; if it is empty at the end, it goes.

    The system drops the lock when the process dies, however it does; the empty file that is then left locks nothing.
    Without such locks (Windows, some network drives) nobody is kept out.
    Raises TrainingError when another process is in there, or the folder cannot be written.
    """
    if fcntl is None:
        yield
        return
    made = [folder for folder in (run, *run.parents) if not is_there(folder)]
    try:
        handle = _locked(run / LOCK)
    except OSError as cause:
        raise TrainingError(f"{run} cannot be written ({cause}). Choose another folder with -o.") from cause
    try:
        yield
    finally:
        with suppress(OSError):
            (run / LOCK).unlink()  # while it is locked: whoever opened it sees that it is gone
        os.close(handle)
        with suppress(OSError):  # not empty: a run has begun
            for folder in made:
                folder.rmdir()


def _locked(path: Path) -> int:
    """The open lock file. Raises TrainingError when another process holds it, OSError when it cannot be made."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            # not flock: the processes that decode would hold it too, and outlive a killed trainer by seconds
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as cause:
            os.close(handle)
            raise TrainingError(
                f"{path.parent} is in use: another process trains there. Let it end, or choose another folder with -o."
            ) from cause
        except OSError:  # a file system without locks
            return handle
        if _is_at(handle, path):
            return handle
        os.close(handle)  # the one before us ended, and took its file away, between our two calls


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
