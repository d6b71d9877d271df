"""SIGTERM at every call to the system that touches the output of a small run, by strace.

`python tests/bench/stops.py upscale -m quick.safetensors` walks through all of them, one run each, and counts what is
left behind; `train --pretrain --steps 2 --crop 32 --lite` is a training as small. Linux with strace; a run takes some
seconds. The tests sample the same calls within one process.
"""

import argparse
import collections
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

CALLS = "openat rename renameat renameat2 unlink unlinkat fsync ftruncate fchmod chmod flock mkdir link linkat write"
LEFT = (".part", ".tmp")
MOST_LINES = 30  # notes, and the log of a training
ENDS = {0, 143, -signal.SIGTERM}  # the last: a number that a thread reaches late is the main one's before Python runs


def command(what, source, output, words):
    place = ["--hr", str(source), "--lr", str(source.with_name("lr"))] if what == "train" else [str(source)]
    return [sys.executable, "-m", "ddnsr_cli", what, *place, "-o", str(output), *words]


def traced(words, inject=()):
    """(exit status, what the command said, lines of strace); descriptors are shown with their paths."""
    with tempfile.NamedTemporaryFile("r") as log:
        calls = ["-e", f"trace={CALLS.replace(' ', ',')}"]
        done = subprocess.run(["strace", "-f", "-y", "-qq", "-o", log.name, *calls, *inject, *words],
                              capture_output=True, check=False, text=True)  # fmt: skip
        return done.returncode, done.stderr, log.read().splitlines()


def places_in(lines, output):
    """(call, how manieth of its thread) of those that touch the output, whatever their files are called."""
    counts = collections.Counter()
    for line in lines:
        if found := re.match(r"(\d+)\s+(\w+)\(", line):
            counts[found[1], found[2]] += 1
            if str(output) in line:
                yield found[2], counts[found[1], found[2]]


def images(folder, height, width):
    folder.mkdir()
    for name in "ab":
        pixels = np.random.default_rng(ord(name)).integers(0, 255, (height, width, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")


def walk(what, words, part):
    """One part of all places, (number, of how many)."""
    ends = collections.Counter()
    left = []
    with tempfile.TemporaryDirectory() as top:
        source, output = Path(top) / "in", Path(top) / "out"
        images(source, 128, 160)
        images(source.with_name("lr"), 32, 40)
        status, said, lines = traced(command(what, source, output, words))
        if status:
            sys.exit(said)
        places = sorted(set(places_in(lines, output)))
        for name, number in places[part[0] :: part[1]]:
            subprocess.run(["rm", "-rf", str(output)], check=True)
            status, said, _ = traced(
                command(what, source, output, words), ["-e", f"inject={name}:signal=TERM:when={number}"]
            )
            ends[status] += 1
            left += [(name, number, path.name) for path in output.rglob("*") if any(end in path.name for end in LEFT)]
            if status not in ENDS or "Traceback" in said or len(said.strip().splitlines()) > MOST_LINES:
                left.append((name, number, status, said))
    print(f"{what}: {sum(ends.values())} of {len(places)} calls, ends {dict(ends)}, left behind {left or 'nothing'}")
    return left


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["upscale", "degrade", "train"])
    parser.add_argument("--part", default="0/1", help="Only each so manyth call, as in 2/5: from 0 on.")
    given, words = parser.parse_known_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(bool(walk(given.what, words, tuple(map(int, given.part.split("/"))))))


if __name__ == "__main__":
    main()
