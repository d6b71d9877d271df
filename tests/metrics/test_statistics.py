import itertools
import math
import sys
from dataclasses import replace

import numpy as np
import pytest

from ddnsr_cli.metrics import statistics
from ddnsr_cli.metrics.statistics import Interval, compare_paired, corrected, mean_interval, wilcoxon_p


def normal(count, seed=0, center=30.0):
    return (center + 3 * np.random.default_rng(seed).standard_normal(count)).tolist()


def width(interval):
    return interval.high - interval.low


def test_the_interval_lies_around_the_mean():
    interval = mean_interval(normal(40))
    assert interval.mean == pytest.approx(np.mean(normal(40)))
    assert interval.low < interval.mean < interval.high


def test_it_holds_the_truth_as_often_as_it_promises():
    held = [one.low < 30 < one.high for one in (mean_interval(normal(40, seed)) for seed in range(200))]
    assert 0.90 < np.mean(held) < 0.985


def test_it_equals_scipys_percentile_bootstrap():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(3).exponential(size=30)  # lopsided, so the two ends differ
    rng = np.random.default_rng(4)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=rng).confidence_interval
    ours = mean_interval(values.tolist())
    tolerance = 0.04 * (theirs.high - theirs.low)
    assert ours.low == pytest.approx(theirs.low, abs=tolerance)
    assert ours.high == pytest.approx(theirs.high, abs=tolerance)
    assert abs((ours.high - ours.mean) - (ours.mean - ours.low)) > tolerance


def test_more_images_tell_more():
    assert width(mean_interval(normal(400))) < width(mean_interval(normal(40))) / 2


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    values = normal(25)
    assert mean_interval(values, seed=5) == mean_interval(values, seed=5)
    assert mean_interval(values, seed=5) != mean_interval(values, seed=6)


def test_how_much_is_drawn_at_once_changes_nothing():
    assert mean_interval(normal(25), values_at_once=100) == mean_interval(normal(25))


def test_one_image_tells_of_no_other():
    interval = mean_interval([27.0])
    assert interval.mean == 27
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


@pytest.mark.parametrize("values", [[], [1.0, math.inf], [1.0, math.nan]])
def test_no_mean_of_nothing_or_of_infinity(values):
    with pytest.raises(ValueError, match="finite"):
        mean_interval(values)


def test_pairs_are_told_from_groups():
    """A difference that single images drown is clear image by image."""
    theirs = normal(30)
    ours = [value + 0.1 + 0.01 * (place % 3) for place, value in enumerate(theirs)]
    paired = compare_paired(ours, theirs, higher_is_better=True)
    assert paired.difference.low > 0.1
    assert width(paired.difference) < width(mean_interval(theirs)) / 50
    assert paired.win_rate == 1


@pytest.mark.parametrize(("higher_is_better", "rate"), [(True, 0.625), (False, 0.375)])
def test_a_draw_is_half_a_win_and_the_metric_says_what_is_better(higher_is_better, rate):
    paired = compare_paired([2, 2, 1, 5], [1, 1, 2, 5], higher_is_better=higher_is_better)
    assert paired.win_rate == rate
    assert paired.difference.mean == 0.25


def test_other_lengths_are_refused():
    with pytest.raises(ValueError, match="2 and 3"):
        compare_paired([1, 2], [1, 2, 3], higher_is_better=True)


@pytest.mark.parametrize(("differences", "p"), [([1, 2, 3, 4, 5, 6, 7, 8], 2 / 256), ([-1, 2, 3, 4, 5], 4 / 32)])
def test_wilcoxons_exact_p_by_hand(differences, p):
    """Of the 2^n ways to sign the ranks, those as far out as this one, on both sides."""
    assert wilcoxon_p(np.array(differences, float)) == pytest.approx(p)
    assert wilcoxon_p(np.array([*differences, 0, 0], float)) == pytest.approx(p)


def test_equal_models_do_not_differ():
    assert wilcoxon_p(np.zeros(9)) == 1


