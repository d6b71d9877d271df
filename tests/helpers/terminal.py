"""The command on a terminal: what it draws there, escape sequences and all."""

import os
import select
import sys

import pytest

PATIENCE_S = 60
CHUNK = 65536


def on_a_terminal(*words, columns=100, first=()):
    """What `ddnsr` with these words draws while it runs to a good end. Skips where there are no such terminals.

    first: as in `Processes.start`.
    """
    pty = pytest.importorskip("pty")
    from tests.helpers.processes import ready_processes

    ours, theirs = pty.openpty()  # theirs stays open: an end that all have left gives no more of what was drawn
    given = [str(word) for word in words], os.ttyname(theirs), columns, tuple(first)
    process = ready_processes().Process(target=_draw, args=given)
    process.start()
    seen = b""
    while process.is_alive() or select.select([ours], [], [], 0)[0]:
        if select.select([ours], [], [], 0.02)[0]:
            seen += os.read(ours, CHUNK)
    process.join(PATIENCE_S)
    for end in (ours, theirs):
        os.close(end)
    assert process.exitcode == 0, seen.decode()
    return seen.decode()


def _draw(words, terminal, columns, first):
    from tests.helpers.processes import run_command

    os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "50"}
    handle = os.open(terminal, os.O_RDWR | os.O_NOCTTY)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(handle, number)
        plain = getattr(sys, name)
        stream = open(number, "w", buffering=1, encoding=plain.encoding, errors=plain.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
    run_command(words, first)
