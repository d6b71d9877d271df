"""Small images of a folder are done several at a time: results, messages and their order are as one after another."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ddnsr_cli.commands.upscale import run, worker
from ddnsr_cli.commands.upscale.jobs import Job
from ddnsr_cli.commands.upscale.options import Started, UpscaleListener, UpscaleOptions, Written
from ddnsr_cli.commands.upscale.run import upscale_images
from ddnsr_cli.commands.upscale.worker import Engine, Worker, measure_tile
from ddnsr_cli.errors import BatchError
from ddnsr_cli.inference import pipeline
from ddnsr_cli.inference.net_upscaler import NetUpscaler
from ddnsr_cli.inference.tiling import TileConfig
from ddnsr_cli.io.image import RasterImage
from ddnsr_cli.io.read import image_size, pixels_by_head
from ddnsr_cli.io.write import write_image
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.processing.resize import OutputSize

CPU = torch.device("cpu")
WAIT_S = 60.0
TILES = TileConfig()


class WatchedNet(RRDBNet):
    """Tells `watch` of each image that it enlarges, but not of its copies' first."""

    def __init__(self, watch):
        super().__init__(RRDBConfig(features=4, blocks=1, growth=2))
        self.watch = watch

    def __deepcopy__(self, memo):
        other = WatchedNet(self.watch)
        other.load_state_dict(self.state_dict())
        return other

    def forward(self, lr):
        self.watch(lr)
        return super().forward(lr)


def our_threads():
    """Not those of libraries that once called Python, which it goes on counting."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith("Dummy-")}


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def said():
    return []


@pytest.fixture
def listener(said):
    words = {to: (lambda *what, to=to: said.append((to, *what))) for to in ("image", "tile", "note", "detail")}
    return UpscaleListener(**words, failed=lambda error: said.append(str(error)), download=lambda *_: None)


def engine(watch=lambda lr: None, tiles=TILES):
    torch.manual_seed(0)
    net = WatchedNet(watch)
    return Engine(upscaler=NetUpscaler(net, device=CPU, tiles=tiles), model="watched", sha256="0" * 64)


def drawn(path, width=20, height=16, seed=0):
    path.parent.mkdir(exist_ok=True)
    samples = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    write_image(RasterImage(pixels=samples), path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Nine images of different sizes; the third is damaged."""
    for number in range(9):
        drawn(tmp_path / f"in/{number}.png", width=20 + number, seed=number)
    (tmp_path / "in/2.png").write_bytes((tmp_path / "in/2.png").read_bytes()[:300])
    return tmp_path / "in"


def done(folder, target, listener, said, **options):
    """What was said and what happened, without seconds; the results by name."""
    said.clear()
    events = upscale_images([folder], target, UpscaleOptions(**options), listener, start=lambda *_: engine())
    with pytest.raises(BatchError):
        said.extend(replace(event, seconds=0.0) if hasattr(event, "seconds") else event for event in events)
    told = [str(one).replace(target.name, "TARGET") for one in said]
    return told, {path.name: path.read_bytes() for path in target.iterdir()}


@pytest.mark.parametrize("options", [{}, {"compare": True, "format": "jpg"}])
def test_results_and_messages_are_those_of_one_after_another(
    folder, tmp_path, listener, said, two_threads, monkeypatch, options
):
    together = done(folder, tmp_path / "together", listener, said, **options)
    monkeypatch.setattr(run, "MOST_LANES", 1)
    alone = done(folder, tmp_path / "alone", listener, said, **options)
    assert together == alone
    assert sum("left the image" in line for line in together[0] if line.startswith("('note'")) == 8
    assert len(together[1]) == 8 * (2 if options else 1)


def test_two_are_in_work_at_once_each_by_one_thread_and_the_first_alone(folder, tmp_path, listener, said, two_threads):
    meeting, threads = threading.Barrier(2), []

    def watch(lr):
        if lr.shape[3] in (27, 28):  # the last two
            meeting.wait(WAIT_S)
        threads.append((lr.shape[3], torch.get_num_threads()))

    (folder / "2.png").unlink()
    list(upscale_images([folder], tmp_path / "out", UpscaleOptions(), listener, start=lambda *_: engine(watch)))
    assert dict(threads) == {20: 2} | dict.fromkeys((21, *range(23, 29)), 1)
    assert (torch.get_num_threads(), in_a_new_thread(torch.get_num_threads)) == (2, 2)


