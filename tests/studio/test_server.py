"""What the server takes, gives and refuses, asked without a browser."""

import io
import json
import shutil
import socket
import zipfile
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.commands.upscale.options import UpscaleListener, UpscaleOptions
from ddnsr_cli.commands.upscale.run import upscale_images
from ddnsr_cli.errors import ConfigError
from ddnsr_cli.io.read import image_size
from ddnsr_cli.studio.server import choices_of, upscale_options
from ddnsr_cli.weights.registry import read_registry


def silent():
    def ignore(*_):
        pass

    return UpscaleListener(image=ignore, tile=ignore, note=ignore, detail=ignore, failed=ignore, download=ignore)


def test_the_result_is_that_of_the_command_in_every_pixel(studio, drawn, quick_model, tmp_path):
    source = drawn("Grüße aus Köln.png", mode="RGBA")
    with studio() as asked:
        assert asked.put(source.name, source.read_bytes())[0] == 201
        assert asked.enlarge(quick_model, 1) == (200, {"waiting": 1})
        (image,) = asked.wait("done")
        assert image["model"] == quick_model.name  # not where it lies
        status, headers, content = asked.send("GET", "images/1/result")
    assert (status, image["result"]["width"], image["result"]["height"]) == (200, 96, 64)
    assert "filename*=utf-8''Gr%C3%BC%C3%9Fe%20aus%20K%C3%B6ln_x4.png" in headers["content-disposition"]
    target = tmp_path / "by_command.png"
    list(upscale_images([source], target, UpscaleOptions(model=str(quick_model), device="cpu"), silent()))
    with Image.open(io.BytesIO(content)) as ours, Image.open(target) as theirs:
        assert (ours.mode, ours.size) == (theirs.mode, theirs.size) == ("RGBA", (96, 64))
        assert np.array_equal(np.asarray(ours), np.asarray(theirs))


def test_only_whoever_knows_the_word_gets_anything_and_only_by_this_machines_name(studio):
    with studio() as asked:
        parts = urlsplit(asked.address)
        assert parts.hostname == "127.0.0.1"
        assert len(parts.path) > 30
        assert asked.send("GET", "/")[0] == asked.send("GET", "/state")[0] == 404
        assert asked.send("GET", "/" + "A" * 32 + "/state")[0] == 404
        assert asked.send("GET", "", Host="evil.example")[0] == 403
        assert asked.send("GET", "", Host=f"localhost:{parts.port}")[0] == 200
        status, headers, page = asked.send("GET", "")
    assert status == 200
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers
    assert b"http" not in page.replace(b"http-equiv", b"")  # no outside address
    assert b"quick &lt;b&gt;&amp;&quot;" in page


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("[::1]:80", 403),
        ("", 403),
        ("evil.example", 403),
        ("localhost:evil.example:80", 403),
        ("localhost.evil.example:80", 403),
    ],
)
def test_the_host_is_this_machine_with_a_port_or_without_as_browsers_leave_80_out(one, host, status):
    assert one.send("GET", "", Host=host)[0] == status


def test_without_the_folder_for_temporary_files_an_image_is_refused_in_a_sentence(studio, drawn):
    with studio() as asked:
        shutil.rmtree(asked.folder)
        status, answer = asked.put("a.png", drawn("a.png").read_bytes())
    assert status == 422
    assert answer["error"].startswith("a.png cannot be put into the folder for temporary files: No such file")


def test_two_studios_have_two_words(studio):
    with studio() as one, studio() as other:
        assert urlsplit(one.address).path != urlsplit(other.address).path
        assert other.send("GET", urlsplit(one.address).path)[0] == 404


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("notes.txt", b"hello", "notes.txt is not an image we can read."),
        ("page.png", b"<!doctype html><html>", "page.png is a web page"),
        ("empty.jpg", b"", "empty.jpg is empty (0 bytes)."),
        ("../../etc/passwd", b"root:x:0:0", "passwd is not an image"),
    ],
)
def test_what_is_no_image_is_refused_in_the_commands_words_and_leaves_nothing(one, name, content, told):
    status, answer = one.put(name, content)
    assert status == 422
    assert answer["error"].startswith(told)
    assert one.images() == []
    assert list(one.folder.iterdir()) == []


def test_a_bomb_is_refused_before_it_is_decoded(one, drawn):
    status, answer = one.put("wide.png", drawn("wide.png", 40, 30).read_bytes())
    assert status == 422
    assert answer["error"].startswith("wide.png has 40 x 30 pixels, more than the limit of 1,000.")


def test_a_name_that_comes_twice_is_two_images_and_two_files(studio, drawn, quick_model, tmp_path):
    content = [drawn("a.png", 24).read_bytes(), drawn("a.png", 20).read_bytes()]
    kept = tmp_path / "kept here"
    with studio(results=kept) as asked:
        for one in content:
            asked.put("image.png", one)
        asked.enlarge(quick_model, 1, 2, scale=2)
        asked.wait("done")
        _, _, archive = asked.send("GET", "results.zip")
    assert {path.name: image_size(path) for path in kept.iterdir()} == {
        "image_x2.png": (32, 48),
        "image_x2_2.png": (32, 40),
    }
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.namelist() == ["image_x2.png", "image_x2_2.png"]
        assert opened.read("image_x2.png") == (kept / "image_x2.png").read_bytes()


def test_results_of_one_name_in_folders_of_their_own_are_told_apart_in_the_archive(studio, drawn, quick_model):
    with studio() as asked:
        for _ in range(2):
            asked.put("image.png", drawn("b.png").read_bytes())
        asked.enlarge(quick_model, 1, 2, format="jpg", quality=80)
        asked.wait("done")
        _, _, archive = asked.send("GET", "results.zip")
        while list(asked.folder.glob("*.zip")):
            pass
    assert zipfile.ZipFile(io.BytesIO(archive)).namelist() == ["image_x4.jpg", "image_x4_2.jpg"]


