"""`ddnsr upscale` on folders: what is finished, what is not, failures, events, plans."""

import json
import os
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.commands.upscale import options as event_kinds
from ddnsr_cli.io import write
from ddnsr_cli.weights.checkpoint import load_sr_net, save_sr_net

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def events(done):
    return [json.loads(line) for line in done.out.splitlines()]


def files_in(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.fixture
def folder(image_file, tmp_path):
    """Five different images."""
    for number in range(5):
        image_file(f"in/{number}.png", width=20 + number)
    return tmp_path / "in"


@pytest.fixture
def other_model(quick_model, tmp_path):
    net, _ = load_sr_net(quick_model)
    save_sr_net(tmp_path / "other.safetensors", net, metadata={"note": "another file"}, half=True)
    return tmp_path / "other.safetensors"


def test_results_of_another_model_or_look_are_remade_with_a_note(ddnsr, folder, quick_model, other_model, tmp_path):
    words = ("upscale", folder, "-o", tmp_path / "out")
    ddnsr(*words, "-m", quick_model)
    done = ddnsr(*words, "-m", other_model)
    assert (done.code, len(done.out.split())) == (0, 5)
    assert "made by another model" in done.err
    assert done.err.count("\n") == 2  # the first, and how many
    assert ddnsr(*words, "-m", other_model).out == ""
    done = ddnsr(*words, "-m", other_model, "--strength", "0.5")
    assert len(done.out.split()) == 5
    assert "strength 1.0" in done.err


def test_an_image_that_changed_is_remade_alone(ddnsr, folder, image_file, quick_model, tmp_path):
    words = ("upscale", folder, "-o", tmp_path / "out", "-m", quick_model)
    ddnsr(*words)
    image_file("in/2.png", width=50)
    assert ddnsr(*words).out.split() == [str(tmp_path / "out/2.png")]
    with Image.open(tmp_path / "out/2.png") as image:
        assert image.width == 200


def test_what_is_not_ours_is_left_alone_and_fails(ddnsr, folder, quick_model, tmp_path):
    words = ("upscale", folder, "-o", tmp_path / "out", "-m", quick_model)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/1.png").write_bytes(b"precious")
    done = ddnsr(*words)
    assert done.code == 9
    assert len(done.out.split()) == 4
    assert "1.png" in done.err.splitlines()[-1]
    assert (tmp_path / "out/1.png").read_bytes() == b"precious"
    assert len(ddnsr(*words, "--overwrite").out.split()) == 5


def test_a_result_that_was_edited_is_left_alone(ddnsr, folder, quick_model, tmp_path):
    words = ("upscale", folder, "-o", tmp_path / "out", "-m", quick_model)
    ddnsr(*words)
    with Image.open(tmp_path / "out/3.png") as image:
        image.rotate(180).save(tmp_path / "out/3.png")
    before = (tmp_path / "out/3.png").read_bytes()
    for more in ((), ("--strength", "0.5")):
        assert ddnsr(*words, *more).code == 9
        assert (tmp_path / "out/3.png").read_bytes() == before


def test_an_image_done_by_itself_is_finished_for_its_folder(ddnsr, folder, quick_model, tmp_path):
    ddnsr("upscale", folder / "0.png", "-o", tmp_path / "out", "-m", quick_model)
    done = ddnsr("upscale", folder, "-o", tmp_path / "out", "-m", quick_model)
    assert len(done.out.split()) == 4


def test_a_moved_folder_of_results_is_still_finished(ddnsr, folder, quick_model, tmp_path):
    ddnsr("upscale", folder, "-o", tmp_path / "out", "-m", quick_model)
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    assert ddnsr("upscale", folder, "-o", tmp_path / "elsewhere", "-m", quick_model).out == ""


def test_fail_fast_ends_with_the_first_failure(ddnsr, folder, quick_model, tmp_path):
    (folder / "1.png").write_bytes(b"no image")
    done = ddnsr("upscale", folder, "-o", tmp_path / "out", "-m", quick_model, "--fail-fast", "--json")
    assert done.code == 3
    assert done.err.count("\n") == 1
    assert [event["event"] for event in events(done)] == ["started", "written", "started", "failed", "summary"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png"]


def test_a_full_disk_ends_it_and_keeps_what_is_done(ddnsr, folder, quick_model, tmp_path, monkeypatch):
    whole = write._WRITERS["PNG"]

    def full(image, file, options):
        if image.width == 4 * 22:  # the third
            raise OSError(28, "No space left on device")
        whole(image, file, options)

    monkeypatch.setitem(write._WRITERS, "PNG", full)
    words = ("upscale", folder, "-o", tmp_path / "out", "-m", quick_model)
    done = ddnsr(*words, "--json")
    assert done.code == 4
    assert done.err.count("\n") == 1
    assert "No space left on device" in done.err
    assert [event["event"] for event in events(done)][-3:] == ["started", "failed", "summary"]
    assert sorted(files_in(tmp_path / "out")) == ["0.png", "1.png"]
    monkeypatch.setitem(write._WRITERS, "PNG", whole)
    assert ddnsr(*words).code == 0
    assert len(files_in(tmp_path / "out")) == 5


def test_many_failures_are_all_listed_last(ddnsr, folder, quick_model, tmp_path):
    for number in range(22):
        (folder / f"bad{number:02}.png").write_bytes(b"no image")
    done = ddnsr("upscale", folder, "-o", tmp_path / "out", "-m", quick_model)
    *_, last = lines = done.err.splitlines()
    assert "22 of 27" in last
    assert "and 2 more" in last
    assert lines[-23:-1] == [f"failed: {folder}/bad{number:02}.png" for number in range(22)]


def test_events_tell_everything(ddnsr, folder, quick_model, tmp_path):
    words = ("upscale", folder, "-o", tmp_path / "out", "-m", quick_model, "--json")
    ddnsr("upscale", folder / "0.png", "-o", tmp_path / "out", "-m", quick_model)
    ddnsr("upscale", folder / "1.png", "-o", tmp_path / "out", "-m", quick_model, "--strength", "0.5")
    (folder / "2.png").write_bytes(b"no image")
    done = ddnsr(*words)
    told = events(done)
    kinds = [event["event"] for event in told]
    assert kinds == ["skipped", "started", "written", "started", "failed", *["started", "written"] * 2, "summary"]
    remade, failed, summary = told[1]["remade"], told[4], told[-1]
    assert "strength 0.5" in remade
    assert "2.png" in failed["error"]
    assert failed["exit_code"] == 3
    assert (summary["written"], summary["skipped"], summary["failed"], summary["planned"]) == (3, 1, 1, 0)
    assert done.code == 9
    for event in told:
        kind = getattr(event_kinds, event["event"].capitalize())
        assert list(event) == ["event", *(field.name for field in fields(kind))]


def test_a_single_failure_is_an_event_too(ddnsr, quick_model, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    done = ddnsr("upscale", tmp_path / "bad.png", "-o", tmp_path / "o.png", "-m", quick_model, "--json")
    assert [event["event"] for event in events(done)] == ["started", "failed", "summary"]
    assert (done.code, done.err.count("\n")) == (3, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="file names of other systems are always text")
def test_names_in_events_can_be_had_back(ddnsr, image_file, quick_model, tmp_path):
    source = image_file().rename(tmp_path / os.fsdecode(b"\xff\n.png"))
    done = ddnsr("upscale", source, "-o", tmp_path / "o.png", "-m", quick_model, "--json")
    assert os.fsencode(events(done)[0]["input"]) == os.fsencode(source)


def test_the_events_are_in_the_documentation():
    page = (Path(__file__).parents[2] / "docs/upscale.md").read_text(encoding="utf-8")
    for kind in event_kinds.Event.__args__:
        assert f"`{kind.__name__.lower()}`" in page
        for field in fields(kind):
            assert f"`{field.name}`" in page, (kind, field.name)


def test_a_dry_run_tells_and_writes_nothing(ddnsr, folder, quick_model, tmp_path):
    (folder / "4.png").write_bytes(b"no image")
    before = files_in(folder)
    words = ("upscale", folder, "-o", tmp_path / "out", "-m", quick_model, "--dry-run")
    done = ddnsr(*words)
    assert done.code == 9
    assert len(done.out.splitlines()) == 4
    path, size, seconds, memory = done.out.splitlines()[1].split("\t")
    assert (path, size) == (str(tmp_path / "out/1.png"), "84 x 80")
    assert seconds.startswith("about ")
    assert memory.endswith(" MB")
    assert "nothing was written" in done.err
    assert files_in(folder) == before
    assert not (tmp_path / "out").exists()
    planned = [event for event in events(ddnsr(*words, "--json")) if event["event"] == "planned"]
    assert [event["width"] for event in planned] == [80, 84, 88, 92]
    assert all(event["seconds"] > 0 for event in planned)
    assert all(event["memory_bytes"] > 84 * 80 * 3 for event in planned)


def test_a_dry_run_skips_what_is_finished(ddnsr, folder, quick_model, tmp_path):
    words = ("upscale", folder, "-o", tmp_path / "out", "-m", quick_model)
    ddnsr(*words)
    (tmp_path / "out/3.png").unlink()
    before = files_in(tmp_path / "out")
    assert [line.split("\t")[0] for line in ddnsr(*words, "--dry-run").out.splitlines()] == [
        str(tmp_path / "out/3.png")
    ]
    assert files_in(tmp_path / "out") == before


def test_the_estimate_is_of_the_right_size(ddnsr, image_file, quick_model, tmp_path):
    source = image_file(width=400, height=300)
    words = ("upscale", source, "-o", tmp_path / "o.png", "-m", quick_model, "--json", "-t", "128")
    told = events(ddnsr(*words, "--dry-run"))[0]
    begun = time.perf_counter()
    assert ddnsr(*words).code == 0
    took = time.perf_counter() - begun
    assert took / 20 < told["seconds"] < took * 5  # a busy machine, and what a run does beside
    assert told["tiles"] > 4
    plain = events(ddnsr(*words, "--dry-run", "--overwrite", "--strength", "0"))[0]
    assert plain["seconds"] < told["seconds"]


def test_an_estimate_counts_the_runs_over_an_alpha_channel(ddnsr, image_file, quick_model, tmp_path):
    with Image.open(image_file("opaque.png", width=100)) as image:
        image.putalpha(image.getchannel("R"))
        image.save(tmp_path / "clear.png")
    told = {}
    for name, *more in (("opaque.png",), ("clear.png",), ("clear.png", "--strength", "0")):
        words = ("upscale", tmp_path / name, "-m", quick_model, "--json", "--dry-run", "-t", "40", *more)
        told[name, *more] = events(ddnsr(*words))[0]["tiles"]
    assert list(told.values()) == [2, 4, 0]


def test_an_image_in_its_own_place_is_refused(ddnsr, folder, quick_model):
    before = files_in(folder)
    done = ddnsr("upscale", folder, "-o", folder, "-m", quick_model, "--overwrite")
    assert done.code == 9
    assert files_in(folder) == before


def test_several_images_need_a_folder_and_a_word_that_is_none_is_named_first(ddnsr, image_file, tmp_path):
    one, other, output = image_file(), image_file("b.png"), tmp_path / "o.png"
    several = ddnsr("upscale", one, other, "-o", output)
    assert (several.code, several.err) == (
        4,
        f"error: {output} names a file, and there may be several images. Give a folder with -o.\n",
    )
    quality = ddnsr("upscale", one, "-o", output, "-q", "90")  # as other programs take it
    assert (quality.code, quality.err) == (3, "error: 90 does not exist. Check the name.\n")


def test_a_name_with_spaces_that_a_shell_split_is_put_in_quotes(ddnsr, image_file, tmp_path):
    whole = image_file("my best photo.png")
    split = ddnsr("upscale", tmp_path / "my", "best", "photo.png", "-o", tmp_path / "o")
    told = f'error: {tmp_path}/my does not exist. Put quotes around it: "{whole}"\n'
    assert (split.code, split.err) == (3, told)


def test_the_first_result_comes_before_the_last_image_is_looked_at(processes, quick_model, image_file, tmp_path):
    image_file("in/a.png")
    for number in range(3):
        os.mkfifo(tmp_path / f"in/z{number}")  # to open one would wait for ever; it is passed over by its kind
    source = np.zeros((4, 4), np.uint8)
    Image.fromarray(source).save(tmp_path / "in/b", format="PNG")
    running = processes.start("upscale", tmp_path / "in", "-o", tmp_path / "out", "-m", quick_model)
    assert running.ended() == 0, running.err
    assert running.out.split() == [str(tmp_path / "out/a.png"), str(tmp_path / "out/b.png")]
