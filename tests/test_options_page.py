"""docs/options.md, which is made from the command line."""

import importlib.util
from pathlib import Path

import typer

from ddnsr_cli.cli.app import app
from tests.helpers.command_tree import commands

DOCS = Path(__file__).parents[1] / "docs"
SPEC = importlib.util.spec_from_file_location("options", DOCS / "options.py")
MAKER = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(MAKER)


def test_the_page_is_current():
    made = (DOCS / "options.md").read_text(encoding="utf-8")
    assert made == MAKER.page(), "the command line has changed: run `python docs/options.py`"


def test_every_parameter_of_every_command_is_on_the_page():
    sections = dict(section.split("\n", 1) for section in MAKER.page().split("## ")[1:])
    found = dict(commands(typer.main.get_command(app), "ddnsr "))
    assert list(sections) == list(found)
    for name, command in found.items():
        for parameter in command.params:
            if parameter.name != "help":
                assert all(f"`{word}`" in sections[name] for word in parameter.opts), (name, parameter.name)


def test_every_parameter_is_reported_in_a_sentence():
    for name, command in commands(typer.main.get_command(app)):
        for parameter in command.params:
            assert parameter.help[0].isupper() or parameter.name == "help", (name, parameter.name)
            assert parameter.help.endswith("."), (name, parameter.name)
