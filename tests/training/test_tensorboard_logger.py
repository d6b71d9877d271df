import importlib
import importlib.util
import math
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from ddnsr_cli.errors import TrainingError
from ddnsr_cli.training.tensorboard_logger import MISSING, TensorBoardLogger

needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="the package tensorboard is not installed"
)


def shown(folder):
    """What TensorBoard shows of a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = EventAccumulator(str(folder))
    seen.Reload()
    return seen


def curve(folder, tag):
    return [(event.step, event.value) for event in shown(folder).Scalars(tag)]


@needs_tensorboard
def test_figures_come_back_as_curves_of_their_group(tmp_path):
    notes = []
    with TensorBoardLogger(tmp_path / "board", notes.append) as board:
        board.scalars(50, {"l1": 0.5, "rate": 1e-4}, group="train")
        board.scalars(100, {"l1": 0.25, "rate": 1e-4}, group="train")
        board.scalars(100, {"psnr_db": 24.0}, group="validation")
    assert notes == []
    assert curve(tmp_path / "board", "train/l1") == [(50, 0.5), (100, 0.25)]
    assert curve(tmp_path / "board", "validation/psnr_db") == [(100, 24.0)]
    assert curve(tmp_path / "board", "train/rate") == [(50, np.float32(1e-4)), (100, np.float32(1e-4))]


@needs_tensorboard
def test_an_image_comes_back_pixel_by_pixel(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    with TensorBoardLogger(tmp_path, lambda _: None) as board:
        board.image(250, pixels)
    (event,) = shown(tmp_path).Images("samples")
    (tmp_path / "back.png").write_bytes(event.encoded_image_string)
    assert event.step == 250
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "back.png")), pixels)


@needs_tensorboard
def test_what_a_kill_lost_is_not_shown_after_resuming(tmp_path, monkeypatch):
    """Files of one second and process are shown in the order of their numbers as text: 10 comes before 9."""
    writer = importlib.import_module("tensorboard.summary.writer.event_file_writer")
    monkeypatch.setattr(writer, "_global_uid", writer.AtomicCounter(0))
    with TensorBoardLogger(tmp_path, lambda _: None) as board:
        for step in (100, 150, 200):
            board.scalars(step, {"l1": step}, group="train")
    with TensorBoardLogger(tmp_path, lambda _: None, start=100) as board:
        board.scalars(175, {"l1": 1.0}, group="train")
    assert curve(tmp_path, "train/l1") == [(100, 100.0), (175, 1.0)]


@needs_tensorboard
def test_rows_are_on_the_disk_at_once(tmp_path):
    board = TensorBoardLogger(tmp_path, lambda _: None)
    board.scalars(50, {"l1": 0.5}, group="train")
    assert curve(tmp_path, "train/l1") == [(50, 0.5)]
    board.close()
    board.close()


@needs_tensorboard
def test_a_score_without_bound_is_taken(tmp_path):
    with TensorBoardLogger(tmp_path, lambda _: None) as board:
        board.scalars(0, {"psnr_db": math.inf}, group="validation")
    assert curve(tmp_path, "validation/psnr_db") == [(0, math.inf)]


@needs_tensorboard
def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"file.board could not be written"):
        TensorBoardLogger(tmp_path / "file" / "board", lambda _: None)


@needs_tensorboard
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_reported_without_a_traceback_of_a_thread(tmp_path):
    hook = threading.excepthook
    before = set(threading.enumerate())
    board = TensorBoardLogger(tmp_path, lambda _: None)

    def write_on():
        for step in range(1000):  # the thread tells a call or two later
            board.scalars(step, {"l1": 0.5}, group="train")

    (file,) = tmp_path.iterdir()
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    full.replace(file)  # in one step: the thread would make the file again in between
    with pytest.raises(TrainingError, match="No space left"):
        write_on()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
    with pytest.raises(TrainingError):
        board.close()
    assert threading.excepthook is hook


def test_without_the_package_it_says_so_in_one_line_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    notes = []
    with TensorBoardLogger(tmp_path / "board", notes.append) as board:
        board.scalars(50, {"l1": 0.5}, group="train")
        board.image(50, np.zeros((4, 4, 3), np.uint8))
    assert notes == [MISSING]
    assert "\n" not in MISSING
    assert not (tmp_path / "board").exists()
