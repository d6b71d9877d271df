"""Folders of very many files: nothing is opened or asked about before its turn."""

import pytest
from PIL import Image

from ddnsr_cli.io import discovery
from ddnsr_cli.io.discovery import OutputNames, extension_of, find_images, stem_of
from ddnsr_cli.io.provenance import mark_as


@pytest.fixture
def looks(monkeypatch):
    """The names of the files that were opened, and of the paths whose kind was asked from the system."""
    opened, asked = [], []
    look, kind = discovery.looks_like_image, discovery.is_folder
    monkeypatch.setattr(discovery, "looks_like_image", lambda entry: opened.append(entry.name) or look(entry))
    monkeypatch.setattr(discovery, "is_folder", lambda path: asked.append(path.name) or kind(path))
    return opened, asked


@pytest.fixture
def image(tmp_path):
    """`image("name")`: a PNG under any name."""

    def make(name):
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (2, 2)).save(path, format="PNG")
        return path

    return make


def stems(found):
    return {one.source.name: one.stem for one in found}


def test_the_first_image_comes_before_anything_is_looked_at(image, looks, tmp_path):
    for number in range(20):
        image(f"{number:02}.png"), image(f"x{number}"), (tmp_path / f"in/{number:02}.xmp").write_text("notes")
    opened, asked = looks
    found = find_images([tmp_path / "in"], results=OutputNames(folder=tmp_path / "out"))
    assert next(found).source.name == "00.png"
    assert (opened, asked) == ([], ["in"])
    assert len(list(found)) == 39


def test_what_shares_a_name_with_an_image_is_looked_at_first(image, looks, tmp_path):
    for name in ("a.jpg", "a.dat", "b.jpg"):
        image(name)
    (tmp_path / "in/b.txt").write_text("no image")
    assert stems(find_images([tmp_path / "in"])) == {"a.jpg": "a_jpg", "a.dat": "a_dat", "b.jpg": "b"}


def test_a_file_without_extension_is_named_apart_from_others(image, tmp_path):
    for name in ("a.jpg", "a.png", "a_jpg"):
        image(name)
    names = stems(find_images([tmp_path / "in"]))
    assert len(set(names.values())) == len(names) == 3


def test_an_image_is_not_held_for_the_result_of_what_is_no_image(image, tmp_path):
    mark_as(image("notes_x4.png"), "sample")
    (tmp_path / "in/notes.txt").write_text("no image")
    options = {"results": OutputNames(folder=None, suffix="_x4"), "on_own": [].append}
    assert list(stems(find_images([tmp_path / "in"], **options))) == ["notes_x4.png"]
    image("notes.txt")
    assert list(stems(find_images([tmp_path / "in"], **options))) == ["notes.txt"]


def test_results_in_a_folder_below_are_left_out_only_where_they_go(image, tmp_path):
    image("a.jpg"), image("a.png")
    inside = OutputNames(folder=tmp_path / "in", suffix="_big")
    mark_as(image("a_jpg_big.png"), "sample")
    assert "a_jpg_big.png" not in stems(find_images([tmp_path / "in"], results=inside, on_own=[].append))
    elsewhere = OutputNames(folder=tmp_path / "out", suffix="_big")
    assert "a_jpg_big.png" in stems(find_images([tmp_path / "in"], results=elsewhere, on_own=[].append))


@pytest.mark.parametrize("name", ["a.png", "a", ".hidden", "a.", "a.tar.gz", "a..png", "A.JPG", "ü.webp"])
def test_stems_and_extensions_are_those_of_pathlib(name, tmp_path):
    assert stem_of(name) == (tmp_path / name).stem
    assert extension_of(name) == (tmp_path / name).suffix.lower()
