import os
from itertools import permutations
from pathlib import Path

import pytest
from PIL import Image

from ddnsr_cli.errors import ConfigError, ImageReadError
from ddnsr_cli.io.discovery import Found, OutputNames, distinct_stems, find_images
from ddnsr_cli.io.provenance import mark_as
from ddnsr_cli.io.read import read_image
from tests.helpers.image_files import encoded

PNG = encoded(Image.new("RGB", (4, 4)), "PNG")


@pytest.fixture
def tree(tmp_path):
    """`tree("a.png", "sub/b.txt=text")`: files under tmp_path, PNG inside unless told."""

    def make(*names):
        for name in names:
            path, _, text = name.partition("=")
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(text.encode() if text else PNG)
        return tmp_path

    return make


def relatives(*inputs, **options):
    return [one.relative.as_posix() for one in find_images(inputs, **options)]


def test_folders_are_walked_in_order(tree):
    top = tree("b.png", "a.jpg", "sub/z.png", "sub/deep/y.webp", "also/x.png", "C.PNG")
    assert relatives(top) == ["C.PNG", "a.jpg", "b.png", "also/x.png", "sub/z.png", "sub/deep/y.webp"]
    assert relatives(top, recursive=False) == ["C.PNG", "a.jpg", "b.png"]


def test_nothing_is_read_ahead(tree):
    top = tree("a.png", "sub/b.png")
    found = find_images([top])
    assert next(found).relative == Path("a.png")
    (top / "sub" / "b.png").rename(top / "sub" / "c.png")
    assert next(found).relative == Path("sub/c.png")


def test_junk_is_left_out_and_images_are_known_by_content(tree):
    top = tree(
        "good.png",
        "no_extension",
        "odd.dat",
        "notes.txt=hello",
        "Thumbs.db=x",
        ".hidden.png",
        "._good.png",
        ".good-1a2b.part.png",
        "load.png.part",
        "video.mp4=ftyp",
        "shot.CR2",
        ".cache/x.png",
        "__MACOSX/x.png",
        "@eaDir/x.png",
    )
    assert relatives(top) == ["good.png", "no_extension", "odd.dat"]


def test_what_is_called_an_image_is_given_so_that_its_damage_is_reported(tree):
    top = tree("broken.png=garbage", "phone.heic=garbage", "empty.jpg=")
    (top / "empty.jpg").write_bytes(b"")
    (top / "gone.png").symlink_to(top / "nowhere.png")
    assert relatives(top) == ["broken.png", "empty.jpg", "gone.png", "phone.heic"]
    for one in find_images([top]):
        with pytest.raises(ImageReadError):
            read_image(one.source)


def test_a_named_file_is_always_given(tree):
    top = tree("notes.txt=hello", ".hidden.png")
    assert relatives(top / "notes.txt", top / ".hidden.png") == ["notes.txt", ".hidden.png"]


def test_a_missing_input_is_reported_at_once(tree):
    top = tree("a.png")
    with pytest.raises(ImageReadError, match=r"b\.png does not exist"):
        find_images([top / "a.png", top / "b.png"])


