"""Imported last by the server that processes are forked from: what each would do anew at its start is done."""

import gc
from contextlib import suppress

import typer.main

from ddnsr_cli.cli.app import app
from ddnsr_cli.inference.openvino import openvino_package
from tests.helpers.command_tree import build_parser_once

build_parser_once()
typer.main.get_command(app)
with suppress(ImportError):
    openvino_package()  # without a core of it, which has threads
gc.freeze()  # or the first collection of each process copies all that was imported
