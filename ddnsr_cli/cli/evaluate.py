"""`ddnsr eval`."""

import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as DrawnTable
from rich.text import Text

from ddnsr_cli.cli.options import Device, LrSuffix, ModCrop, Offline, Quiet, file_of, folder_of
from ddnsr_cli.cli.terminal import STANDARD, STDOUT_NAMES, put_text
from ddnsr_cli.errors import ConfigError, printable, shown
from ddnsr_cli.files import is_folder

if TYPE_CHECKING:
    from ddnsr_cli.commands.evaluate.options import EvaluateOptions
    from ddnsr_cli.commands.evaluate.tables import Table


class Reference(StrEnum):
    """What the images of --hr are."""

    HR = "hr"
    LR_SIZE = "lr-size"


class Lpips(StrEnum):
    """Networks of LPIPS."""

    ALEX = "alex"
    VGG = "vgg"
    SQUEEZE = "squeeze"
    NONE = "none"


def table_of(text: str) -> Path:
    """A path of a file; `STANDARD` itself for stdout's names. Raises ConfigError as `file_of`."""
    return STANDARD if text in STDOUT_NAMES else file_of(text)


WHAT, HOW, RESULTS, PEOPLE = "What is compared", "How", "Results (files; - is stdout)", "Opinions of people"

_FRAME = 3
"""Of a column: its line and two spaces."""


WITH_OPINIONS = {"ranking_files", "mean_opinion", "json_", "markdown", "seed", "quiet"}
"""The parameters that --mean-opinion looks at."""


