import os

import pytest

from ddnsr_cli.data.images import list_images
from ddnsr_cli.errors import DataError
from ddnsr_cli.io.discovery import find_images


def test_images_are_listed_below_the_folder_in_the_order_of_their_paths(tmp_path):
    names = ["b.png", "a/2.JPG", "a-1/x.webp", "a/deep/1.tiff", "é.avif", "B.bmp"]
    others = ["notes.txt", ".hidden.png", "a/thumbs.db", "png"]
    for name in names + others:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)] == sorted(names)


def test_linked_folders_are_followed_once(tmp_path):
    """A circle ends, and of two ways to one folder the first in the order of names is taken."""
    for name in ("away/1.png", "away/deep/2.png", "in/z/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "in" / "a").symlink_to(tmp_path / "away")
    (tmp_path / "in" / "b").symlink_to(tmp_path / "away")
    (tmp_path / "in" / "z" / "round").symlink_to(tmp_path / "in")
    found = [path.relative_to(tmp_path / "in").as_posix() for path in list_images(tmp_path / "in")]
    assert found == ["a/1.png", "a/deep/2.png", "z/3.png"]


def test_a_folder_that_cannot_be_looked_into_is_reported(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "1.png").touch()
    look = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may look everywhere
    with pytest.raises(DataError, match=r"closed cannot be looked into \(Permission denied\)"):
        list_images(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"holds no images.*PNG, JPEG"):
        list_images(tmp_path)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="missing is not a folder"):
        list_images(tmp_path / "missing")


def test_what_is_found_is_what_upscale_finds(tmp_path):
    """By content where the name tells nothing, with what nobody can read, without junk."""
    for name, data in {
        "scan": b"P6 1 1 255\nabc",
        "phone.heic": b"",
        "raw.dng": b"II*\0",
        "old.jpe": b"",
        "a.txt": b"x",
    }.items():
        (tmp_path / name).write_bytes(data)
    found = [one.source for one in find_images([tmp_path])]
    assert list_images(tmp_path) == found
    assert [path.name for path in found] == ["old.jpe", "phone.heic", "scan"]
