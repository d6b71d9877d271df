"""The queue: order, stopping, removing, failures, and what stays."""

import os
import shutil
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from ddnsr_cli.commands.upscale import worker
from ddnsr_cli.errors import ImageWriteError
from ddnsr_cli.studio.queue import MOST_NAME_BYTES, free_path, safe_name


@pytest.fixture
def held(monkeypatch):
    """Lets every tile wait until `held.set()`: images stay in work."""
    from ddnsr_cli.studio.queue import Queue

    gate, before = threading.Event(), Queue._listener

    def slow(self, number):
        listener = before(self, number)
        tell = listener.tile

        def tile(done, total):
            gate.wait(60)
            tell(done, total)

        object.__setattr__(listener, "tile", tile)
        return listener

    monkeypatch.setattr(Queue, "_listener", slow)
    yield gate
    gate.set()


def started(asked, quick_model, drawn, count=3):
    for number in range(count):
        asked.put(f"{number}.png", drawn("a.png").read_bytes())
    asked.enlarge(quick_model, *range(1, count + 1))
    while asked.images()[0]["state"] != "working":
        pass


def states(asked):
    return [image["state"] for image in asked.images()]


def test_one_is_in_work_and_the_others_wait_in_their_order(studio, held, quick_model, drawn):
    with studio() as asked:
        started(asked, quick_model, drawn)
        assert states(asked) == ["working", "waiting", "waiting"]
        assert asked.enlarge(quick_model, 1, 2, 3) == (200, {"waiting": 0})  # they are at it already
        held.set()
        assert {image["name"] for image in asked.wait("done")} == {"0.png", "1.png", "2.png"}


def test_what_is_stopped_is_as_it_was_and_can_be_enlarged_anew(studio, held, quick_model, drawn):
    with studio() as asked:
        started(asked, quick_model, drawn)
        for number in (2, 1):
            asked.send("POST", f"images/{number}/stop")
        assert states(asked) == ["stopping", "ready", "waiting"]
        held.set()
        assert [image["state"] for image in asked.wait("ready", "done")] == ["ready", "ready", "done"]
        assert list(asked.folder.glob("1/result*/*")) == []
        asked.enlarge(quick_model, 1, 2)
        asked.wait("done")


def test_what_is_removed_is_gone_with_its_files_in_work_or_not(studio, held, quick_model, drawn):
    with studio() as asked:
        started(asked, quick_model, drawn)
        for number in (1, 2):
            asked.send("DELETE", f"images/{number}")
        assert states(asked) == ["waiting"]
        held.set()
        asked.wait("done")
        assert sorted(path.name for path in asked.folder.iterdir()) == ["3"]


def test_the_end_comes_after_the_tile_and_tells_what_is_left(studio, held, quick_model, drawn, tmp_path):
    with studio(results=tmp_path / "kept") as asked:
        started(asked, quick_model, drawn)
        assert asked.queue.closing_note() == f"The studio has ended: 0 results, kept in {tmp_path}/kept; 3 not done."
        threading.Timer(0.05, held.set).start()
    assert list((tmp_path / "kept").iterdir()) == []
    assert not asked.queue._thread.is_alive()


def test_the_end_tells_of_all_results_in_their_folder_with_those_whose_images_were_removed(
    studio, quick_model, drawn, tmp_path
):
    with studio(results=tmp_path / "kept") as asked:
        asked.put("a.png", drawn("a.png").read_bytes())
        asked.enlarge(quick_model, 1)
        asked.wait("done")
        asked.send("DELETE", "images/1")
        assert asked.queue.closing_note() == f"The studio has ended: 1 result, kept in {tmp_path}/kept."


def test_an_image_may_be_called_as_the_folder_of_its_result(studio, quick_model, drawn):
    with studio() as asked:
        asked.put("result1", drawn("a.png").read_bytes())
        asked.enlarge(quick_model, 1)
        (image,) = asked.wait("done", "failed")
        assert (image["error"], (image["result"] or {}).get("name")) == ("", "result1_x4.png")


