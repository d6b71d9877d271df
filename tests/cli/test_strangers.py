"""What is no image never reaches an interpreter, whatever its name and whatever the command."""

from io import BytesIO

import pytest
from PIL import EpsImagePlugin, Image

from tests.helpers.joint_run import joint_words, vgg_file, write_images

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Where a Ghostscript first in PATH writes how it was called."""
    folder, record = tmp_path / "bin", tmp_path / "calls.txt"
    folder.mkdir()
    for name in ("gs", "gswin64c"):
        (folder / name).write_text(f'#!/bin/sh\necho "$0 $@" >> {record}\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", str(folder / "gs"))
    return record


def test_the_recorder_records(calls):
    with pytest.raises(OSError, match=r".*"), Image.open(BytesIO(POSTSCRIPT)) as image:
        image.load()
    assert "gs " in calls.read_text()


@pytest.mark.usefixtures("small_runs")
@pytest.mark.parametrize("name", ["x.tif", "x.eps"])
def test_no_command_hands_postscript_to_ghostscript(ddnsr, quick_model, image_file, tmp_path, calls, name):
    hr, lr = write_images(tmp_path / "images")
    for folder in (hr, lr):
        (folder / name).write_bytes(POSTSCRIPT)
    vgg = vgg_file(tmp_path / "vgg.safetensors")
    run = joint_words((hr, lr), vgg, tmp_path / "run", "--ablation", "B", "--l2", track=2)
    told = [
        ddnsr("upscale", lr / name, "-m", quick_model, "-o", tmp_path / "a.png", "--device", "cpu"),
        ddnsr("degrade", hr / name, "--noise-source", lr, "-o", tmp_path / "b", "--offline"),
        ddnsr("eval", "--hr", hr, "--lr", lr, "-m", quick_model, "--device", "cpu"),
        ddnsr(*run, "--check"),
        ddnsr(*run, "--steps", 1),
    ]
    assert not calls.exists()
    assert "is a PostScript document, which cannot be read" in told[0].err
    if name == "x.tif":  # as the other is called, nobody takes it for an image
        assert "is a PostScript document, which cannot be read" in told[3].out + told[3].err
