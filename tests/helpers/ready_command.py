"""Imported last by the server that processes are forked from: what each would do anew at its start is done."""

import gc
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
import typer.main

from ddnsr_cli.cli.app import app, main
from ddnsr_cli.inference.openvino_graph import openvino_package
from tests.helpers.command_tree import build_parser_once
from tests.helpers.joint_run import joint_words, pretrain_words, vgg_file, write_images
from tests.helpers.small_training import small_training


def train_once():
    """A step of each kind of training: what PyTorch and Typer make for the first one serves all others."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        place = Path(folder)
        folders, vgg = write_images(place), vgg_file(place / "vgg.safetensors")
        small_training(patch.setitem)
        for words in (joint_words(folders, vgg, place / "joint"), pretrain_words(folders[0], place / "pretrain")):
            patch.setattr(sys, "argv", ["ddnsr", *words, "--steps", "1"])
            with suppress(SystemExit), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                main()


build_parser_once()
typer.main.get_command(app)
with suppress(ImportError):
    openvino_package()  # without a core of it, which has threads
train_once()
gc.freeze()  # or the first collection of each process copies all that was imported
