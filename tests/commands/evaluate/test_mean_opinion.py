"""Ranks and scores by people: read, checked, and made a table."""

import json
import math
import re

import numpy as np
import pytest

from ddnsr_cli.commands.evaluate.mean_opinion import mean_opinions
from ddnsr_cli.errors import ConfigError, DataError
from ddnsr_cli.metrics.statistics import mean_interval

MODELS = ["a", "b", "c"]


def sheet(rater="Ann", ranks=((1, 2, 3), (2, 1, 3)), **other):
    names = [f"scene_{index}" for index in range(len(ranks))]
    told = {"format": "ddnsr-ranks-1", "page": "f" * 64, "seed": 0, "rater": rater, "models": MODELS}
    return {**told, "images": names, "ranks": [list(row) for row in ranks], **other}


def write(folder, *sheets):
    paths = [folder / f"{index}.json" for index in range(len(sheets))]
    for path, told in zip(paths, sheets, strict=True):
        path.write_text(told if isinstance(told, str) else json.dumps(told), encoding="utf-8")
    return paths


def refused(folder, *sheets):
    """The message, which is one line; the files are called 0.json, 1.json, ..."""
    with pytest.raises(DataError) as caught:
        mean_opinions(write(folder, *sheets), seed=0)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{folder}/", "")


def test_the_table_by_hand(tmp_path):
    files = write(tmp_path, sheet(ranks=[(3, 1, 2), (3, 2, 1)]), sheet("Ben", ranks=[(2, 1, 3), (1, 2, 3)]))
    table = mean_opinions(files, seed=0)
    assert [(row.model, row.mean.mean, row.votes) for row in table.rows] == [
        ("b", 1.5, 4),
        ("a", 2.25, 4),
        ("c", 2.25, 4),
    ]
    assert table.wins == ((0, 3, 3), (1, 0, 2), (1, 2, 0))  # rows and columns in the order of the table: b, a, c
    assert table.raters == ("Ann", "Ben")
    assert table.images == 2


def test_wins_both_ways_are_all_votes_and_ranks_have_a_known_mean(tmp_path):
    rng = np.random.default_rng(0)
    files = write(tmp_path, *(sheet(f"r{k}", [(rng.permutation(3) + 1).tolist() for _ in range(7)]) for k in range(5)))
    table = mean_opinions(files, seed=0)
    wins = np.array(table.wins)
    assert (wins + wins.T == 35 * (1 - np.eye(3))).all()
    assert sum(row.mean.mean for row in table.rows) == pytest.approx(6)
    for row, won in zip(table.rows, wins.sum(axis=1), strict=True):
        assert row.mean.mean == pytest.approx(3 - won / 35)
        assert row.mean.low < row.mean.mean < row.mean.high


def test_models_that_draw_share_their_ranks_and_neither_wins(tmp_path):
    files = write(tmp_path, sheet(ranks=[(1, 1, 3), (2, 1, 2), (1, 1, 1), (1, 2, 3)]))
    table = mean_opinions(files, seed=0)
    assert [(row.model, row.mean.mean) for row in table.rows] == [("b", 1.625), ("a", 1.75), ("c", 2.625)]
    assert table.wins == ((0, 1, 3), (1, 0, 2), (0, 0, 0))


def test_one_rater_has_the_interval_of_a_mean_over_images(tmp_path):
    rng = np.random.default_rng(1)
    ranks = [(rng.permutation(3) + 1).tolist() for _ in range(40)]
    table = mean_opinions(write(tmp_path, sheet(ranks=ranks)), seed=0)
    for row in table.rows:
        known = mean_interval([line[MODELS.index(row.model)] for line in ranks])
        assert row.mean.mean == pytest.approx(known.mean)
        assert row.mean.low == pytest.approx(known.low, abs=0.03)
        assert row.mean.high == pytest.approx(known.high, abs=0.03)


