"""Errors that nobody foresaw, and --debug: made by breaking the program on purpose."""

import errno
import json
import os
import tempfile

import pytest

from ddnsr_cli.commands.upscale import run, worker


@pytest.fixture
def logs(monkeypatch, tmp_path):
    """The folder where logs go."""
    folder = tmp_path / "logs"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(folder))
    return folder


@pytest.fixture
def broken(monkeypatch):
    """`broken(error)`: images 21 pixels wide raise that error."""

    def install(error):
        enlarge = worker.upscale_rows

        def broken(image, *rest):
            if image.width == 21:
                raise error
            return enlarge(image, *rest)

        monkeypatch.setattr(worker, "upscale_rows", broken)

    return install


@pytest.fixture
def folder(image_file, tmp_path):
    """Three images, the one in the middle 21 pixels wide."""
    for number in range(3):
        image_file(f"in/{number}.png", width=20 + number)
    return tmp_path / "in"


def test_one_image_that_meets_a_bug_stops_nothing(ddnsr, folder, quick_model, broken, logs, tmp_path):
    broken(ZeroDivisionError("by\n zero"))
    done = ddnsr("upscale", folder, "-o", tmp_path / "out", "-m", quick_model)
    assert (done.code, done.err.count("\n")) == (70, 2)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"0.png", "2.png"}
    (log,) = logs.iterdir()
    first, last = done.err.splitlines()
    assert first == f"error: {folder / '1.png'}: unexpected ZeroDivisionError: by zero (details in {log})."
    assert last == f"error: 1 of 3 images failed: {folder / '1.png'}."
    assert "Traceback" in log.read_text()


def test_in_json_it_has_its_own_status(ddnsr, folder, quick_model, broken, logs, tmp_path):
    broken(ZeroDivisionError("by zero"))
    done = ddnsr("upscale", folder, "-o", tmp_path / "out", "-m", quick_model, "--json")
    failed = next(event for event in map(json.loads, done.out.splitlines()) if event["event"] == "failed")
    assert failed["exit_code"] == 70


def test_a_single_image(ddnsr, image_file, quick_model, broken, logs, tmp_path):
    broken(ZeroDivisionError("by zero"))
    done = ddnsr("upscale", image_file(width=21), "-o", tmp_path / "o.png", "-m", quick_model)
    assert (done.code, done.err.count("\n")) == (70, 1)
    (log,) = logs.iterdir()
    assert str(log) in done.err
    assert not (tmp_path / "o.png").exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_memory_that_runs_out_anywhere_is_reported_as_that(ddnsr, folder, quick_model, broken, logs, tmp_path, error):
    broken(error)
    done = ddnsr("upscale", folder, "-o", tmp_path / "out", "-m", quick_model)
    assert done.code == 9
    assert f"error: {folder / '1.png'} needs more memory than there is." in done.err
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert list(logs.iterdir()) == []


@pytest.mark.parametrize("place", [0, 1, 99])
def test_debug_shows_the_traceback_wherever_it_stands(ddnsr, image_file, quick_model, broken, logs, tmp_path, place):
    broken(ZeroDivisionError("by zero"))
    words = ["upscale", image_file(width=21), "-o", tmp_path / "o.png", "-m", quick_model]
    words.insert(place, "--debug")
    done = ddnsr(*words)
    assert done.code == 70
    assert "Traceback (most recent call last)" in done.err
    assert "ZeroDivisionError: by zero" in done.err
    assert done.err.splitlines()[-1].startswith("error: ")


def test_debug_shows_what_is_behind_a_failure_of_one_of_several(ddnsr, folder, quick_model, tmp_path):
    (folder / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nno header")
    words = ("upscale", folder, "-o", tmp_path / "out", "-m", quick_model)
    assert "Traceback" not in ddnsr(*words).err
    assert "ValueError: its header makes no sense" in ddnsr("--debug", *words).err


def test_a_file_of_that_name_is_an_image(ddnsr, image_file, quick_model, tmp_path, monkeypatch):
    image_file("--debug", format="PNG")
    monkeypatch.chdir(tmp_path)
    assert ddnsr("upscale", "-o", "o.png", "-m", quick_model, "--", "--debug").code == 0


def test_names_and_messages_that_are_no_text_reach_log_and_line(ddnsr, image_file, quick_model, broken, logs, tmp_path):
    broken(ZeroDivisionError("caf\udce9 \x1b[31m"))
    done = ddnsr("upscale", image_file(width=21), "-o", tmp_path / "o.png", "-m", quick_model)
    assert (done.code, done.err.count("\n")) == (70, 1)
    assert "\x1b" not in done.err
    assert len(list(logs.iterdir())) == 1


def test_a_log_that_cannot_be_written_is_reported(ddnsr, image_file, quick_model, broken, monkeypatch, tmp_path):
    broken(ZeroDivisionError("by zero"))

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    done = ddnsr("upscale", image_file(width=21), "-o", tmp_path / "o.png", "-m", quick_model)
    assert (done.code, done.err.count("\n")) == (70, 1)
    assert "no log: it could not be written" in done.err


def test_memory_that_runs_out_before_the_first_image(ddnsr, image_file, quick_model, monkeypatch, logs):
    def refuse(*_):
        raise MemoryError

    monkeypatch.setattr(run, "start_engine", refuse)
    done = ddnsr("upscale", image_file(), "-m", quick_model)
    assert (done.code, done.err) == (7, "error: there is not enough memory. Free some, or ask for less.\n")
    assert list(logs.iterdir()) == []
