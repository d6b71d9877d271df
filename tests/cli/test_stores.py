"""`ddnsr upscale` from and to object stores: S3's protocol on a server in this process, other things in memory."""

import io
import json
import logging
import pickle
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.files import StorePath, is_folder, is_there, path_at, sha256_of
from tests.helpers.drawn_images import noisy
from tests.helpers.pair_folders import refused, tree

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield "http://{}:{}".format(*running.get_host_and_port())
    running.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    """An empty bucket of S3, as fsspec gives it, with its address."""
    settings = {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "DEFAULT_REGION": "us-east-1", "ENDPOINT_URL": server}
    for name, value in settings.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    store = fsspec.filesystem("s3", use_listings_cache=False)
    store.mkdir("images")
    yield store
    store.rm("images", recursive=True)


@pytest.fixture
def memory():
    store = fsspec.filesystem("memory")
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder of temporary files, which is empty when a run has ended."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def events(done):
    return [json.loads(line) for line in done.out.splitlines()]


def objects(store, top):
    return {name.removeprefix(top): store.cat_file(name) for name in store.find(top)}


def test_results_are_those_of_files_and_a_run_goes_on(ddnsr, image_file, tmp_path, quick_model, bucket, temporary):
    for name in ("0.png", "1.jpg", "deep/2.png"):
        image_file(f"in/{name}")
    (tmp_path / "in/3.png").write_bytes(b"\x89PNG\r\n\x1a\nno header")
    bucket.put(f"{tmp_path / 'in'}/", "images/in/", recursive=True)
    here = ddnsr("upscale", tmp_path / "in", "-o", tmp_path / "out", "-m", quick_model, "--compare", "--json")
    words = ("upscale", "s3://images/in", "-o", "s3://images/in/out", "-m", quick_model, "--compare")
    there = ddnsr(*words, "--json")
    assert (here.code, there.code) == (9, 9)
    assert there.err == here.err.replace(str(tmp_path / "in"), "s3://images/in")
    assert objects(bucket, "images/in/out/") == tree(tmp_path / "out")
    told = here.out.replace(str(tmp_path / "out"), "s3://images/in/out").replace(str(tmp_path / "in"), "s3://images/in")
    assert without_times(events(there)) == without_times(map(json.loads, told.splitlines()))

    image_file("in/0.png", width=23)
    bucket.put_file(str(tmp_path / "in/0.png"), "images/in/0.png")
    bucket.pipe("images/in/out/1.png", b"of another program")
    again = ddnsr(*words, "--json")
    assert again.code == 9
    by_name = {Path(event["input"]).name: event for event in events(again) if "input" in event}
    assert {name: event["event"] for name, event in by_name.items()} == {
        "0.png": "written", "1.jpg": "failed", "2.png": "skipped", "3.png": "failed",
    }  # fmt: skip
    assert "s3://images/in/out/1.png exists and is no result of ddnsr" in by_name["1.jpg"]["error"]
    with Image.open(io.BytesIO(bucket.cat("images/in/out/0.png"))) as image:
        assert image.size[0] == 4 * 23


def without_times(told):
    return [{**event, "seconds": 0} for event in told]


def test_files_to_a_store_and_back_and_by_a_list(ddnsr, image_file, tmp_path, quick_model, bucket, temporary):
    source = image_file("one.png")
    assert ddnsr("upscale", source, "-o", "s3://images/large.png", "-m", quick_model).out == "s3://images/large.png\n"
    (tmp_path / "list").write_text(f"s3://images/large.png\n{source}\n")
    done = ddnsr("upscale", "--list", tmp_path / "list", "-o", tmp_path / "out", "-m", quick_model)
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == str(tmp_path / "out/images/large.png")
    again = ddnsr("upscale", "--list", tmp_path / "list", "-o", tmp_path / "out", "-m", quick_model)
    assert (again.code, again.out) == (0, "")
    refused(ddnsr("upscale", source, "-o", "s3://images/large.png"), 4, "s3://images/large.png exists")
    refused(ddnsr("upscale", source, "-o", "s3://nowhere/x.png", "-m", quick_model), 4, "s3://nowhere/x.png cannot be")
    bucket.pipe("images/odd/a//b.png", b"")
    done = ddnsr("upscale", "s3://images/odd", "-o", tmp_path / "out", "-m", quick_model)
    refused(done, 9, "1 of 1 images failed")
    assert "s3://images/odd/a cannot be fetched (it holds a name with an empty part (//))" in done.err
    refused(ddnsr("upscale", "s3://images/none", "-o", tmp_path / "out"), 3, "s3://images/none does not exist")


