"""A Python process that has spandrel imported, and runs programs in forks of itself: to import it takes seconds.

It is a process of its own for the stand-in's sake: see torchvision_stand_in.py.
"""

import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[2]


class SpandrelProcess:
    """`run(program, *words)` -> returncode, stdout and stderr. A context manager: the process ends with the block."""

    def __init__(self):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", "-m", __name__]
        self.process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()

    def run(self, program, *words):
        json.dump([program, *map(str, words)], self.process.stdin)
        print(file=self.process.stdin, flush=True)
        return SimpleNamespace(**json.loads(self.process.stdout.readline()))


def serve():
    import spandrel  # noqa: F401  # what the programs import is there at once

    import ddnsr_cli.cli.app
    import ddnsr_cli.cli.progress
    import ddnsr_cli.commands.upscale.run
    import ddnsr_cli.commands.weights.convert  # noqa: F401

    for line in sys.stdin:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if child == 0:
                _work(*json.loads(line), descriptors=(out.fileno(), err.fileno()))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            out.seek(0)
            err.seek(0)
            answer = {"returncode": code, "stdout": out.read().decode(), "stderr": err.read().decode()}
        print(json.dumps(answer), flush=True)


def _work(program, *words, descriptors):
    """Run the program to its end, which is that of the process."""
    code = 1
    try:
        for number, descriptor in enumerate(descriptors, start=1):
            os.dup2(descriptor, number)
        sys.argv = ["-c", *words]
        exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001  # it is passed on as text
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)  # to take down all that PyTorch has loaded would take most of a second


if __name__ == "__main__":
    import tests.helpers.torchvision_stand_in  # noqa: F401

    serve()
