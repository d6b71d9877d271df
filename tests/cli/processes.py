"""The command in processes of its own that are there at once: a server imports everything, and forks for each."""

import multiprocessing
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

MODULES = ("torch._dynamo", "torch.utils.tensorboard", "ddnsr_cli.workflows.train_joint", "ddnsr_cli.workflows.train_fidelity")
PATIENCE_S = 120


class Running:
    """One run of the command."""

    def __init__(self, process, out, err):
        self.process = process
        self.pid = process.pid
        self._out = out
        self._err = err

    @property
    def out(self):
        return self._out.read_text()

    @property
    def err(self):
        return self._err.read_text()

    def ended(self):
        """Exit status once it is over; negative: the signal that killed it."""
        self.process.join(PATIENCE_S)
        assert self.process.exitcode is not None, f"still running: {self.err}"
        return self.process.exitcode

    def send(self, number):
        os.kill(self.pid, number)

    def kill(self):
        """With SIGKILL, the workers that decode too."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.join(PATIENCE_S)

    def until(self, sight):
        """Wait for `sight()` to be true while the run goes on."""
        end = time.monotonic() + PATIENCE_S
        while not sight():
            assert time.monotonic() < end, "in vain"
            assert self.process.is_alive(), f"ended before: {self.err}"
            time.sleep(0.002)


class Processes:
    """`start("train", ...)`, each a process group of its own; `stop()` ends what is left."""

    def __init__(self, folder):
        self.folder = folder
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([__name__, *MODULES])
        self.started = []

    def start(self, *words, prepare=None, given=()):
        """prepare(*given): called in the new process before the command; a function of a module."""
        place = self.folder / str(len(self.started))
        out, err = place.with_suffix(".out"), place.with_suffix(".err")
        for path in (out, err):
            path.touch()
        process = self.context.Process(target=_main, args=([str(word) for word in words], out, err, prepare, given))
        process.start()
        self.started.append(Running(process, out, err))
        return self.started[-1]

    def stop(self):
        for running in self.started:
            running.kill()


def no_larger_files(most_bytes):
    """As on a full disk, writing fails: files cannot grow beyond so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))


def _main(words, out, err, prepare, given):
    os.setsid()
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY), number)
    from torch import set_num_threads

    set_num_threads(1)  # sums in one order: the same bytes in every process
    sys.argv = ["ddnsr", *words]
    if prepare is not None:
        prepare(*given)
    from ddnsr_cli.cli.app import main

    main()
