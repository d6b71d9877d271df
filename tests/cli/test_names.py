"""Names that file systems allow and programs stumble over; links in circles; an environment without anything."""

import os
import subprocess
import sys

import pytest
from PIL import Image

NAMES = [
    "with spaces.png",
    'it\'s "quoted".png',
    "two\nlines.png",
    "[bold]markup %s {0}.png",
    "-m.png",
    "tab\tbell\x07\x1b[31m.png",
    "東京 🗼.png",
    "dots.in.name.png",
    "~tilde$HOME`x`.png",
    *([os.fsdecode(b"caf\xe9 \xff.png")] if sys.platform == "linux" else []),
]


def images(folder, names):
    folder.mkdir(parents=True)
    for name in names:
        Image.new("RGB", (6, 5), (10, 200, 30)).save(folder / name, "PNG")
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="names that Windows does not have")
class TestNames:
    def test_in_a_folder_all_are_done_under_their_own_names(self, ddnsr, quick_model, tmp_path):
        source = images(tmp_path / "in", NAMES)
        done = ddnsr("upscale", source, "-o", tmp_path / "out", "-m", quick_model)
        assert (done.code, done.err) == (0, "")
        assert {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")} == set(NAMES)

    @pytest.mark.parametrize("name", NAMES)
    def test_by_itself_each_is_done(self, ddnsr, quick_model, tmp_path, name):
        source = images(tmp_path / "in", [name]) / name
        done = ddnsr("upscale", source, "-o", tmp_path / "out", "-m", quick_model)
        assert (done.code, done.err) == (0, "")
        assert (tmp_path / "out" / name).is_file()

    @pytest.mark.parametrize("name", NAMES)
    def test_what_is_wrong_with_each_takes_one_line(self, ddnsr, quick_model, tmp_path, name):
        (tmp_path / name).write_bytes(b"no image")
        done = ddnsr("upscale", tmp_path / name, "-o", tmp_path / "out", "-m", quick_model)
        assert done.code == 3
        assert done.err.count("\n") == 1
        assert "\x1b" not in done.err
        assert "\x07" not in done.err

    def test_in_a_folder_each_bad_one_has_a_line_too(self, ddnsr, quick_model, tmp_path):
        (tmp_path / "in").mkdir()
        for name in NAMES:
            (tmp_path / "in" / name).write_bytes(b"no image")
        done = ddnsr("upscale", tmp_path / "in", "-o", tmp_path / "out", "-m", quick_model)
        assert done.code == 9
        told = [line for line in done.err.splitlines() if "is not an image" in line]
        assert len(told) == len(NAMES)
        assert "\x1b" not in done.err
        assert "\x07" not in done.err


def test_a_name_that_looks_like_an_option_needs_two_dashes(ddnsr, quick_model, tmp_path, monkeypatch):
    monkeypatch.chdir(images(tmp_path / "in", ["-x.png"]))
    assert ddnsr("upscale", "-o", "out", "-m", quick_model, "--", "-x.png").code == 0
    assert (tmp_path / "in/out/-x.png").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
class TestLinks:
    def test_circles_end(self, ddnsr, quick_model, tmp_path):
        source = images(tmp_path / "in" / "deep", ["a.png"]).parent
        (source / "deep" / "up").symlink_to(source)
        (source / "self").symlink_to(source / "self")
        (source / "one").symlink_to(source / "two")
        (source / "two").symlink_to(source / "one")
        done = ddnsr("upscale", source, "-o", tmp_path / "out", "-m", quick_model)
        assert done.code == 0, done.err
        assert done.out.count("\n") == 1

    def test_an_image_that_is_a_circle_is_reported(self, ddnsr, quick_model, tmp_path):
        (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
        done = ddnsr("upscale", tmp_path / "circle.png", "-m", quick_model)
        assert (done.code, done.err.count("\n")) == (3, 1)
        assert "circle.png" in done.err

    @pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
    def test_an_output_that_is_the_input_by_another_name_is_refused(
        self, ddnsr, image_file, quick_model, tmp_path, link
    ):
        source, other = image_file(), tmp_path / "other.png"
        getattr(other, link)(source)
        before = source.read_bytes()
        done = ddnsr("upscale", source, "-o", other, "-m", quick_model, "--overwrite")
        assert (done.code, done.err.count("\n")) == (4, 1)
        assert source.read_bytes() == before

    def test_a_link_in_the_place_of_the_result_is_replaced_not_followed(self, ddnsr, image_file, quick_model, tmp_path):
        (tmp_path / "precious.txt").write_text("precious")
        (tmp_path / "out.png").symlink_to(tmp_path / "precious.txt")
        done = ddnsr("upscale", image_file(), "-o", tmp_path / "out.png", "-m", quick_model, "--overwrite")
        assert done.code == 0, done.err
        assert (tmp_path / "precious.txt").read_text() == "precious"
        assert not (tmp_path / "out.png").is_symlink()

    def test_devices_and_the_pipes_of_a_folder_do_not_hang(self, ddnsr, quick_model, tmp_path):
        done = ddnsr("upscale", "/dev/zero", "-o", tmp_path / "out.png", "-m", quick_model)
        assert (done.code, done.err.count("\n")) == (3, 1)
        images(tmp_path / "in", ["a.png"])
        os.mkfifo(tmp_path / "in" / "pipe.png")
        assert ddnsr("upscale", tmp_path / "in", "-o", tmp_path / "out", "-m", quick_model).code == 0


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="a file system where nothing can be written")  # noqa: PTH112
def test_an_output_folder_where_nothing_can_be_written(ddnsr, image_file, quick_model):
    done = ddnsr("upscale", image_file(), "-o", "/proc/self/o.png", "-m", quick_model)
    assert (done.code, done.err.count("\n")) == (4, 1)
    assert "Nothing can be written to /proc/self" in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use cannot go there")
def test_a_folder_to_work_in_that_is_gone(ddnsr, quick_model, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    done = ddnsr("upscale", "a.png", "-m", quick_model)
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "The folder that this runs in is gone" in done.err
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("width", ["40", "20"])
def test_help_on_narrow_terminals(ddnsr, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    done = ddnsr("upscale", "--help")
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= int(width)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell")
@pytest.mark.parametrize("closed", ["", ">&- 2>&- <&-"])
def test_an_environment_without_anything(image_file, quick_model, tmp_path, closed):
    """No HOME, no PATH, no TERM; standard streams closed: then nothing is reported, and no file takes their place."""
    source, target = image_file(width=32, height=32), tmp_path / "o.png"
    words = [sys.executable, "-P", "-m", "ddnsr_cli", "upscale", source, "-o", target, "-m", quick_model]
    script = f'exec "$@" {closed}'
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", *map(str, words)],
        capture_output=True,
        check=False,
        cwd="/",
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert done.stdout == (b"" if closed else os.fsencode(target) + b"\n")
    with Image.open(target) as image:
        assert image.size == (128, 128)
