from itertools import product

import pytest

from ddnsr_cli.reports.results import figure, lead_model, worst_first, worst_median_best
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
