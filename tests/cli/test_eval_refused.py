"""`ddnsr eval` where figures would mean nothing: one line that names the file or the option, no table, no file."""

import os
import shutil
import stat

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.commands.evaluate import run
from ddnsr_cli.weights.checkpoint import save_sr_net
from tests.helpers.eval_files import levels, save, write_lpips, write_pairs, write_results


@pytest.fixture
def pairs(tmp_path):
    return write_pairs(tmp_path / "pairs")


def assert_refused(done, code, *words):
    assert done.code == code, done.err
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    for word in words:
        assert str(word) in done.err


def test_a_missing_partner(ddnsr, pairs, tmp_path):
    lr, hr = pairs
    (hr / "b.png").unlink()
    assert_refused(ddnsr("eval", "--lr", lr, "--hr", hr), 8, lr / "b.png", hr)
    results = write_results(tmp_path / "sr", lr.parent / "hr", 1, names=("a",))
    assert_refused(ddnsr("eval", "--hr", hr, "--sr", results), 8, hr / "deep" / "c.png", results)


def test_a_result_too_many(ddnsr, pairs, tmp_path):
    results = write_results(tmp_path / "sr", pairs[1], 1)
    shutil.copy(results / "a.png", results / "a_x4.png")
    assert_refused(ddnsr("eval", "--hr", pairs[1], "--sr", results), 8, results / "a_x4.png")


def test_a_doubled_partner(ddnsr, pairs):
    lr, hr = pairs
    with Image.open(hr / "a.png") as image:
        image.save(hr / "a.jpg")
    assert_refused(ddnsr("eval", "--lr", lr, "--hr", hr), 8, hr / "a.jpg", hr / "a.png")


@pytest.mark.parametrize("which", ["hr", "sr"])
def test_a_wrong_size(ddnsr, pairs, tmp_path, which):
    lr, hr = pairs
    results = write_results(tmp_path / "sr", hr, 1)
    wrong = {"hr": hr, "sr": results}[which] / "b.png"
    save(wrong, levels(wrong)[:-1])
    assert_refused(ddnsr("eval", "--lr", lr, "--hr", hr, "--sr", results), 8, wrong, "64x47")


@pytest.mark.parametrize("which", ["hr", "sr"])
def test_another_depth(ddnsr, pairs, tmp_path, which):
    lr, hr = pairs
    results = write_results(tmp_path / "sr", hr, 1)
    odd = {"hr": hr, "sr": results}[which] / "b.png"
    save(odd, levels(odd), depth=16)
    words = ["--lr", lr, "-m", "bicubic"] if which == "hr" else ["--sr", results]
    assert_refused(ddnsr("eval", "--hr", hr, *words, "--lpips", "none"), 8, odd, "16 bits", "has 8")


def test_transparency(ddnsr, pairs):
    see_through = np.dstack([levels(pairs[1] / "b.png"), np.full((48, 64), 200)]).astype(np.uint8)
    Image.fromarray(see_through).save(pairs[1] / "b.png")
    assert_refused(ddnsr("eval", "--hr", pairs[1], "--sr", pairs[1], "--lpips", "none"), 8, "b.png", "transparent")


def test_an_opaque_alpha_channel_is_no_matter(ddnsr, pairs):
    opaque = np.dstack([levels(pairs[1] / "b.png"), np.full((48, 64), 255)]).astype(np.uint8)
    Image.fromarray(opaque).save(pairs[1] / "b.png")
    assert ddnsr("eval", "--hr", pairs[1], "--sr", pairs[1]).code == 0


@pytest.mark.parametrize("sides", [(4, 9), (9, 4)])
def test_an_image_too_small_for_a_window(ddnsr, tmp_path, sides):
    lr, hr = write_pairs(tmp_path, ("a",), height=sides[0], width=sides[1])
    assert_refused(ddnsr("eval", "--lr", lr, "--hr", hr, "-m", "bicubic", "--lpips", "none"), 8, hr / "a.png", "19")
    assert ddnsr("eval", "--lr", lr, "--hr", hr, "-m", "bicubic", "--crop-border", "2").code == 0


def test_a_damaged_image(ddnsr, pairs):
    path = pairs[1] / "b.png"
    path.write_bytes(path.read_bytes()[:200])
    done = ddnsr("eval", "--hr", pairs[1], "--sr", pairs[1], "--lpips", "none")
    assert done.code in (3, 8)
    assert_refused(done, done.code, "b.png")


