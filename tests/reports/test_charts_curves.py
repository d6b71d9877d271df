import numpy as np
import pytest

from ddnsr_cli.reports.charts import SMOOTH_FROM, evenly, extremes, smoothed, smoothing_points


@pytest.mark.parametrize("points", [1, 2, 39, 40, 120, 400, 6000])
def test_windows_are_odd_and_short_curves_are_left_alone(points):
    window = smoothing_points(points)
    assert window % 2 == 1
    assert (window == 1) == (points < SMOOTH_FROM)
    assert window <= max(3, points // 20)


def test_inside_a_smoothed_point_is_the_mean_around_it():
    values = np.random.default_rng(0).normal(size=50)
    line = smoothed(values, 7)
    for index in range(3, 47):
        assert line[index] == pytest.approx(values[index - 3 : index + 4].mean())


def test_the_last_point_is_the_mean_of_the_half_window_before_it():
    values = np.random.default_rng(0).normal(size=50)
    assert smoothed(values, 21)[-1] == pytest.approx(values[-11:].mean())


def test_the_first_point_takes_in_few_after_it():
    values = np.random.default_rng(0).normal(size=50)
    assert smoothed(values, 21)[0] == pytest.approx(values[:3].mean())


@pytest.mark.parametrize("window", [1, 3, 9, 99])
def test_a_level_stays_where_it_is(window):
    np.testing.assert_allclose(smoothed(np.full(40, 0.125), window), 0.125, rtol=1e-12)


def test_a_window_of_one_changes_nothing():
    values = np.random.default_rng(0).normal(size=50)
    np.testing.assert_allclose(smoothed(values, 1), values, rtol=0, atol=1e-12)


def test_thinning_keeps_every_peak_and_both_ends():
    values = np.random.default_rng(0).normal(size=6000)
    values[[1234, 4321]] = 50.0, -50.0
    kept = extremes(values, 300)
    assert len(kept) <= 602
    assert {0, 1234, 4321, 5999} <= set(kept.tolist())
    assert (np.diff(kept) > 0).all()


def test_thinning_keeps_the_reach_of_every_stretch():
    values = np.random.default_rng(0).normal(size=6000)
    kept = extremes(values, 300)
    for start in range(0, 6000, 20):
        inside = values[kept[(kept >= start) & (kept < start + 20)]]
        assert (inside.min(), inside.max()) == (values[start : start + 20].min(), values[start : start + 20].max())


@pytest.mark.parametrize("points", [1, 2, 599, 600, 6000])
def test_a_curve_short_enough_is_kept_whole(points):
    kept = extremes(np.random.default_rng(0).normal(size=points), 300)
    assert (len(kept) == points) == (points <= 600)


@pytest.mark.parametrize(("points", "most"), [(1, 400), (2, 400), (400, 400), (401, 400), (6000, 400)])
def test_even_points_hold_both_ends(points, most):
    kept = evenly(points, most)
    assert (kept[0], kept[-1]) == (0, points - 1)
    assert len(kept) == min(points, most)
    assert np.ptp(np.diff(kept)) <= 1 if len(kept) > 2 else True
