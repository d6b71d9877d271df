"""Collect what a training run needs in one folder, for a machine that has nothing but Python and PyTorch.

    python recipes/gpu/pack.py -o pack --images hr=sets/target --images lr=sets/source_camera \\
        --file vgg.safetensors=vgg19.safetensors --most-mib 60

There: `cd pack && python recipes/gpu/train.py ... -- --hr hr --lr lr --vgg vgg.safetensors`
"""

import argparse
import shutil
import sys
from pathlib import Path

from pieces import MIB, run_script
from PIL import Image

from ddnsr_cli.data.images import list_images
from ddnsr_cli.errors import ConfigError
from ddnsr_cli.io.read import read_rgb

CODE = Path(__file__).resolve().parents[2]
LOSSLESS = frozenset({".png", ".bmp", ".tif", ".tiff"})


def pack_code(pack: Path) -> None:
    """The package without its models, and the recipes."""
    for name in ("ddnsr_cli", "recipes"):
        unwanted = shutil.ignore_patterns("__pycache__", "*.safetensors", ".*")
        shutil.copytree(CODE / name, pack / name, ignore=unwanted)
    shutil.copyfile(CODE / "weights.toml", pack / "weights.toml")


def pack_images(folder: Path, target: Path, quality: int | None) -> None:
    """A folder of images, its tree kept. Those stored without loss become lossless WebP: the same pixels, fewer bytes.

    quality: all become WebP of this quality instead, for a link that carries less. Raises ImageReadError, or
    ConfigError when two images would have one name.
    """
    for path in list_images(folder):
        copy = target / path.relative_to(folder)
        lossless = path.suffix.lower() in LOSSLESS
        if lossless or quality is not None:
            copy = copy.with_suffix(".webp")
        if copy.exists():
            raise ConfigError(f"{path} and another image would both be {copy.name}. Rename one.")
        copy.parent.mkdir(parents=True, exist_ok=True)
        if quality is not None:
            Image.fromarray(read_rgb(path)).save(copy, quality=quality, method=6)
        elif lossless:
            Image.fromarray(read_rgb(path)).save(copy, lossless=True, method=4)
        else:
            shutil.copyfile(path, copy)


def sizes_mib(pack: Path) -> dict[str, float]:
    """MiB of each entry of the pack."""
    return {
        entry.name: sum(file.stat().st_size for file in [entry, *entry.rglob("*")] if file.is_file()) / MIB
        for entry in sorted(pack.iterdir())
    }


def named(given: list[str], option: str) -> dict[str, str]:
    """["hr=images"] as {"hr": "images"}. Raises ConfigError."""
    pairs = [text.partition("=") for text in given]
    for name, sign, value in pairs:
        if not sign or not value or Path(name).name != name:
            raise ConfigError(f"{option} takes NAME=VALUE, as in hr=images; got {name + sign + value!r}.")
    return {name: value for name, _, value in pairs}


def fill(pack: Path, options: argparse.Namespace) -> None:
    """Put everything asked for into the pack. Raises ConfigError when it is more than may travel."""
    qualities = {name: int(text) for name, text in named(options.quality, "--quality").items()}
    pack_code(pack)
    for name, folder in named(options.images, "--images").items():
        pack_images(Path(folder), pack / name, qualities.get(name))
    for name, path in named(options.file, "--file").items():
        (shutil.copytree if Path(path).is_dir() else shutil.copyfile)(path, pack / name)
    sizes = sizes_mib(pack)
    told = ", ".join(f"{name} {mib:.1f}" for name, mib in sizes.items())
    if sum(sizes.values()) > options.most_mib:
        raise ConfigError(
            f"The pack would have {sum(sizes.values()):.1f} MiB, more than {options.most_mib:g} ({told}). "
            f"Leave something out, or store images smaller (--quality NAME=80)."
        )
    sys.stderr.write(f"{pack}: {sum(sizes.values()):.1f} MiB ({told})\n")


def main(given: list[str]) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description="Collect code, images and weights for a rented GPU.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the pack: a folder that is not there yet")
    parser.add_argument("--images", action="append", default=[], metavar="NAME=FOLDER", help="images, as this name")
    parser.add_argument("--quality", action="append", default=[], metavar="NAME=Q", help="store them as lossy WebP")
    parser.add_argument("--file", action="append", default=[], metavar="NAME=PATH", help="a file or folder, as it is")
    parser.add_argument("--most-mib", type=float, default=60, help="refuse to make a larger pack")
    options = parser.parse_args(given)
    if options.output.exists():
        raise ConfigError(f"{options.output} is there already. Remove it, or choose another -o.")
    options.output.mkdir(parents=True)
    try:
        fill(options.output, options)
    except BaseException:
        shutil.rmtree(options.output)
        raise


if __name__ == "__main__":
    run_script(main)
