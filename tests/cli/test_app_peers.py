"""What people type who come from other programs, or who just name the image."""

import os

import pytest
from PIL import Image

from ddnsr_cli.cli import progress
from ddnsr_cli.cli.app import our_name
from ddnsr_cli.errors import FolderWriteError
from ddnsr_cli.io import formats
from tests.helpers.terminal import on_a_terminal


def size(path):
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize(
    ("words", "result", "expected"),
    [
        (["-m", "{folder}", "-n", "quick"], "o.png", (96, 80)),
        (["-n", "{model}"], "o.png", (96, 80)),
        (["--model_path", "{model}", "--outscale", "2"], "o.png", (48, 40)),
        (["--model_name", "{model}", "--ext", "jpg"], "o.jpg", (96, 80)),
        (["-m", "{model}", "-g", "0", "--color_fix"], "o.png", (96, 80)),
        (["-m", "{model}", "--gpu-id", "0,1", "--tile_size", "32"], "o.png", (96, 80)),
    ],
)
def test_options_of_others_that_work(ddnsr, image_file, quick_model, tmp_path, words, result, expected):
    places = {"folder": quick_model.parent, "model": quick_model}
    done = ddnsr("upscale", image_file(), "-o", tmp_path / result, *(word.format(**places) for word in words))
    assert done.code == 0, done.err
    assert size(tmp_path / result) == expected
    if "0" in "".join(words).partition("-g")[2]:
        assert "goes on with the CPU" in done.err
        assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        (["-j", "1:2:2"], "small images of a folder side by side; --shard"),
        (["-dn", "0.5"], "--strength"),
        (["--denoise_strength", "0.5"], "--strength"),
        (["--denoise", "0.5"], "--strength"),
        (["--resize", "200%"], "-s, --width"),
        (["--tile_pad", "10"], "-t"),
        (["--pre_pad", "0"], "-t"),
        (["--face_enhance"], "-m"),
        (["--alpha_upsampler", "x"], "-m"),
        (["-w", "1920"], "--width"),
        (["-z", "4"], "-m"),
        (["-c", "30"], "--quality"),
        (["-y"], "--overwrite"),
        (["--half"], "--dtype fp16"),
        (["--output_dir", "x"], "-o"),
    ],
)
def test_options_of_others_that_do_not_name_ours(ddnsr, image_file, words, ours):
    done = ddnsr("upscale", image_file(), *words)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"Here: {ours}" in done.err or (": " in done.err and ours in done.err.partition("Here: ")[2])


@pytest.mark.parametrize(("option", "ours"), [("--lr", "--noise-source of degrade"), ("--hr", "ddnsr degrade hr/")])
def test_degrade_takes_no_options_of_pairs(ddnsr, tmp_path, option, ours):
    done = ddnsr("degrade", tmp_path, option, tmp_path, "-o", tmp_path / "pairs")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert ours in done.err.partition("Here: ")[2]


@pytest.mark.parametrize("name", ["-top.png", "-photo.png", "-shot.png", "-0.png", "-x.png"])
@pytest.mark.parametrize("command", ["upscale", "degrade"])
def test_a_name_that_begins_with_a_dash_is_told_from_options(ddnsr, image_file, tmp_path, monkeypatch, name, command):
    monkeypatch.chdir(tmp_path)
    words = (command, name, *(["-o", "pairs"] if command == "degrade" else []))
    for is_there in (False, True):
        if is_there:
            image_file(name)
        done = ddnsr(*words)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert done.err.endswith(f"If {name} is meant, write ./{name}\n") == is_there


def test_an_image_alone_is_told_what_to_type(ddnsr, image_file):
    source = image_file("my photo.jpg")
    done = ddnsr(source, "-s", "2")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"ddnsr upscale '{source}' -s 2" in done.err
    assert f"ddnsr upscale -i '{source}'" in ddnsr("-i", source).err
    assert "ddnsr upscale nowhere.heif" not in ddnsr("nowhere").err
    assert "ddnsr upscale gone.png" in ddnsr("gone.png").err


def test_names_of_options_may_have_underscores():
    assert [our_name(name) for name in ("color_fix", "outscale", "s")] == ["color-fix", "scale", "s"]


@pytest.fixture
def closed(monkeypatch):
    """`closed(folder)`: nothing can be written to it, whoever runs the tests."""

    def close(folder):
        real, access = formats.tempfile.TemporaryFile, os.access

        def temporary(dir):
            if str(dir) == str(folder):
                raise PermissionError(13, "Permission denied")
            return real(dir=dir)

        monkeypatch.setattr(formats.tempfile, "TemporaryFile", temporary)
        monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(folder) and access(path, mode))

    return close


class TestFoldersThatTakeNothing:
    def test_the_folder_of_all_results_is_told_once(self, ddnsr, image_file, quick_model, tmp_path, closed):
        for name in ("a.png", "b.png", "deep/c.png"):
            image_file(f"in/{name}")
        (tmp_path / "out").mkdir()
        closed(tmp_path / "out")
        done = ddnsr("upscale", tmp_path / "in", "-o", tmp_path / "out", "-m", quick_model)
        assert (done.code, done.err.count("\n")) == (FolderWriteError.exit_code, 1)
        assert "Nothing can be written to" in done.err

    def test_one_of_several_is_told_once_and_the_others_go_on(self, ddnsr, image_file, quick_model, tmp_path, closed):
        for name in ("shut/a.png", "shut/b.png", "shut/c.png", "free/d.png"):
            image_file(f"in/{name}")
        closed(tmp_path / "in/shut")
        done = ddnsr("upscale", tmp_path / "in", "-m", quick_model)
        assert done.code == 9
        assert done.err.count("Nothing can be written") == 1
        assert "3 of 4 images failed" in done.err
        assert (tmp_path / "in/free/d_x4.png").is_file()


def test_on_a_terminal_a_folder_has_a_bar_of_all_images(image_file, quick_model, tmp_path):
    for number in range(3):
        image_file(f"in/{number}.png", width=64, height=64)
    seen = on_a_terminal("upscale", tmp_path / "in", "-o", tmp_path / "out", "-m", quick_model)
    assert "all images" in seen
    assert "/3 images" in seen


def test_the_bar_of_all_images_moves_with_the_tiles():
    with progress.Progress(progress.TextColumn("{task.fields[count]}"), disable=True) as shown:
        bars = progress._ImageBars(shown)
        whole = shown.tasks[bars.all]
        bars.move_all(2, None)
        assert (whole.visible, whole.total) == (True, None)
        bars.move_all(2, 10)
        bars.begin("a.png")
        bars.move(1, 4)
        assert (whole.completed, whole.total) == (2.25, 10)
        bars.move_all(3, 10)
        assert whole.completed == 3
        bars.move_all(0, 1)
        assert not whole.visible
