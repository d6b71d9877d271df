"""The files that the blind pages export, and the mean opinion ranks or scores that follow from them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.errors import ConfigError, DataError
from ddnsr_cli.metrics.statistics import DRAWS, LEVEL, Interval
from ddnsr_cli.reports.opinion_page import RANKS, SCORE_WORDS, SCORES

FORMATS = {f"ddnsr-{kind}-1": kind for kind in (RANKS, SCORES)}
"""Format of a file -> what it holds."""

FINISH = "Finish the page, then export again."

Values = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ModelOpinion:
    """What was thought of one model."""

    model: str

    mean: Interval
    """Over all votes. Of ranks from 1 (always the best) to the number of models; models that draw share their ranks. Of
    scores from 0 (always perfect) to 5. The interval tells of other such images and other such raters (of images alone
    where there is one rater); not a number with a single vote."""

    votes: int
    """Raters times images."""

    counts: tuple[int, ...] = ()
    """How often each score was given, from 0 on; empty of ranks."""


@dataclass(frozen=True, kw_only=True)
class OpinionTable:
    """The mean opinion rank or score of every model."""

    kind: str
    """RANKS or SCORES."""

    rows: tuple[ModelOpinion, ...]
    """The best mean first."""

    wins: tuple[tuple[int, ...], ...]
    """[i][j]: the votes in which the model of row i stands before that of row j. What [i][j] and [j][i] leave of all
    votes are draws, which the ranking page does not take but other files may hold, and equal scores."""

    raters: tuple[str, ...]
    """In the order of the files."""

    images: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Opinions:
    """One file, as it was exported."""

    path: Path

    kind: str
    """RANKS or SCORES."""

    page: str
    """Hash of what was judged: files of one page go together."""

    rater: str
    models: tuple[str, ...]
    images: tuple[str, ...]

    values: Values
    """(images, models). Of ranks: 1 and the number of models that are better; equal ranks are draws. Of scores: 0, as
    good as the truth, to 5."""


def mean_opinions(files: Sequence[Path], *, seed: int) -> OpinionTable:
    """The table of files that a ranking or scoring page exported, one file a person, all of one page.

    seed: of the bootstrap; the same files and seed give the same table.
    Raises ConfigError without files; DataError, naming the file, for one that is damaged or incomplete, of another
    page, or by a person who has another file.
    """
    if not files:
        raise ConfigError("There are no opinions to read. Give the files that the ranking or scoring page exported.")
    sheets = [read_opinions(path) for path in files]
    _check_together(sheets)
    kind, models, votes = sheets[0].kind, sheets[0].models, _votes(sheets)
    intervals = _intervals(_shared(votes) if kind == RANKS else votes.astype(np.float64), seed)
    order = sorted(range(len(models)), key=lambda index: intervals[index].mean)
    return OpinionTable(
        kind=kind,
        rows=tuple(_row(kind, models[index], intervals[index], votes[..., index]) for index in order),
        wins=tuple(tuple(int((votes[..., i] < votes[..., j]).sum()) for j in order) for i in order),
        raters=tuple(sheet.rater for sheet in sheets),
        images=votes.shape[1],
    )


def _row(kind: str, model: str, mean: Interval, votes: Values) -> ModelOpinion:
    """votes: (raters, images), one model's."""
    counts = tuple(int((votes == score).sum()) for score in range(len(SCORE_WORDS))) if kind == SCORES else ()
    return ModelOpinion(model=model, mean=mean, votes=votes.size, counts=counts)


