"""Images that wait for the network, and what becomes of each; one thread works, any thread may ask."""

import itertools
import os
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddnsr_cli.commands.upscale.options import UpscaleListener, UpscaleOptions, Written
from ddnsr_cli.errors import ConfigError, DdnsrError, ImageWriteError
from ddnsr_cli.files import is_disk_full, is_there
from ddnsr_cli.io.discovery import OutputNames, stem_of
from ddnsr_cli.io.image import MAX_PIXELS
from ddnsr_cli.io.read import image_size

if TYPE_CHECKING:
    from ddnsr_cli.commands.upscale.worker import Engine

MOST_NAME_BYTES = 180
"""Of a file's name as it comes from a browser: file systems take 255, and the result's name is longer."""


class State(StrEnum):
    """Where an image is on its way."""

    READY = "ready"
    WAITING = "waiting"
    WORKING = "working"

    STOPPING = "stopping"
    """In work, but not for long: it ends after its tile."""

    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image on the page, as it is at a moment."""

    number: int

    name: str
    """As the user's file is called."""

    source: Path

    width: int
    height: int
    """Of the upright image, pixels."""

    state: State = State.READY

    options: UpscaleOptions | None = None
    """How it is, or was last, to be enlarged."""

    suffix: str = ""
    """Put after the stem of the result's name."""

    tiles: tuple[int, int] = (0, 0)
    """Done, and in all, while it is worked on."""

    fetched: tuple[int, int] = (0, 0)
    """Bytes of the model that are here, and in all, while it is fetched."""

    error: str = ""
    """Why the last attempt gave no result."""

    result: Written | None = None
    """Of the last attempt that gave one; it stays while the image waits anew, and where that is stopped or fails."""

    model: str | None = None
    """What the result was made with."""

    notes: tuple[str, ...] = ()
    """What the user should hear of the result."""

    version: int = 0
    """Of the result; it begins at 1 and grows when the image is enlarged again."""


class _StoppedError(DdnsrError):
    """The user wants no more of this image."""