def evaluate(
    ctx: typer.Context,
    ranking_files: Annotated[
        list[Path] | None, typer.Argument(help="Files that raters exported, for --mean-opinion.")
    ] = None,
    lr: Annotated[Path | None, typer.Option("--lr", help="Folder of LR images.", rich_help_panel=WHAT)] = None,
    hr: Annotated[
        Path | None,
        typer.Option("--hr", help="Folder of the ground truth, under the same names.", rich_help_panel=WHAT),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder that holds the validation images of the NTIRE 2020 challenge, instead of --lr and --hr.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    track: Annotated[
        int, typer.Option(help="Track of the challenge whose images of --data are meant.", rich_help_panel=WHAT)
    ] = 1,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--models",
            help="Models, as in a,b,c; each as for -m of upscale, or NAME=MODEL. The default is ddnsr-lite.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    sr: Annotated[
        list[str] | None,
        typer.Option("--sr", help="Folder of finished images, or NAME=DIR. Repeat it for more.", rich_help_panel=WHAT),
    ] = None,
    table3: Annotated[
        bool,
        typer.Option("--table3", help="Add the models of the paper whose weights are here.", rich_help_panel=WHAT),
    ] = False,
    reference: Annotated[
        Reference,
        typer.Option(
            help="What --hr holds: images four times as large as the LR ones (hr), or as large (lr-size).",
            rich_help_panel=HOW,
        ),
    ] = Reference.HR,
    lr_suffix: LrSuffix = None,
    sr_suffix: Annotated[
        str | None,
        typer.Option(
            "--sr-suffix",
            help="The same of the images of --sr, as _out for 0001_out.png.",
            rich_help_panel="Pairs",
        ),
    ] = None,
    mod_crop: ModCrop = False,
    degrader: Annotated[
        str | None,
        typer.Option(
            help="Measure self-consistency through this degrader, given as for -m of degrade.", rich_help_panel=HOW
        ),
    ] = None,
    crop_border: Annotated[
        int, typer.Option(min=0, help="Border that metrics ignore, in HR pixels.", rich_help_panel=HOW)
    ] = 4,
    lpips: Annotated[
        Lpips | None,
        typer.Option(
            help="Network of LPIPS, which is fetched when named. The default is alex, if it is here.",
            rich_help_panel=HOW,
        ),
    ] = None,
    lpips_weights: Annotated[
        Path | None,
        typer.Option(
            help="File of LPIPS weights. By default it lies in the folder $DDNSR_LPIPS or in PyTorch's cache.",
            rich_help_panel=HOW,
        ),
    ] = None,
    niqe: Annotated[
        bool, typer.Option("--niqe", help="Measure NIQE, too, which needs no ground truth.", rich_help_panel=HOW)
    ] = False,
    pyiqa: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure these figures of pyiqa, too, by its names, as in musiq,topiq_nr. It fetches their networks.",
            rich_help_panel=HOW,
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Compare the other models with this one, image by image.", rich_help_panel=HOW)
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the blind order and of the intervals of opinions.", rich_help_panel=HOW)
    ] = 0,
    json_: Annotated[
        Path | None,
        typer.Option(
            "--json", parser=table_of, metavar="<path>", help="Write all results as JSON.", rich_help_panel=RESULTS
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            parser=table_of, metavar="<path>", help="Write a line for each model and image.", rich_help_panel=RESULTS
        ),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(parser=table_of, metavar="<path>", help="Write the tables as Markdown.", rich_help_panel=RESULTS),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            parser=file_of,
            metavar="<path>",
            help="Write an HTML page with sliders and crops.",
            rich_help_panel=RESULTS,
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            parser=folder_of,
            metavar="<path>",
            help="Folder in which the SR images are kept.",
            rich_help_panel=RESULTS,
        ),
    ] = None,
    ranking: Annotated[
        Path | None,
        typer.Option(
            parser=file_of,
            metavar="<path>",
            help="Write an HTML page on which people rank results blindly.",
            rich_help_panel=PEOPLE,
        ),
    ] = None,
    scoring: Annotated[
        Path | None,
        typer.Option(
            parser=file_of,
            metavar="<path>",
            help="Write an HTML page on which people score results beside the truth from 0 to 5, blindly.",
            rich_help_panel=PEOPLE,
        ),
    ] = None,
    mean_opinion: Annotated[
        bool,
        typer.Option(
            "--mean-opinion",
            help="Give mean opinion ranks or scores from the files that raters exported.",
            rich_help_panel=PEOPLE,
        ),
    ] = False,
    device: Device = "auto",
    offline: Offline = False,
    quiet: Quiet = False,
) -> None:
    """Measure and compare models or finished images.

    ddnsr eval --lr lr/ --hr hr/ --models ddnsr-lite,runs/mine --against ddnsr-lite

    ddnsr eval --sr ours=a/ --sr theirs=b/ --hr hr/ --report report.html

    Without ground truth: ddnsr eval --lr noisy/ --models runs/mine,runs/other --ranking rank.html

    Scores beside the truth: ddnsr eval --lr lr/ --hr hr/ --models runs/mine,runs/other --scoring score.html

    And then: ddnsr eval --mean-opinion anna.json ben.json
    """
    files = {"json": json_, "csv": csv, "markdown": markdown}
    if models and ranking_files and not mean_opinion:
        listed = ",".join([*models, *map(shown, ranking_files)])
        raise ConfigError(f"{shown(ranking_files[0])} belongs to no option. Several models go as in: --models {listed}")
    _check(files, ranking_files or [], mean_opinion=mean_opinion)
    if mean_opinion:
        if _given(ctx) - WITH_OPINIONS:
            raise ConfigError(
                "--mean-opinion reads files and compares no images. Only --json, --markdown and --seed go with it."
            )
        _show_mean_opinion(ranking_files or [], files, seed)
        return
    if data is None and "track" in _given(ctx):
        raise ConfigError("--track chooses among the images of --data. Name their folder with that, or leave it out.")
    from ddnsr_cli.inference.engine import load_torch

    load_torch()
    from ddnsr_cli.commands.evaluate.options import EvaluateOptions
    from ddnsr_cli.commands.evaluate.options import Reference as Kind
    from ddnsr_cli.data.images import PairRules
    from ddnsr_cli.inference.memory import keep_one_heap

    keep_one_heap()
    if data is not None:
        lr, hr = _challenge_folders(data, track, given=lr or hr)
    options = EvaluateOptions(
        lr=lr,
        hr=hr,
        models=tuple(name for text in models or () for name in text.split(",") if name),
        sr=tuple(sr or ()),
        table3=table3,
        reference=Kind(reference.value),
        rules=PairRules(lr_suffix=lr_suffix, sr_suffix=sr_suffix, mod_crop=mod_crop),
        degrader=degrader,
        crop_px=crop_border,
        lpips=lpips.value if lpips else None,
        lpips_weights=lpips_weights,
        niqe=niqe,
        pyiqa=tuple(name for text in pyiqa or () for name in text.split(",") if name),
        against=against,
        seed=seed,
        keep=keep,
        report=report,
        ranking=ranking,
        scoring=scoring,
        device=device,
        offline=offline,
    )
    _run(options, files, quiet=quiet)


def _given(ctx: typer.Context) -> set[str]:
    """Names of the parameters that the command line gives, be it their default."""
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def _challenge_folders(data: Path, track: int, *, given: Path | None) -> tuple[Path, Path | None]:
    from ddnsr_cli.data.targets import find_validation_folders

    if given is not None:
        raise ConfigError("--data finds the folders of --lr and --hr itself. Leave these out, or leave out --data.")
    return find_validation_folders(data, track)


def _check(files: dict[str, Path | None], ranking_files: list[Path], *, mean_opinion: bool) -> None:
    if any(is_folder(path) for path in ranking_files):
        named = " ".join(
            f"{option} {shown(path)}" for option, path in zip(("--lr", "--hr"), ranking_files, strict=False)
        )
        raise ConfigError(f"Folders are named by options. Give them as in: ddnsr eval {named}")
    if mean_opinion != bool(ranking_files):
        raise ConfigError(
            "--mean-opinion needs the files that raters exported: ddnsr eval --mean-opinion a.json b.json"
        )
    if sum(path is STANDARD for path in files.values()) > 1:
        raise ConfigError("Only one of --json, --csv and --markdown can go to stdout (-). Name files for the others.")