def read_opinions(path: Path) -> Opinions:
    """One file of ranks or scores. Raises DataError, naming the file, for one that is damaged or incomplete."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as cause:
        raise DataError(f"{path} cannot be read ({cause.strerror or cause}). Check the name.") from cause
    except (ValueError, RecursionError) as cause:
        raise _damaged(path, "it is not JSON") from cause
    if not isinstance(raw, dict) or str(raw.get("format")) not in FORMATS:
        raise _damaged(path, f"its format is none of {', '.join(FORMATS)}")
    kind = FORMATS[str(raw["format"])]
    models, images = _names(path, raw, "models"), _names(path, raw, "images")
    return Opinions(
        path=path,
        kind=kind,
        page=_word(path, raw, "page"),
        rater=_word(path, raw, "rater"),
        models=models,
        images=images,
        values=_values(path, kind, raw.get(kind), models, images),
    )


def _word(path: Path, raw: dict[str, Any], key: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not value.strip():
        raise _damaged(path, f"{key} is missing")
    return value.strip()


def _names(path: Path, raw: dict[str, Any], key: str) -> tuple[str, ...]:
    names = raw.get(key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _damaged(path, f"{key} is no list of names")
    if not names or len(set(names)) < len(names):
        raise _damaged(path, f"{key} is empty or names one twice")
    return tuple(names)


def _values(path: Path, kind: str, rows: object, models: tuple[str, ...], images: tuple[str, ...]) -> Values:
    if not isinstance(rows, list):
        raise _damaged(path, f"{kind} is no list")
    if len(rows) != len(images):
        raise DataError(f"{path} holds {kind} of {len(rows)} of {len(images)} images. {FINISH}")
    allowed = {
        RANKS: f"each of {len(models)} by 1 and how many are better",
        SCORES: f"each of {len(models)} by 0 to {len(SCORE_WORDS) - 1}",
    }
    for row, image in zip(rows, images, strict=True):
        if not _are_whole(row, len(models)) or not (_is_ranking(row) if kind == RANKS else _are_scores(row)):
            raise DataError(
                f"{path} has for {image!r} the {kind} {json.dumps(row)[:80]}, not {allowed[kind]}. {FINISH}"
            )
    return np.array(rows, np.int64)


def _are_whole(row: object, count: int) -> bool:
    return isinstance(row, list) and len(row) == count and all(type(value) is int for value in row)


def _is_ranking(row: list[int]) -> bool:
    return all(rank == 1 + sum(other < rank for other in row) for rank in row)


def _are_scores(row: list[int]) -> bool:
    return all(0 <= score < len(SCORE_WORDS) for score in row)


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path} is no file of ranks or scores: {reason}. Export it again from its page.")


def _check_together(sheets: list[Opinions]) -> None:
    first = sheets[0]
    by_rater: dict[str, Path] = {}
    for sheet in sheets:
        if sheet.kind != first.kind:
            raise DataError(
                f"{sheet.path} holds {sheet.kind}, {first.path} {first.kind}. Give the files of one page at a time."
            )
        if sheet.page != first.page:
            raise DataError(f"{sheet.path} is of another page than {first.path}. Give the files of one page.")
        if sheet.models != first.models or set(sheet.images) != set(first.images):
            raise _damaged(sheet.path, f"its models or images are not those of {first.path}")
        if sheet.rater in by_rater:
            raise DataError(
                f"{by_rater[sheet.rater]} and {sheet.path} are both by {sheet.rater!r}. Give one file a person."
            )
        by_rater[sheet.rater] = sheet.path


def _votes(sheets: list[Opinions]) -> Values:
    """(raters, images, models), the images in the order of the first sheet: each page had its own."""
    rows = [{name: place for place, name in enumerate(sheet.images)} for sheet in sheets]
    return np.stack(
        [sheet.values[[row[name] for name in sheets[0].images]] for sheet, row in zip(sheets, rows, strict=True)]
    )


def _shared(votes: Values) -> NDArray[np.float64]:
    """Ranks of which those that draw have the mean: 1 1 3 becomes 1.5 1.5 3, so that each vote gives out the same."""
    alike = (votes[..., :, None] == votes[..., None, :]).sum(axis=-1)
    shared: NDArray[np.float64] = votes + (alike - 1) / 2
    return shared


def _intervals(votes: NDArray[np.float64], seed: int) -> list[Interval]:
    """A model's mean rank or score, with percentiles of means over images and raters drawn again, each for themselves.

    Votes on one image are alike, and so are those of one person: drawing single votes would promise too much
    (the pigeonhole bootstrap; Owen 2007).
    """
    raters, images, _ = votes.shape
    rng = np.random.default_rng(seed)
    rater_shares = rng.multinomial(raters, np.full(raters, 1 / raters), size=DRAWS) / raters
    image_shares = rng.multinomial(images, np.full(images, 1 / images), size=DRAWS) / images
    return [_interval(table, rater_shares, image_shares) for table in np.moveaxis(votes, 2, 0)]


def _interval(
    table: NDArray[np.float64], rater_shares: NDArray[np.float64], image_shares: NDArray[np.float64]
) -> Interval:
    """table: (raters, images), one model's ranks or scores. Shares: (draws, raters) and (draws, images)."""
    if table.size == 1:
        return Interval(mean=float(table[0, 0]), low=float("nan"), high=float("nan"))
    means = ((rater_shares @ table) * image_shares).sum(axis=1)
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(mean=float(table.mean()), low=float(low), high=float(high))
