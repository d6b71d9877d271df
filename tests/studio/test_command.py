"""`ddnsr studio` as it is typed."""

import os
import re
import signal
import sys
import tempfile
import threading
import time
import urllib.request

import pytest

from ddnsr_cli.cli import studio as command
from tests.helpers.command import ddnsr  # noqa: F401 - a fixture


@pytest.fixture
def interrupted(monkeypatch):
    """Ctrl-C comes as soon as the address is printed; what was got from the page at that moment."""
    seen = []

    def put_text(text):
        with urllib.request.urlopen(text.strip()) as answer:
            seen.append((text.strip(), answer.status))
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()

    monkeypatch.setattr(command, "put_text", put_text)
    return seen


def test_ctrl_c_is_the_usual_end_and_no_failure(ddnsr, interrupted, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = signal.getsignal(signal.SIGINT)
    done = ddnsr("studio", "--no-open", "--device", "cpu")
    assert done.code == 0, done.err
    assert "The studio has ended: 0 results." in done.err
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", interrupted[0][0])
    assert interrupted[0][1] == 200
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["-m", "nowhere.pth"], 5, "nowhere.pth"),
        (["-o", __file__], 2, "is a file"),
        (["--device", "cuda:9"], 7, "cuda"),
        (["--port", "99999"], 2, "--port"),
        (["-o", ""], 2, "empty"),
    ],
)
def test_what_cannot_begin_is_told_in_a_line(ddnsr, words, code, told):  # noqa: F811
    done = ddnsr("studio", "--no-open", *words)
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1), done.err
    assert told in done.err


def test_a_file_that_is_called_as_a_released_model_is_offered_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = {"device": "cpu", "max_pixels": 1000, "offline": True}
    assert command._options(("BSRGAN",), None, 0, **asked).choices[0].name == "bsrgan"
    (tmp_path / "BSRGAN.safetensors").write_bytes(b"ours")
    choices = command._options(("BSRGAN",), None, 0, **asked).choices
    assert (choices[0].name, choices[0].about) == ("BSRGAN", "BSRGAN")
    assert "bsrgan" in {choice.name for choice in choices}


def test_without_its_libraries_it_says_what_to_install(ddnsr, monkeypatch):  # noqa: F811
    for name in [name for name in sys.modules if name.startswith("ddnsr_cli.studio")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = ddnsr("studio", "--no-open")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert "pip install 'ddnsr[studio]'" in done.err


def test_a_browser_opens_where_there_is_a_desktop_only(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not command.has_desktop()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert command.has_desktop()


def test_the_browser_is_opened_beside_the_work(ddnsr, interrupted, monkeypatch):  # noqa: F811
    import webbrowser

    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert ddnsr("studio", "--open", "--device", "cpu", "-q").err == ""
    until = time.monotonic() + 30
    while not opened and time.monotonic() < until:
        time.sleep(0.01)
    assert opened == [interrupted[0][0]]
