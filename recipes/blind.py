"""Blind votes on images: sheets whose candidates have letters, and the count of what was voted.

    python recipes/blind.py sheets --data data --results runs/quality --cases recipes/lists/blind.json \\
        --models ours=runs/mine x4plus=x4plus.safetensors --out runs/blind
    python recipes/blind.py count runs/blind/votes.csv --key runs/blind.key.json --figures runs/quality/quality.json

`sheets` writes a PNG an image, the input (bicubic) beside the candidates as A, B, ..., pixel for pixel, and the key
beside the folder. Order of the sheets and letters come from a seed that is drawn and stands in the key alone. Results
are those of `quality.py`, made where they are missing; NAME=DIR gives finished ones, DIR/SET/NAME.png.

Votes are lines `image,winner` (CSV with that head) or a JSON list of such objects: the number of the sheet, and A, B or
draw; with more candidates an order such as B>A=C, where what is not named is last. Look at all sheets and write all
votes before the key is opened. `count` gives wins, draws and losses by kind of input, writes the votes as a file for
`ddnsr eval --mean-opinion`, and says which figures of `quality.py` agree with them. It also reads files of the ranking
page.

Where two results are close, who votes may prefer a place on the sheet: `count` says how often each letter was best. So
have the same sheets judged once more with the letters the other way round, by someone else (`sheets --reversed KEY`),
and count both: `count first.csv second.csv --key first.key.json second.key.json`. Where the two differ an image is a
draw.
"""

import argparse
import csv
import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from math import comb, log
from pathlib import Path
from typing import Any

import numpy as np
from image_files import run_script
from PIL import Image
from quality import Model, Store, bicubic, chosen_cases, models_of
from quality_sets import SCALE, SEED, SETS, Case, Rgb8, find_cases
from scipy.stats import rankdata

from ddnsr_cli.commands.evaluate.mean_opinion import Opinions, read_opinions
from ddnsr_cli.errors import ConfigError, DataError
from ddnsr_cli.files import atomic_path
from ddnsr_cli.io.read import read_rgb
from ddnsr_cli.processing.contact_sheet import GAP_PX, sheet
from ddnsr_cli.reports.opinion_page import RANKS

WIDTH_PX, SIDE_PX = 1560, 448
DRAW = "draw"

MORE, LESS = ("psnr", "crisp"), ("niqe", "lpips", "noise_left", "lattice")
"""Figures of which more, or less, is better."""

WANTS_ONE = ("edges", "coarse", "low", "mid", "high", "detail")
WANTS_ZERO = ("speckle", "worms")


def make_sheets(
    models: Sequence[Model],
    cases: Sequence[Case],
    store: Store,
    out: Path,
    *,
    seed: int,
    before: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, object]:
    """Write the sheets. Returns the key: which sheet shows what, and the model behind each letter.

    before: the models of each case by letter, as they were shown: now the other way round.
    """
    rng = np.random.default_rng(seed)
    labels = [model.label for model in models]
    digests, rows = [], []
    for number, index in enumerate(rng.permutation(len(cases)), start=1):
        case, order = cases[index], list(rng.permutation(len(models)))
        if before is not None:
            order = _reversed(before.get(case.key, ()), labels, case)
        shown = case.make()
        results = [read_rgb(_result(model, case, store)) for model in models]
        digests.append([case.key, *(sha256(result.tobytes()).hexdigest() for result in results)])
        _write(f"{number:02}", bicubic(shown.lr), [results[place] for place in order], out)
        rows.append({"image": f"{number:02}", "case": case.key, "order": [models[place].label for place in order]})
        sys.stderr.write(f"\r{number} of {len(cases)}")
    sys.stderr.write("\n")
    page = sha256(json.dumps([labels, sorted(digests)]).encode()).hexdigest()
    return {"page": page, "seed": seed, "models": labels, "sheets": rows}


def _reversed(shown: Sequence[str], labels: Sequence[str], case: Case) -> list[int]:
    if sorted(shown) != sorted(labels):
        raise DataError(f"--reversed: {case.key} was not shown by {', '.join(labels)}. Give its key, models and cases.")
    return [labels.index(label) for label in reversed(shown)]


