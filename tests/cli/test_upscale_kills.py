"""`ddnsr upscale` killed at any moment, and run twice at once: nothing is lost, nothing is half written."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import slow_disk


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
def test_a_kill_at_the_rename_loses_nothing(ddnsr, processes, folder, quick_model, tmp_path, moment):
    words = ("upscale", folder, "-m", quick_model)
    ddnsr(*words, "-o", tmp_path / "whole")
    running = processes.start(*words, "-o", tmp_path / "out", first=[(dies_at_the_rename, (moment,))])
    assert running.ended() == -signal.SIGKILL
    again = ddnsr(*words, "-o", tmp_path / "out")
    assert (again.code, len(again.out.split())) == (0, 3 if moment == "before" else 2)
    assert files_in(tmp_path / "out") == files_in(tmp_path / "whole")


def dies_at_the_rename(moment):
    """The process is killed where 2.png gets its name: before it, or after it."""
    rename = Path.replace

    def replace(self, target):
        if Path(target).name == "2.png" and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        rename(self, target)
        if Path(target).name == "2.png":
            os.kill(os.getpid(), signal.SIGKILL)

    Path.replace = replace


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_kills_at_any_time_lose_nothing(ddnsr, processes, folder, quick_model, tmp_path):
    words = ("upscale", folder, "-m", quick_model)
    ddnsr(*words, "-o", tmp_path / "whole")
    for results in (1, 2):
        running = processes.start(*words, "-o", tmp_path / "out", first=[(slow_disk, (0.5,))])
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
