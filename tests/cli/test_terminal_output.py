"""Standard output and input: images through them, names on them, and what a terminal may be told."""

import io
import os
import stat
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.cli import terminal
from ddnsr_cli.errors import printable
from tests.helpers.terminal import on_a_terminal

EVIL = "a\x1b[31m\x07\nerror: forged\x9b2J\u202e.png"


@pytest.fixture
def evil(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.full((6, 5, 3), 90, np.uint8)).save(tmp_path / "in/x.png")
    return (tmp_path / "in/x.png").rename(tmp_path / "in" / EVIL)


class Piped:
    """Standard input as a program gives it."""

    def __init__(self, content):
        self.buffer = io.BytesIO(content)

    def isatty(self):
        return False


def is_harmless(text):
    return all(char.isprintable() for char in text.replace("\n", ""))


def test_a_terminal_is_told_nothing_by_a_name(evil, quick_model, tmp_path):
    seen = on_a_terminal("upscale", evil.parent, "-o", tmp_path / "out", "-m", quick_model, "-q")
    assert "a?[31m??error: forged?2J?.png" in seen
    assert is_harmless(seen.replace("\r\n", ""))


def test_notes_and_errors_hold_no_line_of_a_name(ddnsr, evil, quick_model, tmp_path):
    (evil.parent / EVIL).write_bytes(b"no image")
    Image.new("RGB", (400, 400)).save(evil.parent / "good.png")
    done = ddnsr("upscale", evil.parent, "-o", tmp_path / "out", "-m", quick_model, "-v")
    assert is_harmless(done.err)
    assert not any(line.startswith("error: forged") for line in done.err.splitlines())
    (tmp_path / "lr").mkdir()
    Image.new("L", (64, 64)).save(tmp_path / "lr" / EVIL)
    for words in (
        ("train", "--track", "2", "--hr", evil.parent, "--lr", tmp_path / "lr", "-o", tmp_path / "run", "--check"),
        ("eval", "--lr", tmp_path / "lr", "--hr", evil.parent),
        ("degrade", evil.parent, "-o", tmp_path / "pairs", "--method", "bicubic"),
        ("upscale", evil, "--width", EVIL),
        ("upscale", f"--{EVIL}"),
        (EVIL,),
        ("weights", "info", EVIL),
        ("upscale", evil, "-m", EVIL),
    ):
        done = ddnsr(*words)
        assert done.code
        assert is_harmless(done.err), words
        assert not any(line.startswith("error: forged") for line in done.err.splitlines())


def test_a_traceback_that_is_asked_for_is_harmless_too(ddnsr, evil):
    evil.write_bytes(b"no image")
    done = ddnsr("--debug", "upscale", evil)
    assert "Traceback" in done.err
    assert is_harmless(done.err)


def test_programs_get_the_bytes_of_names(ddnsr, evil, quick_model, tmp_path):
    words = ("upscale", evil.parent, "-o", tmp_path / "out", "-m", quick_model)
    assert ddnsr(*words, "-0").out == f"{tmp_path}/out/{EVIL}\0"
    assert ddnsr(*words, "--overwrite").out == f"{tmp_path}/out/{EVIL}\n"
    Image.new("RGB", (40, 40)).save(evil)
    made = ddnsr("degrade", evil.parent, "-o", tmp_path / "pairs", "--method", "bicubic", "--null")
    assert made.out == f"{tmp_path}/pairs/lr/{EVIL}\0"


@pytest.mark.parametrize("put", ["put_path", "put_line", "put_text"])
def test_what_is_printed_on_a_terminal(monkeypatch, capsys, put):
    text = "name\x1b[31m\tsize\n" if put == "put_text" else "name\x1b[31m\tsize"
    given = {"put_path": terminal.Path, "put_line": str.encode, "put_text": str}[put](text)
    getattr(terminal, put)(given)
    assert capsys.readouterr().out == text.rstrip("\n") + "\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    getattr(terminal, put)(given)
    assert capsys.readouterr().out == "name?[31m\tsize\n"


def test_printable_text_is_left_alone():
    assert printable("日本 é 🗼 a b") == "日本 é 🗼 a b"
    assert printable("a\u2028b\x85c\udcffd\u202ee\x9b") == "a?b?c?d?e?"