def test_raters_who_disagree_make_the_interval_wide_however_many_images(tmp_path):
    """Each rater has one opinion throughout: 200 images tell no more of other people than one does."""
    alike, apart = [(1, 2, 3)] * 100, [(3, 2, 1)] * 100
    table = mean_opinions(write(tmp_path, sheet("Ann", alike), sheet("Ben", apart)), seed=0)
    ends = {row.model: (row.mean.low, row.mean.high) for row in table.rows}
    assert ends == {"a": (1, 3), "b": (2, 2), "c": (1, 3)}


def test_the_interval_holds_the_truth_as_often_as_it_says(tmp_path):
    """Raters and images of their own tastes: the interval may be wide, but not narrow."""
    rng, held, trials = np.random.default_rng(2), 0, 60
    for _ in range(trials):
        quality = rng.normal(0, 0.7, (8, 1, 3)) + rng.normal(0, 0.7, (1, 12, 3)) + rng.normal(0, 0.7, (8, 12, 3))
        ranks = 1 + quality.argsort(axis=2).argsort(axis=2)
        files = write(tmp_path, *(sheet(f"r{index}", one.tolist()) for index, one in enumerate(ranks)))
        row = next(row for row in mean_opinions(files, seed=0).rows if row.model == "a")
        held += row.mean.low <= 2 <= row.mean.high
    assert held >= 0.85 * trials


def test_a_single_vote_has_no_interval(tmp_path):
    (first, *_) = mean_opinions(write(tmp_path, sheet(ranks=[(2, 1, 3)])), seed=0).rows
    assert (first.model, first.mean.mean) == ("b", 1)
    assert math.isnan(first.mean.low)
    assert math.isnan(first.mean.high)


def test_images_in_another_order_are_the_same_votes(tmp_path):
    ann, ben = sheet("Ann", [(1, 2, 3), (2, 1, 3), (3, 2, 1)]), sheet("Ben", [(1, 2, 3), (2, 3, 1), (3, 2, 1)])
    turned = {**ben, "images": ben["images"][::-1], "ranks": ben["ranks"][::-1], "seed": 5}
    assert mean_opinions(write(tmp_path, ann, turned), seed=0) == mean_opinions(write(tmp_path, ann, ben), seed=0)


def test_the_same_seed_gives_the_same_table(tmp_path):
    rng = np.random.default_rng(3)
    files = write(tmp_path, *(sheet(f"r{k}", [(rng.permutation(3) + 1).tolist() for _ in range(9)]) for k in range(3)))
    assert mean_opinions(files, seed=4) == mean_opinions(files, seed=4)
    assert mean_opinions(files, seed=4) != mean_opinions(files, seed=5)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it is not JSON"),
        ('{"format": "ddnsr-ranks-1", ', "it is not JSON"),
        ("[]", "its format is none of ddnsr-ranks-1, ddnsr-scores-1"),
        ("[" * 100_000, "it is not JSON"),
        (sheet(format="ddnsr-ranks-2"), "its format is none of ddnsr-ranks-1, ddnsr-scores-1"),
        (sheet(page=None), "page is missing"),
        (sheet(rater="  "), "rater is missing"),
        (sheet(models="abc"), "models is no list of names"),
        (sheet(models=["a", "b", 3]), "models is no list of names"),
        (sheet(models=["a", "b", "a"]), "models is empty or names one twice"),
        (sheet(images=[]), "images is empty or names one twice"),
        (sheet(ranks=()), "images is empty or names one twice"),
        ({**sheet(), "ranks": {"scene_0": 1}}, "ranks is no list"),
    ],
)
def test_a_damaged_file_is_named_with_the_reason(tmp_path, content, reason):
    message = refused(tmp_path, sheet("Ben"), content)
    assert message == f"1.json is no file of ranks or scores: {reason}. Export it again from its page."


def test_a_file_saved_again_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(sheet()), encoding="utf-8-sig")
    assert mean_opinions([path], seed=0).raters == ("Ann",)