def by_all_signs(differences):
    """The definition: every way to sign the mean ranks of the sizes, one by one."""
    sizes = np.abs(differences)
    ranks = np.array([(sizes < size).sum() + ((sizes == size).sum() + 1) / 2 for size in sizes])
    sums = np.array([ranks[list(signs)].sum() for signs in itertools.product([False, True], repeat=len(ranks))])
    outer = min(ranks[differences > 0].sum(), ranks[differences < 0].sum())
    return min(1.0, 2 * float((sums <= outer + 1e-9).mean()))


@pytest.mark.parametrize("seed", range(12))
def test_wilcoxons_p_is_exact_with_ties_too(seed):
    rng = np.random.default_rng(seed)
    differences = np.round(rng.normal(0.4, 1, 3 + seed % 9), seed % 3)
    differences = differences[differences != 0]
    assert wilcoxon_p(differences) == pytest.approx(by_all_signs(differences), abs=1e-12)


@pytest.mark.parametrize("count", [1, 6, 20, 50, 120, 200, 201, 2000])
def test_wilcoxons_p_is_that_of_scipy(count):
    stats = pytest.importorskip("scipy.stats")
    differences = np.random.default_rng(count).normal(0.1, 1, count)
    theirs = stats.wilcoxon(differences, method="exact" if count <= 200 else "asymptotic").pvalue
    assert wilcoxon_p(differences) == pytest.approx(theirs, rel=1e-9)


def test_the_approximation_meets_the_count(monkeypatch):
    differences = np.round(np.random.default_rng(1).normal(0.15, 1, 200), 1)
    exact = wilcoxon_p(differences)
    monkeypatch.setattr(statistics, "MOST_EXACT", 0)
    assert wilcoxon_p(differences) == pytest.approx(exact, abs=2e-3)


@pytest.mark.parametrize(
    ("ours", "higher", "verdict"),
    [
        ([2.0, 3, 4, 5, 6, 7, 8], True, "better"),
        ([2.0, 3, 4, 5, 6, 7, 8], False, "worse"),
        ([2.0, 3], True, "not clear"),  # the interval leaves out 0, and two images say nothing
        ([2.0, 3, 4, 5, 6], True, "not clear"),
        ([2.0, -3, 4, -5, 6, -7, 8], True, "not clear"),
    ],
)
def test_the_verdict_is_one_and_needs_no_other_package(monkeypatch, ours, higher, verdict):
    for absent in (False, True):
        if absent:
            monkeypatch.setitem(sys.modules, "scipy", None)
            monkeypatch.setitem(sys.modules, "scipy.stats", None)
        assert compare_paired(ours, [1.0] * len(ours), higher_is_better=higher).verdict == verdict


def paired_of(p, *, mean=1.0):
    """A comparison with that p, whose interval leaves out 0."""
    one = compare_paired([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], higher_is_better=True)
    return replace(one, difference=Interval(mean=mean, low=mean - 0.5, high=mean + 0.5), p_value=p)


def test_of_several_models_p_is_corrected_by_holm():
    """R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") is 0.03, 0.06, 0.06, 0.02."""
    found = corrected([paired_of(p) for p in (0.01, 0.04, 0.03, 0.005)], higher_is_better=True)
    assert [one.family_p for one in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [one.p_value for one in found] == [0.01, 0.04, 0.03, 0.005]
    assert [one.verdict for one in found] == ["better", "not clear", "not clear", "better"]
    assert [one.family_p for one in corrected([paired_of(p) for p in (0.6, 0.7)], higher_is_better=True)] == [1.0, 1.0]


def test_a_model_alone_keeps_its_p_and_words_follow_the_direction():
    (alone,) = corrected([paired_of(0.04, mean=-1.0)], higher_is_better=True)
    assert (alone.family_p, alone.verdict) == (0.04, "worse")
    (lower,) = corrected([paired_of(0.04, mean=-1.0)], higher_is_better=False)
    assert lower.verdict == "better"