def _result(model: Model, case: Case, store: Store) -> Path:
    folder = Path(model.name)
    if folder.is_dir() and (folder / case.set).is_dir():
        return folder / f"{case.key}.png"
    return store.result(model, case, case.make())


def _write(number: str, before: Rgb8, results: Sequence[Rgb8], out: Path) -> None:
    side = min(SIDE_PX, (WIDTH_PX - GAP_PX) // (len(results) + 1) - GAP_PX) // SCALE * SCALE
    window = _busiest(before, side)
    labels = ["input", *_letters(len(results))]
    drawn = sheet([[image[window] for image in (before, *results)]], labels)
    with atomic_path(out / f"{number}.png") as temporary:
        Image.fromarray(drawn).save(temporary, "PNG")


def _busiest(before: Rgb8, side: int) -> tuple[slice, slice]:
    """The window in which the input has the steepest gradients; chosen by the input alone."""
    height, width = min(side, before.shape[0]), min(side, before.shape[1])
    down, across = np.gradient(before.mean(axis=2))
    sums = np.pad(np.hypot(down, across).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    busy = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(int(busy.argmax()), busy.shape)
    return slice(int(top), int(top) + height), slice(int(left), int(left) + width)


def _letters(count: int) -> str:
    return "".join(chr(ord("A") + place) for place in range(count))


def read_votes(path: Path) -> dict[str, str]:
    """Sheet -> vote. Raises DataError for a file of another shape or a sheet with two votes."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets begin with a byte order mark
        rows = json.loads(text) if path.suffix == ".json" else list(csv.DictReader(text.splitlines()))
        pairs = [(f"{int(row['image']):02}", row["winner"].strip()) for row in rows]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as cause:
        raise DataError(f"{path} holds no votes: lines 'image,winner' with that head, or such JSON objects.") from cause
    if len(dict(pairs)) < len(pairs):
        raise DataError(f"{path} votes twice on a sheet. Leave one vote.")
    return dict(pairs)


def vote_ranks(vote: str, letters: str) -> list[int]:
    """The rank of each letter: 1 and how many are better. `B>A=C` is 2 1 2, `A` alone before all, `draw` all first.

    Raises DataError for another letter, or one named twice.
    """
    tiers = [list(letters)] if vote.lower() == DRAW else [tier.strip().split("=") for tier in vote.upper().split(">")]
    tiers = [[letter.strip() for letter in tier] for tier in tiers]
    named = [letter for tier in tiers for letter in tier]
    if len(set(named)) < len(named) or not set(named) <= set(letters):
        raise DataError(f"{vote!r} is no vote on {', '.join(letters)}: name the best of them, draw, or an order B>A=C.")
    tiers.append([letter for letter in letters if letter not in named])
    place = {letter: sum(map(len, tiers[:index])) + 1 for index, tier in enumerate(tiers) for letter in tier}
    return [place[letter] for letter in letters]


def unveiled(votes: Mapping[str, str], key: Mapping[str, object], rater: str) -> dict[str, object]:
    """Votes on sheets as a file for `ddnsr eval --mean-opinion`.

    Raises DataError when a sheet has no vote, or a vote no sheet.
    """
    models, sheets = list(key["models"]), list(key["sheets"])
    if unknown := sorted(votes.keys() - {one["image"] for one in sheets}):
        raise DataError(f"There are votes on sheet {', '.join(unknown[:5])}, not in the key. Give its own key.")
    if missing := [one["image"] for one in sheets if one["image"] not in votes]:
        raise DataError(f"There is no vote on sheet {', '.join(missing[:5])}. Look at all of them first.")
    rows = []
    for one in sheets:
        by_model = dict(zip(one["order"], vote_ranks(votes[one["image"]], _letters(len(models))), strict=True))
        rows.append([by_model[model] for model in models])
    images = [one["case"] for one in sheets]
    told = {"format": "ddnsr-ranks-1", "page": key["page"], "seed": key["seed"], "rater": rater, "models": models}
    return {**told, "images": images, "ranks": rows}


def letters_preferred(votes: Mapping[str, str], models: int) -> str:
    """A sentence on how often each letter alone was best: with results that are close, a place may be preferred."""
    letters = _letters(models)
    ranks = [vote_ranks(vote, letters) for vote in votes.values()]
    alone = [letters[row.index(1)] for row in ranks if row.count(1) == 1]
    return f"Best alone: {', '.join(f'{letter} {alone.count(letter)} times' for letter in letters)}.\n"


def of_both_orders(first: Opinions, second: Opinions) -> Opinions:
    """One ranking of two that saw the letters in opposite orders: the sum of both ranks of each image decides.

    Raises DataError when they are not of the same results.
    """
    if first.page != second.page:
        raise DataError("The two keys are not of the same results. Make the second with --reversed.")
    places = [second.images.index(image) for image in first.images]
    return replace(first, values=rankdata(first.values + second.values[places], method="min", axis=1).astype(int))


def sign_test(wins: int, losses: int) -> float:
    """How likely a split at least as uneven is by chance, both ways; draws say nothing."""
    trials = wins + losses
    tail = sum(comb(trials, count) for count in range(max(wins, losses), trials + 1)) / 2**trials
    return min(1.0, 2 * tail)


def count_table(rankings: Sequence[Opinions]) -> str:
    """Markdown: wins, draws and losses of each pair, by kind of input (what stands before the slash) and in all."""
    lines = ["| | kind | wins | draws | losses | sign test p |", "|---|---|---|---|---|---|"]
    models = rankings[0].models
    for first in range(len(models)):
        for second in range(first + 1, len(models)):
            signs = _signs(rankings, first, second)
            for kind in [*dict.fromkeys(kind for kind, _ in signs), "all"]:
                row = [sign for of, sign in signs if kind in (of, "all")]
                wins, losses = row.count(1), row.count(-1)
                pair = f"{models[first]} / {models[second]}"
                p = f"{sign_test(wins, losses):.2g}"
                lines.append(f"| {pair} | {kind} | {wins} | {row.count(0)} | {losses} | {p} |")
    return "\n".join(lines) + "\n"


def _signs(rankings: Sequence[Opinions], first: int, second: int) -> list[tuple[str, int]]:
    """(kind, 1 where the first is before the second, -1 behind, 0 beside) of every vote."""
    return [
        (image.split("/")[0], int(np.sign(ranks[second] - ranks[first])))
        for ranking in rankings
        for image, ranks in zip(ranking.images, ranking.values, strict=True)
    ]


def agreement(rankings: Sequence[Opinions], figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Markdown: on how many decided votes each figure says the same, the most agreeing first.

    Of figures without a better side more is taken as better, and ratios to the truth also by how near they are to 1.
    figures: model -> case -> figure, as in `quality.json`.
    """
    agreed: dict[str, list[bool]] = {}
    for ranking in rankings:
        for image, ranks in zip(ranking.images, ranking.values, strict=True):
            for better, worse in _decided(ranks):
                rows = [_goodness(figures.get(ranking.models[place], {}).get(image, {})) for place in (better, worse)]
                for name in rows[0].keys() & rows[1].keys():
                    if rows[0][name] != rows[1][name]:
                        agreed.setdefault(name, []).append(rows[0][name] > rows[1][name])
    lines = ["| figure | agrees | of | share |", "|---|---|---|---|"]
    for name, row in sorted(agreed.items(), key=lambda item: (-np.mean(item[1]), item[0])):
        lines.append(f"| {name} | {sum(row)} | {len(row)} | {np.mean(row):.2f} |")
    return "\n".join(lines) + "\n"


def _decided(ranks: Sequence[int]) -> list[tuple[int, int]]:
    places = range(len(ranks))
    return [(one, other) for one in places for other in places if ranks[one] < ranks[other]]


def _goodness(figures: Mapping[str, float]) -> dict[str, float]:
    found = {name: figures[name] for name in MORE if name in figures}
    found |= {name: -figures[name] for name in LESS if name in figures}
    found |= {f"{name}, more": value for name, value in figures.items() if name not in found}
    found |= {f"{name}, near 1": -abs(log(max(figures[name], 1e-6))) for name in WANTS_ONE if name in figures}
    return found | {f"{name}, near 0": -abs(figures[name]) for name in WANTS_ZERO if name in figures}


def _sheets(options: argparse.Namespace) -> None:
    models = models_of(options.models)
    if len(models) < 2:
        raise ConfigError("A vote is between two or more. Name them: --models A=... B=...")
    cases = chosen_cases(options.cases, find_cases(options.data, list(SETS), limit=options.limit, seed=SEED))
    path = options.key or options.out.with_name(f"{options.out.name}.key.json")
    for folder in (options.out, path.parent):
        folder.mkdir(parents=True, exist_ok=True)
    before = None
    if options.reversed is not None:
        shown = _read_json(options.reversed)
        before = {one["case"]: one["order"] for one in shown["sheets"]}
    key = make_sheets(models, cases, Store(options.results), options.out, seed=secrets.randbits(32), before=before)
    _write_json(path, key)
    sys.stdout.write(f"{len(cases)} sheets in {options.out}. The key, not to be opened yet: {path}\n")


def _count(options: argparse.Namespace) -> None:
    files = options.votes
    if options.key:
        keys = [_read_json(path) for path in options.key]
        if len(keys) not in (1, len(files)):
            raise ConfigError(f"--key takes one file, or one for each of the {len(files)} files of votes.")
        keys = keys if len(keys) > 1 else keys * len(files)
        files = [_as_ranks(path, key) for path, key in zip(files, keys, strict=True)]
    rankings = [_ranks_in(path) for path in files]
    if options.key and len(options.key) == 2:
        rankings = [of_both_orders(*rankings)]
    sys.stdout.write("\n" + count_table(rankings))
    if options.figures is not None:
        figures = _read_json(options.figures)["figures"]
        sys.stdout.write("\n" + agreement(rankings, figures))


def _ranks_in(path: Path) -> Opinions:
    found = read_opinions(path)
    if found.kind != RANKS:
        raise DataError(f"{path} holds {found.kind}, and votes are counted by ranks. See ddnsr eval --mean-opinion.")
    return found


def _read_json(path: Path) -> Any:  # noqa: ANN401 - keys and figures
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}). Give a file of this script or of quality.py.") from error