@pytest.mark.parametrize("address", ["s3://", "s3:///large"])
def test_an_address_without_a_bucket_is_no_folder_here(ddnsr, image_file, tmp_path, monkeypatch, address):
    """As of a variable that is not set: results went into a folder `s3:`, or to a bucket of the next name."""
    monkeypatch.chdir(tmp_path)
    image_file("a.png")
    for words in (("a.png", "-o", address), (address, "-o", "out")):
        refused(ddnsr("upscale", *words), 2, f"{address} names no bucket. Write it as s3://bucket/folder.")
    refused(ddnsr("degrade", address, "--method", "bicubic", "-o", "out"), 2, "names no bucket")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_an_object_of_a_list_that_is_missing_is_told_as_a_file_is(ddnsr, quick_model, bucket, tmp_path):
    (tmp_path / "list").write_text("s3://images/none.png\n")
    done = ddnsr("upscale", "--list", tmp_path / "list", "-o", tmp_path / "out", "-m", quick_model)
    assert "error: s3://images/none.png does not exist. Check the name.\n" in done.err


def test_an_address_that_ends_in_a_slash_is_a_folder(ddnsr, image_file, quick_model, memory, temporary):
    done = ddnsr("upscale", image_file("a.png"), "-o", "memory://large/2026.01/", "-m", quick_model)
    assert done.out == "memory://large/2026.01/a.png\n", done.err


def test_an_object_is_put_once_and_whole(ddnsr, image_file, quick_model, memory, temporary, monkeypatch):
    puts = []

    def put_file(store, source, target, **_):
        puts.append((target, Path(source).read_bytes(), is_there(StorePath(target))))
        raise ConnectionError("the line is cut")

    monkeypatch.setattr(type(memory), "put_file", put_file)
    refused(ddnsr("upscale", image_file("a.png"), "-o", "memory://out/a.png", "-m", quick_model), 4, "the line is cut")
    ((target, content, was_there),) = puts
    assert (target, was_there) == ("memory://out/a.png", False)
    with Image.open(io.BytesIO(content)) as image:
        image.load()


def test_what_cannot_be_looked_at_is_not_replaced(ddnsr, image_file, quick_model, memory, temporary, monkeypatch):
    """The store fails to say whether something is there, as one that is asked too much does."""
    for name in "ab":
        memory.pipe(f"/in/{name}.png", image_file("a.png").read_bytes())
    memory.pipe("/out/a.png", b"of another program")
    plain, failures = type(memory).info, [1]

    def info(store, path, **options):
        if path.endswith("out/a.png") and failures:
            failures.pop()
            raise ConnectionError("slow down")
        return plain(store, path, **options)

    monkeypatch.setattr(type(memory), "info", info)
    done = ddnsr("upscale", "memory://in", "-o", "memory://out", "-m", quick_model)
    assert (done.code, done.out) == (9, "memory://out/b.png\n")
    assert "memory://out/a.png cannot be looked at (slow down)" in done.err
    assert memory.cat("/out/a.png") == b"of another program"
    failures[:] = range(9)
    refused(ddnsr("upscale", "memory://in/a.png", "-o", "memory://out/a.png"), 4, "cannot be looked at (slow down)")
    assert memory.cat("/out/a.png") == b"of another program"


