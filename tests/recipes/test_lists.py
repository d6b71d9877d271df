"""The committed lists, and the scripts that write and use them."""

import csv
import hashlib
from pathlib import Path

import pytest
from image_files import read_list
from make_lists import FREE, series_by_file, write_lists
from make_sets import make_sets
from PIL import Image

from ddnsr_cli.errors import DataError
from tests.helpers.noisy_images import noise, scene, whole

LISTS = Path(__file__).parents[2] / "recipes/lists"


@pytest.fixture(scope="module")
def listed():
    return {name: read_list(LISTS / f"{name}.txt") for name in ("source", "target")}


@pytest.fixture(scope="module")
def credits():
    with (LISTS / "credits.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_no_image_is_on_both_sides(listed):
    assert not listed["source"].keys() & listed["target"].keys()
    assert not set(listed["source"].values()) & set(listed["target"].values())
    assert 0.25 < len(listed["source"]) / len(listed["source"] | listed["target"]) < 0.4


def test_no_series_is_on_both_sides(listed, credits):
    series = series_by_file(credits)
    source, target = ({series[file] for file in part} for part in listed.values())
    assert not source & target
    assert max(len([1 for other in series.values() if other == one]) for one in series.values()) >= 3  # some are kept


def test_every_listed_image_is_credited_and_free(listed, credits):
    assert {row["file"] for row in credits} == (listed["source"] | listed["target"]).keys()
    assert all(row["source_repository"] and row["license_as_stated"].startswith(FREE) for row in credits)


def data(tmp_path, rows):
    for file, *_ in rows:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(file.encode())
    head = "file,source_repository,source_path,license_as_stated,scale,crop_x,crop_y,width,height\n"
    lines = [f"{file},owner/repo,{path},{license},1,0,0,512,512\n" for file, path, license in rows]
    (tmp_path / "MANIFEST.csv").write_text(head + "".join(lines), encoding="utf-8")
    return tmp_path


def test_only_free_images_of_the_clean_set_are_listed(tmp_path):
    rows = [
        ("train_hr/a_1.webp", "1.png", "CC BY-SA 4.0"),
        ("train_hr/a_50000.webp", "50000.png", "CC BY-NC 4.0"),
        ("train_hr/b_view.webp", "View_by_Anna.jpg", "CC0"),
        ("train_hr/c_tree.webp", "tree.jpg", "none stated"),
        ("train_noisy/d.png", "d.png", "CC0"),
    ]
    write_lists(data(tmp_path, rows), tmp_path / "lists")
    both = read_list(tmp_path / "lists/source.txt") | read_list(tmp_path / "lists/target.txt")
    assert sorted(both) == ["train_hr/a_1.webp", "train_hr/b_view.webp"]
    assert both["train_hr/a_1.webp"] == hashlib.sha256(b"train_hr/a_1.webp").hexdigest()


def test_british_spelling_is_taken_and_a_table_without_licenses_is_refused(tmp_path):
    table = data(tmp_path, [("train_hr/a_1.webp", "1.png", "CC0")]) / "MANIFEST.csv"
    american = table.read_text()
    table.write_text(american.replace("license_as_stated", "licence_as_stated"))
    write_lists(tmp_path, tmp_path / "lists")
    assert (tmp_path / "lists/credits.csv").read_text() == american
    table.write_text(american.replace("license_as_stated", "terms"))
    with pytest.raises(DataError, match="has no column license_as_stated"):
        write_lists(tmp_path, tmp_path / "lists")


def test_neighboring_numbers_and_one_author_are_one_series():
    def row(file, path):
        return {"file": f"train_hr/{file}.webp", "source_path": path}

    series = series_by_file(
        [
            row("x_7062177", "7062177.png"),
            row("x_pexels-photo-7062900", "pexels-photo-7062900.png"),
            row("x_9000000", "9000000.png"),
            row("y_one-by-jo", "One_by_Jo_Doe.jpg"),
            row("y_two-by-jo", "Two_by_Jo_Doe.jpg"),
        ]
    )
    names = [series[file] for file in sorted(series)]
    assert names[0] == names[2] != names[1]
    assert names[3] == names[4]


@pytest.fixture
def lists(tmp_path):
    images = {"source": b"one", "target": b"two"}
    for name, content in images.items():
        (tmp_path / f"train_hr/{name}.webp").parent.mkdir(exist_ok=True)
        (tmp_path / f"train_hr/{name}.webp").write_bytes(content)
        line = f"{hashlib.sha256(content).hexdigest()}  train_hr/{name}.webp\n"
        (tmp_path / f"{name}.txt").write_text(line, encoding="utf-8")
    return tmp_path


def test_sets_hold_the_listed_images(lists, tmp_path):
    for _ in range(2):  # again over what is there
        make_sets(tmp_path, tmp_path / "sets", lists)
    assert [path.read_bytes() for path in (tmp_path / "sets/source").iterdir()] == [b"one"]
    assert [path.read_bytes() for path in (tmp_path / "sets/target").iterdir()] == [b"two"]


def test_images_without_grain_are_put_together(tmp_path):
    """Of both lists; an image without smooth parts to measure is left out."""
    kinds = {"clean": ("source", 0.4), "grainy": ("target", 3.0), "smooth": ("target", 0.8), "tiny": ("source", 0.4)}
    lines = {"source": "", "target": ""}
    for name, (side, sigma) in kinds.items():
        image = scene(18 if name == "tiny" else 192)
        Image.fromarray(whole(image + noise(image.shape, sigma))).save(tmp_path / f"{name}.png")
        digest = hashlib.sha256((tmp_path / f"{name}.png").read_bytes()).hexdigest()
        lines[side] += f"{digest}  {name}.png\n"
    for side, text in lines.items():
        (tmp_path / f"{side}.txt").write_text(text, encoding="utf-8")
    make_sets(tmp_path, tmp_path / "sets", tmp_path, grainless=1.2)
    assert sorted(path.stem for path in (tmp_path / "sets/grainless").iterdir()) == ["clean", "smooth"]
    assert len(list((tmp_path / "sets/target").iterdir())) == 2


def test_another_image_under_a_listed_name_is_refused(lists, tmp_path):
    (tmp_path / "train_hr/target.webp").write_bytes(b"another")
    with pytest.raises(DataError, match=r"target\.webp is not the image that was listed"):
        make_sets(tmp_path, tmp_path / "sets", lists)


def test_a_missing_image_is_named(lists, tmp_path):
    (tmp_path / "train_hr/source.webp").unlink()
    with pytest.raises(DataError, match=r"source\.webp is missing"):
        make_sets(tmp_path, tmp_path / "sets", lists)


def test_a_list_of_another_shape_is_refused(tmp_path):
    (tmp_path / "list.txt").write_text("image.webp\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 1"):
        read_list(tmp_path / "list.txt")


def test_what_an_earlier_run_put_there_is_not_taken_for_this_ones(lists, tmp_path):
    make_sets(tmp_path, tmp_path / "sets", lists)
    (tmp_path / "sets/target/old.webp").write_bytes(b"of another list")
    with pytest.raises(DataError, match=r"old\.webp, which was not put there now"):
        make_sets(tmp_path, tmp_path / "sets", lists)
    assert (tmp_path / "sets/target/old.webp").exists()


def test_two_images_of_one_name_are_refused(lists, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more/source.webp").write_bytes(b"three")
    with (tmp_path / "source.txt").open("a") as text:
        text.write(f"{hashlib.sha256(b'three').hexdigest()}  more/source.webp\n")
    with pytest.raises(DataError, match=r"called source\.webp"):
        make_sets(tmp_path, tmp_path / "sets", lists)