def _write_json(path: Path, told: Mapping[str, object]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _as_ranks(path: Path, key: Mapping[str, Any]) -> Path:
    """The votes as ranks in a file beside them; says which letters were best."""
    votes, target = read_votes(path), path.with_name(f"{path.stem}.ranks.json")
    told = unveiled(votes, key, path.stem)
    _write_json(target, told)
    sys.stdout.write(letters_preferred(votes, len(key["models"])))
    return target


def main(given: list[str]) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description="Blind votes on images.")
    commands = parser.add_subparsers(required=True)
    sheets = commands.add_parser("sheets", help="make sheets and the key")
    sheets.add_argument("--data", type=Path, required=True, help="as for quality.py")
    sheets.add_argument("--results", type=Path, required=True, help="the --out of quality.py")
    sheets.add_argument("--models", nargs="+", required=True, help="as for quality.py, or NAME=DIR")
    sheets.add_argument("--cases", type=Path, help="JSON list of SET/NAME; default: all of the data")
    sheets.add_argument("--limit", type=int, help="most images of a set")
    sheets.add_argument("--out", type=Path, required=True, help="folder for the sheets")
    sheets.add_argument("--key", type=Path, help="file for the key; default: beside the folder")
    sheets.add_argument(
        "--reversed", type=Path, metavar="KEY", help="key of sheets whose letters are to be turned round"
    )
    sheets.set_defaults(run=_sheets)
    count = commands.add_parser("count", help="count votes")
    count.add_argument("votes", type=Path, nargs="+", help="files of votes, or files of the ranking page")
    count.add_argument(
        "--key", type=Path, nargs="+", help="the key of the sheets, or of each; not for the ranking page"
    )
    count.add_argument("--figures", type=Path, help="quality.json, to see which figures agree with the votes")
    count.set_defaults(run=_count)
    options = parser.parse_args(given)
    options.run(options)


if __name__ == "__main__":
    run_script(main)
