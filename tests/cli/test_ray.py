"""`ddnsr upscale` and `degrade --ray` on real workers: one small cluster on this machine for all tests of the file."""

import importlib.util
import json
import os
import re
import signal
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from ddnsr_cli.commands import ray_workers
from ddnsr_cli.commands.ray_workers import RayOptions
from ddnsr_cli.commands.upscale.options import Started, Summary, UpscaleListener, UpscaleOptions
from ddnsr_cli.commands.upscale.run import upscale_images
from ddnsr_cli.errors import DeviceError
from tests.helpers.pair_folders import degrader, refused, tree

ENGINE = ("--engine", "torch")  # each worker begins sooner without OpenVINO


@pytest.fixture(scope="module")
def cluster():
    """Ray with room for two workers; they find the package where this process does.

    By its own environment: with one that is set up for them, those that Ray starts beforehand would be of no use.
    """
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed, or not for this Python")
    ray = ray_workers.import_ray()
    root = str(Path(__file__).parents[2])
    on_stop = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", root)
        ray.init(
            address="local", num_cpus=2, object_store_memory=100 << 20, include_dashboard=False, log_to_driver=False,
            logging_level="error",
        )  # fmt: skip
    yield ray
    ray.shutdown()
    signal.signal(signal.SIGTERM, on_stop)  # Ray leaves its own, which ends the process


@pytest.fixture
def folder(image_file, tmp_path, monkeypatch):
    """Six different images, the third in a folder of its own, the last damaged; seen from beside them."""
    for number in range(5):
        image_file(f"in/{'deep/' if number == 2 else ''}{number}.png", width=20 + number)
    (tmp_path / "in" / "5.png").write_bytes(b"\x89PNG\r\n\x1a\nno header")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def events(done):
    return [json.loads(line) for line in done.out.splitlines()]


def without_times(events):
    return sorted(
        json.dumps({**event, "seconds": 0}, sort_keys=True) for event in events if event["event"] != "summary"
    )


@pytest.mark.slow
def test_results_events_failures_and_resuming_are_those_of_the_local_command(ddnsr, cluster, folder, quick_model):
    words = ("upscale", "in", "-o", "out", "-m", quick_model, "--json", *ENGINE)
    here = ddnsr(*words)
    results = tree(folder / "out")
    kept = Path("out", "deep", "2.png")
    for number in (0, 1, 3, 4):
        Path("out", f"{number}.png").unlink()
    there = ddnsr(*words, "--ray", "auto", "--ray-workers", "2")
    assert (here.code, there.code) == (9, 9)
    assert events(there)[-1].items() >= {"written": 4, "skipped": 1, "failed": 1}.items()
    expected = [event for event in events(here) if event.get("output") != str(kept)]
    expected.append({"event": "skipped", "input": str(Path("in", "deep", "2.png")), "output": str(kept)})
    assert without_times(events(there)) == without_times(expected)
    assert set(here.err.splitlines()) < set(there.err.splitlines())
    assert tree(folder / "out") == results


@pytest.mark.slow
def test_a_killed_worker_loses_nothing_and_repeats_its_image_alone(
    ddnsr, cluster, folder, image_file, quick_model, capfd
):
    (folder / "in" / "5.png").unlink()
    image_file("in/3.png", width=400, height=300)  # in work long enough to be killed
    pids, notes, starts = [], [], []
    silent = lambda *_: None  # noqa: E731
    listener = UpscaleListener(
        image=silent, tile=silent, failed=silent, download=silent, note=notes.append,
        detail=lambda text: pids.extend(map(int, re.findall(r"process (\d+) on", text))),
    )  # fmt: skip
    options = UpscaleOptions(model=str(quick_model), engine="torch", ray=RayOptions(workers=1))
    for event in upscale_images([Path("in")], Path("out"), options, listener):
        if isinstance(event, Started):
            starts.append(event.input.name)
            if starts.count("3.png") == 1 and event.input.name == "3.png":
                os.kill(pids[-1], signal.SIGKILL)
    assert isinstance(event, Summary)
    assert (event.written, event.failed) == (5, 0)
    assert sorted(starts) == ["0.png", "1.png", "2.png", "3.png", "3.png", "4.png"]
    assert [note for note in notes if "died" in note] == [f"{Path('in/3.png')}: its worker died; it is done again"]
    assert len(set(pids)) == 2
    assert capfd.readouterr().out == ""  # a place for events
    assert ddnsr("upscale", "in", "-o", "here", "-m", quick_model, *ENGINE).code == 0
    assert tree(folder / "here") == tree(folder / "out")


@pytest.mark.slow
def test_pairs_are_those_of_the_local_command(ddnsr, cluster, folder):
    for number in range(4):
        path = folder / "in" / ("deep/2.png" if number == 2 else f"{number}.png")
        with Image.open(path) as image:
            image.resize((64, 48)).save(path)
    model = degrader(folder / "small.safetensors")
    words = ("degrade", "in", "--noise-source", "in/deep", "-m", model, "--device", "cpu", "--per-image", 2)
    here = ddnsr(*words, "-o", "here")
    there = ddnsr(*words, "-o", "there", "--ray", "auto", "--ray-workers", 2)
    assert (here.code, there.code) == (9, 9)
    told = {line for line in there.err.splitlines() if "no worker has started yet" not in line}  # on a busy machine
    assert told == set(here.err.splitlines())
    assert tree(folder / "there") == tree(folder / "here")


def test_an_address_where_nobody_listens_is_told_at_once(ddnsr, folder, quick_model, monkeypatch):
    monkeypatch.setattr(ray_workers, "import_ray", lambda: SimpleNamespace(is_initialized=lambda: False))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        words = ("upscale", "in", "-o", "out", "-m", quick_model, "--ray")
        for place in (address, f"ray://{address}"):
            refused(ddnsr(*words, place), 7, f"Ray at {place} cannot be used (", "Connection refused")
        monkeypatch.setenv("RAY_ADDRESS", address)
        refused(ddnsr(*words, "auto"), 7, f"Ray at {address} cannot be used (", "Connection refused")


def test_a_cluster_that_was_killed_is_not_waited_for(ddnsr, folder, monkeypatch):
    began = []

    def init(address, **_):
        began.append(address)
        raise DeviceError("enough is known")

    monkeypatch.setattr(ray_workers, "import_ray", lambda: SimpleNamespace(is_initialized=lambda: False, init=init))
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (folder / "ray").mkdir()
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        (folder / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{place.getsockname()[1]}")
        refused(ddnsr("upscale", "in", "-o", "out", "--ray", "auto"), 7, "enough is known")
        place.listen()
        refused(ddnsr("upscale", "in", "-o", "out", "--ray", "auto"), 7, "enough is known")
    assert began == ["local", "auto"]


def test_without_ray_one_line_says_how_to_get_it(ddnsr, folder, quick_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = ddnsr("upscale", "in", "-o", "out", "-m", quick_model, "--ray", "auto")
    assert (done.code, done.err) == (
        2,
        "error: --ray needs Ray, which is not installed. Get it with: pip install 'ddnsr[ray]'\n",
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["in", "--ray-workers", "2"], "--ray-workers belongs to --ray"),
        (["in", "--ray", "auto", "--dry-run"], "Leave --ray out"),
        (["in/0.png", "--ray", "auto", "-o", "-"], "Name files instead of -"),
        (["in", "--ray", "auto", "--device", "cuda:1"], "Ray gives out the GPUs"),
    ],
)
def test_what_does_not_go_with_ray_is_refused(ddnsr, folder, words, said):
    refused(ddnsr("upscale", *words), 2, said)
