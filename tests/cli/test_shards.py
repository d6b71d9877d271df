"""--shard and --list of `ddnsr upscale`, by their effects."""

import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.helpers.pair_folders import refused, tree


@pytest.fixture
def archive(image_file, tmp_path, monkeypatch):
    """Ten images in two folders, seen from beside them."""
    for number in range(5):
        image_file(f"in/{number}.png", width=20 + number)
        image_file(f"in/deep/{number}.png", width=30 + number)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_shards_are_the_whole_and_share_nothing(ddnsr, archive, quick_model):
    whole = ddnsr("upscale", "in", "-o", "whole", "-m", quick_model)
    assert whole.code == 0, whole.err
    written = []
    for index in (1, 2, 3):
        done = ddnsr("upscale", "in", "-o", "parts", "-m", quick_model, "--shard", f"{index}/3")
        assert done.code == 0, done.err
        assert 0 < len(done.out.splitlines()) < 10
        written += done.out.splitlines()
    assert len(written) == len(set(written)) == 10
    assert tree(archive / "parts") == tree(archive / "whole")


def test_a_shard_without_an_image_is_no_failure(ddnsr, archive, quick_model):
    runs = [
        ddnsr("upscale", "in/0.png", "-o", "out", "-m", quick_model, "--json", "--shard", f"{index}/2")
        for index in (1, 2)
    ]
    assert [done.code for done in runs] == [0, 0]
    summaries = [json.loads(done.out.splitlines()[-1]) for done in runs]
    assert sorted(summary["written"] for summary in summaries) == [0, 1]
    assert sum("no image is in this shard" in done.err for done in runs) == 1


def test_a_folder_that_cannot_be_opened_fails_in_every_shard(ddnsr, archive, quick_model, monkeypatch):
    look = os.scandir

    def refuse(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may look everywhere
    runs = [ddnsr("upscale", "in", "-o", "out", "-m", quick_model, "--shard", f"{index}/3") for index in (1, 2, 3)]
    assert [done.code for done in runs] == [9] * 3  # each has images of its own in there
    assert all(f"images failed: {Path('in', 'deep')}." in done.err for done in runs)
    assert len(tree(archive / "out")) == 5


def test_the_same_shard_again_finds_all_finished(ddnsr, archive, quick_model):
    words = ("upscale", "in", "-o", "out", "-m", quick_model, "--shard", "2/3")
    assert ddnsr(*words).out
    again = ddnsr(*words)
    assert (again.code, again.out) == (0, "")


def test_a_list_is_done_as_it_is_written(ddnsr, archive, quick_model):
    (archive / "files.txt").write_text("in/deep/1.png\nin/0.png\n\nin/deep/1.png\n")
    done = ddnsr("upscale", "--list", "files.txt", "-o", "out", "-m", quick_model)
    assert done.code == 0, done.err
    assert done.out.split() == ["out/in/deep/1.png", "out/in/0.png"]
    assert ddnsr("upscale", "--list", "files.txt", "-o", "out", "-m", quick_model).out == ""


def test_a_list_of_one_is_a_list(ddnsr, archive, quick_model):
    (archive / "files.txt").write_text("in/0.png\n")
    for outputs in (["out/in/0.png"], []):
        done = ddnsr("upscale", "--list", "files.txt", "-o", "out", "-m", quick_model)
        assert (done.code, done.out.split()) == (0, outputs)


def test_a_list_may_come_from_stdin_and_go_beside_its_images(ddnsr, archive, quick_model, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"in/0.png\nin/deep/2.png\n")))
    done = ddnsr("upscale", "--list", "-", "-m", quick_model)
    assert done.code == 0, done.err
    assert done.out.split() == ["in/0_x4.png", "in/deep/2_x4.png"]


def test_a_list_is_shared_by_shards(ddnsr, archive, quick_model):
    (archive / "files.txt").write_text("".join(f"in/{number}.png\n" for number in range(5)))
    outs = [
        ddnsr("upscale", "--list", "files.txt", "-o", "out", "-m", quick_model, "--shard", f"{index}/2").out.split()
        for index in (1, 2)
    ]
    assert sorted(outs[0] + outs[1]) == [f"out/in/{number}.png" for number in range(5)]
    assert all(outs)


def test_what_is_missing_from_a_list_stops_nothing(ddnsr, archive, quick_model):
    (archive / "files.txt").write_text("in/gone.png\nin/deep\nin/0.png\n")
    done = ddnsr("upscale", "--list", "files.txt", "-o", "out", "-m", quick_model)
    assert (done.code, done.out.split()) == (9, ["out/in/0.png"])
    assert "in/gone.png" in done.err
    assert "2 of 3 images failed" in done.err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("in", "--shard", "3"), 2, "--shard takes I/N"),
        (("in", "--shard", "0/3"), 2, "from 1 to N"),
        (("in", "--shard", "4/3"), 2, "from 1 to N"),
        (("in", "--shard", "a/b"), 2, "--shard takes I/N"),
        (("in", "--list", "files.txt"), 2, "by name and by --list"),
        (("--list", "none.txt"), 3, "none.txt cannot be read"),
        (("--list", "empty.txt"), 3, "The list empty.txt is empty"),
        ((), 2, "No image was given"),
    ],
)
def test_what_makes_no_sense_is_reported(ddnsr, archive, quick_model, words, code, told):
    (archive / "files.txt").write_text("in/0.png\n")
    (archive / "empty.txt").write_text("\n")
    refused(ddnsr("upscale", *words, "-o", "out", "-m", quick_model), code, told)
    assert not (archive / "out").exists()


def test_a_line_of_a_list_that_names_nothing_is_told_as_such(ddnsr, image_file, quick_model, tmp_path):
    (tmp_path / "list.txt").write_text(f"{image_file('a.png')}\n{tmp_path}/none.png\n")
    done = ddnsr("upscale", "--list", tmp_path / "list.txt", "-o", tmp_path / "out", "-m", quick_model)
    assert done.code == 9
    assert f"error: {tmp_path}/none.png does not exist. Check the name.\n" in done.err