def test_a_network_of_another_scale(ddnsr, pairs, small_net, tmp_path):
    save_sr_net(tmp_path / "x2.safetensors", small_net(scale=2), metadata={}, half=False)
    done = ddnsr("eval", "--lr", pairs[0], "--hr", pairs[1], "-m", tmp_path / "x2.safetensors")
    assert_refused(done, 2, "x2.safetensors", "2 times")


def test_two_of_one_name(ddnsr, pairs):
    assert_refused(ddnsr("eval", "--hr", pairs[1], "--sr", pairs[1], "--sr", f"hr={pairs[1]}"), 2, "'hr'", "NAME=")
    assert_refused(ddnsr("eval", "--lr", pairs[0], "--sr", f"bicubic={pairs[1]}"), 2, "'bicubic'")


def test_against_nobody(ddnsr, pairs):
    done = ddnsr("eval", "--hr", pairs[1], "--sr", pairs[1], "--against", "esrgan")
    assert_refused(done, 2, "esrgan", "They are: hr")


def test_a_ranking_of_one(ddnsr, pairs, tmp_path):
    done = ddnsr("eval", "--hr", pairs[1], "--sr", pairs[1], "--ranking", tmp_path / "page.html", "--lpips", "none")
    assert_refused(done, 2, "--ranking", "2 to 9", "got 1")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--lr LR/"),
        (["--hr", "HR"], "--lr LR/"),
        (["--hr", "HR", "-m", "ddnsr-lite", "--sr", "HR"], "--lr LR/"),
        (["--hr", "HR", "--table3", "--sr", "HR"], "--lr LR/"),
        (["--sr", "HR"], "--hr HR/"),
        (["--hr", "HR", "--sr", "HR", "--reference", "lr-size"], "--lr"),
        (["--lr", "LR", "--reference", "lr-size"], "--hr"),
        (["--hr", "HR", "--sr", "HR", "--degrader", "x"], "--lr"),
        (["--lr", "LR", "--lpips", "alex"], "--hr"),
        (["--lr", "LR", "--lpips-weights", "x"], "--hr"),
        (["--lr", "LR", "--scoring", "page.html"], "Give it with --hr, or ask for ranks: --ranking"),
        (["--lr", "LR", "--hr", "LR", "--reference", "lr-size", "--scoring", "page.html"], "beside the truth"),
        (["--hr", "HR", "--lr", "LR", "-m", "bicubic", "--scoring", "page.html"], "got none. Name some with"),
        (["--hr", "HR", "--sr", "HR", "--track", "1"], "--track chooses among the images of --data"),
        (["--hr", "HR", "--sr", "HR", "--lpips", "none", "--lpips-weights", "x"], "--lpips none"),
        (["--hr", "HR", "--sr", "HR", "--lpips", "none", "--against", "hr"], "nothing else is compared"),
        (["a.json"], "--mean-opinion"),
        (["LR", "HR"], "Folders are named by options. Give them as in: ddnsr eval --lr "),
        (["--lr", "LR", "-m", "ddnsr-lite", "runs/b"], "models go as in: --models ddnsr-lite,runs/b"),
        (["--mean-opinion"], "--mean-opinion a.json b.json"),
        (["--mean-opinion", "a.json", "--hr", "HR"], "--mean-opinion"),
    ],
)
def test_options_that_make_no_sense_together(ddnsr, pairs, words, told):
    folders = {"LR": pairs[0], "HR": pairs[1]}
    assert_refused(ddnsr("eval", *(folders.get(word, word) for word in words)), 2, told)


def test_a_degrader_that_is_not_there(ddnsr, pairs, tmp_path):
    assert_refused(ddnsr("eval", "--lr", pairs[0], "--degrader", tmp_path), 5, tmp_path, "degrader.safetensors")


@pytest.mark.parametrize("option", ["--json", "--csv", "--markdown", "--report", "--ranking", "--scoring"])
def test_a_result_that_could_not_be_written_is_reported_before_the_work(ddnsr, pairs, tmp_path, monkeypatch, option):
    monkeypatch.setattr(run, "evaluate", lambda *_: pytest.fail("the work has begun"))
    (tmp_path / "file").touch()
    for target in (tmp_path / "file" / "new" / "out", tmp_path):
        done = ddnsr("eval", "--hr", pairs[1], "--sr", pairs[1], option, target)
        assert_refused(done, 4, target if target == tmp_path else target.parent)


