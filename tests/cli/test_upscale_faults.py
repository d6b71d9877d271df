"""Kills, full disks, little memory: really done to a process of its own, and nothing is lost."""

import contextlib
import os
import platform
import re
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.rrdb import RRDBNet, start_as_nearest
from ddnsr_cli.weights.checkpoint import save_sr_net
from tests.helpers.processes import no_larger_files, slow_disk

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills and limits as Linux has them")
FREE_BYTES = 220 << 20
SIDE = 240  # LR pixels: writing takes long enough to be caught at it


@pytest.fixture
def images(tmp_path):
    """A folder of noisy images."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(5):
        samples = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(samples).save(folder / f"{number}.png")
    return folder


def whole(folder):
    """The results in a folder, by name; every visible file must be one."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            with Image.open(path) as image:
                image.load()
                assert image.size == (4 * SIDE, 4 * SIDE)
            found[path.name] = path.read_bytes()
    return found


def half_written(folder):
    return [path for path in folder.rglob("*") if ".part" in path.name]


def last_line(running):
    return running.err.splitlines()[-1]


def words_for(images, out, model):
    return ("upscale", images, "-o", out, "-m", model, "--device", "cpu", "-t", "none")


def test_killed_at_any_time_and_run_again_nothing_is_lost(processes, images, quick_model, tmp_path):
    out, engine = tmp_path / "out", ("--engine", "torch")
    words = (*words_for(images, out, quick_model), *engine)
    for done in (0, 2):
        running = processes.start(*words, first=[(slow_disk, (0.3,))])  # else it may be whole before the kill
        running.until(lambda done=done: half_written(out) and len(whole(out)) >= done)
        running.kill()
        assert len(half_written(out)) == 1
    assert 2 <= len(whole(out)) < 5
    last = processes.start(*words)
    assert last.ended() == 0, last.err
    assert half_written(out) == []
    straight = processes.start(*words_for(images, tmp_path / "straight", quick_model), *engine)
    assert straight.ended() == 0, straight.err
    assert whole(out) == whole(tmp_path / "straight")


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "stopped by SIGTERM"),
        (signal.SIGHUP, 129, "stopped by SIGHUP"),
    ],
)
def test_asked_to_stop_in_the_middle_of_a_write(processes, images, quick_model, tmp_path, number, status, said):
    out = tmp_path / "out"
    running = processes.start(*words_for(images, out, quick_model))
    running.until(lambda: half_written(out) and len(whole(out)) >= 1)
    running.send(number)
    assert running.ended() == status, running.err
    told = re.fullmatch(
        rf"error: {said}; (\d) images? (is|are) done, and the same command goes on.", last_line(running)
    )
    assert told, running.err
    assert "Traceback" not in running.err
    assert half_written(out) == []
    assert 1 <= int(told[1]) <= len(whole(out)) < 5


def test_a_stop_tells_of_several_images_only_and_how_to_go_on(processes, images, quick_model, tmp_path):
    single = processes.start(*words_for(images / "0.png", tmp_path / "one.png", quick_model))
    single.until(lambda: half_written(tmp_path))
    single.send(signal.SIGINT)
    assert single.ended() == 130
    assert last_line(single) == "error: interrupted."
    again = processes.start(*words_for(images, tmp_path / "out", quick_model), "--overwrite")
    again.until(lambda: half_written(tmp_path / "out") and again.out.count("\n") >= 2)
    again.send(signal.SIGINT)
    assert again.ended() == 130
    assert last_line(again).endswith("images are done, and the same command without --overwrite goes on.")


def test_on_a_full_disk_every_image_is_named_and_nothing_is_left(processes, images, quick_model, tmp_path):
    out = tmp_path / "out"
    words = words_for(images, out, quick_model)
    running = processes.start(*words, first=[(no_larger_files, (100_000,))])
    assert running.ended() not in (0, 70, 1), running.err
    assert all(f"{number}.png" in running.err for number in range(5))
    assert "Traceback" not in running.err
    assert [path for path in out.rglob("*") if path.is_file() and path.stat().st_size > 1000] == []
    assert half_written(out) == []


