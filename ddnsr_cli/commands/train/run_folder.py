"""The files of a training run, the same for every kind of training; one process at a time trains in a folder."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ddnsr_cli.config import changed_options, in_words, option_of, options_to_json, unlike_names
from ddnsr_cli.data.images import ImagePair
from ddnsr_cli.errors import TrainingError
from ddnsr_cli.files import atomic_path, no_empty_folder
from ddnsr_cli.reports.page import refuse_foreign
from ddnsr_cli.reports.run_page import PAGE_NAME
from ddnsr_cli.training.train_state import TrainState, load_numbers, load_train_state, save_train_state

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SAVED_BY_ALL = {"options", "rate_factor", "images", "data"}
"""What is beside the state of every kind of run."""

OVERWRITTEN = ("README.md", "sr.safetensors", "degrader.safetensors")
"""What a run writes only beside a state: where there is none, such a file is another's."""

MOST_NAMED = 8
"""Options that a message names."""

KEPT_STATES = 3
"""How many numbered copies of the state stay, the newest."""

_NUMBERED = re.compile(r"step_(\d+)\.safetensors").fullmatch


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
    with no_empty_folder(run, alone=True):
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


class Resumable(Protocol):
    """A trainer whose state can be saved and taken up again."""

    step: int

    @property
    def options(self) -> "DataclassInstance":
        """Everything that decides what is learned."""

    def train_state(self, numbers: dict[str, Any]) -> TrainState:
        """The state, with `numbers` beside it."""

    def restore(self, train_state: TrainState) -> None:
        """Take over a state of the same options."""