class Queue:
    """The images of the page in the order in which they came, and one thread that enlarges those that wait."""

    def __init__(self, folder: Path, *, results: Path | None = None, max_pixels: int = MAX_PIXELS) -> None:
        """folder: for what the browser sends, and for the results where they have no folder of their own.

        results: the folder in which they are to stay. max_pixels: of the largest image that is taken.
        """
        self.results = results
        self.max_pixels = max_pixels
        self._folder = folder
        self._items: dict[int, Item] = {}
        self._order: list[int] = []
        self._last = 0
        self._made = 0
        self._version = 0
        self._closed = False
        self._changed = threading.Condition()
        self._engine: tuple[tuple[object, ...], Engine] | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def place(self, name: str) -> tuple[int, Path]:
        """A number for an image that comes, and where its file is to be written: in a folder of its own.

        Raises ImageWriteError.
        """
        with self._changed:
            self._last += 1
            number = self._last
        folder = self._folder / str(number)
        file = folder / safe_name(name)
        try:
            folder.mkdir()
        except OSError as error:
            raise not_put(file, error) from error
        return number, file

    def add(self, number: int, path: Path) -> Item:
        """Put an image on the page, once its file is written. Raises ImageReadError; then the file is gone, too."""
        try:
            height, width = image_size(path, max_pixels=self.max_pixels)
        except DdnsrError as error:
            self.drop(number)
            raise type(error)(self._without_folder(str(error))) from error
        item = Item(number=number, name=path.name, source=path, width=width, height=height)
        with self._changed:
            self._items[number] = item
            self._notify()
        return item

    def drop(self, number: int) -> None:
        """Forget an image that never got on the page."""
        shutil.rmtree(self._folder / str(number), ignore_errors=True)

    def snapshot(self) -> tuple[int, list[Item]]:
        """A number that grows with every change, and all images."""
        with self._changed:
            return self._version, list(self._items.values())

    def item(self, number: int) -> Item | None:
        """The image of that number as it is now; None: it is not there, or not any more."""
        with self._changed:
            return self._items.get(number)

    def enlarge(self, numbers: list[int], options: UpscaleOptions, suffix: str) -> int:
        """Let images wait for their turn; how many do. Those that wait already, or are in work, go on as they are."""
        with self._changed:
            chosen = [n for n in dict.fromkeys(numbers) if n in self._items and not _is_busy(self._items[n])]
            for number in chosen:
                self._order.append(number)
                self._put(number, state=State.WAITING, options=options, suffix=suffix, error="", tiles=(0, 0))
            self._notify()
        return len(chosen)

    def stop(self, number: int) -> None:
        """Take an image out of the queue; one that is in work ends after its tile. It can be enlarged anew."""
        with self._changed:
            self._halt(number)
            self._notify()

    def remove(self, number: int) -> None:
        """Take an image off the page, with its files; results in a folder of their own stay there."""
        with self._changed:
            item = self._items.get(number)
            if item is None:
                return
            self._halt(number)
            del self._items[number]
            self._notify()
        if item.state not in {State.WORKING, State.STOPPING}:  # else the worker does, when it comes to an end
            self.drop(number)

    def closing_note(self) -> str:
        """What the user should hear at the end: what became of the images, and whether results are lost."""
        _, items = self.snapshot()
        done = sum(item.result is not None for item in items) if self.results is None else self._made
        left = sum(_is_busy(item) for item in items)
        text = f"{done} {'result' if done == 1 else 'results'}"
        if self.results is not None:
            text += f", kept in {self.results}"
        elif done:
            text += ", gone now if they were not saved"
        return f"The studio has ended: {text}{f'; {left} not done' if left else ''}."

    def archive(self, paths: list[Path]) -> Path:
        """A file with copies of results in it, no two of one name; whoever asks for it removes it.

        Raises ImageWriteError.
        """
        place: str | None = None
        try:
            handle, place = tempfile.mkstemp(suffix=".zip", dir=self._folder)
            with (
                os.fdopen(handle, "wb") as file,
                zipfile.ZipFile(file, "w", strict_timestamps=False) as archive,
            ):  # images are compressed already
                names: set[str] = set()
                for path in paths:
                    inside = next(name for name in numbered(path.name) if name not in names)
                    names.add(inside)
                    archive.write(path, inside)
        except OSError as error:
            if place is not None:
                Path(place).unlink(missing_ok=True)
            raise ImageWriteError(f"The results cannot be packed ({error.strerror}). Make them anew.") from error
        return Path(place)

    def close(self, patience_s: float = 20.0) -> None:
        """End the work: at the next tile, or when patience is at its end."""
        with self._changed:
            self._closed = True
            for number in self._items:
                self._halt(number)
            self._notify()
        self._thread.join(patience_s)

    def _halt(self, number: int) -> None:
        item = self._items.get(number)
        if item is not None and item.state is State.WAITING:
            self._order.remove(number)
            self._put(number, state=State.DONE if item.result else State.READY)
        elif item is not None and item.state is State.WORKING:
            self._put(number, state=State.STOPPING)

    def _put(self, number: int, **changes: Any) -> None:  # noqa: ANN401 - fields of an Item
        if number in self._items:
            self._items[number] = replace(self._items[number], **changes)

    def _notify(self) -> None:
        self._version += 1
        self._changed.notify_all()

    def _change(self, number: int, **changes: Any) -> None:  # noqa: ANN401 - fields of an Item
        with self._changed:
            self._put(number, **changes)
            self._notify()

    def _work(self) -> None:
        while (item := self._next()) is not None:
            self._enlarge(item)
            if self.item(item.number) is None:
                self.drop(item.number)

    def _next(self) -> Item | None:
        """The next image, marked as in work; waits for one. None: there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._order or self._closed)
            if self._closed:
                return None
            number = self._order.pop(0)
            self._put(number, state=State.WORKING)
            self._notify()
            return self._items[number]

    def _enlarge(self, item: Item) -> None:
        from ddnsr_cli.commands.upscale.run import upscale_images  # in this thread: the page is there before

        number, options = item.number, item.options
        assert options is not None  # whoever waits has some
        back = State.DONE if item.result else State.READY
        try:
            target = self._target(item, options)
            for event in upscale_images([item.source], target, options, self._listener(number), start=self._started):
                if isinstance(event, Written):
                    made = {"result": event, "model": options.model, "version": item.version + 1}
                    notes = tuple(map(self._without_folder, event.notes))
                    with self._changed:  # whoever hears of the new result finds the old one gone
                        self._made += 1
                        self._change(number, state=State.DONE, notes=notes, **made)
                        self._forget_result(item)
        except _StoppedError:
            self._change(number, state=back)
        except DdnsrError as error:
            self._change(number, state=State.FAILED, error=self._without_folder(" ".join(str(error).split())))
        except Exception as error:  # noqa: BLE001  # a bug that one image meets does not stop the others
            self._change(number, state=State.FAILED, error=f"unexpected {type(error).__name__}: {error}")

    def _target(self, item: Item, options: UpscaleOptions) -> Path:
        """Where the result goes: named as by the command, and where that name is taken in their folder, numbered."""
        names = OutputNames(folder=None, suffix=item.suffix, extension=options.format)
        # beside the image, which may be called anything
        folder = self.results or free_path(item.source.parent / f"result{item.version + 1}")
        try:
            folder.mkdir(parents=self.results is not None, exist_ok=True)
        except OSError as error:
            raise ImageWriteError(f"{folder} cannot be made ({error.strerror}). Check the folder.") from error
        return free_path(folder / names.name(item.name, stem_of(item.name)))

    def _forget_result(self, item: Item) -> None:
        """Remove the result that another has taken the place of, where it lies in our folder."""
        if item.result is not None and item.result.output.is_relative_to(self._folder):
            shutil.rmtree(item.result.output.parent, ignore_errors=True)

    def _listener(self, number: int) -> UpscaleListener:
        def tile(done: int, total: int) -> None:
            self._refuse_stopped(number)
            self._change(number, tiles=(done, total), fetched=(0, 0))

        def download(done: int, total: int) -> None:
            self._refuse_stopped(number)
            self._change(number, fetched=(done, total))

        return UpscaleListener(
            image=_ignore, tile=tile, note=_ignore, detail=_ignore, failed=_ignore_failure, download=download
        )

    def _refuse_stopped(self, number: int) -> None:
        item = self.item(number)
        if item is None or item.state is State.STOPPING:
            raise _StoppedError("Stopped.")

    def _started(self, options: UpscaleOptions, listener: UpscaleListener) -> "Engine":
        """The network that these options ask for: the one that is loaded, or another in its place."""
        from ddnsr_cli.commands.upscale import worker

        key = (options.model, options.device, options.dtype, options.tiles, options.tta, options.offline)
        if self._engine is None or self._engine[0] != key:
            self._engine = None  # two at once might not fit
            self._engine = key, worker.start_engine(options, listener)
        return self._engine[1]

    def _without_folder(self, text: str) -> str:
        """A sentence that names the user's file as the user does, without the folder that it lies in meanwhile."""
        parts = text.split(f"{self._folder}/")
        return parts[0] + "".join(part.partition("/")[2] or part for part in parts[1:])


