"""Split the freely licensed clean photos in two: those a source set is made from, and the clean target.

    python recipes/make_lists.py --data data --out recipes/lists

About a third goes to the source, chosen by a hash of the series an image belongs to: images of one author, or with
neighboring numbers on the same site, stay together, so that no scene is on both sides.
"""

import argparse
import csv
import hashlib
import re
from pathlib import Path

from image_files import run_script

from ddnsr_cli.errors import DataError
from ddnsr_cli.files import atomic_path, sha256_of

FREE = ("CC0", "CC BY", "Public domain", "Public Domain", "Unsplash License", "Pexels License")
NEAR = 1000  # images of one upload have numbers this close
CREDITS = (
    "file",
    "source_repository",
    "source_path",
    "license_as_stated",
    "scale",
    "crop_x",
    "crop_y",
    "width",
    "height",
)
FOLDER = "train_hr/"


def free_images(manifest: Path) -> list[dict[str, str]]:
    """The rows of the clean images whose license lets anyone use them.

    The table has at least the columns of `CREDITS`. Raises DataError when one is missing, or there is no such row.
    """
    with manifest.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        table.fieldnames = [name.replace("licence", "license") for name in table.fieldnames or ()]
        if missing := [name for name in CREDITS if name not in table.fieldnames]:
            raise DataError(f"{manifest} has no column {', '.join(missing)}. Add what is missing.")
        rows = [row for row in table if row["file"].startswith(FOLDER)]
    free = [row for row in rows if row["license_as_stated"].startswith(FREE) and "-NC" not in row["license_as_stated"]]
    if not free:
        raise DataError(f"{manifest} lists no freely licensed photo below {FOLDER}.")
    return sorted(free, key=lambda row: row["file"])


def series_by_file(rows: list[dict[str, str]]) -> dict[str, str]:
    """File -> the series it belongs to."""
    series = {row["file"]: _own_series(row) for row in rows}
    numbered = sorted(
        (int(name.removeprefix("number ")), file) for file, name in series.items() if name.startswith("number ")
    )
    last, group = -NEAR, ""
    for number, file in numbered:
        group = group if number - last < NEAR else f"number {number}"
        last, series[file] = number, group
    return series


def _own_series(row: dict[str, str]) -> str:
    stem = Path(row["file"]).stem.split("_", maxsplit=1)[1]
    if author := re.search(r"_by_(.+)\.\w+$", row["source_path"]):
        return f"author {author[1].lower()}"
    if number := re.fullmatch(r"(?:pexels-photo-)?(\d+)", stem):
        return f"number {number[1]}"
    return "-".join(stem.split("-")[:2])


def in_source(series: str) -> bool:
    """Whether a series belongs to the source part: one in three does."""
    return hashlib.sha256(f"ddnsr {series}".encode()).digest()[0] % 3 == 0


def write_lists(data: Path, out: Path) -> None:
    """Write source.txt and target.txt, as `sha256sum` would, and credits.csv, from `data`/MANIFEST.csv."""
    rows = free_images(data / "MANIFEST.csv")
    series = series_by_file(rows)
    lines: dict[str, list[str]] = {"source": [], "target": []}
    for file in series:
        digest = sha256_of(data / file)
        lines["source" if in_source(series[file]) else "target"].append(f"{digest}  {file}\n")
    out.mkdir(parents=True, exist_ok=True)
    for name, listed in lines.items():
        with atomic_path(out / f"{name}.txt") as temporary:
            temporary.write_text("".join(listed), encoding="utf-8")
    with atomic_path(out / "credits.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as text:
        table = csv.DictWriter(text, CREDITS, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def main(given: list[str]) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description="Split the freely licensed clean photos in source and target.")
    parser.add_argument("--data", type=Path, required=True, help="folder with MANIFEST.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder for the lists")
    options = parser.parse_args(given)
    write_lists(options.data, options.out)


if __name__ == "__main__":
    run_script(main)