def test_links_in_circles_end(tree):
    top = tree("a.png", "sub/b.png")
    (top / "sub" / "up").symlink_to(top, target_is_directory=True)
    (top / "again").symlink_to(top / "sub", target_is_directory=True)
    assert relatives(top) == ["a.png", "again/b.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_and_folders_called_like_images_do_no_harm(tree):
    top = tree("folder.png/a.png")
    os.mkfifo(top / "pipe.png")
    assert relatives(top) == ["folder.png/a.png"]


def test_a_folder_that_may_not_be_opened_is_given_and_reading_tells(tree, monkeypatch):
    top = tree("a.png", "locked/b.png")

    def refusing(real):
        def refuse(path):
            if Path(path).name == "locked":
                raise PermissionError(13, "Permission denied")
            return real(path)

        return refuse

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    assert relatives(top) == ["a.png", "locked"]
    with pytest.raises(ImageReadError, match=r"locked could not be opened \(Permission denied\)"):
        read_image(top / "locked")


def test_the_same_file_is_given_once(tree):
    top = tree("a.png", "b.png")
    assert relatives(top / "b.png", top, top / "b.png", top) == ["b.png", f"{top.name}/a.png"]


def test_a_file_named_beside_its_folder_is_named_in_either_order(tree):
    top = tree("a.png", "b.png")
    for inputs in ([top, top / "a.png"], [top / "a.png", top]):
        assert sorted(relatives(*inputs)) == ["a.png", f"{top.name}/b.png"]


def test_several_folders_keep_their_names(tree):
    top = tree("x/one/a.png", "y/one/a.png", "y/two/a.png", "b.png")
    given = (top / "x/one", top / "y/one", top / "y/two", top / "b.png")
    assert relatives(*given) == ["x/one/a.png", "y/one/a.png", "two/a.png", "b.png"]


def test_named_files_of_one_name_keep_their_folders(tree):
    top = tree("day1/a.jpg", "day2/a.jpg", "day2/b.jpg")
    given = (top / "day1/a.jpg", top / "day2/a.jpg", top / "day2/b.jpg")
    assert relatives(*given) == ["day1/a.jpg", "day2/a.jpg", "b.jpg"]


def targets(top, names, *inputs):
    return [names.target(one).relative_to(top).as_posix() for one in find_images(inputs or [top])]


def test_results_repeat_the_tree(tree):
    top = tree("a.jpg", "sub/b.tif")
    names = OutputNames(folder=top / "out", suffix="_x4")
    assert targets(top, names) == ["out/a_x4.png", "out/sub/b_x4.png"]


def test_results_can_lie_beside_their_sources(tree):
    top = tree("a.jpg", "sub/b.tif")
    assert targets(top, OutputNames(folder=None, suffix="_x4")) == ["a_x4.png", "sub/b_x4.png"]


def test_the_format_can_be_kept(tree):
    top = tree("a.JPG", "b.gif", "c.tiff", "d")
    names = OutputNames(folder=top / "out", extension=None)
    assert targets(top, names) == ["out/a.jpg", "out/b.png", "out/c.tiff", "out/d.png"]


def test_names_that_differ_in_the_extension_only_are_told_apart(tree):
    top = tree("a.jpg", "a.png", "b.png", "sub/a.jpg")
    names = OutputNames(folder=top / "out")
    assert targets(top, names) == ["out/a_jpg.png", "out/a_png.png", "out/b.png", "out/sub/a.png"]
    given = (top / "a.png", top / "sub/a.jpg")
    assert targets(top, names, *given) == ["out/a_png.png", "out/a_jpg.png"]


@pytest.mark.parametrize(
    "names",
    [
        ["a.jpg", "a.png", "a_jpg.png"],
        ["a", "a.b", "a_b"],
        ["a.jpg", "a.JPG", "a"],
        ["a.b.png", "a.b", "a_b.jpg", "a_b"],
        [".png", "png"],
    ],
)
def test_stems_are_distinct_and_do_not_depend_on_order(names):
    stems = distinct_stems(names)
    assert len(set(stems.values())) == len(names)
    assert all(distinct_stems(order) == stems for order in permutations(names))


def test_results_of_an_earlier_run_are_left_out(tree):
    top = tree("a.jpg", "a_x4.png", "b_x4.png", "out/a.png", "sub/out/c.png")
    beside, told = OutputNames(folder=None, suffix="_x4"), []
    everything = ["a.jpg", "a_x4.png", "b_x4.png", "out/a.png", "sub/out/c.png"]
    assert relatives(top, results=beside, on_own=told.append) == [name for name in everything if name != "a_x4.png"]
    assert told == [top / "a_x4.png"]  # without a note: edited since, or of another program
    told.clear()
    mark_as(top / "a_x4.png", "sample")
    assert relatives(top, results=beside) == everything
    assert relatives(top, results=beside, on_own=told.append) == [name for name in everything if name != "a_x4.png"]
    assert told == []
    apart = OutputNames(folder=top / "out")
    assert relatives(top, results=apart) == ["a.jpg", "a_x4.png", "b_x4.png", "sub/out/c.png"]


def test_a_suffix_with_a_slash_is_refused():
    with pytest.raises(ConfigError, match="without slashes"):
        OutputNames(folder=None, suffix="/../x")


def test_a_source_without_a_folder_gets_a_result_without_one():
    found = Found(source=Path("a.png"), relative=Path("a.png"), stem="a")
    assert OutputNames(folder=None, suffix="_x4").target(found) == Path("a_x4.png")