def _show_mean_opinion(ranking_files: list[Path], files: dict[str, Path | None], seed: int) -> None:
    from ddnsr_cli.commands.evaluate.mean_opinion import mean_opinions
    from ddnsr_cli.commands.evaluate.tables import describe_opinions, markdown, opinion_tables, opinions_as_json
    from ddnsr_cli.reports.page import results_at

    with results_at([], _named(files), read=ranking_files):
        found = mean_opinions(ranking_files, seed=seed)
        tables, closing = opinion_tables(found), describe_opinions(found)
        _write_files({"json": opinions_as_json(found), "markdown": markdown(tables, closing=closing)}, files)
    if STANDARD not in files.values():
        print_tables(tables, closing=closing)


def _run(options: "EvaluateOptions", files: dict[str, Path | None], *, quiet: bool) -> None:
    from ddnsr_cli.cli.progress import evaluation_view
    from ddnsr_cli.commands.evaluate.models import local_networks, path_named
    from ddnsr_cli.commands.evaluate.run import evaluate as evaluate_all
    from ddnsr_cli.commands.evaluate.tables import as_csv, as_json, as_markdown, tables
    from ddnsr_cli.reports.page import results_at

    places = [options.lr, options.hr, options.lpips_weights, *map(path_named, options.sr)]
    read = [path for path in (*places, *local_networks(options)) if path is not None]
    with results_at(options.pages, _named(files), read=read):
        with evaluation_view(quiet=quiet) as listener:
            outcome = evaluate_all(options, listener)
        texts = {
            "json": as_json(outcome.evaluation, outcome.summary),
            "csv": as_csv(outcome.evaluation),
            "markdown": as_markdown(outcome.evaluation, outcome.summary),
        }
        _write_files(texts, files)
    if STANDARD not in files.values():
        print_tables(tables(outcome.evaluation, outcome.summary), closing=outcome.evaluation.methodology)


def _named(files: dict[str, Path | None]) -> list[Path]:
    """The tables that do not go to stdout."""
    return [path for path in files.values() if path is not None and path is not STANDARD]


def _write_files(texts: dict[str, str], files: dict[str, Path | None]) -> None:
    from ddnsr_cli.commands.evaluate.tables import write_text

    for kind, text in texts.items():
        path = files[kind]
        if path is STANDARD:
            put_text(text)
        elif path is not None:
            write_text(path, text)


def print_tables(tables: "Sequence[Table]", *, closing: str) -> None:
    """The tables one below the other, then a paragraph."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        text = "\n".join([*map(plain, tables), printable(closing)])
        typer.echo(text.encode(sys.stdout.encoding or "utf-8", "replace"))  # a name need not be in its alphabet
        return
    for table in tables:
        for part in _drawn(table, console.width):
            console.print(part)
    console.print(printable(closing), style="dim")


def plain(table: "Table") -> str:
    """Title and aligned columns, two spaces between; ends in a newline."""
    lines = [tuple(map(printable, line)) for line in (table.header, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    body = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "\n".join([printable(table.title), *body, ""])


def _drawn(table: "Table", width: int) -> Iterator[DrawnTable]:
    """The table in as many parts as a terminal of that width takes; each begins with the column that names the rows."""
    lines = [[_below(printable(cell)) for cell in line] for line in (table.header, *table.rows)]
    title = printable(table.title)
    for columns in _parts(_least_widths(lines, width), width):
        yield _drawn_part([[line[column] for column in columns] for line in lines], title, width)
        title = f"{printable(table.title)}, continued"


def _below(cell: str) -> str:
    """An interval goes below its mean."""
    return cell.replace(" [", "\n[")


def _parts(widths: Sequence[int], width: int) -> Iterator[list[int]]:
    """Columns that go together, the first always."""
    columns, room = [0], width - 1 - widths[0] - _FRAME
    left = room
    for column, needed in enumerate(widths[1:], 1):
        if len(columns) > 1 and needed + _FRAME > left:
            yield columns
            columns, left = [0], room
        columns.append(column)
        left -= needed + _FRAME
    yield columns


def _least_widths(lines: list[list[str]], width: int) -> list[int]:
    """What each column needs; the first at most half of the terminal, and the others what it leaves."""
    first, *others = (max(map(_least, column)) for column in zip(*lines, strict=True))
    first = min(first, max(1, width // 2 - _FRAME))
    most = max(1, width - 1 - first - 2 * _FRAME)
    return [first, *(min(needed, most) for needed in others)]


def _least(cell: str) -> int:
    """The width without which a word or an interval would be broken."""
    pieces = [piece for line in cell.split("\n") for piece in ([line] if line.startswith("[") else line.split())]
    return max(map(cell_len, pieces), default=1)


def _drawn_part(lines: list[list[str]], title: str, width: int) -> DrawnTable:
    widths = _least_widths(lines, width)
    spare = width - 1 - sum(needed + _FRAME for needed in widths)
    part = DrawnTable(title=title, title_justify="left", show_lines=False)
    for column, needed in enumerate(widths):
        wanted = max(cell_len(piece) for line in lines for piece in line[column].split("\n"))
        more = min(max(0, wanted - needed), max(0, spare))
        spare -= more
        part.add_column(Text(lines[0][column]), width=needed + more, overflow="fold")
    for line in lines[1:]:
        part.add_row(*map(Text, line))
    return part