@pytest.mark.parametrize("more", [(), ("--compare",)])
def test_on_a_full_disk_a_single_image_leaves_no_empty_folder(processes, images, quick_model, tmp_path, more):
    words = words_for(images / "0.png", tmp_path / "new/sub/out.png", quick_model)
    running = processes.start(*words, *more, first=[(no_larger_files, (20_000,))])
    assert running.ended() == 4, running.err
    assert "could not be written (File too large)" in last_line(running)
    assert not (tmp_path / "new").exists()


def little_memory(more_bytes):
    """No more address space than now and so many bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def test_with_little_memory_tiles_get_smaller_and_the_result_is_the_same(processes, tmp_path):
    net = RRDBNet(RRDBConfig(features=32, blocks=1, growth=16))
    start_as_nearest(net, torch.Generator().manual_seed(0))
    with torch.no_grad():
        net.conv_body.weight.zero_()  # it sees one pixel only: tiles change nothing
    save_sr_net(tmp_path / "wide.safetensors", net, metadata={}, half=False)
    samples = np.random.default_rng(0).integers(0, 256, (240, 240, 3), np.uint8)
    Image.fromarray(samples).save(tmp_path / "in.png")
    # in fp32: addresses are counted here, and the kernels for bf16 reserve some of their own, though no more memory
    words = ("upscale", tmp_path / "in.png", "-m", tmp_path / "wide.safetensors", "--device", "cpu", "--fp32", "-v")
    for name, given in {"auto": "auto", "none": "none"}.items():
        target = tmp_path / f"{name}.png"
        running = processes.start(*words, "-o", target, "-t", given, first=[(little_memory, (FREE_BYTES,))])
        assert running.ended() == 0, running.err
        assert ("Out of memory with tiles of" in running.err) == (given == "none")  # auto knows before
        with Image.open(target) as image:
            seen = np.asarray(image)
        assert np.abs(seen.astype(int) - samples.repeat(4, 0).repeat(4, 1)).max() <= 1


def on_a_terminal(slave, environment):
    """Standard output and error on a terminal."""
    for number in (1, 2):
        os.dup2(os.open(slave, os.O_WRONLY | os.O_NOCTTY), number)
    os.environ.update(environment)


@pytest.fixture
def terminal():
    """(name, what was shown): a terminal of its own."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    seen = bytearray()

    def listen():
        with contextlib.suppress(OSError):  # it ends with the last who holds it
            while chunk := os.read(ours, 65536):
                seen.extend(chunk)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()

    def shown():
        os.close(theirs)
        listener.join(10)
        return seen.decode()

    yield os.ttyname(theirs), shown
    os.close(ours)


def test_a_narrow_terminal_without_colors(processes, images, quick_model, tmp_path, terminal):
    slave, shown = terminal
    words = words_for(images / "0.png", tmp_path / "o.png", quick_model)
    environment = {"NO_COLOR": "1", "COLUMNS": "40", "TERM": "xterm-256color"}
    status = processes.start(*words, first=[(on_a_terminal, (slave, environment))]).ended()
    text = shown()
    assert status == 0, text
    assert f"{tmp_path / 'o.png'}\r\n" in text  # in one piece, however narrow
    assert "\x1b[3" not in text  # colors
    assert "\x1b[9" not in text


PAGES_AFTER = """
import resource, sys
from ddnsr_cli.cli.app import app

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(80 << 20)[::4096] = bytes((80 << 20) // 4096)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = [pages(), pages()][1]
app(sys.argv[1:], standalone_mode=False)
print(given_back, [pages(), pages()][1])
"""


@pytest.mark.skipif(not platform.libc_ver()[0], reason="what glibc does")
@pytest.mark.parametrize("command", ["upscale", "degrade", "eval"])
def test_commands_keep_what_is_freed(images, quick_model, tmp_path, command):
    """A block after another of its size costs no new pages, once the command has begun. The network is tiny."""
    words = {
        "upscale": (images / "0.png", "-o", tmp_path / "out.png", "-m", quick_model, "--engine", "torch"),
        "degrade": (images / "0.png", "-o", tmp_path / "out", "--method", "bicubic"),
        "eval": ("--lr", images, "--models", quick_model, "--json", tmp_path / "figures.json"),
    }[command]
    called = [sys.executable, "-c", PAGES_AFTER, command, *map(str, words), "--quiet"]
    done = subprocess.run(called, capture_output=True, text=True, check=True, timeout=120)
    given_back, kept = map(int, done.stdout.split()[-2:])
    assert given_back > 1000
    assert kept < given_back / 10
