"""Cut a run into a few small files, and put it together again from them.

    python recipes/gpu/pieces.py split runs/mine pieces
    python recipes/gpu/pieces.py join pieces runs/mine

The pieces hold the state (in the most exact form that fits, see forms.py), the log, the options and the newest sample
sheet. After `join` the run goes on with the same `ddnsr train` command, and works as a model.
"""

import argparse
import gzip
import hashlib
import io
import json
import re
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from forms import AVERAGE, FORMS, Tensors, from_form, in_form
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save, save_file

from ddnsr_cli.errors import DdnsrError, TrainingError
from ddnsr_cli.files import atomic_path

MIB = 1 << 20
STATE, NOTES, HEADER_KEY = "state.safetensors", "bundle.json", "ddnsr_run"
KEPT = ("log.jsonl", "options.json", "README.md")
EXPORTS = {"sr.safetensors": "sr_net.", "degrader.safetensors": "degrader."}
PIECE = re.compile(r"run\.(\d\d)of(\d\d)\.([0-9a-f]{16})\.part")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the link carries, in MiB (2 to the power of 20 bytes)."""

    piece_mib: float = 15.5
    """Largest file: a little below the 16 MiB at which some links end."""

    most_mib: float = 60
    """All pieces together."""


def split(run: Path, out: Path, limits: Limits) -> str:
    """Replace the pieces in `out` by those of the run's last save. Returns the form of the state that fitted.

    The old pieces go only when the new ones are complete. Raises TrainingError when there is no save, or nothing fits.
    """
    tensors, header, exports = read_state(run)
    for form in FORMS:
        if form == "whole" and sum(tensor.nbytes for tensor in tensors.values()) > limits.most_mib * MIB:
            continue  # packing it only to see that it does not fit would take minutes
        notes = {"form": form, "header": header, "exports": exports}
        bundle = packed(run, in_form(tensors, form), notes)
        if len(bundle) <= limits.most_mib * MIB:
            write_pieces(bundle, out, int(limits.piece_mib * MIB))
            return form
    raise TrainingError(
        f"The averaged weights of {run} take {len(bundle) / MIB:.1f} MiB, the link carries {limits.most_mib}. "
        f"Train a smaller network, or raise --most-mib."
    )


def join(pieces: Path, run: Path) -> str:
    """Put a run together in a folder that holds none. Returns the form that its state was sent in.

    Raises TrainingError when pieces are missing, damaged or of several runs, or the folder already holds a run.
    """
    if (run / "state" / "last.safetensors").exists():
        raise TrainingError(f"{run} already holds a run. Choose another folder.")
    bundle = read_pieces(pieces)
    (run / "state").mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(bundle)) as archive:
        files = {member.name: _content(archive, member) for member in archive.getmembers() if member.isfile()}
    notes = json.loads(files.pop(NOTES))
    numbers = json.loads(notes["header"][HEADER_KEY])["numbers"]
    state = from_form(load(files.pop(STATE)), notes["form"], numbers["options"])
    for name, content in files.items():
        target = run / ("samples" if name.endswith(".png") else "") / Path(name).name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content)
    for name, metadata in notes["exports"].items():
        save_file(_averages(state, name), run / name, metadata=metadata)
    with atomic_path(run / "state" / "last.safetensors") as temporary:  # last: it is what makes the run complete
        save_file(state, temporary, metadata=notes["header"])
    return str(notes["form"])


def read_state(run: Path) -> tuple[Tensors, dict[str, str], dict[str, dict[str, str]]]:
    """(tensors, header) of the last save and the headers of the exported weights. Raises TrainingError."""
    state = run / "state" / "last.safetensors"
    try:
        with safe_open(state, framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
            header = dict(file.metadata() or {})
        exports = {name: _header(run / name) for name in EXPORTS if (run / name).exists()}
    except (OSError, SafetensorError) as cause:
        raise TrainingError(f"{state} cannot be read ({cause}). Has the run saved yet?") from cause
    return tensors, header, exports


def packed(run: Path, tensors: Tensors, notes: Mapping[str, object]) -> bytes:
    """State and notes of a run as one compressed archive; the same run gives the same bytes."""
    files: dict[str, Callable[[], bytes]] = {
        NOTES: lambda: json.dumps(notes, sort_keys=True).encode(),
        STATE: lambda: save(tensors),
    }
    files |= {name: (run / name).read_bytes for name in KEPT if (run / name).exists()}
    files |= {sheet.name: sheet.read_bytes for sheet in sorted((run / "samples").glob("*.png"))[-1:]}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            data = content()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), compresslevel=3, mtime=0)  # a higher level gains 1 % of such numbers


def write_pieces(bundle: bytes, out: Path, piece_bytes: int) -> None:
    """Cut the bundle into files of `out`, in place of older ones there."""
    out.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(bundle).hexdigest()[:16]
    count = -(-len(bundle) // piece_bytes)
    with tempfile.TemporaryDirectory(dir=out.parent) as aside:
        for number in range(count):
            part = bundle[number * piece_bytes : (number + 1) * piece_bytes]
            (Path(aside) / f"run.{number:02d}of{count:02d}.{digest}.part").write_bytes(part)
        for old in _pieces(out):
            old.unlink()
        for new in _pieces(Path(aside)):
            new.replace(out / new.name)


def read_pieces(folder: Path) -> bytes:
    """The bundle of a folder of pieces. Raises TrainingError unless it holds those of one run, all and undamaged."""
    found = {path: PIECE.fullmatch(path.name) for path in _pieces(folder)}
    bundles = {(match[2], match[3]) for match in found.values() if match}
    if len(bundles) != 1:
        raise TrainingError(f"{folder} holds pieces of {len(bundles)} runs. Give a folder with those of one.")
    count, digest = bundles.pop()
    if len(found) != int(count):
        raise TrainingError(f"{folder} holds {len(found)} of {int(count)} pieces. Fetch the others.")
    bundle = b"".join(path.read_bytes() for path in found)
    if hashlib.sha256(bundle).hexdigest()[:16] != digest:
        raise TrainingError(f"The pieces in {folder} are damaged (their hash differs). Fetch them again.")
    return bundle


def _pieces(folder: Path) -> list[Path]:
    """The pieces in a folder, in order."""
    return sorted(path for path in folder.glob("*.part") if PIECE.fullmatch(path.name))


def _averages(state: Tensors, export: str) -> Tensors:
    """The averaged weights of an exported file."""
    prefix = AVERAGE + EXPORTS[export]
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _header(path: Path) -> dict[str, str]:
    with safe_open(path, framework="np") as file:
        return dict(file.metadata() or {})


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return b"" if file is None else file.read()


def run_script(main: Callable[[list[str]], None]) -> None:
    """Run a script; what it cannot do is one line on stderr and an exit status."""
    try:
        main(sys.argv[1:])
    except DdnsrError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)


def main(given: list[str]) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description="Cut a run into small files, or join them again.")
    tasks = parser.add_subparsers(dest="task", required=True)
    cut = tasks.add_parser("split", help="RUN to pieces in OUT")
    cut.add_argument("run", type=Path)
    cut.add_argument("out", type=Path)
    add_limits(cut)
    whole = tasks.add_parser("join", help="PIECES to a run folder")
    whole.add_argument("pieces", type=Path)
    whole.add_argument("run", type=Path)
    options = parser.parse_args(given)
    if options.task == "split":
        form = split(options.run, options.out, limits_of(options))
    else:
        form = join(options.pieces, options.run)
    sys.stderr.write(f"form of the state: {form}\n")


def add_limits(parser: argparse.ArgumentParser) -> None:
    """The options of `Limits`."""
    parser.add_argument("--piece-mib", type=float, default=Limits.piece_mib, help="largest file")
    parser.add_argument("--most-mib", type=float, default=Limits.most_mib, help="all pieces together")


def limits_of(options: argparse.Namespace) -> Limits:
    """The limits that were given."""
    return Limits(piece_mib=options.piece_mib, most_mib=options.most_mib)


if __name__ == "__main__":
    run_script(main)
