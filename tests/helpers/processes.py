"""The command in processes of its own that are there at once: a server imports everything, and forks for each."""

import multiprocessing
import os
import resource
import signal
import sys
import time
from contextlib import suppress

import pytest
from PIL import Image

Image.init()  # all formats, which each process would else take in anew

MODULES = (
    "tests.helpers.compiler_stand_in",
    "torch.distributed.nn.functional",
    "torch.utils.tensorboard",
    "ddnsr_cli.commands.train.joint",
    "ddnsr_cli.commands.train.paired",
    "ddnsr_cli.commands.degrade.run",
    "ddnsr_cli.commands.upscale.run",
    "ddnsr_cli.cli.app",
    "ddnsr_cli.cli.progress",
    "pyvips",
    "typer._adapters",  # where Typer has it: with pydantic, a quarter of a second
)
PATIENCE_S = 120
TORCHRUN = (
    *("--nproc-per-node", "2", "--redirects", "3", "--master-port", "0"),
    *("--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"),
)
"""Options of torchrun: two processes whose output it keeps apart, `LOG/.../attempt_START/RANK/stdout.log`."""


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

    def until_lines(self, count):
        """Wait for so many lines on standard output."""
        self.until(lambda: self.out.count("\n") >= count)

    def until(self, sight):
        """Wait for `sight()` to be true while the run goes on."""
        end = time.monotonic() + PATIENCE_S
        is_alive = self.process.is_alive()
        while not sight():
            assert time.monotonic() < end, "in vain"
            assert is_alive, f"ended before: {self.err}"
            time.sleep(0.02)
            is_alive = self.process.is_alive()  # asked before the sight: what it did last counts


def ready_processes():
    """The server, as a context of multiprocessing; one for all tests of a run."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *MODULES, "tests.helpers.ready_command"])
    return context


class Processes:
    """`start("train", ...)`, each a process group of its own; `stop()` ends what is left."""

    def __init__(self, folder, before=()):
        """before: what each process does first of all, as `first` of `start`."""
        self.folder = folder
        self.before = before
        self.context = ready_processes()
        self.started = []

    def start(self, *words, first=(), out=None, err=None):
        """first: (function of a module, arguments) called in the new process before the command.
        out, err: where the standard streams go, instead of files of their own.
        """
        place = self.folder / str(len(self.started))
        out, err = out or place.with_suffix(".out"), err or place.with_suffix(".err")
        for path in (out, err):
            path.touch()
        process = self.context.Process(
            target=_main, args=([str(word) for word in words], out, err, (*self.before, *first))
        )
        process.start()
        self.started.append(Running(process, out, err))
        return self.started[-1]

    def stop(self):
        for running in self.started:
            running.kill()


@pytest.fixture
def processes(tmp_path_factory):
    """`processes.start("upscale", ...)`; what still runs at the end of the test is killed."""
    started = Processes(tmp_path_factory.mktemp("logs"))
    yield started
    started.stop()


def no_larger_files(most_bytes):
    """As on a full disk, writing fails: files cannot grow beyond so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))


def slow_disk(seconds):
    """Every file takes so long to reach the disk: time to be killed in a save, however busy the machine is."""
    plain = os.fsync

    def fsync(file):
        time.sleep(seconds)
        plain(file)

    os.fsync = fsync


def forked_workers():
    """The processes that decode are made as for a command from a shell: here they would take the server's way."""
    multiprocessing.set_start_method("fork", force=True)


def as_one_of(size, rank, port, start=0):
    """The environment that torchrun gives its processes. start: how often it had to start them again."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"LOCAL_RANK": str(rank), "TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_RESTART_COUNT": str(start)}
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # the launcher keeps what the processes meet at


def as_torchrun(words, log, *, restarts=0, first=()):
    """Be a torchrun of two processes that run the command: forked, so that they need not import PyTorch anew.

    first: what each does before the command, as `start` has it.
    """
    from torch.distributed.launcher.api import elastic_launch
    from torch.distributed.run import config_from_args, parse_args

    given = [*TORCHRUN, "--max-restarts", str(restarts), "--log-dir", str(log), "-m", "ddnsr_cli"]
    config, _, _ = config_from_args(parse_args([*given, *words]))
    config.start_method = "fork"
    elastic_launch(config, _of_torchrun)(words, first)
    sys.exit()


def _of_torchrun(words, first):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the launcher's handlers
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run_command(words, first)


def killed_once(step):
    """As by a machine that dies: the second process that torchrun started, when it has done so many steps."""
    from ddnsr_cli.training.trainer import JointTrainer

    train_step = JointTrainer.train_step

    def killed(trainer, *batch):
        if trainer.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(trainer, *batch)

    if (os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]) == ("1", "0"):
        JointTrainer.train_step = killed


def telling_opens(folder, report):
    """Write down each opening of a file or folder below `folder`: a line "r PATH" or "w PATH"."""
    log = os.open(report, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def hook(event, args):
        if event in {"open", "os.scandir", "os.listdir"} and str(args[0]).startswith(folder):
            writes = event == "open" and bool(args[2] & (os.O_WRONLY | os.O_RDWR))
            os.write(log, f"{'w' if writes else 'r'} {args[0]}\n".encode())

    sys.addaudithook(hook)


def _main(words, out, err, first):
    os.setsid()
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_NOCTTY), number)
    run_command(words, first)


def run_command(words, first):
    """In a process of its own; what each of `first` does comes before."""
    from torch import set_num_threads

    set_num_threads(1)  # sums in one order: the same bytes in every process
    sys.argv = ["ddnsr", *words]
    for function, arguments in first:
        function(*arguments)
    from ddnsr_cli.cli.app import main

    main()
