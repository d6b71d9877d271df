"""What people bring along from other programs: their options, and the habit of naming the image first."""

from collections.abc import Sequence
from pathlib import Path

from ddnsr_cli.io.formats import READABLE_EXTENSIONS

_SAME = {
    "outscale": "scale",
    "ext": "format",
    "model-path": "model",
    "model-name": "name",
    "gpu-id": "device",
    "gpu": "device",
    "tile-size": "tile",
    "tilesize": "tile",
    "in": "input",
    "out": "output",
}
"""Their name of an option to ours. Underscores are hyphens by then."""

_INSTEAD = {
    "-j": "one image is in work at a time, with all cores; --shard divides the images among processes",
    "--threads": "OMP_NUM_THREADS sets the number of cores; --shard divides the images among processes",
    "--num-workers": "--shard divides the images among processes",
    "--tile-pad": "how far tiles overlap follows the network; -t sets their side",
    "--pre-pad": "how far tiles overlap follows the network; -t sets their side",
    "--tile-overlap": "how far tiles overlap follows the network; -t sets their side",
    "-dn": "--strength 0.5 is for any model; ddnsr weights mix mixes two networks",
    "--denoise-strength": "--strength 0.5 is for any model; ddnsr weights mix mixes two networks",
    "--noise-level": "--strength 0.5 is milder",
    "--face-enhance": "faces are enlarged like all else; -m takes another model",
    "--alpha-upsampler": "transparency is enlarged without fringes by every -m",
    "--bg-upsampler": "-m names the only model",
    "--half": "--dtype fp16",
    "--fp16": "--dtype fp16",
    "--bf16": "--dtype bf16",
    "--no-half": "--fp32",
    "--cpu": "--device cpu",
    "--cuda": "--device cuda",
    "-c": "--quality, from 1 to 100",
    "-w": "--width",
    "-r": "--width and --height",
    "-z": "-m alone: the file of a model tells its scale",
    "--netscale": "-m alone: the file of a model tells its scale",
    "--model-scale": "-m alone: the file of a model tells its scale",
    "--resume": "the same command, which goes on where it was ended",
    "--skip-existing": "the same command, which leaves finished results of folders as they are; --overwrite does not",
    "--recursive": "nothing: folders are walked with their sub-folders; --list takes single files",
    "-R": "nothing: folders are walked with their sub-folders; --list takes single files",
    "--force": "--overwrite",
    "-y": "--overwrite",
    "--yes": "--overwrite",
    "--output-format": "--format",
    "--output-dir": "-o",
    "--out-dir": "-o",
    "--outdir": "-o",
    "--output-path": "-o",
    "--input-path": "-i",
    "--input-dir": "-i",
    "--img-path": "-i",
}
"""What to say here instead of an option of theirs."""


def our_name(option: str) -> str:
    """An option's name, without its dashes, as ours: `tile_pad` is `tile-pad`, `outscale` is `scale`."""
    name = option.replace("_", "-")
    return _SAME.get(name, name)


def instead_of(option: str, words: Sequence[str]) -> str | None:
    """What to say instead of an option that we do not have; None: nothing is known of it.

    option: as it is refused, with its dashes. words: of the command line: `-dn 0.5` is refused as `-d`.
    """
    wider = next((word for word in words if len(option) == 2 and word.startswith(option) and word in _INSTEAD), option)
    return _INSTEAD.get(wider)


def is_image_named_first(word: str) -> bool:
    """Whether what stands in the place of a command is an image or a folder of them."""
    path = Path(word)
    try:
        return word == "-" or path.suffix.lower() in READABLE_EXTENSIONS or path.exists()
    except OSError:
        return False
