"""Link the listed images into two folders, after checking that they are the ones that were listed.

python recipes/make_sets.py --data data --out sets
python recipes/make_sets.py --data data --out sets --grainless 1.2

The second fills a third folder, `grainless`: the images of both lists whose smooth parts deviate by less than so many
levels of 255 (`measure_noise`). Grain in a target looks to the network that learns from it like a thing to be kept.
"""

import argparse
import shutil
from pathlib import Path

from image_files import read_list, run_script

from ddnsr_cli.errors import DataError
from ddnsr_cli.files import sha256_of
from ddnsr_cli.io.read import read_rgb
from ddnsr_cli.metrics.noise import measure_noise

LISTS = Path(__file__).parent / "lists"


def make_sets(data: Path, out: Path, lists: Path, grainless: float | None = None) -> None:
    """Fill `out`/source and `out`/target, and `out`/grainless where a level is given.

    Raises DataError for an image that is missing, is another one than was listed or has the name of another, and where
    a folder holds what was not put there now.
    """
    placed: dict[Path, set[str]] = {}
    for name in ("source", "target"):
        for file, digest in read_list(lists / f"{name}.txt").items():
            image = checked(data / file, digest)
            smoother = grainless is not None and is_smoother(image, grainless)
            for folder in (out / name, *([out / "grainless"] if smoother else [])):
                names = placed.setdefault(folder, set())
                if image.name in names:
                    raise DataError(f"Two listed images are called {image.name}. Rename one.")
                names.add(image.name)
                folder.mkdir(parents=True, exist_ok=True)
                place(image, folder)
    for folder, names in placed.items():
        if others := sorted(path.name for path in folder.iterdir() if path.name not in names):
            raise DataError(
                f"{folder} holds {others[0]}, which was not put there now. Remove it, or give another --out."
            )


def is_smoother(image: Path, level: float) -> bool:
    """Whether the smooth parts of an image deviate by less than `level`; not where it has none to measure."""
    found = measure_noise(read_rgb(image))
    return found is not None and found.level < level


def checked(image: Path, digest: str) -> Path:
    """The image's path. Raises DataError unless it is there and has this hash."""
    if not image.is_file():
        raise DataError(f"{image} is missing. credits.csv beside the lists tells where it comes from.")
    if sha256_of(image) != digest:
        raise DataError(f"{image} is not the image that was listed (its hash differs). Fetch it again.")
    return image


def place(image: Path, folder: Path) -> None:
    """Link the image into the folder; copy it where links cannot be made."""
    target = folder / image.name
    target.unlink(missing_ok=True)
    try:
        target.symlink_to(image.resolve())
    except OSError:
        shutil.copyfile(image, target)


def main(given: list[str]) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description="Link the listed images into the folders source and target.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the images")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two folders")
    parser.add_argument("--lists", type=Path, default=LISTS, help="folder with source.txt and target.txt")
    parser.add_argument("--grainless", type=float, metavar="LEVEL", help="a third one, of images with less grain")
    options = parser.parse_args(given)
    make_sets(options.data, options.out, options.lists, options.grainless)


if __name__ == "__main__":
    run_script(main)
