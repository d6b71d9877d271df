"""Link the listed photos into two folders, after checking that they are the ones that were listed.

python recipes/make_sets.py --data data --out sets
python recipes/make_sets.py --data data --out sets --grainless 1.2

The second fills a third folder, `grainless`: the photos of both lists whose smooth parts deviate by less than so many
levels of 255 (`measure_noise`). Grain in a target looks to the network that learns from it like a thing to be kept.
"""

import argparse
import shutil
from pathlib import Path

from photo_files import read_list, run_script

from ddnsr_cli.errors import DataError
from ddnsr_cli.files import sha256_of
from ddnsr_cli.io.read import read_rgb
from ddnsr_cli.metrics.noise import measure_noise

LISTS = Path(__file__).parent / "lists"


def make_sets(data: Path, out: Path, lists: Path, grainless: float | None = None) -> None:
    """Fill `out`/source and `out`/target, and `out`/grainless where a level is given.

    Raises DataError for a photo that is missing or is another one than was listed.
    """
    for name in ("source", "target"):
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, digest in read_list(lists / f"{name}.txt").items():
            photo = checked(data / file, digest)
            place(photo, folder)
            if grainless is not None and is_smoother(photo, grainless):
                (out / "grainless").mkdir(exist_ok=True)
                place(photo, out / "grainless")


def is_smoother(photo: Path, level: float) -> bool:
    """Whether the smooth parts of a photo deviate by less than `level`; not where it has none to measure."""
    found = measure_noise(read_rgb(photo))
    return found is not None and found.level < level


def checked(photo: Path, digest: str) -> Path:
    """The photo's path. Raises DataError unless it is there and has this hash."""
    if not photo.is_file():
        raise DataError(f"{photo} is missing. credits.csv beside the lists tells where it comes from.")
    if sha256_of(photo) != digest:
        raise DataError(f"{photo} is not the photo that was listed (its hash differs). Fetch it again.")
    return photo


def place(photo: Path, folder: Path) -> None:
    """Link the photo into the folder; copy it where links cannot be made."""
    target = folder / photo.name
    target.unlink(missing_ok=True)
    try:
        target.symlink_to(photo.resolve())
    except OSError:
        shutil.copyfile(photo, target)


def main(given: list[str]) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description="Link the listed photos into the folders source and target.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the photos")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two folders")
    parser.add_argument("--lists", type=Path, default=LISTS, help="folder with source.txt and target.txt")
    parser.add_argument("--grainless", type=float, metavar="LEVEL", help="a third one, of photos with less grain")
    options = parser.parse_args(given)
    make_sets(options.data, options.out, options.lists, options.grainless)


if __name__ == "__main__":
    run_script(main)
