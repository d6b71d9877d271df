"""Imported last by the server that processes are forked from: what each would do anew at its start is done."""

import gc

import typer.main

from ddnsr_cli.cli.app import app
from tests.helpers.command_tree import build_parser_once

build_parser_once()
typer.main.get_command(app)
gc.freeze()  # or the first collection of each process copies all that was imported