@pytest.fixture
def pipe(tmp_path):
    """`pipe(name)` -> a pipe of that name with somebody who reads from it: `path`, and `read()` for all that came."""

    def made(name):
        path = tmp_path / name
        os.mkfifo(path)
        came = []
        thread = threading.Thread(target=lambda: came.append(path.read_bytes()), daemon=True)
        thread.start()

        def read():
            thread.join(30)
            return came[0]

        return SimpleNamespace(path=path, read=read)

    return made


class TestImagesThroughPipes:
    def test_one_goes_in_and_one_comes_out(self, image_file, quick_model, monkeypatch, tmp_path):
        import subprocess

        words = ["upscale", "-", "-o", "/dev/stdout", "-f", "jpg", "-m", quick_model]  # the same place as -
        command = [sys.executable, "-m", "ddnsr_cli", *words]
        done = subprocess.run(command, input=image_file().read_bytes(), capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        with Image.open(io.BytesIO(done.stdout)) as image:
            assert (image.format, image.size) == ("JPEG", (96, 80))

    def test_stdin_to_a_file(self, ddnsr, image_file, quick_model, monkeypatch, tmp_path):
        monkeypatch.setattr(sys, "stdin", Piped(image_file().read_bytes()))
        assert ddnsr("upscale", "-", "-o", tmp_path / "o.png", "-m", quick_model).code == 0
        with Image.open(tmp_path / "o.png") as image:
            assert image.size == (96, 80)

    def test_what_is_no_image_is_said(self, ddnsr, quick_model, monkeypatch, tmp_path):
        monkeypatch.setattr(sys, "stdin", Piped(b"no image"))
        done = ddnsr("upscale", "-", "-o", tmp_path / "o.png", "-m", quick_model)
        assert (done.code, done.err.count("\n")) == (3, 1)
        assert done.err.startswith("error: Standard input is not an image")

    @pytest.mark.parametrize(
        ("words", "part"),
        [
            (["-"], "-o large.png, or -o -"),
            (["-", "b.png", "-o", "o.png"], "Name no others"),
            (["a.png", "b.png", "-o", "-"], "give a folder"),
            ([".", "-o", "-"], "give a folder"),
            (["a.png", "-o", "-", "--json"], "--json, --compare and --dry-run"),
            (["a.png", "-o", "-", "--compare"], "--json, --compare and --dry-run"),
            (["a.png", "-o", "-", "--suffix", "_x"], "Leave --suffix, --json"),
        ],
    )
    def test_what_cannot_be_is_refused(self, ddnsr, words, part):
        done = ddnsr("upscale", *words)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert part in done.err

    def test_names_of_standard_input_and_output(self):
        for given, names in (
            (terminal.input_of, ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")),
            (terminal.output_of, ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")),
        ):
            assert all(given(name) is terminal.STANDARD for name in names)
            assert given("./-") is not terminal.STANDARD

    def test_a_terminal_gets_no_image(self, ddnsr, image_file, monkeypatch):
        monkeypatch.setattr(terminal, "_on_terminal", lambda: True)
        done = ddnsr("upscale", image_file(), "-o", "-")
        assert (done.code, done.out) == (2, "")
        assert "is a terminal" in done.err

    @pytest.mark.parametrize(
        "words",
        [
            ["degrade", ".", "--method", "bicubic", "-o", "-"],
            ["degrade", ".", "--method", "bicubic", "-o", "x", "--realism-report", "-"],
            ["train", "--pretrain", "--hr", ".", "-o", "-"],
            ["eval", "--lr", ".", "--keep", "-"],
            ["eval", "--lr", ".", "--report", "-"],
            ["weights", "convert", "ddnsr-lite", "-o", "-"],
        ],
    )
    def test_folders_and_pages_do_not_go_there(self, ddnsr, tmp_path, monkeypatch, words):
        monkeypatch.chdir(tmp_path)
        done = ddnsr(*words)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "standard output" in done.err
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_of_that_name_can_be_had(self, ddnsr, image_file, quick_model, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert ddnsr("upscale", image_file(), "-o", "./-", "-m", quick_model).code == 0
        assert (tmp_path / "-/image.png").is_file()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
class TestPipesAndDevices:
    @pytest.mark.parametrize(
        ("name", "words", "kind"), [("p.webp", [], "WEBP"), ("p", [], "PNG"), ("q", ["-f", "jpg"], "JPEG")]
    )
    def test_a_pipe_is_written_to_and_stays_one(self, ddnsr, image_file, quick_model, pipe, name, words, kind):
        reader = pipe(name)
        done = ddnsr("upscale", image_file(), "-o", reader.path, "-m", quick_model, *words)
        assert (done.code, done.out) == (0, ""), done.err
        with Image.open(io.BytesIO(reader.read())) as image:
            assert (image.format, image.size) == (kind, (96, 80))
        assert reader.path.is_fifo()

    def test_the_reader_of_a_pipe_sees_its_end_where_nothing_comes(self, ddnsr, quick_model, pipe, tmp_path):
        (tmp_path / "no.png").write_bytes(b"no image")
        reader = pipe("p.png")
        done = ddnsr("upscale", tmp_path / "no.png", "-o", reader.path, "-m", quick_model)
        assert (done.code, done.err.count("\n")) == (3, 1)
        assert reader.read() == b""

    def test_what_a_pipe_cannot_take_is_refused_before_it_is_opened(self, ddnsr, image_file, tmp_path):
        os.mkfifo(tmp_path / "p.png")
        for words in ([image_file(), "--json"], [tmp_path], [image_file(), image_file("b.png")]):
            done = ddnsr("upscale", *words, "-o", tmp_path / "p.png", "--overwrite")
            assert (done.code, done.err.count("\n")) == (2, 1)
            assert "p.png writes one image" in done.err

    def test_what_a_shell_makes_of_a_command_is_read(self, ddnsr, image_file, quick_model, tmp_path):
        reading, writing = os.pipe()
        os.write(writing, image_file().read_bytes())
        os.close(writing)
        done = ddnsr("upscale", f"/dev/fd/{reading}", "-o", tmp_path / "o.png", "-m", quick_model)
        os.close(reading)
        assert done.code == 0, done.err
        with Image.open(tmp_path / "o.png") as image:
            assert image.size == (96, 80)

    def test_a_named_pipe_is_read_to_its_end(self, ddnsr, image_file, quick_model, tmp_path):
        os.mkfifo(tmp_path / "in.png")
        data = image_file().read_bytes()
        for content, code in ((data, 0), (b"no image", 3)):
            threading.Thread(target=(tmp_path / "in.png").write_bytes, args=(content,), daemon=True).start()
            done = ddnsr("upscale", tmp_path / "in.png", "-o", tmp_path / f"{code}.png", "-m", quick_model)
            assert done.code == code, done.err
        assert done.err.startswith(f"error: {tmp_path / 'in.png'} is not an image")
        with Image.open(tmp_path / "0.png") as image:
            assert image.size == (96, 80)
        assert not (tmp_path / "3.png").exists()

    def test_a_named_pipe_is_not_waited_for_where_it_could_not_be_used(self, ddnsr, image_file, tmp_path):
        os.mkfifo(tmp_path / "in.png")
        for words in ([], [image_file(), "-o", tmp_path / "out"]):
            done = ddnsr("upscale", tmp_path / "in.png", *words)
            assert (done.code, done.err.count("\n")) == (2, 1)
            assert "in.png is a pipe, which gives one image. Name no others, and say where it goes" in done.err

    @pytest.mark.parametrize("words", [[], ["--overwrite"]])
    def test_a_device_is_refused_and_stays_one(self, ddnsr, image_file, tmp_path, words):
        (tmp_path / "null.png").symlink_to("/dev/null")
        for path in ("/dev/null", "/dev/zero", tmp_path / "null.png"):
            done = ddnsr("upscale", image_file(), "-o", path, *words)
            assert (done.code, done.err.count("\n")) == (4, 1)
            assert "is a device, not a file" in done.err
            assert stat.S_ISCHR(os.stat(path).st_mode)  # noqa: PTH116
            done = ddnsr("degrade", image_file(), "-o", path, "--method", "bicubic")
            assert (done.code, done.err.count("\n")) == (4, 1)


def test_pytorch_is_imported_without_a_look_for_garbage():
    """A new interpreter: how often garbage of all ages was looked for meanwhile, and whether it will be from now on."""
    script = """
import gc
from ddnsr_cli.inference.engine import load_torch
before = gc.get_stats()[2]["collections"]
load_torch()
print(gc.get_stats()[2]["collections"] - before, gc.isenabled(), gc.get_freeze_count() > 100_000)
"""
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    assert told.split() == ["0", "True", "True"]