def test_what_is_no_image_and_results_of_ours_are_left_out(ddnsr, image_file, quick_model, memory, temporary, tmp_path):
    names = ("a.png", "a.jpg", "deep/b.png", "deep/.hidden.png", "notes.txt", "a.png.xmp", "@eaDir/a.png")
    for name in names:
        memory.pipe(f"/in/{name}", image_file(name.replace("txt", "png").replace("xmp", "png")).read_bytes())
    ddnsr("upscale", image_file("c.png"), "-o", "memory://in/large.png", "-m", quick_model)
    done = ddnsr("upscale", "memory://in", "-o", tmp_path / "out", "-m", quick_model)
    assert done.code == 0, done.err
    assert set(tree(tmp_path / "out")) == {"a_png.png", "a_jpg.png", "deep/b.png"}
    assert "memory://in/large.png was taken for ddnsr's own and left out" in done.err
    shards = [
        ddnsr("upscale", "memory://in", "-o", tmp_path / "parts", "-m", quick_model, "--shard", f"{i}/2")
        for i in (1, 2)
    ]
    assert sorted(line for part in shards for line in part.out.splitlines()) == sorted(
        str(tmp_path / "parts" / name) for name in tree(tmp_path / "out")
    )
    done = ddnsr("upscale", "memory://in", "-o", tmp_path / "dry", "-m", quick_model, "--dry-run", "--json")
    assert [event["event"] for event in events(done)] == ["planned"] * 3 + ["summary"]


def test_an_address_is_a_path_that_goes_between_processes(memory):
    address = path_at("memory://in/deep/a.png")
    assert isinstance(address, StorePath)
    assert isinstance(path_at("C:/in"), StorePath) is isinstance(path_at("a:b://c"), StorePath) is False
    assert str(pickle.loads(pickle.dumps(address))) == str(address) == "memory://in/deep/a.png"
    assert str(address.with_name("b.jpg")) == "memory://in/deep/b.jpg"
    memory.pipe("/in/deep/a.png", b"12345")
    assert (address.stat().st_size, is_there(address), is_folder(address)) == (5, True, False)
    assert (is_folder(address.parent), is_there(address.parent / "none")) == (True, False)
    assert len(sha256_of(address)) == 64


def test_without_the_package_one_line_says_how_to_get_it(ddnsr, image_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    done = ddnsr("upscale", "s3://images/in", "-o", "out")
    assert (done.code, done.err) == (
        2,
        "error: s3:// needs a package that is not installed. Get it with: pip install 'ddnsr[s3]'\n",
    )
    refused(ddnsr("upscale", "no-such://images/in", "-o", "out"), 2, "no-such://images/in cannot be used")


def test_pairs_of_objects_are_those_of_files(ddnsr, image_file, tmp_path, bucket, temporary):
    image_file("hr/a.png", 96, 80), image_file("hr/deep/b.jpg", 96, 80)
    (tmp_path / "noisy").mkdir()
    Image.fromarray(noisy(np.full((64, 64, 3), 120, np.uint8), 8)).save(tmp_path / "noisy/n.png")
    (tmp_path / "hr/c.png").write_bytes(b"\x89PNG\r\n\x1a\nno header")
    for side in ("hr", "noisy"):
        bucket.put(f"{tmp_path / side}/", f"images/{side}/", recursive=True)
    more = ("--method", "patches")
    here = ddnsr("degrade", tmp_path / "hr", "--noise-source", tmp_path / "noisy", "-o", tmp_path / "here", *more)
    words = ("degrade", "s3://images/hr", "--noise-source", "s3://images/noisy", "-o", tmp_path / "there", *more)
    there = ddnsr(*words)
    assert (here.code, there.code) == (9, 9), there.err
    assert there.err == here.err.replace(str(tmp_path / "hr"), "s3://images/hr")
    assert tree(tmp_path / "there") == tree(tmp_path / "here")
    assert len(tree(tmp_path / "here")) == 5
    again = ddnsr(*words)
    assert (again.code, again.out) == (9, "")  # the one that is damaged is tried again


def test_places_of_results_are_files_but_for_upscale(ddnsr):
    refused(ddnsr("degrade", "in", "-o", "s3://images/pairs"), 2, "s3://images/pairs is the address of a store")


def test_an_object_may_be_called_as_any_folder_of_ours(ddnsr, image_file, quick_model, memory, temporary):
    for name in ("result", "results", "images"):
        memory.put_file(str(image_file("a.png")), f"/in/{name}")
        done = ddnsr("upscale", f"memory://in/{name}", "-o", f"memory://out/{name}.png", "-m", quick_model)
        assert (done.code, done.out) == (0, f"memory://out/{name}.png\n"), done.err