def test_what_is_shown_is_small_upright_and_what_a_browser_knows(studio, drawn, quick_model):
    with studio() as asked:
        asked.put("wide.tif", drawn("wide.tif", 640, 20).read_bytes())
        asked.put("clear.png", drawn("clear.png", mode="RGBA").read_bytes())
        _, headers, content = asked.send("GET", "images/1/thumbnail")
        assert (headers["content-type"], Image.open(io.BytesIO(content)).size) == ("image/jpeg", (320, 10))
        _, headers, content = asked.send("GET", "images/2/before")
        assert (headers["content-type"], Image.open(io.BytesIO(content)).mode) == ("image/png", "RGBA")
        assert asked.send("GET", "images/2/after")[0] == 404
        asked.enlarge(quick_model, 1, format="tif", scale=1)
        asked.wait("done", "ready")
        _, headers, content = asked.send("GET", "images/1/after")
        assert (headers["content-type"], Image.open(io.BytesIO(content)).size) == ("image/jpeg", (640, 20))
        assert asked.send("GET", "images/1/secret")[0] == 404
        assert asked.send("GET", "images/9/thumbnail")[0] == 404


def test_nothing_is_said_where_nothing_has_changed(studio, drawn):
    with studio() as asked:
        mark = json.loads(asked.send("GET", "state")[2])["mark"]
        assert asked.send("GET", f"state?since={mark}")[0] == 204
        asked.put("a.png", drawn("a.png").read_bytes())
        assert asked.send("GET", f"state?since={mark}")[0] == 200


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model": "/etc/passwd"}, "not offered"),
        ({"format": "exe"}, "Results can be png"),
        ({"scale": 1000}, "0.25 to 16 times"),
        ({"scale": float("nan")}, "scale must be a number"),
        ({"scale": "4"}, "scale must be a number"),
        ({"scale": None, "long_side": 10.5}, "whole number of pixels"),
        ({"scale": None, "long_side": -1}, "long side must be above 0"),
        ({"scale": 2, "long_side": 100}, "given in 2 ways"),
        ({"scale": None, "long_side": float("inf")}, "long side must be a number"),
        ({"model": []}, "not offered"),
        ({"quality": 0}, "from 1 to 100"),
        ({"quality": None}, "from 1 to 100"),
        ({"strength": 2}, "strength must be 0"),
        ({"strength": None}, "strength must be a number"),
        ({"grain": None}, "grain must be a number"),
        ({"grain": True}, "grain must be a number"),
    ],
)
def test_settings_that_mean_nothing_are_refused_in_a_sentence(one, quick_model, settings, told):
    asked = {"model": quick_model} | settings
    status, answer = one.enlarge(asked.pop("model"), 1, **asked)
    assert status == 422
    assert told in answer["error"]


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_orders_that_are_no_orders_are_refused(one, body):
    status, _, told = one.send("POST", "enlarge", body)
    assert (status, "not understood" in told.decode()) == (422, True)


def test_orders_for_images_that_are_not_there_do_nothing(one, quick_model):
    assert one.enlarge(quick_model, 7, "x", True) == (200, {"waiting": 0})
    assert one.send("POST", "images/7/stop")[0] == one.send("DELETE", "images/7")[0] == 204
    assert one.send("GET", "results.zip")[0] == 404


def test_a_port_in_use_is_told_in_a_line(studio):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"Port {port} cannot be used .*Leave --port out"), studio(port=port):
            pass


def test_an_upload_that_breaks_off_leaves_nothing(one):
    parts = urlsplit(one.address)
    with socket.create_connection((parts.hostname, parts.port)) as line:
        head = f"PUT {parts.path}images?name=a.png HTTP/1.1\r\nHost: 127.0.0.1:{parts.port}\r\n"
        line.sendall(f"{head}Content-Length: 1000\r\n\r\nhalf".encode())
        while not list(one.folder.glob("*/a.png")):
            pass
    while list(one.folder.iterdir()):
        pass
    assert one.images() == []


def test_the_names_of_results_tell_their_size():
    registry = read_registry()
    first = registry.default.name
    choices = choices_of(registry, first, ("models/mine.param",))
    assert choices[0].name == first
    assert {"mine.param", "ddnsr lite"} <= {choice.title for choice in choices}
    assert "degrader-lite" not in {choice.name for choice in choices}
    from ddnsr_cli.studio.server import StudioOptions

    offered = StudioOptions(choices=choices)
    endings = [
        upscale_options({"model": first, **size}, offered)[1] for size in ({}, {"scale": 2.5}, {"long_side": 99})
    ]
    assert endings == ["_x4", "_x2.5", "_99px"]


def test_a_name_means_what_it_means_to_the_command(tmp_path, monkeypatch):
    registry = read_registry()
    monkeypatch.chdir(tmp_path)
    of_registry = [choice.name for choice in choices_of(registry, "bsrgan", ())]
    for own in ("BSRGAN", "BSRGAN.pth", "bsrgan"):
        assert [choice.name for choice in choices_of(registry, "bsrgan", (own,))] == of_registry
    (tmp_path / "BSRGAN.safetensors").write_bytes(b"ours")
    first, *others = [choice.name for choice in choices_of(registry, "BSRGAN", ("BSRGAN", "bsrgan"))]
    assert first == "BSRGAN"
    assert sorted(others) == sorted(of_registry)
