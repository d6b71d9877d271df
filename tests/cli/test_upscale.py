"""`ddnsr upscale` on files and folders, by its effects."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.inference import engine
from ddnsr_cli.weights.checkpoint import save_sr_net
from tests.helpers.pair_folders import refused
from tests.helpers.terminal import on_a_terminal


def opened(path):
    with Image.open(path) as image:
        image.load()
        return image


def pixels(path):
    return np.asarray(opened(path).convert("RGB"), float)


def nearest(path, times=4):
    return pixels(path).repeat(times, axis=0).repeat(times, axis=1)


def test_one_image_becomes_a_file_four_times_as_large(ddnsr, image_file, quick_model, tmp_path):
    source, target = image_file(), tmp_path / "out.png"
    done = ddnsr("upscale", source, "-o", target, "-m", quick_model)
    assert (done.code, done.out) == (0, f"{target}\n")
    assert opened(target).size == (96, 80)
    assert np.abs(pixels(target) - nearest(source)).max() < 4  # the quick model's known result


def test_without_an_output_the_result_lies_beside_the_source(ddnsr, image_file, quick_model, tmp_path):
    source = image_file("a/cat.png")
    assert ddnsr("upscale", source, "-m", quick_model).out.strip() == str(tmp_path / "a/cat_x4.png")


def test_results_beside_their_source_are_called_after_their_size(ddnsr, folder_of_two, quick_model):
    words = ("upscale", folder_of_two, "-m", quick_model, "-q")
    sizes = {
        (): "x4",
        ("-s", "2"): "x2",
        ("-s", "2.50"): "x2.5",
        ("--long-side", "48"): "48px",
        ("--width", "48"): "48w",
    }
    for size, ending in sizes.items():
        made = [Path(line).name for line in ddnsr(*words, *size).out.splitlines()]
        assert made == [f"a_{ending}.png", f"b_{ending}.png"]
    assert len(list(folder_of_two.iterdir())) == 2 + 2 * len(sizes)
    assert opened(folder_of_two / "a_x4.png").size == (96, 80)
    for size in sizes:  # nothing is enlarged again, nor made again
        done = ddnsr(*words, *size)
        assert (done.code, done.out) == (0, "")
    assert len(list(folder_of_two.iterdir())) == 2 + 2 * len(sizes)
    named = ddnsr(*words, "-s", "2", "--suffix", "_x4", "-f", "webp")
    assert Path(named.out.splitlines()[0]).name == "a_x4.webp"


@pytest.fixture
def folder_of_two(image_file, tmp_path):
    for name in ("in/a.png", "in/b.png"):
        image_file(name)
    return tmp_path / "in"


@pytest.mark.parametrize("name", ["res.jpg/", "results.v2/", "2026.01//"])
@pytest.mark.parametrize("images", [1, 2])
def test_a_path_that_ends_in_a_slash_is_a_folder(ddnsr, image_file, quick_model, tmp_path, name, images):
    sources = [image_file(f"{number}.png") for number in range(images)]
    done = ddnsr("upscale", *sources, "-o", f"{tmp_path}/{name}", "-f", "webp", "-m", quick_model)
    assert done.code == 0, done.err
    assert [Path(line) for line in done.out.splitlines()] == [
        tmp_path / name / f"{number}.webp" for number in range(images)
    ]


def test_a_file_is_not_taken_for_the_folder_that_is_asked_for(ddnsr, image_file, quick_model, tmp_path):
    source, there = image_file(), image_file("there.png")
    before = there.read_bytes()
    done = ddnsr("upscale", source, "-o", f"{there}/", "-m", quick_model, "--overwrite")
    assert (done.code, done.err.count("\n")) == (4, 1)
    assert there.read_bytes() == before


def test_the_bundled_model_is_the_default(ddnsr, image_file, tmp_path):
    source = image_file(width=32, height=32)
    done = ddnsr("upscale", source, "-o", tmp_path / "out.png", "--offline")
    assert done.code == 0, done.err
    shrunk = opened(tmp_path / "out.png").resize((32, 32), Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(shrunk, float) - pixels(source)).mean() < 3
    assert done.err == "note: cpu runs ddnsr-lite; -m ddnsr-photo is crisper and slower.\n"
    named = ddnsr("upscale", source, "-o", tmp_path / "out.png", "-m", "ddnsr-lite", "--overwrite")
    assert (named.code, named.err) == (0, "")


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (["-s", "2.5"], (60, 50)),
        (["--width", "48"], (48, 40)),
        (["--height", "100"], (120, 100)),
        (["--long-side", "48"], (48, 40)),
        (["--megapixels", "0.0012"], (38, 32)),
    ],
)
def test_any_size_can_be_asked_for(ddnsr, image_file, quick_model, tmp_path, words, size):
    assert ddnsr("upscale", image_file(), "-o", tmp_path / "o.png", "-m", quick_model, *words).code == 0
    assert opened(tmp_path / "o.png").size == size


@pytest.mark.parametrize("format_", ["png", "jpg", "jpeg", "webp", "tif", "tiff", "avif", "bmp"])
def test_every_format_is_written(ddnsr, image_file, quick_model, tmp_path, format_):
    source = image_file()
    assert ddnsr("upscale", source, "-o", tmp_path / "out", "-f", format_, "-m", quick_model).code == 0
    (result,) = (tmp_path / "out").iterdir()
    assert result.name == f"image.{format_}"
    assert np.abs(pixels(result) - nearest(source)).mean() < 3


def test_a_folder_is_mirrored_and_a_second_run_skips_it(ddnsr, image_file, quick_model, tmp_path):
    image_file("in/a.png"), image_file("in/deep/b.jpg"), (tmp_path / "in/notes.txt").write_text("no image")
    first = ddnsr("upscale", tmp_path / "in", "-o", tmp_path / "out", "-m", quick_model)
    assert first.out.split() == [str(tmp_path / "out/a.png"), str(tmp_path / "out/deep/b.png")]
    before = (tmp_path / "out/a.png").stat().st_mtime_ns
    second = ddnsr("upscale", tmp_path / "in", "-o", tmp_path / "out", "-m", quick_model)
    assert (second.code, second.out) == (0, "")
    assert "2 results" in second.err
    assert (tmp_path / "out/a.png").stat().st_mtime_ns == before
    third = ddnsr("upscale", tmp_path / "in", "-o", tmp_path / "out", "-m", quick_model, "--overwrite")
    assert len(third.out.split()) == 2


def test_one_bad_file_stops_nothing_and_is_reported(ddnsr, image_file, quick_model, tmp_path):
    image_file("in/good.png"), image_file("in/later.png")
    (tmp_path / "in/hurt.png").write_bytes((tmp_path / "in/good.png").read_bytes()[:60])
    done = ddnsr("upscale", tmp_path / "in", "-o", tmp_path / "out", "-m", quick_model)
    assert done.code == 9
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good.png", "later.png"]
    assert "hurt.png" in done.err.splitlines()[-1]
    assert "1 of 3" in done.err.splitlines()[-1]


def test_json_tells_each_result(ddnsr, image_file, quick_model, tmp_path):
    done = ddnsr("upscale", image_file(), "-o", tmp_path / "o.png", "-m", quick_model, "--json")
    (told,) = (event for event in map(json.loads, done.out.splitlines()) if event["event"] == "written")
    assert {key: told[key] for key in ("event", "output", "width", "height")} == {
        "event": "written", "output": str(tmp_path / "o.png"), "width": 96, "height": 80,
    }  # fmt: skip


def test_tiles_and_turns_change_little(ddnsr, image_file, quick_model, tmp_path):
    source = image_file(width=90, height=70)
    ddnsr("upscale", source, "-o", tmp_path / "whole.png", "-m", quick_model, "-t", "none")
    for name, words in {"tiled": ["-t", "32"], "turned": ["--tta"]}.items():
        assert ddnsr("upscale", source, "-o", tmp_path / f"{name}.png", "-m", quick_model, *words).code == 0
        assert np.abs(pixels(tmp_path / f"{name}.png") - pixels(tmp_path / "whole.png")).max() <= 3


def test_quiet_off_a_terminal(ddnsr, image_file, quick_model, tmp_path):
    done = ddnsr("upscale", image_file(), "-o", tmp_path / "o.png", "-m", quick_model)
    assert done.err == ""


def test_verbose_tells_model_device_and_tiles(ddnsr, image_file, quick_model, tmp_path):
    done = ddnsr(
        "upscale", image_file(), "-o", tmp_path / "o.png", "-m", quick_model, "-v", "--device", "cpu", "--fp32"
    )
    for word in (quick_model, "on cpu", "float32", "96x80 pixels", "1 tiles"):
        assert str(word) in done.err


def test_gray_alpha_depth_and_orientation_survive(ddnsr, quick_model, tmp_path):
    ramp = np.linspace(0, 255, 12 * 10).reshape(10, 12).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "gray.png")
    Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    alpha = np.dstack([ramp, ramp, ramp, np.where(ramp > 99, 255, 0)]).astype(np.uint8)
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(ramp).convert("RGB").save(tmp_path / "turned.jpg", exif=exif)
    done = ddnsr("upscale", tmp_path, "-o", tmp_path / "out", "-m", quick_model)
    assert done.code == 0, done.err
    found = {path.stem: opened(path) for path in (tmp_path / "out").iterdir()}
    assert {name: (image.mode, image.size) for name, image in found.items()} == {
        "gray": ("L", (48, 40)), "deep": ("I;16", (48, 40)), "alpha": ("RGBA", (48, 40)), "turned": ("RGB", (40, 48)),
    }  # fmt: skip
    assert set(np.unique(np.asarray(found["alpha"])[..., 3])) >= {0, 255}


def test_results_are_ordinary_files(ddnsr, image_file, quick_model, tmp_path):
    ddnsr("upscale", image_file(), "-o", tmp_path / "o.png", "-m", quick_model)
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "o.png").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_colon_word_in_a_name_is_no_emoji(ddnsr, image_file, quick_model, tmp_path):
    first = Image.open(image_file())
    first.save(tmp_path / "a:heart:.gif", save_all=True, append_images=[first.rotate(180)])
    assert "a:heart:.gif" in ddnsr("upscale", tmp_path / "a:heart:.gif", "-m", quick_model).err


@pytest.mark.skipif(sys.platform != "linux", reason="file names of other systems are always text")
def test_a_name_that_is_no_text_is_printed_as_it_is(processes, image_file, quick_model, tmp_path):
    source = image_file().rename(tmp_path / os.fsdecode(b"\xff.png"))
    running = processes.start("upscale", source, "-m", quick_model, out=tmp_path / "out", first=[(only_text, ())])
    assert running.ended() == 0, running.err
    assert (tmp_path / "out").read_bytes() == os.fsencode(source).replace(b".png", b"_x4.png") + b"\n"


def only_text():
    """Standard output as in most locales: what is no text it refuses."""
    sys.stdout.reconfigure(encoding="utf-8", errors="strict")


def test_on_a_terminal_the_bar_makes_way_for_the_path(image_file, quick_model, tmp_path):
    seen = on_a_terminal("upscale", image_file(), "-o", tmp_path / "o.png", "-m", quick_model)
    assert "tiles" in seen
    last = seen.split("tiles")[-1]
    assert f"\x1b[2K{tmp_path / 'o.png'}\r\n" in last or f"\r{tmp_path / 'o.png'}\r\n" in last


def test_a_reader_that_leaves_early_is_no_error(image_file, quick_model, tmp_path):
    words = [sys.executable, "-m", "ddnsr_cli", "upscale", image_file(), "-o", tmp_path / "o.png", "-m", quick_model]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")
    assert (tmp_path / "o.png").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-q", "-v"), "-q asks for results and errors only, and -v for more. Give one of them."),
        (("--fp32", "--dtype", "bf16"), "--fp32 is --dtype fp32, and --dtype bf16 disagrees. Give one of them."),
        (("--json", "-0"), "--json prints lines of JSON, and -0 ends paths. Give one of them."),
        (("-o", "out.png", "--suffix", "_big"), "-o out.png is the whole name, and --suffix is for others. Drop one"),
    ],
)
def test_options_that_disagree_are_refused(ddnsr, image_file, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    refused(ddnsr("upscale", image_file(), *words), 2, told)


def test_int8_is_for_openvino(ddnsr, image_file, quick_model, tmp_path, monkeypatch):
    words = ("upscale", image_file(), "-m", quick_model, "-o", tmp_path / "out.png", "--dtype", "int8")
    refused(ddnsr(*words, "--engine", "torch"), 7, "PyTorch does not run networks in int8.")
    monkeypatch.setattr(engine, "multiplies", lambda _names: False)
    refused(ddnsr(*words), 7, "int8 on this CPU is slower than other formats (it has no VNNI).")
    assert not (tmp_path / "out.png").exists()


@pytest.mark.skipif(not engine.multiplies(engine.FAST_INT8), reason="the processor does not multiply 8-bit integers")
def test_int8_gives_about_the_same_image_and_a_compact_network_goes_without(
    ddnsr, image_file, small_net, small_compact, tmp_path
):
    pytest.importorskip("openvino")
    source, differences = image_file(), {}
    for kind, net in (("rrdb", small_net()), ("compact", small_compact())):
        weights, results = tmp_path / f"{kind}.safetensors", []
        save_sr_net(weights, net, metadata={}, half=False)
        for dtype in ("auto", "int8"):
            target = tmp_path / f"{kind} {dtype}.png"
            done = ddnsr("upscale", source, "-m", weights, "-o", target, "--dtype", dtype)
            assert done.code == 0, done.err
            is_said = f"note: int8 is for RRDB networks that bear it: {weights} is run in " in done.err
            assert is_said == (kind == "compact" and dtype == "int8")
            results.append(pixels(target))
        differences[kind] = np.abs(results[0] - results[1]).max()
    assert 0 < differences["rrdb"] <= 16
    assert differences["compact"] == 0


def test_pairs_are_lines_of_json_or_paths(ddnsr, image_file, tmp_path):
    words = ("degrade", image_file(), "-o", tmp_path / "pairs", "--method", "bicubic", "--json", "-0")
    refused(ddnsr(*words), 2, "--json prints lines of JSON, and -0 ends paths. Give one of them.")
    assert not (tmp_path / "pairs").exists()
