"""Link the listed photos into two folders, after checking that they are the ones that were listed.

python recipes/make_sets.py --data data --out sets
"""

import argparse
import shutil
from pathlib import Path

from photo_files import read_list, run_script

from ddnsr_cli.errors import DataError
from ddnsr_cli.files import sha256_of

LISTS = Path(__file__).parent / "lists"


def make_sets(data: Path, out: Path, lists: Path) -> None:
    """Fill `out`/source and `out`/target.

    Raises DataError for a photo that is missing or is another one than was listed.
    """
    for name in ("source", "target"):
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, digest in read_list(lists / f"{name}.txt").items():
            place(checked(data / file, digest), folder)


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
    options = parser.parse_args(given)
    make_sets(options.data, options.out, options.lists)


if __name__ == "__main__":
    run_script(main)
