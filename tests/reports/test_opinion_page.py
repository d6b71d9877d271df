"""The blind pages as files: blind, shuffled, the same for the same seed."""

import json
import re
from base64 import b64decode, b64encode
from collections import Counter
from html import unescape
from io import BytesIO
from itertools import cycle, permutations

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.errors import ConfigError, DataError, ImageReadError, ImageWriteError
from ddnsr_cli.reports import opinion_page
from ddnsr_cli.reports.opinion_page import write_ranking_page, write_scoring_page
from tests.helpers.evaluation_results import drawn, save, write_evaluation

MODELS = ("bicubic", "alpha", "beta", "gamma")


def page_of(evaluation, folder, seed=0):
    path = folder / "ranking.html"
    write_ranking_page(evaluation, path, seed=seed)
    return path.read_text(encoding="utf-8")


def given(page):
    """The attributes of the body, and the table that they veil."""
    found = dict(re.findall(r'data-(\w+)="([^"]*)"', page.partition("<body")[2].partition(">")[0]))
    salt = bytes.fromhex(found["salt"])
    plain = bytes(a ^ b for a, b in zip(b64decode(found["table"]), cycle(salt), strict=False))
    return found, json.loads(plain)


def gray_evaluation(folder, samples, models=MODELS):
    """Every image is of one gray level that tells model and sample."""
    evaluation = write_evaluation(folder, models=models, samples=samples, draw=lambda seed: drawn(seed, 16, 16))
    for place, model in enumerate(models):
        for index, sample in enumerate(evaluation.samples):
            save(evaluation.images[model, sample.name], np.full((16, 16, 3), 24 * place + index, np.uint8))
    return evaluation


def levels(page):
    """[[gray level of every result] of every scene], as on the page."""
    scenes = page.split('<section class="scene"')[1:]
    sources = [re.findall(r'alt="Result [A-I]" src="data:[^,]*,([^"]*)"', scene) for scene in scenes]
    return [[int(np.asarray(Image.open(BytesIO(b64decode(s)))).mean().round()) for s in scene] for scene in sources]


def test_the_veiled_table_tells_whose_every_result_is(tmp_path):
    page = page_of(gray_evaluation(tmp_path, 6), tmp_path, seed=3)
    _, table = given(page)
    assert table["models"] == ["alpha", "beta", "gamma"]
    names = [f"scene_{index}" for index in range(6)]
    assert sorted(table["images"]) == names
    shown = [table["images"][image] for image, _ in table["steps"]]
    assert sorted(shown) == names
    assert shown != names
    assert len({tuple(order) for _, order in table["steps"]}) > 1
    assert levels(page) == [
        [24 * (model + 1) + names.index(name) for model in order]
        for name, (_, order) in zip(shown, table["steps"], strict=True)
    ]


def test_every_result_is_scored_once_by_itself(tmp_path):
    path = tmp_path / "score.html"
    write_scoring_page(gray_evaluation(tmp_path, 6), path, seed=3)
    found, table = given(page := path.read_text(encoding="utf-8"))
    assert found["kind"] == "scores"
    steps = [(image, model) for image, (model,) in table["steps"]]
    assert sorted(steps) == [(image, model) for image in range(6) for model in range(3)]
    assert steps != sorted(steps)
    names = [f"scene_{index}" for index in range(6)]
    wanted = [[24 * (model + 1) + names.index(table["images"][image])] for image, model in steps]
    assert levels(page.replace('alt="Result"', 'alt="Result A"')) == wanted
    assert page.count('alt="Reference" src=') == 6
    assert page.count('alt="Reference" data-as=') == 12


def test_of_many_models_fewer_images_are_scored(tmp_path, monkeypatch):
    monkeypatch.setattr(opinion_page, "MOST_SCORED", 7)
    path = tmp_path / "score.html"
    write_scoring_page(gray_evaluation(tmp_path, 6), path, seed=0)
    assert len(given(path.read_text(encoding="utf-8"))[1]["steps"]) == 6  # two images of three models