RESULTS = ["--json", "--csv", "--markdown", "--report", "--ranking", "--scoring"]


@pytest.mark.parametrize("option", RESULTS)
@pytest.mark.parametrize("name", ["photo.PNG", "net.safetensors", "net.bin"])
def test_no_table_and_no_page_is_called_an_image_or_weights(ddnsr, pairs, tmp_path, option, name):
    theirs = tmp_path / "theirs" / name
    done = ddnsr("eval", "--hr", pairs[1], "--sr", pairs[1], option, theirs)
    assert_refused(done, 4, theirs, "under the name of", "Give another name")
    assert not theirs.parent.exists()


@pytest.mark.parametrize("option", ["--report", "--ranking", "--scoring"])
def test_a_page_replaces_none_but_ours(ddnsr, pairs, tmp_path, option):
    page = tmp_path / "notes.html"
    page.write_text("<!doctype html><title>My notes</title>")
    finished = ("--sr", f"a={pairs[1]}", "--sr", f"b={pairs[1]}", "--lpips", "none")
    words = ("eval", "--lr", pairs[0], "--hr", pairs[1], *finished, option, page)
    assert_refused(ddnsr(*words), 4, page, "is no page of ddnsr. Give another name")
    assert "My notes" in page.read_text()
    page.unlink()
    assert ddnsr(*words).code == 0
    first = page.stat().st_ino
    assert ddnsr(*words).code == 0
    assert page.stat().st_ino != first


@pytest.mark.parametrize("option", RESULTS)
def test_the_folder_of_a_result_is_made_and_goes_where_nothing_comes(ddnsr, pairs, tmp_path, option):
    target = tmp_path / "new" / "deep" / "result.txt"
    words = ("eval", "--lr", pairs[0], "--hr", pairs[1], "--sr", f"a={pairs[1]}", "--lpips", "none", option, target)
    assert_refused(ddnsr(*words, "--sr", f"b={tmp_path / 'gone'}"), 8, tmp_path / "gone")
    assert not (tmp_path / "new").exists()
    assert ddnsr(*words, "--sr", f"b={pairs[1]}").code == 0
    assert target.is_file()