def _is_busy(item: Item) -> bool:
    return item.state in {State.WAITING, State.WORKING, State.STOPPING}


def _ignore(_text: str) -> None:
    pass


def _ignore_failure(_error: DdnsrError) -> None:
    pass


def not_put(path: Path, error: OSError) -> ImageWriteError:
    """What to tell where an image that comes cannot be written."""
    what = "the disk is full" if is_disk_full(error) else error.strerror
    return ImageWriteError(f"{path.name} cannot be put into the folder for temporary files: {what}.")


def safe_name(name: str) -> str:
    """A file name of a browser as one for our folders: no path, no control characters, not too long, not empty."""
    last = name.replace("\\", "/").rpartition("/")[2]
    clean = "".join(c for c in last if c.isprintable()).encode("utf-8", "replace").decode().strip().lstrip(".")
    stem = stem_of(clean)
    ending = clean[len(stem) :]
    room = MOST_NAME_BYTES - len(ending.encode())
    if room < 1:  # what stands behind the last dot is no extension
        stem, ending, room = clean, "", MOST_NAME_BYTES
    return (stem.encode()[:room].decode(errors="ignore") or "image") + ending


def free_path(path: Path) -> Path:
    """`path` itself, or where something is there already the first of `name_2.png`, `name_3.png` ... that is free."""
    return next(found for name in numbered(path.name) if not is_there(found := path.with_name(name)))


def numbered(name: str) -> Iterator[str]:
    """A name, then the same with 2, 3, 4 ... behind its stem."""
    yield name
    stem = stem_of(name)
    yield from (f"{stem}_{number}{name[len(stem) :]}" for number in itertools.count(2))


def check_results_folder(folder: Path) -> None:
    """Raises ConfigError where a file is in the place of the folder for results."""
    with suppress(OSError):
        if is_there(folder) and not folder.is_dir():
            raise ConfigError(f"-o takes a folder for the results, and {folder} is a file. Name another.")
