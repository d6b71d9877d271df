"""Lists of images, and shards."""

import os
from collections import Counter
from pathlib import Path

import pytest

from ddnsr_cli.errors import ConfigError, ImageReadError
from ddnsr_cli.io.selection import Shard, listed_images, read_list

NAMES = [Path(f"{folder}/{number}.jpg") for folder in ("a", "b/c", "ü") for number in range(400)]


@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_each_image_is_in_one_shard_and_none_is_much_larger(count):
    shards = [Shard(index=index, count=count) for index in range(1, count + 1)]
    times = Counter(shard.index for name in NAMES for shard in shards if shard.holds(name))
    assert sum(times.values()) == len(NAMES)
    assert len(times) == count
    assert max(times.values()) < 1.5 * len(NAMES) / count


def test_a_shard_is_the_same_on_every_machine():
    assert [name.name for name in NAMES[:12] if Shard(index=2, count=3).holds(name)] == ["8.jpg", "11.jpg"]


@pytest.mark.parametrize(("index", "count"), [(0, 4), (5, 4), (1, 0), (-1, 3)])
def test_shards_count_from_1_to_n(index, count):
    with pytest.raises(ConfigError, match=r"from 1 to N"):
        Shard(index=index, count=count)


def test_a_list_is_read_line_by_line_whatever_the_encoding():
    content = "one.png\r\n\n  \nwith space .png\nü.png\n".encode() + b"\xff.png"
    assert read_list(content, "list") == [
        Path(name) for name in ("one.png", "with space .png", "ü.png", os.fsdecode(b"\xff.png"))
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_a_byte_order_mark_is_no_part_of_the_first_path(encoding):
    mark = "\ufeff" if encoding == "utf-16-be" else ""  # the others write it themselves
    content = f"{mark}C/ü one.png\r\ntwo.png\r\n".encode(encoding)
    assert read_list(content, "list") == [Path("C/ü one.png"), Path("two.png")]
    assert read_list(b"\xff\xfe.png\n", "list") == [
        Path(os.fsdecode(b"\xff\xfe.png"))
    ]  # a name, in no encoding of ours


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf", b"\xff\xfe\n\0"])
def test_an_empty_list_is_reported(content):
    with pytest.raises(ImageReadError, match=r"The list x\.txt is empty"):
        read_list(content, "x.txt")


def test_relative_paths_of_a_list_do_not_depend_on_its_other_lines():
    names = ["a/1.jpg", "/data/b/1.jpg", "../c/2.png", "3.png"]
    found = {one.source: one for one in listed_images([Path(name) for name in names])}
    assert [one.relative.as_posix() for one in found.values()] == ["a/1.jpg", "data/b/1.jpg", "c/2.png", "3.png"]
    for name in names:
        (alone,) = listed_images([Path(name)])
        assert alone == found[Path(name)]


def test_files_of_a_list_that_differ_by_extension_keep_it_in_their_results_names():
    stems = [one.stem for one in listed_images([Path("a/1.jpg"), Path("a/1.png"), Path("b/1.jpg"), Path("a/1.jpg")])]
    assert stems == ["1_jpg", "1_png", "1"]


def test_two_files_of_a_list_with_one_result_are_reported():
    with pytest.raises(ImageReadError, match=r"a/1\.jpg and \.\./a/1\.jpg of the list would have one result"):
        listed_images([Path("a/1.jpg"), Path("../a/1.jpg")])


@pytest.mark.parametrize("name", [".", "..", "/", "a/.."])
def test_a_line_that_can_be_no_file_is_reported(name):
    with pytest.raises(ImageReadError, match="which is a folder"):
        listed_images([Path("a.png"), Path(name)])
