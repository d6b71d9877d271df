"""The command on a terminal: what it draws there, escape sequences and all."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

PATIENCE_S = 60
ROOT = Path(__file__).parents[2]


def on_a_terminal(*words, columns=100, program="ddnsr_cli"):
    """What `ddnsr` with these words draws while it runs to a good end. Skips where there are no such terminals."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", program, *map(str, words)]
    size = {"COLUMNS": str(columns), "LINES": "50"}
    environment = {**os.environ, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **size}
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # the terminal ends with the process
        while chunk := os.read(ours, 65536):
            seen += chunk
    os.close(ours)
    assert process.wait(PATIENCE_S) == 0, seen.decode()
    return seen.decode()
