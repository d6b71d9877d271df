"""Results of ddnsr itself, and what lies beside images: they are not taken for images that wait to be enlarged."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.helpers.pair_folders import degrader, tree


@pytest.fixture
def folder(image_file, tmp_path):
    """Two images of one name, and one below."""
    for name in ("p/a.jpg", "p/a.bmp", "p/deep/b.jpg"):
        image_file(name, width=36, height=32)
    return tmp_path / "p"


WAYS = {
    "beside": (),
    "apart": ("-o", "big"),
    "inside": ("-o", "p/big"),
    "in place": ("-o", "p"),
    "jpg": ("-f", "jpg"),
    "suffix": ("--suffix", "_large", "--compare"),
}


ORDERS = (("beside", "apart", "in place"), ("in place", "inside", "beside"), ("suffix", "jpg", "in place"))


def size(path):
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize("order", ORDERS)
def test_in_whatever_order_a_second_run_makes_nothing_new(ddnsr, folder, quick_model, tmp_path, monkeypatch, order):
    monkeypatch.chdir(tmp_path)
    for name in order:
        assert ddnsr("upscale", "p", *WAYS[name], "-m", quick_model).code == 0
    results = tree(tmp_path)
    sizes = {size(path) for path in tmp_path.rglob("*.[pj][np]g") if "compare" not in path.name}
    assert sizes == {(36, 32), (144, 128)}
    for name in order[::-1]:
        done = ddnsr("upscale", "p", *WAYS[name], "-m", quick_model)
        assert (done.code, done.out) == (0, ""), done.err
    assert tree(tmp_path) == results


def test_a_result_is_known_by_its_note_whatever_it_is_called(ddnsr, folder, quick_model, tmp_path):
    ddnsr("upscale", folder / "a.jpg", "-o", tmp_path / "x.webp", "-m", quick_model)
    (tmp_path / "x.webp").rename(folder / "holiday.webp")
    shutil.copy(folder / "a.jpg", folder / "mine_x4.jpg")
    done = ddnsr("upscale", folder, "-o", tmp_path / "out", "-m", quick_model)
    assert {path.stem for path in (tmp_path / "out").iterdir() if path.is_file()} == {"a_jpg", "a_bmp", "mine_x4"}
    assert "holiday.webp was taken for ddnsr's own and left out (--again" in done.err


def test_again_or_its_name_takes_a_result(ddnsr, folder, quick_model, tmp_path):
    ddnsr("upscale", folder / "a.jpg", "-o", tmp_path / "big", "-m", quick_model)
    words = ("upscale", tmp_path / "big", "-o", tmp_path / "huge", "-m", quick_model)
    done = ddnsr(*words)
    assert done.code == 3
    assert "all that is in there (1) was made by ddnsr. --again" in done.err
    assert not (tmp_path / "huge").exists()
    assert ddnsr(*words, "--again").code == 0
    assert size(tmp_path / "huge/a.png") == (36 * 16, 32 * 16)
    (tmp_path / "list").write_text(str(tmp_path / "big/a.png"))
    for more in ((tmp_path / "big/a.png",), ("--list", tmp_path / "list")):
        assert ddnsr("upscale", *more, "-o", tmp_path / "named", "-m", quick_model).code == 0


@pytest.mark.parametrize("order", [1, -1])
def test_a_result_named_beside_its_folder_is_taken_in_either_order(ddnsr, folder, quick_model, tmp_path, order):
    own = folder / "deep" / "b.webp"
    ddnsr("upscale", folder / "deep" / "b.jpg", "-o", own, "-m", quick_model)
    done = ddnsr("upscale", *(folder, own)[::order], "-o", tmp_path / "out", "-m", quick_model)
    assert (done.code, done.err) == (0, "")
    assert size(tmp_path / "out" / "b.png") == (576, 512)


def test_a_folder_among_several_inputs_that_holds_no_image_is_told(ddnsr, folder, quick_model, tmp_path):
    (tmp_path / "e").mkdir()
    for command, more in (("upscale", ("-m", quick_model)), ("degrade", ("--method", "bicubic"))):
        done = ddnsr(command, tmp_path / "e", folder, folder / "a.jpg", "-o", tmp_path / command, *more)
        assert (done.code, done.err.count("no image is in")) == (0, 1), done.err
        assert f"note: no image is in {tmp_path}/e\n" in done.err


def test_sheets_stay_out_even_then(ddnsr, folder, quick_model, tmp_path):
    ddnsr("upscale", folder / "a.jpg", "-o", tmp_path / "big", "-m", quick_model, "--compare")
    (tmp_path / "big/a.compare.png").rename(tmp_path / "big/sheet.png")
    ddnsr("upscale", tmp_path / "big", "-o", tmp_path / "huge", "-m", quick_model, "--again")
    assert [path.name for path in (tmp_path / "huge").iterdir()] == ["a.png"]


def test_pairs_of_degrade_are_no_input_either(ddnsr, folder, quick_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = degrader(tmp_path / "models/degrader.safetensors")
    words = ("degrade", "p", "--method", "bicubic", "-o")
    assert ddnsr(*words, "p/pairs").code == 0
    ddnsr("upscale", "p", "-m", quick_model)
    before = tree(tmp_path)
    assert ddnsr(*words, "p/pairs").code == ddnsr("upscale", "p", "-m", quick_model).code == 0
    assert tree(tmp_path) == before
    done = ddnsr(*words, "other")
    assert len(done.out.split()) == 3
    assert "taken for ddnsr's own and left out" in done.err
    again = ddnsr(*words, "all", "--again")
    assert len(again.out.split()) > 3
    noise = ("degrade", "p", "--noise-source", "p", "-m", model, "-o", "noisy", "--json")
    assert all("x4" not in json.loads(line)["noise"] for line in ddnsr(*noise).out.splitlines())
    assert ddnsr("upscale", "p/pairs/lr", "-o", "named", "-m", quick_model).code == 0


def test_training_and_figures_leave_results_out_and_say_so(ddnsr, image_file, quick_model, tmp_path):
    for number in range(3):
        image_file(f"hr/{number}.png", width=144 + 16 * number, height=144)
        image_file(f"lr/{number}.png", width=36 + 4 * number, height=36)
    ddnsr("upscale", tmp_path / "lr", "-m", quick_model)
    ddnsr("upscale", tmp_path / "lr", "-o", tmp_path / "sr", "-m", quick_model)
    words = ("eval", "--lr", tmp_path / "lr", "--hr", tmp_path / "hr", "--sr", tmp_path / "sr", "--lpips", "none")
    done = ddnsr(*words)
    assert done.code == 0, done.err
    assert "lr/0_x4.png and 2 more were made by ddnsr and left out" in done.err
    check = ("train", "--track", "2", "--lite", "--hr", tmp_path / "hr", "--lr", tmp_path / "lr", "--check")
    done = ddnsr(*check, "--crop", "64", "-o", tmp_path / "run")
    assert "0_x4.png and 2 more were made by ddnsr" in done.err
    assert "lr: 3 images" in done.out


COMPANIONS = [
    "a.THM", "a.jpg_original", "a.jpg~", "a.jpg.bak", "a.jpg.BAK", "#a.jpg#", "a.jpg.old", "a.jpg.~1~", "b.jpg.orig",
    "#recycle/a.jpg", "@Recycle/a.jpg", "$Recycle.Bin/a.jpg", "RECYCLER/a.jpg", "#snapshot/a.jpg", "lost+found/a.jpg",
    "x.lrdata/a.jpg", "__MACOSX/a.jpg",
]  # fmt: skip


@pytest.mark.parametrize("command", ["upscale", "degrade"])
def test_what_lies_beside_images_is_left_out_unless_it_is_named(ddnsr, image_file, quick_model, tmp_path, command):
    first = image_file("p/a.jpg", width=36, height=32)
    for name in COMPANIONS:
        (tmp_path / "p" / name).parent.mkdir(exist_ok=True)
        shutil.copy(first, tmp_path / "p" / name)
    with_way = ("-m", quick_model) if command == "upscale" else ("--method", "bicubic")
    done = ddnsr(command, tmp_path / "p", "-o", tmp_path / "out", *with_way)
    assert [line.rpartition("/")[2] for line in done.out.splitlines()] == ["a.png"]
    for number, name in enumerate(("a.jpg_original", "#recycle")):
        assert len(ddnsr(command, tmp_path / "p" / name, "-o", tmp_path / f"x{number}", *with_way).out.split()) == 1


def test_a_name_that_only_looks_like_a_companion_is_an_image(ddnsr, image_file, quick_model, tmp_path):
    for name in ("the_original.jpg", "bak.png", "old.jpg", "#1.png", "recycle/a.png"):
        image_file(f"p/{name}")
    done = ddnsr("upscale", tmp_path / "p", "-o", tmp_path / "out", "-m", quick_model)
    assert len(done.out.split()) == 5


def test_samples_of_a_run_are_known(tmp_path):
    from ddnsr_cli.io.provenance import made_as, mark_as

    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "s.png")
    assert made_as(tmp_path / "s.png") is None
    mark_as(tmp_path / "s.png", "sample")
    assert made_as(tmp_path / "s.png") == "sample"


def test_in_the_place_of_the_sources_too_again_takes_results(ddnsr, folder, quick_model):
    ddnsr("upscale", folder / "deep", "-m", quick_model)
    done = ddnsr("upscale", folder / "deep", "-m", quick_model, "--again")
    assert (done.code, done.out.split()) == (0, [str(folder / "deep/b_x4_x4.png")]), done.err
    assert size(folder / "deep/b_x4_x4.png") == (36 * 16, 32 * 16)


def test_an_image_called_as_a_result_is_left_out_told_and_not_replaced(ddnsr, image_file, quick_model, tmp_path):
    image_file("r/b.png"), image_file("r/c.png")
    own = image_file("r/b_x4.png", width=30)
    before = own.read_bytes()
    for more in ((), ("--overwrite",)):
        done = ddnsr("upscale", tmp_path / "r", "-m", quick_model, *more)
        assert done.code == 9
        assert "r/b_x4.png is an image to read itself, no result of ddnsr. Move it away" in done.err
        assert done.err.splitlines()[-1] == f"error: 1 of 2 images failed: {tmp_path}/r/b.png."
        assert "r/b_x4.png was taken for ddnsr's own and left out (--again" in done.err
        assert own.read_bytes() == before
        assert size(tmp_path / "r/c_x4.png") == (96, 80)
        assert not (tmp_path / "r/b_x4_x4.png").exists()
    assert ddnsr("upscale", tmp_path / "r", "-m", quick_model, "--again").code == 9
    assert size(tmp_path / "r/b_x4_x4.png") == (120, 80)
    assert own.read_bytes() == before
    named = ddnsr("upscale", tmp_path / "r/b.png", own, "-m", quick_model, "--overwrite")
    assert named.code == 9
    assert own.read_bytes() == before


def test_an_image_below_the_results_of_a_folder_may_be_replaced(ddnsr, image_file, quick_model, tmp_path):
    image_file("p/a.png")
    image_file("p/big/a.png", width=30)  # not read: results go there
    done = ddnsr("upscale", tmp_path / "p", "-o", tmp_path / "p/big", "-m", quick_model, "--overwrite")
    assert (done.code, size(tmp_path / "p/big/a.png")) == (0, (96, 80)), done.err