def test_a_failure_is_told_of_its_image_alone_in_words_of_the_user(studio, quick_model, drawn):
    content = drawn("a.png", 200, 150).read_bytes()
    with studio() as asked:
        asked.put("half.png", content[: len(content) // 2])
        asked.put("whole.png", drawn("b.png").read_bytes())
        asked.enlarge(quick_model, 1, 2)
        half, whole = asked.wait("done", "failed")
    assert (half["state"], whole["state"]) == ("failed", "done")
    assert half["error"].startswith("half.png ")


def test_a_model_that_cannot_be_loaded_fails_the_image_and_not_the_studio(studio, quick_model, drawn, monkeypatch):
    def refuse(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(worker, "start_engine", refuse)
    with studio() as asked:
        asked.put("a.png", drawn("a.png").read_bytes())
        asked.enlarge(quick_model, 1)
        assert asked.wait("failed")[0]["error"] == "unexpected RuntimeError: no"
        monkeypatch.undo()
        asked.enlarge(quick_model, 1)
        asked.wait("done")


@pytest.mark.parametrize("way", ["failed", "stopped in work", "stopped before"])
def test_a_result_keeps_its_model_and_notes_where_it_is_not_made_anew(studio, held, quick_model, drawn, way):
    held.set()
    with studio() as asked:
        for name in ("a.png", "b.png"):
            asked.put(name, drawn("a.png").read_bytes() + b"PK\x03\x04")
        asked.enlarge(quick_model, 1, 2)
        before, _ = asked.wait("done")
        assert before["notes"] == ["the file also holds an archive, which was left out"]
        other = replace(asked.queue.item(1).options, model="other.pth" if way == "failed" else str(quick_model))
        held.clear()
        asked.queue.enlarge([1] if way != "stopped before" else [2, 1], other, "_x4")
        if way != "failed":
            asked.send("POST", "images/1/stop")
        held.set()
        after = asked.wait("done", "failed")[0]
        assert after["state"] == ("failed" if way == "failed" else "done")
        assert {**after, "state": "done", "error": "", "tiles": before["tiles"]} == before


def test_the_network_is_loaded_once(studio, quick_model, drawn, monkeypatch):
    loads, load, remove = [], worker.start_engine, shutil.rmtree
    monkeypatch.setattr(worker, "start_engine", lambda *words: loads.append(1) or load(*words))
    monkeypatch.setattr(shutil, "rmtree", lambda *words, **named: time.sleep(0.2) or remove(*words, **named))
    with studio() as asked:
        for name in "ab":
            asked.put(f"{name}.png", drawn("a.png").read_bytes())
        asked.enlarge(quick_model, 1, 2)
        asked.wait("done")
        asked.enlarge(quick_model, 1, scale=2)
        (first, _) = asked.wait("done")
        assert [path.name for path in asked.folder.glob("1/result*")] == ["result2"]
    assert (first["result"]["version"], first["result"]["name"]) == (2, "a_x2.png")
    assert loads == [1]


def test_a_result_that_goes_while_it_is_asked_for_has_no_size(studio, quick_model, drawn, monkeypatch):
    """It goes between two looks: when the same image is enlarged anew, the result of before is removed."""
    with studio() as asked:
        asked.put("a.png", drawn("a.png").read_bytes())
        asked.enlarge(quick_model, 1)
        (done,) = asked.wait("done")
        next(asked.folder.glob("1/result*/*.png")).unlink()
        monkeypatch.setattr(Path, "is_file", lambda _path: True)
        (gone,) = asked.images()
        monkeypatch.undo()
    assert done["result"]["bytes"] > 0
    assert gone["result"] == {**done["result"], "bytes": None}


def test_a_folder_for_results_that_cannot_be_made_fails_the_image_in_a_sentence(studio, quick_model, drawn, tmp_path):
    (tmp_path / "file").write_text("")
    with studio(results=tmp_path / "file" / "inside") as asked:
        asked.put("a.png", drawn("a.png").read_bytes())
        asked.enlarge(quick_model, 1)
        assert "cannot be made" in asked.wait("failed")[0]["error"]


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("photo.jpg", "photo.jpg"),
        ("C:\\fotos\\Grüße.jpg", "Grüße.jpg"),
        ("../../a b.png", "a b.png"),
        ("..", "image"),
        ("", "image"),
        (".hidden", "hidden"),
        ("a\n\x1b[31mb.png", "a[31mb.png"),
        ("x/", "image"),
        ("\ud800.png", "png"),
    ],
)
def test_names_of_browsers_become_names_of_files(given, made):
    assert safe_name(given) == made


@pytest.mark.parametrize("name", ["ü" * 300 + ".jpeg", "a." + "b" * 300, "写真" * 200])
def test_long_names_are_cut_where_a_letter_ends(name):
    made = safe_name(name)
    assert MOST_NAME_BYTES - 3 <= len(made.encode()) <= MOST_NAME_BYTES
    assert made.endswith(".jpeg") == name.endswith(".jpeg")


def test_a_name_that_is_taken_is_numbered(tmp_path):
    for name in ("a.png", "a_2.png"):
        (tmp_path / name).write_text("")
    assert free_path(tmp_path / "a.png") == tmp_path / "a_3.png"
    assert free_path(tmp_path / "b.png") == tmp_path / "b.png"


def test_an_image_that_is_asked_for_twice_at_once_waits_once(studio, held, quick_model, drawn):
    with studio() as asked:
        started(asked, quick_model, drawn)
        held.set()
        asked.wait("done")
        held.clear()
        assert asked.enlarge(quick_model, 1, 1, 2, 2)[0] == 200
        asked.send("DELETE", "images/2")
        held.set()
        asked.wait("done")
        asked.enlarge(quick_model, 3)
        asked.wait("done")
        assert asked.queue._thread.is_alive()


def test_results_that_are_gone_cannot_be_packed_and_nothing_is_left(studio, tmp_path):
    with studio() as asked:
        with pytest.raises(ImageWriteError, match="cannot be packed"):
            asked.queue.archive([tmp_path / "gone.png"])
        assert list(asked.folder.glob("*.zip")) == []


def test_results_from_before_1980_are_packed(studio, tmp_path):
    """As a machine without a clock makes them; ZIP knows no such time."""
    result = tmp_path / "a.png"
    result.write_bytes(b"old")
    os.utime(result, (0, 0))
    with studio() as asked, zipfile.ZipFile(asked.queue.archive([result])) as opened:
        assert opened.read("a.png") == b"old"


def test_without_the_folder_for_temporary_files_nothing_can_be_packed(studio, tmp_path):
    with studio() as asked:
        shutil.rmtree(asked.folder)
        with pytest.raises(ImageWriteError, match="cannot be packed"):
            asked.queue.archive([])


def test_a_folder_whose_name_is_no_text_fails_the_image_and_not_the_page(studio, quick_model, drawn, tmp_path):
    (tmp_path / "kept\udce9").write_text("a file")
    with studio(results=tmp_path / "kept\udce9") as asked:
        asked.put("a.png", drawn("a.png").read_bytes())
        asked.enlarge(quick_model, 1)
        (image,) = asked.wait("failed")
        assert "kept" in image["error"]
