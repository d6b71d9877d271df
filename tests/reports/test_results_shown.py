from dataclasses import replace
from itertools import product

import pytest

from ddnsr_cli.commands.evaluate.tables import tables
from ddnsr_cli.reports.evaluation_page import means_html, values_html
from ddnsr_cli.reports.results import Metric, figure, lead_model, summarize, worst_first, worst_median_best
from tests.helpers.evaluation_results import LPIPS, PSNR, write_evaluation


@pytest.mark.parametrize(
    ("length", "most", "kept"),
    [
        (3, 12, [0, 1, 2]),
        (12, 12, list(range(12))),
        (13, 12, [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12]),
        (100, 12, [0, 1, 2, 3, 4, 5, 48, 49, 50, 97, 98, 99]),
        (9, 1, [0]),
        (9, 2, [0, 4]),
        (9, 3, [0, 1, 4]),
    ],
)
def test_half_are_the_worst_then_median_then_best(length, most, kept):
    assert worst_median_best(range(length), most) == kept


def test_never_more_than_asked_and_none_twice():
    for length, most in product(range(1, 30), range(1, 20)):
        kept = worst_median_best(range(length), most)
        assert len(kept) == min(length, most)
        assert kept == sorted(set(kept))
        assert kept[0] == 0


def test_the_worst_come_first_whichever_way_is_better(tmp_path):
    evaluation = write_evaluation(tmp_path, samples=3)
    evaluation.values["alpha", "scene_1"].update(psnr_rgb=10.0, lpips_alex=0.01)
    evaluation.values["alpha", "scene_2"].update(psnr_rgb=50.0, lpips_alex=0.9)
    assert worst_first(evaluation, "alpha", PSNR) == [1, 0, 2]
    assert worst_first(evaluation, "alpha", LPIPS) == [2, 0, 1]


def test_where_a_value_between_is_best_its_distance_decides(tmp_path):
    """The second overshoots the ideal on every image; the first falls short of it by less."""
    detail = Metric(key="detail", title="detail", higher_is_better=False, digits=2, ideal=1.0)
    evaluation = replace(write_evaluation(tmp_path, models=("near", "far"), samples=7), metrics=(detail,))
    for index, sample in enumerate(evaluation.samples):
        evaluation.values["near", sample.name]["detail"] = 0.9 - 0.01 * index
        evaluation.values["far", sample.name]["detail"] = 1.3 + 0.01 * index
    summary = summarize(evaluation, against="near")
    compared = summary.comparisons["far"]["detail"]
    assert (compared.verdict, compared.win_rate) == ("worse", 0)
    assert compared.difference.mean == pytest.approx(0.2)
    assert summary.means["far"]["detail"].mean == pytest.approx(1.33)
    assert summary.worst["far"][0] == "scene_6"
    assert worst_first(evaluation, "near", detail) == list(range(6, -1, -1))
    assert tables(evaluation, summary)[1].rows[0][0] == "far, detail, distance from 1"
    page = means_html(evaluation, summary) + values_html(evaluation, detail, range(7), frozenset())
    assert page.count('class="best"') == 8
    assert '<td class="best">0.87' in page  # the mean of the first
    assert '<td data-value="0.10' in page.replace(' class="best"', "")  # sorted by the distance, the largest first
    assert 'data-first="descending"><button type="button">near' in page
    assert page.count("nearer to 1 is better") == 2


@pytest.mark.parametrize(
    ("models", "against", "lead"),
    [
        (("bicubic", "a", "b"), None, "a"),
        (("bicubic", "a", "b"), "a", "b"),
        (("bicubic", "a"), "a", "a"),
        (("a",), None, "a"),
        (("bicubic",), None, "bicubic"),
    ],
)
def test_the_first_network_that_is_not_the_baseline_leads(tmp_path, models, against, lead):
    assert lead_model(write_evaluation(tmp_path, models=models, samples=1), against) == lead


def test_figures_are_fit_for_a_page():
    assert figure(-1.005, PSNR) == "\N{MINUS SIGN}1.00"
    assert figure(0.12345, LPIPS) == "0.1235"
