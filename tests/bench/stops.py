"""SIGTERM at every call to the system that touches the output of a small run, by strace.

`python tests/bench/stops.py upscale -m quick.safetensors` walks through all of them, one run each, and counts what is
left behind. Linux with strace; a run takes some seconds. The tests sample the same calls within one process.
"""

import argparse
import collections
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

CALLS = "openat rename renameat renameat2 unlink unlinkat fsync ftruncate fchmod chmod flock mkdir link linkat write"
LEFT = (".part", ".tmp")


def command(what, source, output, words):
    return [sys.executable, "-m", "ddnsr_cli", what, str(source), "-o", str(output), *words]


def traced(words, paths, inject=()):
    """(exit status, lines of calls that touch the paths)."""
    with tempfile.NamedTemporaryFile("r") as log:
        only = [word for path in paths for word in ("-P", str(path))]
        calls = ["-e", f"trace={CALLS.replace(' ', ',')}"]
        done = subprocess.run(["strace", "-f", "-qq", "-o", log.name, *calls, *only, *inject, *words],
                              capture_output=True, check=False)  # fmt: skip
        return done.returncode, log.read().splitlines()


def walk(what, words, most):
    ends = collections.Counter()
    left = []
    with tempfile.TemporaryDirectory() as top:
        source, output = Path(top) / "in", Path(top) / "out"
        source.mkdir()
        pixels = np.random.default_rng(0).integers(0, 255, (40, 48, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(source / "a.png")
        _, lines = traced(command(what, source, output, words), [])
        paths = {output, *(path for line in lines for path in re.findall(rf'"({re.escape(str(output))}[^"]*)"', line))}
        subprocess.run(["rm", "-rf", str(output)], check=True)
        _, lines = traced(command(what, source, output, words), paths)
        counts = collections.Counter(re.match(r"\d+\s+(\w+)\(", line)[1] for line in lines if "(" in line)
        places = [(name, number) for name, count in sorted(counts.items()) for number in range(1, count + 1)]
        for name, number in places[:: max(1, len(places) // most)]:
            subprocess.run(["rm", "-rf", str(output)], check=True)
            status, _ = traced(command(what, source, output, words), paths,
                               ["-e", f"inject={name}:signal=TERM:when={number}"])  # fmt: skip
            ends[status] += 1
            left += [(name, number, path.name) for path in output.rglob("*") if any(end in path.name for end in LEFT)]
    print(f"{what}: {sum(ends.values())} of {len(places)} calls, ends {dict(ends)}, left behind {left or 'nothing'}")
    return left


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["upscale", "degrade"])
    parser.add_argument("--most", type=int, default=10_000, help="Walk through so many calls at most.")
    given, words = parser.parse_known_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(bool(walk(given.what, words, given.most)))


if __name__ == "__main__":
    main()
