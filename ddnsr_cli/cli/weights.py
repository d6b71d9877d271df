"""`ddnsr weights`: what models there are, and where."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddnsr_cli.cli.options import Offline, Quiet, file_of
from ddnsr_cli.cli.terminal import put_path

if TYPE_CHECKING:
    from ddnsr_cli.commands.weights.push import PushPlan
    from ddnsr_cli.weights.registry import Registry, WeightsEntry

weights = typer.Typer(help="List, describe, fetch, convert and publish models.", no_args_is_help=True)

Name = Annotated[
    str, typer.Argument(help="Model: a name of the list, a file, run folder, or org/repo[:file] on the Hub.")
]
NewFile = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        parser=file_of,
        metavar="<path>",
        help="File to write: .safetensors, .pth, .param (with a .bin) or .onnx.",
    ),
]
Half = Annotated[bool, typer.Option("--half", help="Store weights in half precision, which halves the file.")]


@weights.command("list")
def list_weights(
    json_: Annotated[bool, typer.Option("--json", help="Print models as JSON, one a line.")] = False,
) -> None:
    """List the models of the registry: ours, and those of others that the field compares with.

    Weights for research only come with a clone of the project, not with the program: they are here, or not here.
    """
    from ddnsr_cli.weights.registry import read_registry

    registry = read_registry()
    if json_:
        for entry in registry.entries:
            typer.echo(json.dumps(_facts(entry, registry)))
        return
    heading = ("", "name", "scale", "size", "place", "license", "title")
    rows = [heading, *(_row(entry, registry) for entry in registry.entries)]
    wide = max(len(row[1]) for row in rows)
    for mark, name, scale, size, place, license, title in rows:
        typer.echo(f"{mark:1} {name:{wide}}  {scale:5}  {size:>8}  {place:8}  {license:18}  {title}")
    typer.echo("* is used where -m names nothing, + in its place on a graphics card")


@weights.command()
def info(name: Annotated[str, typer.Argument(help="Registry name of a model.")]) -> None:
    """Show everything the registry says of a model: network, place, hash, license, data, scores."""
    from ddnsr_cli.errors import WeightsError, shown
    from ddnsr_cli.files import is_there
    from ddnsr_cli.weights.registry import read_registry
    from ddnsr_cli.weights.resolve import entry_of, unknown_name

    registry = read_registry()
    entry = entry_of(name, registry)
    if entry is None and is_there(Path(name)):
        path = shown(Path(name))
        raise WeightsError(
            f"{path} is there, but info tells of the registry's models only (ddnsr weights list). What a file is: "
            f"ddnsr upscale photo.jpg -m {path} -v."
        )
    if entry is None:
        raise WeightsError(unknown_name(name, registry))
    for key, value in _facts(entry, registry).items():
        typer.echo(f"{key}: {_in_words(value)}")


@weights.command()
def pull(name: Name, offline: Offline = False, quiet: Quiet = False) -> None:
    """Fetch a model into the cache, check its hash, and print where it lies."""
    from ddnsr_cli.cli.progress import download_view, noting
    from ddnsr_cli.weights.registry import read_registry
    from ddnsr_cli.weights.resolve import find_weights

    with download_view(quiet=quiet) as download:
        found = find_weights(name, registry=read_registry(), network=None, offline=offline, on_progress=download)
    if found.terms:
        noting(quiet=quiet)(found.terms)
    put_path(found.path)


@weights.command()
def convert(name: Name, output: NewFile, half: Half = False, offline: Offline = False, quiet: Quiet = False) -> None:
    """Write a model of any kind that loads as safetensors, .pth, ncnn pair or ONNX; a degrader as safetensors.

    The ncnn pair is a custom model for Upscayl and realesrgan-ncnn-vulkan. ONNX needs the extra `onnx`.
    docs/other_programs.md tells which program takes which.
    """
    from ddnsr_cli.cli.progress import download_view, noting
    from ddnsr_cli.commands.weights.convert import convert_weights

    with download_view(quiet=quiet) as download:
        note = noting(quiet=quiet)
        files = convert_weights(name, output, half=half, offline=offline, on_progress=download, note=note)
    for file in files:
        put_path(file)


@weights.command()
def mix(
    first: Name,
    second: Name,
    output: NewFile,
    share: Annotated[float, typer.Option(help="Share of the second network, from 0 to 1.")] = 0.5,
    half: Half = False,
    offline: Offline = False,
    quiet: Quiet = False,
) -> None:
    """Mix two networks of the same sizes: a milder form of what the second learned after the first.

    The first may be smaller where the second grew from it in training.
    """
    from ddnsr_cli.cli.progress import download_view, noting
    from ddnsr_cli.commands.weights.convert import mix_weights

    with download_view(quiet=quiet) as download:
        names, note = (first, second), noting(quiet=quiet)
        files = mix_weights(names, share, output, half=half, offline=offline, on_progress=download, note=note)
    for file in files:
        put_path(file)


@weights.command()
def push(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    repo: Annotated[str, typer.Argument(help="Repository on the Hub, as owner/name. It is made when missing.")],
    license: Annotated[
        str | None,
        typer.Option(help="License: an SPDX identifier or text. It is needed once; the card of the run keeps it."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send nothing. Check everything and list what would be sent.")
    ] = False,
    toml: Annotated[
        bool, typer.Option("--toml", help="Print an entry for weights.toml instead of a list of files.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Publish the weights of a training run and their card on the Hugging Face Hub, in one commit."""
    from ddnsr_cli.cli.progress import download_view, noting, stderr_console
    from ddnsr_cli.commands.weights.push import PushRequest, plan_push, push_run, registry_entry
    from ddnsr_cli.errors import ConfigError

    if dry_run and toml:
        raise ConfigError("--toml needs the commit that --dry-run does not make. Give one of them.")
    console = stderr_console(quiet=quiet)
    request = PushRequest(run=run, repo=repo, license=license, private=private)
    plan = plan_push(request, note=noting(quiet=quiet))
    if dry_run:
        _echo_files(plan)
        console.print(f"note: nothing was sent to {repo}")
        return
    with download_view(quiet=quiet, doing="uploading") as upload_bar:
        pushed = push_run(plan, on_progress=upload_bar)
    if toml:
        typer.echo(f"# {pushed.url}\n{registry_entry(plan, pushed)}")
        return
    typer.echo(f"{pushed.url}\nrevision {pushed.revision}")
    _echo_files(plan)


def _echo_files(plan: "PushPlan") -> None:
    for file in plan.files:
        typer.echo(f"{file.name:20}  {len(file.content):>10} bytes  sha256 {file.sha256}")


def _row(entry: "WeightsEntry", registry: "Registry") -> tuple[str, ...]:
    """What the list says of a model: mark, name, scale, size, place, license, title."""
    mark = "*" if entry.default else "+" if entry.default_on_gpu else ""
    scale = f"x{entry.scale}" if entry.network == "rrdb" else f"1/{entry.scale}"  # a degrader shrinks
    place = _place(entry, registry)
    return mark, entry.name, scale, f"{entry.size_bytes / 1e6:.1f} MB", place, entry.license, entry.title


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {figure}" for name, figure in value.items())
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _place(entry: "WeightsEntry", registry: "Registry") -> str:
    if entry.beside:
        return "not here" if registry.lacks(entry) else "here"
    return "bundled" if entry.bundled else "Hub"


def _facts(entry: "WeightsEntry", registry: "Registry") -> dict[str, object]:
    from ddnsr_cli.config import options_to_json

    facts = {key: value for key, value in options_to_json(entry).items() if value not in (None, {}, (), "")}
    return facts | ({"here": not registry.lacks(entry)} if entry.beside else {})