def test_a_score_needs_a_truth_and_a_model(tmp_path):
    without = write_evaluation(tmp_path / "a", models=("x", "y"), samples=1, hr=False)
    with pytest.raises(ConfigError, match="--scoring shows results beside the truth"):
        write_scoring_page(without, tmp_path / "score.html", seed=0)
    with pytest.raises(ConfigError, match="models or folders beside bicubic, got none"):
        write_scoring_page(gray_evaluation(tmp_path / "b", 1, ("bicubic",)), tmp_path / "score.html", seed=0)
    assert not (tmp_path / "score.html").exists()


def test_a_single_model_is_shown_where_it_differs_from_the_truth(tmp_path):
    evaluation = write_evaluation(tmp_path, models=("x",), samples=1, draw=lambda seed: drawn(seed, 40, 1200))
    plain = np.full((40, 1200, 3), 99, np.uint8)
    odd = plain.copy()
    odd[:, 1000:] = 200
    save(evaluation.images["x", "scene_0"], odd)
    save(evaluation.samples[0].hr, plain)
    path = tmp_path / "score.html"
    write_scoring_page(evaluation, path, seed=0)
    page = path.read_text(encoding="utf-8").replace('alt="Result"', 'alt="Result A"')
    assert max(levels(page)[0]) > 99 + 30


def test_the_page_of_scores_is_another_than_that_of_ranks_and_follows_the_truth(tmp_path):
    evaluation = gray_evaluation(tmp_path, 2)
    path = tmp_path / "score.html"
    pages = [given(page_of(evaluation, tmp_path))[0]["page"]]
    for _ in range(2):
        write_scoring_page(evaluation, path, seed=0)
        pages.append(given(path.read_text(encoding="utf-8"))[0]["page"])
        save(evaluation.samples[0].hr, np.full((16, 16, 3), 7, np.uint8))
    assert len(set(pages)) == 3


def test_no_model_and_no_file_is_named_in_the_page(tmp_path):
    models = ("bicubic", "Zaphod-net", "Trillian+v2", "Marvin")
    names = ["kitchen_Zaphod", "garden", "street"]
    evaluation = write_evaluation(tmp_path, models=models, names=names)
    page = page_of(evaluation, tmp_path)
    images = re.sub(r'src="data:[^"]*"', "", page)
    for secret in (*models[1:], *names, evaluation.methodology):
        assert secret.lower() not in images.lower()
        for shift in range(3):  # base64 of it, wherever it may stand
            code = b64encode(b" " * shift + secret.encode()).decode().rstrip("=")
            assert code[shift + 1 : -1] not in images
    assert re.findall(r"<title>(.*?)</title>", page) == ["Blind ranking"]
    assert set(re.findall(r' alt="([^"]*)"', page)) == {
        "Input (bicubic)",
        "Reference",
        "Result A",
        "Result B",
        "Result C",
    }


def test_the_same_seed_gives_the_same_page_and_another_seed_another_order(tmp_path):
    evaluation = gray_evaluation(tmp_path, 8)
    first = page_of(evaluation, tmp_path, 1)
    assert page_of(evaluation, tmp_path, 1) == first
    other = page_of(evaluation, tmp_path, 2)
    (told, table), (other_told, other_table) = given(first), given(other)
    assert table["images"] == other_table["images"]
    assert [image for image, _ in table["steps"]] != [image for image, _ in other_table["steps"]]
    assert sorted(table["steps"]) != sorted(other_table["steps"])
    assert told["page"] == other_told["page"]
    assert (told["seed"], other_told["seed"]) == ("1", "2")
    assert told["salt"] != other_told["salt"]


def test_a_page_of_other_images_is_another_page(tmp_path):
    evaluation = gray_evaluation(tmp_path, 2)
    before = given(page_of(evaluation, tmp_path))[0]["page"]
    save(evaluation.images["beta", "scene_1"], np.full((16, 16, 3), 7, np.uint8))
    assert given(page_of(evaluation, tmp_path))[0]["page"] != before


def test_every_order_of_the_models_is_as_likely(tmp_path):
    names = [f"scene_{index}" for index in range(3000)]
    orders = Counter(tuple(opinion_page.shuffled_indices(["a", "b", "c"], f"5/{name}")) for name in names)
    assert orders.keys() == set(permutations(range(3)))
    assert all(abs(count - 500) < 5 * 20.4 for count in orders.values())  # five standard deviations


