"""Runs that take a second: images of some pixels, a random VGG19, networks of a few thousand parameters."""

import json

import numpy as np
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from ddnsr_cli.training.train_state import HEADER_KEY
from tests.helpers.random_vgg import random_vgg19
from tests.helpers.small_training import NARROW_CHANNELS

SIZES = {"--features": 4, "--blocks": 1, "--growth": 2, "--batch": 2, "--crop": 32, "--workers": 0}
PLAIN = [str(word) for option in SIZES.items() for word in option] + ["--device", "cpu"]
SMALL = [*PLAIN, "--lite", "--offline"]


def vgg_file(path, seed=1, *, widths=NARROW_CHANNELS):
    """VGG19 up to conv3_4, as a file; narrow, as `small_training` makes the network, unless `widths` is None."""
    state = random_vgg19("conv3_4", seed=seed, widths=widths)
    save_file({name: tensor.half() for name, tensor in state.items()}, path)
    return path


def write_images(folder, count=3):
    """(hr, lr): folders of clean HR images and of noisy LR ones of other scenes."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :128]
    for name in ("hr", "lr"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        smooth = np.stack([x + 20 * number, y + 40, 128 + 60 * np.sin(x / (4 + number))], axis=2)
        noisy = smooth[:72, :72][::-1] + rng.normal(0, 12, (72, 72, 3))
        for name, pixels in (("hr", smooth), ("lr", noisy)):
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder / "hr", folder / "lr"


def joint_words(folders, vgg, run, *words, track=1):
    """The command line of a joint run."""
    hr, lr = folders
    extractors = ("--vgg", vgg, "--perceptual", "conv3_4")
    return [
        str(word)
        for word in ("train", "--track", track, "--hr", hr, "--lr", lr, *extractors, "-o", run, *SMALL, *words)
    ]


def pretrain_words(hr, run, *words):
    """The command line of a pretraining."""
    return [str(word) for word in ("train", "--pretrain", "--hr", hr, "-o", run, *PLAIN, *words)]


def saved_step(run):
    """The step of the last save, 0 before it; the tensors are not read, so it may be asked again and again."""
    if not (path := run / "state" / "last.safetensors").exists():
        return 0
    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()[HEADER_KEY])["step"]


def last_state(run):
    return (run / "state" / "last.safetensors").read_bytes()