def test_bytes_that_are_no_text_are_reported(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"a\.json is no file of ranks or scores: it is not JSON\."):
        mean_opinions([path], seed=0)


@pytest.mark.parametrize(
    "row",
    [
        (1, 2),
        (1, 2, 3, 4),
        (2, 2, 3),
        (1, 1, 2),
        (0, 1, 2),
        (1, 2, None),
        (1, 2, 3.0),
        (True, 2, 3),
        (1, 2, 4),
        3,
        None,
    ],
)
def test_an_incomplete_row_is_reported_with_its_image(tmp_path, row):
    told = sheet()
    told["ranks"][1] = row
    message = refused(tmp_path, told)
    assert re.match(
        r"0\.json has for 'scene_1' the ranks .*, not each of 3 by 1 and how many are better\. Finish", message
    )


def test_missing_images_are_counted(tmp_path):
    told = sheet()
    told["ranks"].pop()
    assert refused(tmp_path, told) == "0.json holds ranks of 1 of 2 images. Finish the page, then export again."


def scored(rater="Ann", scores=((0, 1, 5), (2, 2, 4)), **other):
    told = sheet(rater, scores, **other)
    return {**told, "format": "ddnsr-scores-1", "scores": told.pop("ranks")}


def test_the_table_of_scores_by_hand(tmp_path):
    table = mean_opinions(write(tmp_path, scored(), scored("Ben", [(1, 1, 5), (0, 3, 3)])), seed=0)
    assert table.kind == "scores"
    assert [(row.model, row.mean.mean, row.votes) for row in table.rows] == [
        ("a", 0.75, 4),
        ("b", 1.75, 4),
        ("c", 4.25, 4),
    ]
    assert [row.counts for row in table.rows] == [(2, 1, 1, 0, 0, 0), (0, 2, 1, 1, 0, 0), (0, 0, 0, 1, 1, 2)]
    assert table.wins == ((0, 2, 4), (0, 0, 3), (0, 0, 0))  # equal scores are draws
    assert all(row.mean.low < row.mean.mean < row.mean.high for row in table.rows)


@pytest.mark.parametrize("row", [(0, 1), (0, 1, 6), (0, -1, 2), (0, 1, 2.0), (0, 1, None), (True, 1, 2), 3])
def test_a_score_is_a_whole_number_from_0_to_5(tmp_path, row):
    told = scored()
    told["scores"][1] = row
    message = refused(tmp_path, told)
    assert re.match(r"0\.json has for 'scene_1' the scores .*, not each of 3 by 0 to 5\. Finish the page", message)


def test_ranks_and_scores_do_not_go_together(tmp_path):
    message = refused(tmp_path, sheet(), scored("Ben"))
    assert message == "1.json holds scores, 0.json ranks. Give the files of one page at a time."


def test_a_file_of_another_page_is_reported(tmp_path):
    message = refused(tmp_path, sheet(), sheet("Ben", page="0" * 64))
    assert message == "1.json is of another page than 0.json. Give the files of one page."


def test_other_models_under_the_same_page_are_reported(tmp_path):
    assert "not those of 0.json" in refused(tmp_path, sheet(), sheet("Ben", models=["a", "b", "d"]))
    assert "not those of 0.json" in refused(tmp_path, sheet(), sheet("Ben", images=["scene_0", "x"]))


def test_one_person_twice_is_reported(tmp_path):
    message = refused(tmp_path, sheet(), sheet("Ben"), sheet(" Ann "))
    assert message == "0.json and 2.json are both by 'Ann'. Give one file a person."


def test_a_missing_file_and_no_file_are_reported(tmp_path):
    with pytest.raises(DataError, match=r"gone\.json cannot be read \(No such file or directory\)"):
        mean_opinions([tmp_path / "gone.json"], seed=0)
    with pytest.raises(ConfigError, match="no opinions to read"):
        mean_opinions([], seed=0)
