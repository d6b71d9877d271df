"""Fixtures to run the command as a user does, exit status included, but inside this process."""

import json
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from ddnsr_cli.cli.app import main
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.rrdb import RRDBNet, start_as_nearest
from ddnsr_cli.weights.checkpoint import save_sr_net
from tests.helpers.compiled_once import compile_once


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def ddnsr(capfd, monkeypatch):
    """`ddnsr("upscale", path)` -> Outcome."""
    compile_once(monkeypatch)

    def run(*words):
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["ddnsr", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return run


@pytest.fixture
def eval_json(ddnsr):
    """`eval_json("--hr", ...)` -> what `ddnsr eval --json` gives."""

    def run(*words):
        done = ddnsr("eval", *words, "--json", "-")
        assert done.code == 0, done.err
        return json.loads(done.out)

    return run


@pytest.fixture(scope="session")
def quick_model(tmp_path_factory):
    """A file with a network that enlarges like nearest neighbor, nearly: quick, and its result is known."""
    torch.manual_seed(0)
    net = RRDBNet(RRDBConfig(features=4, blocks=1, growth=2))
    start_as_nearest(net, torch.Generator().manual_seed(0))
    path = tmp_path_factory.mktemp("model") / "quick.safetensors"
    save_sr_net(path, net, metadata={}, half=False)
    return path


@pytest.fixture
def image_file(tmp_path):
    """`image(name, width, height)`: a smooth colored image on disk."""

    def make(name="image.png", width=24, height=20, **options):
        y, x = np.mgrid[:height, :width]
        rgb = np.stack([x * 200 / width + 20, y * 200 / height + 20, 128 + 60 * np.sin(x / 5)], axis=2)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rgb.astype(np.uint8)).save(path, **options)
        return path

    return make
