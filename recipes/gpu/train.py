"""Train for a given number of seconds on a rented GPU, and leave the run in small files before the time is up.

    python recipes/gpu/train.py --run runs/mine --out out --seconds 540 -- --track 2 --hr pack/hr --lr pack/lr

What stands after `--` goes to `ddnsr train`. When the run folder is empty and `--pieces` names pieces brought from
another machine, the run goes on from those. While training goes on, the last save is brought to `--out` every so many
seconds: a machine that is taken away early costs no more than those.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pieces import Limits, add_limits, join, limits_of, run_script, split

from ddnsr_cli.errors import ConfigError, DdnsrError, TrainingError

CODE = Path(__file__).resolve().parents[2]
STOPPED = 128 + signal.SIGTERM
"""Exit status of `ddnsr train` when it has saved because it was asked to stop."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """How the minutes are spent. All in seconds, from the start of this script."""

    seconds: float
    """In all: the training and bringing its result."""

    reserve: float = 45.0
    """Of these, kept for the last save and for bringing it."""

    bring_every: float = 200.0
    """Between bringing saves while the training goes on."""

    def __post_init__(self) -> None:
        if not 0 < self.reserve < self.seconds or self.bring_every <= 0:
            raise ConfigError(f"--reserve lies between 0 and --seconds, --bring-every above 0; got {self}.")


def train(words: list[str], run: Path, out: Path, lease: Lease, limits: Limits) -> str:
    """Train until the time is nearly up, then bring the run to `out`. Returns the form of the state brought.

    Raises TrainingError when the training failed, after bringing what it had saved.
    """
    start = time.monotonic()
    command = [sys.executable, "-m", "ddnsr_cli", "train", *words, "-o", str(run)]
    before = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(CODE), *([before] if before else [])])
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}) as training:
        previous = signal.signal(signal.SIGTERM, lambda *_: training.terminate())
        try:
            _watch(training, run, out, start + lease.seconds - lease.reserve, lease, limits)
            _end(training, lease.reserve / 2)
        finally:
            signal.signal(signal.SIGTERM, previous)
            training.kill()
    status = training.returncode
    form = split(run, out, limits) if _saved(run) else "nothing: no step was saved"
    if status not in (0, STOPPED):
        raise TrainingError(f"ddnsr train ended with status {status}; see its message above. Brought: {form}.")
    return form


def _watch(training: subprocess.Popen[bytes], run: Path, out: Path, end: float, lease: Lease, limits: Limits) -> None:
    """Until the training ends or the time is up, bring every new save."""
    brought_at = time.monotonic()
    while training.poll() is None and time.monotonic() < end:
        time.sleep(min(0.2, lease.bring_every))
        if time.monotonic() - brought_at >= lease.bring_every and _saved(run):
            try:
                split(run, out, limits)
            except DdnsrError as error:  # the next save may do; the training is worth more than this copy
                sys.stderr.write(f"warning: {error}\n")
            brought_at = time.monotonic()


def _end(training: subprocess.Popen[bytes], patience_s: float) -> None:
    """Ask the training to save and end; one that does not is killed, its last save is then what there is."""
    if training.poll() is None:
        training.terminate()
    try:
        training.wait(patience_s)
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"warning: the training did not end within {patience_s:.0f} s and was killed\n")
        training.kill()
        training.wait()


def _saved(run: Path) -> bool:
    return (run / "state" / "last.safetensors").exists()


def main(given: list[str]) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description="Train for a number of seconds and bring the run in small files.")
    parser.add_argument("--run", type=Path, required=True, help="run folder; goes on where it holds a run")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pieces")
    parser.add_argument("--seconds", type=float, required=True, help="in all, from the start of this script")
    parser.add_argument("--reserve", type=float, default=Lease.reserve, help="seconds for the last save")
    parser.add_argument("--bring-every", type=float, default=Lease.bring_every, help="seconds between pieces")
    parser.add_argument("--pieces", type=Path, help="pieces of a run to go on from when --run is empty")
    add_limits(parser)
    parser.add_argument("words", nargs="+", metavar="-- WORDS", help="options of ddnsr train, without -o")
    options = parser.parse_args(given)
    lease = Lease(seconds=options.seconds, reserve=options.reserve, bring_every=options.bring_every)
    if options.pieces is not None and not _saved(options.run):
        join(options.pieces, options.run)
    form = train(options.words, options.run, options.out, lease, limits_of(options))
    sys.stderr.write(f"brought: {form}\n")


if __name__ == "__main__":
    run_script(main)
