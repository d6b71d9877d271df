"""Make docs/options.md, every option of every command, from the command line itself: `python docs/options.py`."""

import inspect
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import get_args, get_origin, get_type_hints

import typer
import typer.core
from typer.models import ArgumentInfo, OptionInfo

from ddnsr_cli.cli.app import app

PAGE = Path(__file__).with_suffix(".md")
WORDS: dict[type, str] = {str: "text", Path: "path", int: "whole number", float: "number"}
HEAD = """# Options

Every command, argument and option, as `--help` shows them. This page is made by `python docs/options.py`.
What the options do together is in [upscale.md](upscale.md), [degrade.md](degrade.md), [training.md](training.md) and
[eval.md](eval.md); the page of `ddnsr studio` is in [studio.md](studio.md).
"""


def page() -> str:
    """The whole page, as Markdown."""
    return "\n".join(
        [HEAD, *(part for name, command in _commands(typer.main.get_command(app)) for part in _section(name, command))]
    )


def _commands(group: typer.core.TyperGroup, prefix: str = "ddnsr") -> Iterator[tuple[str, typer.core.TyperCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from _commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def _section(name: str, command: typer.core.TyperCommand) -> Iterator[str]:
    """A heading, what the command does, and a table for each panel of its help."""
    yield f"## {name}\n"
    yield f"{(command.help or '').splitlines()[0]}\n"
    function = inspect.unwrap(command.callback)
    hints, defaults = get_type_hints(function, include_extras=True), inspect.signature(function).parameters
    panels: dict[str, list[str]] = {}
    for parameter in command.params:
        if parameter.name in hints:  # all but --help
            kind, info = get_args(hints[parameter.name])[:2]
            panel = "Arguments" if isinstance(info, ArgumentInfo) else info.rich_help_panel or "Options"
            given = (_names(parameter), _value(kind, info), _default(defaults[parameter.name].default), info.help)
            panels.setdefault(panel, []).append(f"| {' | '.join(given)} |")
    for panel, rows in panels.items():
        yield "\n".join([f"**{panel}**\n", "| | value | default | |", "|---|---|---|---|", *rows, ""])


def _names(parameter: typer.core.TyperOption) -> str:
    return ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))


def _value(kind: type, info: ArgumentInfo | OptionInfo) -> str:
    """What may be given: the choices, or the kind with its limits."""
    if get_origin(kind) is UnionType:
        kind = next(one for one in get_args(kind) if one is not NoneType)
    if get_origin(kind) is list:
        return f"{_value(get_args(kind)[0], info)}, repeatable"
    if kind is bool:
        return "flag"
    if issubclass(kind, StrEnum):
        return ", ".join(f"`{choice}`" for choice in kind)
    limits = [f"{word} {limit}" for word, limit in (("at least", info.min), ("at most", info.max)) if limit is not None]
    return ", ".join([WORDS[kind], *limits])


def _default(value: object) -> str:
    if value is inspect.Parameter.empty:
        return "required"
    if value is None or isinstance(value, bool):
        return "on" if value else ""
    return f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
