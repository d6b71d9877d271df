"""Blind votes: what is on a sheet, what the key holds, and how votes are read and counted."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from skimage import data

pytest.importorskip("scipy")

import blind
from blind import (
    agreement,
    count_table,
    letters_preferred,
    make_sheets,
    of_both_orders,
    read_votes,
    sign_test,
    unveiled,
    vote_ranks,
)
from quality import Model, Store, bicubic
from quality_sets import Case, Shown

from ddnsr_cli.commands.evaluate.mean_opinion import Opinions, mean_opinions, read_opinions
from ddnsr_cli.errors import ConfigError, DataError
from ddnsr_cli.processing.contact_sheet import GAP_PX

LR = data.astronaut()[:120, :130]
FLAT = np.zeros((480, 520, 3), np.uint8)


@pytest.fixture
def candidates(tmp_path):
    """Two models whose finished results are all black and all white, and four cases."""
    cases = [Case(set=name, name=str(index), make=lambda: Shown(lr=LR)) for name in ("x", "y") for index in range(2)]
    for name, level in (("black", 0), ("white", 255)):
        for case in cases:
            path = tmp_path / name / f"{case.key}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(FLAT + np.uint8(level)).save(path)
    return [Model(name, str(tmp_path / name)) for name in ("black", "white")], cases


def sheets(candidates, folder, seed):
    folder.mkdir(exist_ok=True)
    return make_sheets(*candidates, Store(folder / "store"), folder, seed=seed)


def test_sheets_hold_input_and_candidates_pixel_for_pixel_in_the_keys_order(tmp_path, candidates):
    key = sheets(candidates, tmp_path / "out", seed=1)
    assert {one["case"] for one in key["sheets"]} == {case.key for case in candidates[1]}
    orders = {tuple(one["order"]) for one in key["sheets"]}
    assert orders == {("black", "white"), ("white", "black")}
    for one in key["sheets"]:
        drawn = np.array(Image.open(tmp_path / "out" / f"{one['image']}.png"))
        assert drawn.shape[1] <= 1560
        parts = [drawn[-448 - GAP_PX : -GAP_PX, left : left + 448] for left in (8, 464, 920)]
        for part, model in zip(parts[1:], one["order"], strict=True):
            assert (part == {"black": 0, "white": 255}[model]).all()
        assert is_part_of(bicubic(LR), parts[0])


def is_part_of(image, part):
    """Whether the image holds the part somewhere: it is looked for by its corner first."""
    height, width = part.shape[:2]
    corners = sliding_window_view(image, (4, 4), axis=(0, 1))[: len(image) - height + 1, : image.shape[1] - width + 1]
    places = np.argwhere((corners == part[:4, :4].transpose(2, 0, 1)).all(axis=(2, 3, 4)))
    return any((image[y : y + height, x : x + width] == part).all() for y, x in places)


def test_the_seed_alone_gives_the_order(tmp_path, candidates):
    first, again, other = (sheets(candidates, tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert first == again
    assert first["sheets"] != other["sheets"]
    assert first["page"] == other["page"]
    assert (tmp_path / "a" / "01.png").read_bytes() == (tmp_path / "b" / "01.png").read_bytes()


def test_the_same_cases_with_letters_reversed(tmp_path, candidates):
    first = sheets(candidates, tmp_path / "a", seed=1)
    before = {one["case"]: one["order"] for one in first["sheets"]}
    (tmp_path / "b").mkdir()
    second = make_sheets(*candidates, Store(tmp_path / "s"), tmp_path / "b", seed=2, before=before)
    assert {one["case"]: one["order"][::-1] for one in second["sheets"]} == before
    one = second["sheets"][0]
    drawn = np.array(Image.open(tmp_path / "b" / f"{one['image']}.png"))
    assert (drawn[-448 - GAP_PX : -GAP_PX, 464:912] == {"black": 0, "white": 255}[one["order"][0]]).all()


def test_how_often_each_letter_was_best_is_told():
    votes = {"01": "A", "02": "draw", "03": "A", "04": "B>A", "05": "A=B"}
    assert letters_preferred(votes, 2) == "Best alone: A 2 times, B 1 times.\n"


def test_votes_in_both_orders_that_differ_are_a_draw(tmp_path, capsys):
    """Who always takes the left one prefers nothing."""
    other = {**KEY, "sheets": [{**one, "order": one["order"][::-1]} for one in reversed(KEY["sheets"])]}
    for name, key, votes in (("a", KEY, "01,A\n02,A\n03,draw\n"), ("b", other, "01,A\n02,B\n03,A\n")):
        (tmp_path / f"{name}.csv").write_text(f"image,winner\n{votes}")
        (tmp_path / f"{name}.json").write_text(json.dumps(key))
    files = [str(tmp_path / name) for name in ("a.csv", "b.csv", "a.json", "b.json")]
    blind.main(["count", *files[:2], "--key", *files[2:]])
    told = capsys.readouterr().out
    assert "Best alone: A 2 times, B 0 times." in told
    # x/1: theirs, then ours: a draw; x/2: ours twice; y/1: a draw, then theirs
    assert "| ours / theirs | x | 1 | 1 | 0 |" in told
    assert "| ours / theirs | y | 0 | 0 | 1 |" in told


def test_keys_that_do_not_belong_together_are_refused(tmp_path):
    rankings = []
    for name, key in (("a", KEY), ("b", {**KEY, "page": "e" * 64})):
        told = unveiled({"01": "A", "02": "B", "03": "draw"}, key, name)
        (tmp_path / f"{name}.json").write_text(json.dumps(told))
        rankings.append(read_opinions(tmp_path / f"{name}.json"))
    with pytest.raises(DataError, match="--reversed"):
        of_both_orders(*rankings)


def test_a_key_of_other_models_or_cases_cannot_be_reversed(tmp_path, candidates):
    (tmp_path / "b").mkdir()
    for before in ({}, {case.key: ["black", "gray"] for case in candidates[1]}):
        with pytest.raises(DataError, match="was not shown by black, white"):
            make_sheets(*candidates, Store(tmp_path / "s"), tmp_path / "b", seed=2, before=before)


def test_as_many_keys_as_votes_or_one(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("image,winner\n01,A\n02,B\n03,draw\n")
    (tmp_path / "k.json").write_text(json.dumps(KEY))
    with pytest.raises(ConfigError, match="one for each of the 2"):
        blind.main(
            ["count", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), "--key", *[str(tmp_path / "k.json")] * 3]
        )


@pytest.mark.parametrize(
    ("vote", "ranks"),
    [("A", [1, 2, 2]), ("c", [2, 2, 1]), ("draw", [1, 1, 1]), ("B>A=C", [2, 1, 2]), ("B > C > A", [3, 1, 2]),
     ("A=B", [1, 1, 3])],
)  # fmt: skip
def test_votes_as_ranks(vote, ranks):
    assert vote_ranks(vote, "ABC") == ranks


@pytest.mark.parametrize("vote", ["D", "A>A", "", "A>B>", "left"])
def test_other_votes_are_refused(vote):
    with pytest.raises(DataError, match="is no vote on A, B, C"):
        vote_ranks(vote, "ABC")


def test_votes_are_read_from_csv_and_json(tmp_path):
    (tmp_path / "a.csv").write_text("image,winner\n01, A\n2,draw\n")
    (tmp_path / "a.json").write_text('[{"image": "01", "winner": "A"}, {"image": 2, "winner": "draw"}]')
    assert read_votes(tmp_path / "a.csv") == read_votes(tmp_path / "a.json") == {"01": "A", "02": "draw"}
    (tmp_path / "marked.csv").write_text("image,winner\n01,A\n2,draw\n", encoding="utf-8-sig")
    assert read_votes(tmp_path / "marked.csv") == {"01": "A", "02": "draw"}
    for text in ("file,winner\n01,A\n", "image,winner\nfirst,A\n", "image,winner\n1\n"):
        (tmp_path / "b.csv").write_text(text)
        with pytest.raises(DataError, match="holds no votes"):
            read_votes(tmp_path / "b.csv")
    (tmp_path / "b.csv").write_text("image,winner\n01,A\n1,B\n")
    with pytest.raises(DataError, match="twice"):
        read_votes(tmp_path / "b.csv")


KEY = {
    "page": "f" * 64,
    "seed": 7,
    "models": ["ours", "theirs"],
    "sheets": [
        {"image": "01", "case": "x/1", "order": ["theirs", "ours"]},
        {"image": "02", "case": "x/2", "order": ["ours", "theirs"]},
        {"image": "03", "case": "y/1", "order": ["ours", "theirs"]},
    ],
}


def test_unveiled_votes_are_a_file_of_ranks_for_eval(tmp_path):
    told = unveiled({"01": "A", "02": "B", "03": "draw"}, KEY, "Ann")
    path = tmp_path / "ann.json"
    path.write_text(json.dumps(told))
    assert read_opinions(path).values.tolist() == [[2, 1], [2, 1], [1, 1]]
    table = mean_opinions([path], seed=0)
    assert [row.model for row in table.rows] == ["theirs", "ours"]
    assert table.wins == ((0, 2), (0, 0))
    with pytest.raises(DataError, match="no vote on sheet 03"):
        unveiled({"01": "A", "02": "B"}, KEY, "Ann")


def test_the_command_counts_by_kind_and_names_the_figures_that_agree(tmp_path, capsys):
    (tmp_path / "votes.csv").write_text("image,winner\n1,A\n2,B\n3,A\n")  # theirs, theirs, ours
    (tmp_path / "key.json").write_text(json.dumps(KEY))
    ours = {"psnr": 25.0, "lpips": 0.2, "edges": 0.7}
    theirs = {"psnr": 24.0, "lpips": 0.3, "edges": 1.2}
    rows = {"ours": dict.fromkeys(("x/1", "x/2", "y/1"), ours), "theirs": dict.fromkeys(("x/1", "x/2", "y/1"), theirs)}
    (tmp_path / "quality.json").write_text(json.dumps({"figures": rows}))
    files = ["--key", str(tmp_path / "key.json"), "--figures", str(tmp_path / "quality.json")]
    blind.main(["count", str(tmp_path / "votes.csv"), *files])
    told = capsys.readouterr().out
    assert "| ours / theirs | x | 0 | 0 | 2 | 0.5 |" in told
    assert "| ours / theirs | y | 1 | 0 | 0 | 1 |" in told
    assert "| ours / theirs | all | 1 | 0 | 2 | 1 |" in told
    assert "| edges, near 1 | 2 | 3 | 0.67 |" in told
    assert "| psnr | 1 | 3 | 0.33 |" in told
    assert (tmp_path / "votes.ranks.json").exists()


def ranking(*ranks):
    images = tuple(f"x/{index}" for index in range(len(ranks)))
    values = np.array(ranks)
    return Opinions(path=None, kind="ranks", page="", rater="a", models=("a", "b", "c"), images=images, values=values)


def test_each_pair_of_several_is_counted_and_draws_say_nothing():
    table = count_table([ranking((1, 2, 3), (1, 1, 3), (3, 1, 1))])
    assert "| a / b | all | 1 | 1 | 1 | 1 |" in table
    assert "| a / c | all | 2 | 0 | 1 | 1 |" in table
    assert "| b / c | all | 2 | 1 | 0 | 0.5 |" in table
    figures = {
        model: {f"x/{index}": {"niqe": value} for index in range(3)}
        for model, value in zip("abc", (3, 4, 5), strict=True)
    }
    assert "| niqe | 5 | 7 | 0.71 |" in agreement([ranking((1, 2, 3), (1, 1, 3), (3, 1, 1))], figures)


def test_scores_are_not_counted_as_votes(tmp_path):
    told = unveiled({"01": "A", "02": "B", "03": "draw"}, KEY, "Ann")
    told |= {"format": "ddnsr-scores-1", "scores": told.pop("ranks")}
    (tmp_path / "ann.json").write_text(json.dumps(told))
    with pytest.raises(DataError, match=r"ann\.json holds scores, and votes are counted by ranks"):
        blind.main(["count", str(tmp_path / "ann.json")])


def test_the_sign_test():
    assert sign_test(0, 0) == sign_test(5, 5) == 1
    assert sign_test(21, 3) == sign_test(3, 21) == pytest.approx(0.000277, rel=0.01)


def test_a_figure_that_is_equal_says_nothing():
    ranks = np.array([[1, 2], [1, 2]])
    names = {"models": ("a", "b"), "images": ("x/1", "x/2")}
    ranking = Opinions(path=Path("r"), kind="ranks", page="p", rater="r", values=ranks, **names)
    figures = {"a": {"x/1": {"psnr": 30.0}, "x/2": {"psnr": 31.0}}, "b": {"x/1": {"psnr": 30.0}, "x/2": {"psnr": 30.0}}}
    assert "| psnr | 1 | 1 | 1.00 |" in agreement([ranking], figures)
    del figures["b"]["x/2"]  # not measured
    assert "psnr" not in agreement([ranking], figures)


def test_votes_on_sheets_that_the_key_does_not_have_are_refused():
    with pytest.raises(DataError, match="votes on sheet 04"):
        unveiled({"01": "A", "02": "B", "03": "draw", "04": "A"}, KEY, "me")


def test_a_key_that_is_not_there_is_one_line(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("image,winner\n01,A\n")
    with pytest.raises(DataError, match=r"none.json cannot be read"):
        blind.main(["count", str(tmp_path / "a.csv"), "--key", str(tmp_path / "none.json")])