def test_only_an_image_alone_has_threads_of_its_own(folder, tmp_path, listener, said, two_threads, monkeypatch):
    handed_over, asked = pipeline.handed_over, []

    def watched(items, use):
        asked.append(threading.current_thread())
        return handed_over(items, use)

    monkeypatch.setattr(pipeline, "handed_over", watched)
    _, results = done(folder, tmp_path / "out", listener, said)
    assert len(results) == 8
    assert asked.count(threading.main_thread()) == 1  # of the first, whose writing is handed over by another thread
    assert len(asked) == 2


def in_a_new_thread(ask):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(ask).result()


def test_a_large_one_waits_until_the_small_ones_are_done_and_has_all_threads(
    folder, tmp_path, listener, said, two_threads, monkeypatch
):
    monkeypatch.setattr(run, "SMALL_PX", 21 * 16)
    order = []

    def watch(lr):
        order.append((lr.shape[3], torch.get_num_threads()))

    drawn(folder / "9.png", width=21)
    (folder / "2.png").unlink()
    events = upscale_images([folder], tmp_path / "out", UpscaleOptions(), listener, start=lambda *_: engine(watch))
    written = [event.input.stem for event in events if isinstance(event, Written)]
    assert order == [(20, 2), (21, 1), *((width, 2) for width in range(23, 29)), (21, 1)]
    assert written == ["0", "1", "3", "4", "5", "6", "7", "8", "9"]


def side_by_side(options, listener):
    return run._SideBySide(
        engine(), lambda ready, *, listener: Worker(ready, options, listener, resumes=True), listener, options.size
    )


@pytest.mark.parametrize(
    ("size", "is_small"),
    [
        ({}, True),
        ({"scale": 4}, True),
        ({"scale": 2.5}, True),
        ({"megapixels": 0.5}, True),
        ({"scale": 64}, False),
        ({"megapixels": 100}, False),
        ({"long_side": 50}, False),
        ({"width": 50}, False),
    ],
)
def test_a_small_one_that_becomes_large_is_done_alone(tmp_path, listener, size, is_small):
    """Each lane looks at free memory by itself, and does not know of the others."""
    workers = side_by_side(UpscaleOptions(size=OutputSize(**size)), listener)
    image = drawn(tmp_path / "a.png", width=200, height=150)
    assert workers._is_small(Job(source=image, target=tmp_path / "b.png")) == is_small


@pytest.mark.parametrize(("width", "height", "tiles"), [(4, 3, TILES), (300, 40, TileConfig(tile_px=32))])
def test_an_estimate_is_by_the_second_run_over_a_tile_of_some_size(tmp_path, monkeypatch, width, height, tiles):
    seen, passed = [], iter([100.0, 107.0, 200.0, 203.0, 300.0, 300.5])  # of two runs, and of writing
    watched = engine(lambda lr: seen.append(lr.shape[2] * lr.shape[3]), tiles)
    image = RasterImage(pixels=np.full((height, width, 3), 90, np.uint8))
    monkeypatch.setattr(worker, "time", SimpleNamespace(perf_counter=lambda: next(passed)))
    cost = measure_tile(image, watched, tmp_path / "o.png", UpscaleOptions())
    once = len(seen) // 2
    assert seen[:once] == seen[once:]
    assert sum(seen[once:]) >= 128 * 128
    assert cost.seconds_per_lr_px == pytest.approx(3.0 / sum(seen[once:]))
    assert cost.writing_seconds_per_px == pytest.approx(0.5 / (16 * 128 * 128))


@pytest.fixture
def once(tmp_path, listener):
    """`once()`: the names of the events of a run over the folder `in`."""

    def run_once():
        events = upscale_images(
            [tmp_path / "in"], tmp_path / "out", UpscaleOptions(), listener, start=lambda *_: engine()
        )
        names = []
        with suppress(BatchError):
            names.extend(type(event).__name__ for event in events)
        return names

    drawn(tmp_path / "in/a.png")
    return run_once


def test_an_image_that_is_replaced_while_it_is_read_fails_and_is_done_the_next_time(tmp_path, once, said, monkeypatch):
    read = worker.read_image

    def read_and_replace(path, **options):
        seen = read(path, **options)
        drawn(path, seed=1)
        return seen

    with monkeypatch.context() as patched:
        patched.setattr(worker, "read_image", read_and_replace)
        assert "Written" not in once()
    assert any("was changed while it was read" in str(one) for one in said)
    assert "Written" in once()
    assert "Written" not in once()


def test_an_image_that_is_replaced_while_it_is_enlarged_is_done_again(tmp_path, once, said, monkeypatch):
    enlarge = worker.upscale_rows

    def replace_and_enlarge(*words):
        drawn(tmp_path / "in/a.png", seed=1)
        return enlarge(*words)

    with monkeypatch.context() as patched:
        patched.setattr(worker, "upscale_rows", replace_and_enlarge)
        assert "Written" in once()
    assert any("changed meanwhile" in str(one) for one in said)
    said.clear()
    assert "Written" in once()
    assert "Written" not in once()
    assert not any("changed meanwhile" in str(one) for one in said)


