"""Options that several commands share."""

from typing import Annotated

import typer

Model = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        help="Registry name, file, run folder, or org/repo[:file] on the Hub. Default: the bundled one.",
    ),
]
Device = Annotated[
    str, typer.Option("--device", "-g", help="auto, cpu, cuda, cuda:1, mps ... (-1 is cpu, 0 is cuda:0).")
]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the network.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Errors only.")]