class RunFolder:
    """A folder of the shape above."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = path / "state" / "last.safetensors"
        self.weights = path / "sr.safetensors"
        self.samples = path / "samples"

    def numbers(self, options: "DataclassInstance", *, free_to_change: tuple[str, ...]) -> Mapping[str, Any] | None:
        """What was saved beside the last state; None when there is no save yet.

        free_to_change: starts of option names that may differ from those of the save.
        Raises TrainingError when the save is damaged, of another kind of run, or of other options, and where there is
        none but a file that the run would write over.
        """
        refuse_foreign(self.path / PAGE_NAME, "Choose another folder with -o, or move the file.", error=TrainingError)
        if not self.state.exists():
            self._refuse_files_of_others()
            return None
        numbers = load_numbers(self.state)
        before, now = numbers.get("options", {}), options_to_json(options)
        if lacking := sorted(SAVED_BY_ALL - numbers.keys()):
            raise TrainingError(f"{self.state} is damaged: it has no {', '.join(lacking)}. Start a new run with -o.")
        if odd := unlike_names(before, now):
            more = f" and {len(odd) - MOST_NAMED} more" if len(odd) > MOST_NAMED else ""
            raise TrainingError(
                f"{self.path} holds a run of another kind or version (it differs in {', '.join(odd[:MOST_NAMED])}"
                f"{more}). Choose another folder with -o."
            )
        changed = changed_options(before, now)
        refused = {name: values for name, values in changed.items() if not name.startswith(free_to_change)}
        refuse_other_asking(self.path, refused)
        return numbers

    def resume(self, trainer: Resumable, *, free_to_change: tuple[str, ...]) -> Mapping[str, Any] | None:
        """Restore the last save and give the numbers saved with it; None when there is no save yet.

        Raises TrainingError as `numbers`, and for a state that does not fit the trainer's networks.
        """
        numbers = self.numbers(trainer.options, free_to_change=free_to_change)
        if numbers is not None:
            trainer.restore(load_train_state(self.state))
        return numbers

    def prepare(self, trainer: Resumable) -> None:
        """Make the folders and write the options. Raises TrainingError when that cannot be done."""
        try:
            self.state.parent.mkdir(parents=True, exist_ok=True)
            self.samples.mkdir(exist_ok=True)
            text = json.dumps(options_to_json(trainer.options), indent=2) + "\n"
            with atomic_path(self.path / "options.json") as temporary:
                temporary.write_text(text, encoding="utf-8")
        except OSError as cause:
            raise TrainingError(f"{self.path} cannot be written ({cause}). Choose another folder with -o.") from cause

    def save(self, trainer: Resumable, numbers: dict[str, Any], *, name: str = "last") -> None:
        """The state as `state/<name>.safetensors`, in place of an earlier one. Of `step_N` names the newest few stay.

        States of other names go first: a run killed between them and the last one comes to the same place again.
        Raises TrainingError on a full disk; what was there is then intact.
        """
        save_train_state(self.state.with_name(f"{name}.safetensors"), trainer.train_state(numbers))
        numbered = [(int(found[1]), path) for path in self.state.parent.iterdir() if (found := _NUMBERED(path.name))]
        for _, old in sorted(numbered)[:-KEPT_STATES]:
            old.unlink()

    def _refuse_files_of_others(self) -> None:
        others = [name for name in OVERWRITTEN if (self.path / name).exists()]
        if others:
            raise TrainingError(
                f"{self.path} holds no save of a run, but {others[0]}, which a run would write over. Choose another "
                f"folder with -o, or move the file."
            )

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one line to `log.jsonl`; a line that a kill cut short is ended first. Raises as `save`."""
        path = self.path / "log.jsonl"
        with wrap_write_errors(path), path.open("ab+") as log:
            if log.tell() and not _ends_in_newline(log.name):
                log.write(b"\n")
            log.write(json.dumps(dict(row)).encode() + b"\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the folder, whole or not at all. Raises as `save`."""
        with wrap_write_errors(self.path / name), atomic_path(self.path / name) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # a path may be no text

    def sample_path(self, step: int) -> Path:
        """Where the sample sheet of a step belongs; its folder is made. Raises as `save`."""
        with wrap_write_errors(self.samples):
            self.samples.mkdir(exist_ok=True)
        return self.samples / f"step_{step:07d}.png"


@contextmanager
def wrap_write_errors(path: Path) -> Iterator[None]:
    """What cannot be written in the block is reported as a TrainingError that names `path`."""
    try:
        yield
    except OSError as cause:
        reason = cause.strerror or cause
        raise TrainingError(
            f"{path} could not be written ({reason}). The last save is intact: free some space, and run again."
        ) from cause


def image_list(folder: Path, images: Iterable[Path]) -> str:
    """A digest of the paths, below their folder, of the images a run learns from: batches follow from them."""
    names = "\n".join(path.relative_to(folder).as_posix() for path in images)
    return hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()


def compare_from_here(record: dict[str, Any], pairs: Sequence[ImagePair], note: Callable[[str], None]) -> None:
    """Keep in a run's record which images it is validated on. With others than before, scores begin anew.

    note: takes a line where they do. Without images nothing changes.
    """
    if not pairs:
        return
    names = "\n".join(f"{pair.lr.name}/{pair.hr.name}/{pair.hr.stat().st_size}" for pair in pairs)
    digest = hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()
    if record.get("validation", digest) != digest:
        for scores in ("latest", "best"):
            record.pop(scores, None)
        note("the images to validate on are others than before: which state is the best is found anew")
    record["validation"] = digest


def refuse_other_asking(run: Path, changed: Mapping[str, tuple[Any, Any]]) -> None:
    """Raises TrainingError when anything was asked of a run that it was not begun with. changed: (before, now)."""
    if changed:
        words = [f"{option_of(name)} {in_words(before)} -> {in_words(now)}" for name, (before, now) in changed.items()]
        listed, more = ", ".join(words[:MOST_NAMED]), len(words) - MOST_NAMED
        listed += f" and {more} more" if more > 0 else ""  # as another --degradation-preset changes
        raise TrainingError(f"{run} was begun with other options ({listed}). Use the former values, or another -o.")


def refuse_other_images(run: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raises TrainingError when a run would go on with other images than it was begun with."""
    changed = " and ".join(_describe_side(side) for side in sorted(now) if before[side] != now[side])
    if changed:
        raise TrainingError(
            f"The images of {changed} are not those that {run} was begun with. Restore them, or another -o."
        )


def _describe_side(side: str) -> str:
    """`hr` as the option that it is, `hr_2` as the side of a source of pairs that `--mix` names."""
    name, _, number = side.partition("_")
    return f"--mix number {number} ({name})" if number else f"--{name}"


def _ends_in_newline(path: str) -> bool:
    with Path(path).open("rb") as log:
        log.seek(-1, os.SEEK_END)
        return log.read(1) == b"\n"