def test_one_that_reads_what_another_writes_waits_for_it(tmp_path, listener, two_threads):
    first, second, third = (drawn(tmp_path / name) for name in ("a.png", "b.png", "c.png"))
    options = UpscaleOptions(overwrite=True)
    workers = side_by_side(options, listener)
    jobs = [
        Job(source=first, target=tmp_path / "0.png"),
        Job(source=first, target=second),
        Job(source=second, target=third),
        Job(source=third, target=tmp_path / "d.png"),
        Job(source=first, target=tmp_path / "d.png"),
    ]
    written = [event.width for _, event in workers.outcomes(jobs) if isinstance(event, Written)]
    workers.close()
    assert written == [80, 80, 320, 1280, 80]
    assert image_size(tmp_path / "d.png") == (64, 80)


def test_an_end_in_the_middle_leaves_nothing_half_done_and_no_thread(
    folder, tmp_path, listener, said, two_threads, monkeypatch
):
    (folder / "2.png").unlink()
    begun, held = threading.Semaphore(0), threading.Event()

    def watch(lr):
        if lr.shape[3] > 21:
            begun.release()
            assert held.wait(WAIT_S)

    class Held(run._SideBySide):
        def close(self):
            def release():
                while not self._is_stopped:
                    time.sleep(0.01)
                held.set()

            if not self._is_stopped:
                threading.Thread(target=release).start()
            super().close()

    monkeypatch.setattr(run, "_SideBySide", Held)
    before = our_threads()
    events = upscale_images([folder], tmp_path / "out", UpscaleOptions(), listener, start=lambda *_: engine(watch))
    while not (isinstance(event := next(events), Started) and event.input.name == "1.png"):
        pass
    for _ in range(2):
        assert begun.acquire(timeout=WAIT_S)
    events.close()
    assert len(our_threads() - before) <= 1  # that of the release
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"0.png", "1.png"}


@pytest.mark.parametrize(("kind", "side_by_side"), [("cuda", True), ("mps", False)])
def test_of_gpus_those_of_cuda_take_several_at_once(
    folder, tmp_path, listener, two_threads, monkeypatch, kind, side_by_side
):
    asked = []

    class Counted(run._SideBySide):
        def outcomes(self, jobs):
            asked.append(kind)
            return super().outcomes(jobs)

    monkeypatch.setattr(run, "_SideBySide", Counted)
    (folder / "2.png").unlink()
    elsewhere = engine()
    monkeypatch.setattr(NetUpscaler, "kind", kind)  # the network itself is on the CPU
    assert list(upscale_images([folder], tmp_path / "out", UpscaleOptions(), listener, start=lambda *_: elsewhere))
    assert asked == [kind] * side_by_side


@pytest.mark.parametrize("options", [{"fail_fast": True}, {"dry_run": True}])
def test_with_nothing_to_be_done_ahead_it_is_one_after_another(
    folder, tmp_path, listener, two_threads, monkeypatch, options
):
    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(run, "_SideBySide", refuse)
    (folder / "2.png").unlink()
    assert list(
        upscale_images([folder], tmp_path / "out", UpscaleOptions(**options), listener, start=lambda *_: engine())
    )


def test_memory_is_given_back_after_so_many_pixels(folder, tmp_path, listener, monkeypatch):
    given_back = []
    monkeypatch.setattr(worker, "give_back_freed", lambda: given_back.append(1))
    monkeypatch.setattr(worker, "MOST_FREED_PX", 3 * 28 * 16)
    (folder / "2.png").unlink()
    list(upscale_images([folder], tmp_path / "out", UpscaleOptions(), listener, start=lambda *_: engine()))
    assert len(given_back) == 1  # of 8 images with 20 to 28 columns


def test_how_many_pixels_a_file_has_is_told_by_its_head_or_not_at_all(tmp_path):
    for name in ("a.png", "a.jpg", "a.webp", "a.tif", "a.bmp"):
        assert pixels_by_head(drawn(tmp_path / name, width=20, height=7)) == 140
    samples = b"P6 20 7 255\n" + bytes(3 * 140)
    (tmp_path / "a.ppm").write_bytes(samples)
    (tmp_path / "empty.png").write_bytes(b"")
    assert [pixels_by_head(tmp_path / name) for name in ("a.ppm", "empty.png", "none.png")] == [None, None, None]
