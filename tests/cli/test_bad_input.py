"""Whatever is wrong: one line on stderr that names it, an exit status that is not 0, and no partial file."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.inference import pipeline
from tests.helpers.processes import no_larger_files


def assert_one_line_error(done, *parts):
    assert done.code not in (0, 70), done.err
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    for part in parts:
        assert str(part) in done.err


def no_leftovers(folder):
    return not [path for path in folder.rglob("*") if ".part" in path.name]


@pytest.mark.parametrize(
    ("name", "content"),
    [("empty.png", b""), ("text.jpg", b"this is no image"), ("short.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")],
)
def test_a_file_that_is_no_image(ddnsr, quick_model, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    done = ddnsr("upscale", tmp_path / name, "-o", tmp_path / "out.png", "-m", quick_model)
    assert_one_line_error(done, name)
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
def test_a_truncated_image(ddnsr, image_file, quick_model, tmp_path, suffix):
    whole = image_file(f"cut.{suffix}", width=64, height=64).read_bytes()
    (tmp_path / f"cut.{suffix}").write_bytes(whole[: len(whole) // 2])
    done = ddnsr("upscale", tmp_path / f"cut.{suffix}", "-o", tmp_path / "out.png", "-m", quick_model)
    assert_one_line_error(done, f"cut.{suffix}")
    assert not (tmp_path / "out.png").exists()


def test_a_missing_file(ddnsr, quick_model, tmp_path):
    assert_one_line_error(ddnsr("upscale", tmp_path / "gone.png", "-m", quick_model), "gone.png")


def test_a_folder_without_images(ddnsr, quick_model, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/notes.txt").write_text("nothing")
    assert_one_line_error(ddnsr("upscale", tmp_path / "in", "-o", tmp_path / "out", "-m", quick_model), tmp_path / "in")


@pytest.mark.parametrize("words", [["{}", "-o", "new"], ["-i", "{}", "-o", "new"], ["image.png", "-o", "{}"]])
def test_an_empty_path_is_not_the_current_folder(ddnsr, image_file, quick_model, tmp_path, monkeypatch, words):
    image_file()
    monkeypatch.chdir(tmp_path)
    done = ddnsr("upscale", *(word.format("") for word in words), "-m", quick_model)
    assert_one_line_error(done, "empty")
    assert done.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]


def test_nothing_given(ddnsr):
    assert_one_line_error(ddnsr("upscale"), "ddnsr upscale")


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 4000), (4000, 3)])
def test_odd_shapes_are_done(ddnsr, image_file, quick_model, tmp_path, width, height):
    done = ddnsr("upscale", image_file(width=width, height=height), "-o", tmp_path / "o.png", "-m", quick_model)
    assert done.code == 0, done.err
    with Image.open(tmp_path / "o.png") as image:
        assert image.size == (4 * width, 4 * height)


def test_an_output_that_cannot_be_written(ddnsr, image_file, quick_model, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    done = ddnsr("upscale", image_file(), "-o", tmp_path / "file" / "out.png", "-m", quick_model)
    assert_one_line_error(done, tmp_path / "file")


def test_an_output_equal_to_the_input(ddnsr, image_file, quick_model):
    source = image_file()
    before = source.read_bytes()
    assert_one_line_error(ddnsr("upscale", source, "-o", source, "-m", quick_model), source)
    assert_one_line_error(ddnsr("upscale", source, "-o", source, "-m", quick_model, "--overwrite"), source)
    assert source.read_bytes() == before


def test_an_output_that_exists(ddnsr, image_file, quick_model, tmp_path):
    (tmp_path / "out.png").write_text("precious")
    done = ddnsr("upscale", image_file(), "-o", tmp_path / "out.png", "-m", quick_model)
    assert_one_line_error(done, "out.png", "--overwrite")
    assert (tmp_path / "out.png").read_text() == "precious"


def test_an_unknown_model(ddnsr, image_file):
    assert_one_line_error(ddnsr("upscale", image_file(), "-m", "ddnsr-lit"), "ddnsr-lit", "ddnsr-lite", "weights list")


def test_an_unknown_extension(ddnsr, image_file, quick_model, tmp_path):
    assert_one_line_error(ddnsr("upscale", image_file(), "-o", tmp_path / "out.xyz", "-m", quick_model), "out.xyz")


def test_alpha_into_jpeg_is_reported_before_the_work(ddnsr, quick_model, tmp_path):
    Image.fromarray(np.full((8, 8, 4), 99, np.uint8)).save(tmp_path / "clear.png")
    done = ddnsr("upscale", tmp_path / "clear.png", "-o", tmp_path / "out.jpg", "-m", quick_model)
    assert_one_line_error(done, "clear.png" if "clear.png" in done.err else "out.jpg", "png")
    assert not (tmp_path / "out.jpg").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["-t", "big"],
        ["--device", "quantum"],
        ["--device", "9" * 20],
        ["-s", "2", "--width", "10"],
        ["-s", "0"],
        ["-s", "1e+308"],
    ],
)
def test_options_without_meaning(ddnsr, image_file, quick_model, tmp_path, words):
    assert_one_line_error(ddnsr("upscale", image_file(), "-o", tmp_path / "o.png", "-m", quick_model, *words), words[1])


def test_a_bomb_is_refused_by_its_header(ddnsr, quick_model, tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    done = ddnsr("upscale", tmp_path / "bomb.png", "-o", tmp_path / "o.png", "-m", quick_model)
    assert_one_line_error(done, "bomb.png", "--max-pixels")


def test_a_full_disk_leaves_nothing(processes, image_file, quick_model, tmp_path):
    source = image_file(width=200, height=200)
    out = tmp_path / "results"
    out.mkdir()
    words = ("upscale", source, "-o", out / "out.png", "-m", quick_model)
    running = processes.start(*words, first=[(no_larger_files, (2000,))])
    assert running.ended() == 4, running.err
    assert running.err.startswith("error: ")
    assert running.err.count("\n") == 1
    assert list(out.iterdir()) == []


def test_names_that_are_too_long(ddnsr, image_file, quick_model, tmp_path):
    source, longest = image_file(), "n" * 300
    assert_one_line_error(ddnsr("upscale", tmp_path / longest, "-m", quick_model), longest)
    assert_one_line_error(ddnsr("upscale", source, "-o", tmp_path / f"{longest}.png", "-m", quick_model), "too long")
    assert_one_line_error(ddnsr("upscale", source, "--suffix", longest, "-m", quick_model), "too long")
    assert list(tmp_path.iterdir()) == [source]


def test_a_result_whose_name_is_too_long_does_not_stop_the_others(ddnsr, image_file, quick_model, tmp_path):
    image_file("in/a.png"), image_file(f"in/{'b' * 250}.png"), image_file("in/c.png")
    done = ddnsr("upscale", tmp_path / "in", "-m", quick_model)
    assert done.code == 9
    assert done.out.split() == [str(tmp_path / "in/a_x4.png"), str(tmp_path / "in/c_x4.png")]
    assert "1 of 3 images failed" in done.err


def test_a_result_beyond_the_memory_is_refused_before_the_work(ddnsr, image_file, quick_model, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "free_host_bytes", lambda: 20_000_000)
    words = ("upscale", image_file(), "-o", tmp_path / "new/o.png", "-m", quick_model)
    assert_one_line_error(ddnsr(*words, "-s", "40"), "image.png", "960 x 800", "memory")
    assert not (tmp_path / "new").exists()
    assert ddnsr(*words, "-s", "8").code == 0


def test_quiet_still_tells_why_an_image_of_several_failed(ddnsr, image_file, quick_model, tmp_path):
    image_file("in/good.png"), (tmp_path / "in/bad.png").write_text("no image")
    done = ddnsr("upscale", tmp_path / "in", "-o", tmp_path / "out", "-m", quick_model, "-q")
    assert "bad.png is not an image" in done.err


def test_a_header_without_sense_is_reported_in_words(ddnsr, image_file, quick_model, tmp_path):
    head = bytearray(image_file("none.png").read_bytes())
    head[16:20] = bytes(4)  # no pixel wide
    (tmp_path / "none.png").write_bytes(head)
    done = ddnsr("upscale", tmp_path / "none.png", "-o", tmp_path / "o.png", "-m", quick_model)
    assert_one_line_error(done, "none.png", "header")
    assert "<_io" not in done.err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")  # noqa: PTH110
def test_a_stdout_that_takes_nothing(processes, image_file, quick_model, tmp_path):
    words = ("upscale", image_file(), "-o", tmp_path / "o.png", "-m", quick_model)
    running = processes.start(*words, out=Path("/dev/full"))
    assert running.ended() == 4, running.err
    assert running.err.count("\n") == 1
    assert str(tmp_path / "o.png") in running.err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["upscale", "--width", "0", "x.png"], "--width"),
        (["upscale", "-f", "heic", "x.png"], "heic"),
        (["upscale", "--sharper", "x.png"], "--sharper"),
        (["upscayl", "x.png"], "upscayl"),
        (["weights", "info"], "name"),
    ],
)
def test_a_wrong_command_line_is_one_line_too(ddnsr, words, named):
    done = ddnsr(*words)
    assert_one_line_error(done, named, "--help")
    assert done.code == 2


def test_several_images_do_not_go_into_a_file(ddnsr, image_file, quick_model, tmp_path):
    done = ddnsr("upscale", image_file("a.png"), image_file("b.png"), "-o", tmp_path / "two.png", "-m", quick_model)
    assert_one_line_error(done, "two.png", "folder")
    assert not (tmp_path / "two.png").exists()


def test_an_opaque_alpha_channel_is_no_hindrance(ddnsr, quick_model, tmp_path):
    Image.fromarray(np.full((8, 8, 4), 255, np.uint8)).save(tmp_path / "shot.png")
    done = ddnsr("upscale", tmp_path / "shot.png", "-o", tmp_path / "shot.jpg", "-m", quick_model)
    assert done.code == 0, done.err
    with Image.open(tmp_path / "shot.jpg") as image:
        assert image.mode == "RGB"
