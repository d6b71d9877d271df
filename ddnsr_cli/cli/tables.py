"""Tables on stdout: drawn on a terminal, plain aligned text elsewhere."""

import sys
from collections.abc import Sequence

import typer
from rich.console import Console
from rich.table import Table as DrawnTable
from rich.text import Text

from ddnsr_cli.workflows.evaluation.tables import Table


def print_tables(tables: Sequence[Table], *, closing: str) -> None:
    """The tables one below the other, then a paragraph."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        text = "\n".join([*map(plain, tables), closing])
        typer.echo(text.encode(sys.stdout.encoding or "utf-8", "replace"))  # a name need not be in its alphabet
        return
    for table in tables:
        console.print(_drawn(table))
    console.print(closing, style="dim")


def plain(table: Table) -> str:
    """Title and aligned columns, two spaces between; ends in a newline."""
    lines = (table.header, *table.rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    body = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "\n".join([table.title, *body, ""])


def _drawn(table: Table) -> DrawnTable:
    drawn = DrawnTable(title=table.title, title_justify="left", show_lines=False)
    for name in table.header:
        drawn.add_column(Text(name))
    for row in table.rows:
        # a terminal is narrow: the interval goes below its mean
        drawn.add_row(*(Text(cell.replace(" [", "\n[")) for cell in row))
    return drawn
