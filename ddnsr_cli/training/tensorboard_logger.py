"""TensorBoard files of a run, where the package `tensorboard` is installed."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.errors import TrainingError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

MISSING = "TensorBoard files are left out: its package is not installed. Get it with: pip install 'ddnsr[logs]'"


class TensorBoardLogger:
    """Writes what TensorBoard shows. Without its package: tells so once, then takes everything and writes nothing.

    Also a context manager that closes at the end.
    """

    def __init__(self, folder: Path, note: Callable[[str], None], *, start: int = 0) -> None:
        """Begin a file in `folder`, which is made.

        note: takes one sentence for the user. start: steps done before; what an earlier, killed run wrote for later
        steps is no longer shown. Raises TrainingError when the folder cannot be written.
        """
        self.folder = folder
        before = set(threading.enumerate())
        self.writer = self._open(note, start)
        self._threads = set(threading.enumerate()) - before
        self._usual_hook = threading.excepthook
        if self._threads:
            threading.excepthook = self._thread_failed

    def scalars(self, step: int, figures: Mapping[str, float], *, group: str) -> None:
        """One curve a figure, named `group/figure`. Raises TrainingError when the disk does not take it."""
        if self.writer is not None:
            with self._wrap_errors():
                for name, value in figures.items():
                    self.writer.add_scalar(f"{group}/{name}", value, step)
                self.writer.flush()  # a kill then costs nothing

    def image(self, step: int, pixels: NDArray[np.uint8], *, name: str = "samples") -> None:
        """An image (H, W, 3), RGB, uint8, under a slider of the steps. Raises TrainingError as `scalars`."""
        if self.writer is not None:
            with self._wrap_errors():
                self.writer.add_image(name, pixels, step, dataformats="HWC")
                self.writer.flush()

    def close(self) -> None:
        """Write what is waiting. Closing twice does no harm. Raises TrainingError as `scalars`."""
        if self.writer is not None:
            try:
                with self._wrap_errors():
                    self.writer.close()
            finally:
                if threading.excepthook == self._thread_failed:
                    threading.excepthook = self._usual_hook

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, note: Callable[[str], None], start: int) -> "SummaryWriter | None":
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            note(MISSING)
            return None
        with self._wrap_errors():
            # Steps from purge_step on are purged; the row of step `start` itself was written before the save.
            return SummaryWriter(self.folder, purge_step=start + 1 if start else 0)

    def _thread_failed(self, failure: threading.ExceptHookArgs) -> None:
        """No traceback of TensorBoard's thread for a full disk: it is raised again at the next call."""
        if failure.thread not in self._threads or not isinstance(failure.exc_value, OSError):
            self._usual_hook(failure)

    @contextmanager
    def _wrap_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as cause:
            reason = cause.strerror or cause
            raise TrainingError(
                f"{self.folder} could not be written ({reason}). Check the free space, or go on without TensorBoard."
            ) from cause
