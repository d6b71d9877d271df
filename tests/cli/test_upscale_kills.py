"""`ddnsr upscale` killed at any moment, and run twice at once: nothing is lost, nothing is half written."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def files_in(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.fixture
def folder(image_file, tmp_path):
    """Five different images."""
    for number in range(5):
        image_file(f"in/{number}.png", width=20 + number)
    return tmp_path / "in"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_at_the_rename_loses_nothing(ddnsr, folder, quick_model, tmp_path, moment):
    words = ("upscale", folder, "-m", quick_model)
    ddnsr(*words, "-o", tmp_path / "whole")
    script = (
        "import os, signal, sys, pathlib\n"
        "from ddnsr_cli.cli.app import main\n"
        "rename = pathlib.Path.replace\n"
        "def replace(self, target):\n"
        f"    if pathlib.Path(target).name == '2.png' and {moment == 'before'}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    rename(self, target)\n"
        "    if pathlib.Path(target).name == '2.png': os.kill(os.getpid(), signal.SIGKILL)\n"
        "pathlib.Path.replace = replace\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, words), "-o", tmp_path / "out"],
        capture_output=True, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    again = ddnsr(*words, "-o", tmp_path / "out")
    assert (again.code, len(again.out.split())) == (0, 3 if moment == "before" else 2)
    assert files_in(tmp_path / "out") == files_in(tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_kills_at_any_time_lose_nothing(ddnsr, processes, folder, quick_model, tmp_path):
    words = ("upscale", folder, "-m", quick_model)
    ddnsr(*words, "-o", tmp_path / "whole")
    for results in (1, 2):
        running = processes.start(*words, "-o", tmp_path / "out")
        running.until_lines(results)
        running.kill()
    assert ddnsr(*words, "-o", tmp_path / "out").code == 0
    assert files_in(tmp_path / "out") == files_in(tmp_path / "whole")


def test_two_runs_on_one_folder_do_each_other_no_harm(ddnsr, processes, folder, quick_model, tmp_path):
    words = ("upscale", folder, "-m", quick_model)
    ddnsr(*words, "-o", tmp_path / "whole")
    both = [processes.start(*words, "-o", tmp_path / "out") for _ in range(2)]
    assert [running.ended() for running in both] == [0, 0], [running.err for running in both]
    assert files_in(tmp_path / "out") == files_in(tmp_path / "whole")
