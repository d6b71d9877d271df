"""Degraders, and folders of pairs as tests see them."""

import json

import numpy as np
import torch
from PIL import Image

from ddnsr_cli.nets.degrader import Degrader, DegraderConfig, start_as_area
from ddnsr_cli.weights.checkpoint import save_degrader


def degrader(path, seed=0, **metadata):
    """A small degrader: HR averaged, and some of the noise image on top."""
    net = Degrader(DegraderConfig(features=4, blocks=1))
    start_as_area(net, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        net.merge[-1].weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_degrader(path, net, metadata=metadata, half=False)
    return path


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def records(folder):
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def pixels(path):
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image).astype(int)


def refused(done, code, *parts):
    assert done.code == code, done.err
    line = done.err.splitlines()[-1]
    assert line.startswith("error: ")
    for part in parts:
        assert str(part) in line
