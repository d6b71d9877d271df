"""The commands of the program, as Typer knows them."""

from functools import cache

import typer.main


def commands(group, prefix=""):
    """(name, command) of each, groups gone through."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def build_parser_once():
    """For each call Typer builds the parser of all commands anew, in a tenth of a second, and it is the same."""
    typer.main.get_command = cache(typer.main.get_command)