@pytest.mark.parametrize("option", RESULTS)
def test_a_result_is_a_file_on_this_machine(ddnsr, pairs, tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    words = ("eval", "--hr", pairs[1], "--sr", pairs[1], option)
    assert_refused(ddnsr(*words, "s3://bucket/x.txt"), 2, "address of a store")
    assert_refused(ddnsr(*words, "x.txt/"), 2, "x.txt/ ends in /")
    assert not (tmp_path / "x.txt").exists()


@pytest.mark.parametrize("option", ["--lr", "--sr", "--hr", "--data"])
def test_a_name_that_is_too_long_is_no_folder(ddnsr, pairs, option):
    others = {"--sr": ["--hr", pairs[1]], "--hr": ["--sr", pairs[1]]}.get(option, [])
    assert_refused(ddnsr("eval", option, "q" * 300, *others), 8, "is not a folder")


def test_opinions_under_a_name_that_is_too_long(ddnsr):
    assert_refused(ddnsr("eval", "--mean-opinion", "q" * 300), 8, "cannot be read", "too long")


def test_a_folder_that_cannot_be_made(ddnsr, pairs, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    done = ddnsr("eval", "--hr", pairs[1], "--sr", pairs[1], "--keep", tmp_path / "file", "--lpips", "none")
    assert_refused(done, 4, tmp_path / "file")


def test_kept_images_are_never_put_where_images_are_read(ddnsr, pairs, tmp_path):
    lr, hr = pairs
    results = write_results(tmp_path / "sr", hr, 3)
    before = (results / "a.png").read_bytes()
    words = ["eval", "--lr", lr, "--hr", hr, "-m", "bicubic", "--sr", results, "--lpips", "none"]
    assert_refused(ddnsr(*words, "--keep", tmp_path), 4, "--keep would write to", results)
    assert_refused(ddnsr(*words, "--keep", lr), 4, "--keep would write to", lr / "bicubic")
    assert (results / "a.png").read_bytes() == before
    assert not (lr / "bicubic").exists()
    assert ddnsr(*words, "--keep", tmp_path / "kept").code == 0


@pytest.mark.parametrize("option", ["--report", "--ranking", "--scoring"])
def test_a_page_is_not_written_to_a_pipe(ddnsr, pairs, tmp_path, option):
    os.mkfifo(tmp_path / "pipe.html")
    done = ddnsr("eval", "--lr", pairs[0], "--hr", pairs[1], "--sr", pairs[1], option, tmp_path / "pipe.html")
    assert_refused(done, 4, "pipe.html is a device or a pipe. Name a file.")
    assert stat.S_ISFIFO((tmp_path / "pipe.html").stat().st_mode)


def test_no_result_replaces_what_is_read_or_another_result(ddnsr, pairs, tmp_path):
    lr, hr = pairs
    words = ("eval", "--lr", lr, "--hr", hr, "-m", "bicubic", "--lpips", "none")
    before = (hr / "a.png").read_bytes()
    assert_refused(ddnsr(*words, "--json", hr / "a.png"), 4, hr / "a.png", "is read by this command")
    assert_refused(ddnsr(*words, "--report", hr / "a.png"), 4, hr / "a.png", "is read by this command")
    assert (hr / "a.png").read_bytes() == before
    same = tmp_path / "same"
    assert_refused(ddnsr(*words, "--json", same, "--csv", same), 4, same, "two results")
    assert_refused(ddnsr(*words, "--report", same, "--ranking", same), 4, same, "two results")
    assert not same.exists()
    (tmp_path / "anna.json").write_text("{}")
    done = ddnsr("eval", "--mean-opinion", tmp_path / "anna.json", "--json", tmp_path / "anna.json")
    assert_refused(done, 4, tmp_path / "anna.json", "is read by this command")
    assert (tmp_path / "anna.json").read_text() == "{}"


def test_no_result_replaces_weights(ddnsr, pairs, small_net, tmp_path):
    write_lpips(tmp_path / "lpips", "squeeze")
    weights = (tmp_path / "lpips/lpips_squeeze_v0.1.safetensors").rename(tmp_path / "w.dat")
    net, run_folder = tmp_path / "net.dat", tmp_path / "runs/mine"
    run_folder.mkdir(parents=True)
    for path in (net, run_folder / "sr.safetensors"):
        save_sr_net(path, small_net(), metadata={}, half=False)
    words = ("eval", "--lr", pairs[0], "--hr", pairs[1], "--lpips", "squeeze", "--lpips-weights", weights)
    words = (*words, "-m", f"n={net},{run_folder}", "--degrader", "gone.dat")
    for path in (weights, net):
        before = path.read_bytes()
        assert_refused(ddnsr(*words, "--json", path), 4, path, "is read by this command")
        assert path.read_bytes() == before
    assert_refused(ddnsr(*words, "--csv", run_folder / "eval.csv"), 5, "gone.dat")  # the folder of a run may hold it


def test_kept_images_replace_none_of_another_program(ddnsr, pairs, tmp_path):
    """Of the last image, too, that is told before the first is made."""
    lr, hr = pairs
    theirs = tmp_path / "kept/bicubic/deep/c.png"
    theirs.parent.mkdir(parents=True)
    save(theirs, levels(hr / "a.png"))
    before = theirs.read_bytes()
    words = ("eval", "--lr", lr, "--hr", hr, "-m", "bicubic", "--lpips", "none", "--keep", tmp_path / "kept")
    assert_refused(ddnsr(*words), 4, theirs, "is no image of ddnsr eval")
    assert theirs.read_bytes() == before
    assert [path for path in (tmp_path / "kept").rglob("*") if path.is_file()] == [theirs]
    theirs.unlink()
    assert ddnsr(*words).code == 0
    assert ddnsr(*words).code == 0  # its own it replaces


@pytest.mark.parametrize(
    "words",
    [
        ["--niqe"],
        ["--keep", "x"],
        ["--against", "x"],
        ["--degrader", "x"],
        ["--pyiqa", "x"],
        ["--reference", "lr-size"],
        ["--crop-border", "4"],
        ["--track", "1"],
        ["--mod-crop"],
        ["--lr-suffix", "x4"],
        ["--offline"],
        ["-g", "cpu"],
    ],
)
def test_opinions_go_with_no_option_of_comparisons(ddnsr, tmp_path, words):
    (tmp_path / "a.json").write_text("{}")
    assert_refused(ddnsr("eval", "--mean-opinion", tmp_path / "a.json", *words, "-q"), 2, "compares no images")