def test_bicubic_and_reference_are_shown_and_not_ranked(tmp_path):
    page = page_of(gray_evaluation(tmp_path, 2), tmp_path)
    for scene in page.split('<section class="scene"')[1:]:
        assert re.findall(r"<figcaption>([^<]+)</figcaption>", scene) == ["Input (bicubic)", "Reference"]
        assert re.findall(r'data-name="Result (.)"', scene) == ["A", "B", "C"]
    without = page_of(write_evaluation(tmp_path / "b", models=("x", "y"), samples=1, hr=False), tmp_path)
    assert 'class="hint"' not in without.partition("<main>")[2]


def test_many_images_are_drawn_from_whatever_the_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(opinion_page, "MOST_SCENES", 4)
    evaluation = gray_evaluation(tmp_path, 12)
    drawn_names = [set(given(page_of(evaluation, tmp_path, seed))[1]["images"]) for seed in range(3)]
    assert len(drawn_names[0]) == 4
    assert drawn_names[0] == drawn_names[1] == drawn_names[2]
    assert drawn_names[0] != {f"scene_{index}" for index in range(4)}


def test_of_a_large_image_the_part_is_shown_where_the_models_differ(tmp_path):
    evaluation = write_evaluation(tmp_path, models=("x", "y"), samples=1, draw=lambda seed: drawn(seed, 40, 1200))
    plain = np.full((40, 1200, 3), 99, np.uint8)
    odd = plain.copy()
    odd[:, 1000:] = 200
    save(evaluation.images["x", "scene_0"], plain)
    save(evaluation.images["y", "scene_0"], odd)
    page = page_of(evaluation, tmp_path)
    assert set(re.findall(r"--w:(\d+);--h:(\d+)", page)) == {("512", "40")}
    assert max(levels(page)[0]) > 99 + 30


@pytest.mark.parametrize("count", [0, 1, 10])
def test_it_takes_two_to_nine_models(tmp_path, count):
    evaluation = gray_evaluation(tmp_path, 1, ("bicubic", *(f"m{index}" for index in range(count))))
    with pytest.raises(ConfigError, match=f"2 to 9 models or folders beside bicubic, got {count}"):
        page_of(evaluation, tmp_path)
    assert not (tmp_path / "ranking.html").exists()


def test_nine_models_have_nine_ranks(tmp_path):
    page = page_of(gray_evaluation(tmp_path, 1, tuple(f"m{index}" for index in range(9))), tmp_path)
    assert re.findall(r'aria-label="Rank (\d) to I"', page) == list("123456789")


def test_odd_names_come_back_from_the_table(tmp_path):
    names = ["<b>\"&'</script>", "a/\N{GREEK SMALL LETTER ALPHA}", "\udcff"]
    evaluation = write_evaluation(tmp_path, models=("</script>x", 'y"'), names=names)
    page = page_of(evaluation, tmp_path)
    assert page.count("</script>") == 1
    _, table = given(page)
    assert sorted(table["images"]) == sorted(names)
    assert table["models"] == ["</script>x", 'y"']
    assert "<b>" not in unescape(re.sub(r"<figcaption><b>[A-I]</b>", "", page))


def test_the_page_asks_for_nothing_from_elsewhere(tmp_path):
    outside = re.sub(r'src="data:image/jpeg;base64,[\w+/=]*"', "", page_of(gray_evaluation(tmp_path, 1), tmp_path))
    assert not re.search(r"https?:|//[a-z]|@import|url\(|\bfetch\b|XMLHttp|import\(|src=|<link", outside)
    assert "content=\"default-src 'none'; img-src data:;" in outside


def test_bad_images_and_places_are_reported(tmp_path):
    evaluation = gray_evaluation(tmp_path, 1)
    with pytest.raises(ImageWriteError, match=r"no/page\.html could not be written"):
        write_ranking_page(evaluation, tmp_path / "no" / "page.html", seed=0)
    path = save(evaluation.images["beta", "scene_0"], drawn(0, 16, 20))
    with pytest.raises(DataError, match=re.escape(f"{path} has 20 x 16 pixels")):
        page_of(evaluation, tmp_path)
    path.write_bytes(b"")
    with pytest.raises(ImageReadError, match=re.escape(str(path))):
        page_of(evaluation, tmp_path)
