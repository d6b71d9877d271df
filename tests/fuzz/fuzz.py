"""Damaged files through the command, thousands of them: no traceback, no hang, no partial output, one line of error.

    python tests/fuzz/fuzz.py --count 20000 --seed 1        images and checkpoints; finds go to fuzz_finds/
    python tests/fuzz/fuzz.py --seed 1 --only 4711          one input again, with what the command says

Every input is made from seed and number alone. A process of its own does them, in memory-limited peace; this one
watches, kills what takes too long, notes what crashed, and goes on behind it. Linux only.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a script, too

HARD_LIMIT_S = 60  # wall clock: the machine may be busy
SLOW_S = 10  # of CPU: what takes longer is a find, too
MEMORY_BYTES = 6 << 30
MAX_PIXELS = 100_000  # larger claims are refused: an image of what a header claims would take hours, rightly
CODES = {0, 3, 4, 5, 7}  # done, and the refusals that a damaged file may meet
SHARE_OF_WEIGHTS = 5  # every so manyth input is a checkpoint


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--finds", type=Path, default=Path("fuzz_finds"))
    parser.add_argument("--work", action="store_true", help="internal: do the inputs instead of watching")
    options = parser.parse_args()
    if options.only is not None:
        options.first, options.count = options.only, 1
    if options.work or options.only is not None:
        work(options)
    else:
        sys.exit(watch(options))


def watch(options):
    """Start workers until all is done; the exit status is 1 when there are finds."""
    options.finds.mkdir(exist_ok=True)
    totals, finds, slowest = Counter(), [], 0.0
    number, end = options.first, options.first + options.count
    begin = time.monotonic()
    while number < end:
        words = ["--work", "--seed", options.seed, "--first", number, "--count", end - number, "--finds", options.finds]
        worker = subprocess.Popen(
            [sys.executable, __file__, *map(str, words)],
            stdout=subprocess.PIPE,
            bufsize=0,  # what is read ahead is nothing that `select` sees
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        number -= 1
        for report in reports(worker):
            number = report["number"]
            totals[f"{report['kind']} {report['code']}"] += 1
            slowest = max(slowest, report["seconds"])
            finds += [f"{number} {report['name']}: {find}" for find in report["finds"]]
        number += 1
        if number < end:
            finds.append(f"{number}: ended with status {worker.poll()} (-9: after {HARD_LIMIT_S} s)")
            number += 1
    for find in finds:
        print(find)
    figures = {
        "seed": options.seed,
        "first": options.first,
        "inputs": options.count,
        "by kind and status": dict(totals),
    }
    figures |= {
        "slowest_s": round(slowest, 2),
        "minutes": round((time.monotonic() - begin) / 60, 1),
        "finds": len(finds),
    }
    print(json.dumps(figures))
    return 1 if finds else 0


def reports(worker):
    """What the worker says of each input, until it ends or has been silent for too long."""
    while select.select([worker.stdout], [], [], HARD_LIMIT_S)[0]:
        line = worker.stdout.readline()
        if not line:
            worker.wait()
            return
        yield json.loads(line)
    worker.kill()
    worker.wait()


def work(options):
    """Do the inputs one after the other, and say what became of each."""
    from tests.fuzz import seed_files
    from tests.fuzz.mutations import mutated

    told = os.fdopen(os.dup(1), "w")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    kinds = {"image": seed_files.images(), "weights": seed_files.weights()}
    with tempfile.TemporaryDirectory(prefix="ddnsr-fuzz-") as folder:
        place = Place(Path(folder), kinds)
        for number in range(options.first, options.first + options.count):
            chance = random.Random(f"{options.seed}/{number}")
            kind = "weights" if number % SHARE_OF_WEIGHTS == 0 else "image"
            name = chance.choice(sorted(kinds[kind]))
            data = mutated(kinds[kind][name], list(kinds[kind].values()), chance)
            report = place.run(kind, name, data)
            if report["finds"]:
                (options.finds / f"{options.seed}-{number}-{name}").write_bytes(data)
            if options.only is None:
                told.write(json.dumps({"number": number, **report}) + "\n")
                told.flush()
            else:
                print(name, report, (place.folder / "err").read_text(errors="replace"), sep="\n")


class Place:
    """A folder with a sound image and a sound model, and room for a damaged file."""

    def __init__(self, folder, kinds):
        import torch

        from ddnsr_cli.nets.config import RRDBConfig
        from ddnsr_cli.nets.rrdb import RRDBNet, start_as_nearest
        from ddnsr_cli.weights.checkpoint import save_sr_net

        self.folder = folder
        net = RRDBNet(RRDBConfig(features=3, blocks=1, growth=1))
        start_as_nearest(net, torch.Generator().manual_seed(0))
        save_sr_net(folder / "sound.safetensors", net, metadata={}, half=False)
        (folder / "sound.png").write_bytes(kinds["image"]["laced.png"])
        (folder / "out").mkdir()

    def run(self, kind, name, data):
        """The command on a damaged file; what it gave and what is wrong about that."""
        damaged, target = self.folder / f"damaged{Path(name).suffix}", self.folder / "out" / "result.png"
        damaged.write_bytes(data)
        image, model = (damaged, "sound.safetensors") if kind == "image" else (self.folder / "sound.png", damaged)
        words = ["upscale", image, "-o", target, "-m", self.folder / model, "--max-pixels", MAX_PIXELS]
        start = time.process_time()
        code = self.command([str(word) for word in words])
        seconds = time.process_time() - start
        finds = list(self.wrong(code, target))
        if seconds > SLOW_S:
            finds.append(f"took {seconds:.0f} s")
        for path in (self.folder / "out").iterdir():
            path.unlink()
        damaged.unlink()
        return {"kind": kind, "name": name, "code": code, "seconds": round(seconds, 3), "finds": finds}

    def command(self, words):
        from ddnsr_cli.cli.app import main as command

        sys.argv = ["ddnsr", *words]
        kept = [os.dup(number) for number in (1, 2)]
        for number, name in ((1, "out.txt"), (2, "err")):
            with (self.folder / name).open("wb") as file:
                os.dup2(file.fileno(), number)
        code = 0
        try:
            command()
        except SystemExit as end:
            code = end.code or 0
        except BaseException as error:  # noqa: BLE001 - whatever comes through here is a find
            code = f"{type(error).__name__}: {error}"
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, before in zip((1, 2), kept, strict=True):
                os.dup2(before, number)
                os.close(before)
        return code

    def wrong(self, code, target):
        """What should not be after a run that ended with `code`."""
        said = (self.folder / "err").read_text(errors="replace").splitlines()
        told = (self.folder / "out.txt").read_text(errors="replace")
        if code not in CODES:
            yield f"status {code}: {said[-1] if said else ''}"
        if code == 0:
            yield from (f"said {line!r}" for line in said if not line.startswith("note: "))
            if not self.is_whole(target):
                yield "status 0 without a whole result"
        else:
            errors = [line for line in said if not line.startswith("note: ")]
            if len(errors) != 1 or not errors[0].startswith("error: "):
                yield f"said {said}"
            if told or list((self.folder / "out").iterdir()):
                yield "left something behind"

    @staticmethod
    def is_whole(path):
        from PIL import Image

        with contextlib.suppress(Exception), Image.open(path) as image:
            image.load()
            return min(image.size) >= 4
        return False


if __name__ == "__main__":
    main()
