import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddnsr_cli.reports.charts import shown, shown_step, shown_ticks, step_axis, ticks, value_axis
from ddnsr_cli.reports.history import Scale

VALUES = st.lists(st.floats(-1e9, 1e9).map(lambda value: float(f"{value:.6g}")), min_size=1, max_size=8)


@given(values=VALUES, scale=st.sampled_from([Scale.FITTED, Scale.FROM_ZERO, Scale.DECADES]))
def test_every_axis_holds_its_values_and_round_ticks(values, scale):
    axis = value_axis(np.array(values), scale)
    assert axis.low < axis.high
    if not axis.log:
        assert axis.low <= min(values)
    assert max(values) <= axis.high
    assert len(axis.ticks) <= 6
    slack = 1e-6 * (axis.high - axis.low)
    assert len(set(shown_ticks(axis.ticks))) == len(set(axis.ticks))
    assert all(axis.low - slack <= tick <= axis.high + slack for tick in axis.ticks)
    places = axis.place(np.array(values))
    assert ((places >= 0) & (places <= 1)).all()


def test_ticks_of_next_to_nothing_have_all_their_digits():
    """Numbers so small have few bits, and what is round is not quite."""
    axis = value_axis(np.array([2.22507e-313]), Scale.FITTED)
    assert [float(text) for text in shown_ticks(axis.ticks)] == list(axis.ticks)


@pytest.mark.parametrize(
    ("values", "log"),
    [([1.0, 9.0], False), ([1.0, 10.0], True), ([1e-9, 1.0], True), ([-1.0, 100.0], False), ([0.0, 0.0], False)],
)
def test_decades_are_for_values_that_span_one(values, log):
    assert value_axis(np.array(values), Scale.DECADES).log is log
    assert not value_axis(np.array(values), Scale.FITTED).log


def test_a_logarithmic_axis_places_by_factors():
    axis = value_axis(np.array([0.01, 1.0]), Scale.DECADES)
    low, middle, high = axis.place(np.array([0.01, 0.1, 1.0]))
    assert high - middle == pytest.approx(middle - low)
    assert {0.01, 0.1, 1.0} <= set(axis.ticks)


def test_a_zero_on_a_logarithmic_axis_lies_at_its_foot():
    axis = value_axis(np.array([0.0, 0.01, 1.0]), Scale.DECADES)
    assert axis.log
    assert axis.place(np.array([0.0])) == 0


def test_beliefs_lie_on_the_same_axis_whatever_they_are():
    axis = value_axis(np.array([0.4, 0.6]), Scale.UNIT)
    assert (axis.low, axis.high) == (0, 1)
    np.testing.assert_array_equal(axis.place(np.array([0.0, 0.4, 1.0])), [0.0, 0.4, 1.0])


@pytest.mark.parametrize("scale", list(Scale))
@pytest.mark.parametrize("value", [0.0, 0.5, 1e-4])
def test_a_flat_curve_has_an_axis(scale, value):
    axis = value_axis(np.full(3, value), scale)
    assert axis.low <= value <= axis.high
    assert axis.low < axis.high


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1)),
        (22.4, 24.9, (22.5, 23, 23.5, 24, 24.5)),
        (0, 300_000, (0, 100_000, 200_000, 300_000)),
        (0, 1.05e-4, (0, 5e-5, 1e-4)),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("last", [0, 1, 3, 50, 2350, 300_000])
def test_ticks_of_steps_are_whole_and_inside(last):
    axis = step_axis(last)
    assert all(tick == int(tick) and 0 <= tick <= axis.high for tick in axis.ticks)
    assert len(axis.ticks) >= 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0493058, "0.04931"),
        (24.31, "24.31"),
        (0.0, "0"),
        (-0.5, "-0.5"),
        (1250.0, "1250"),
        (99999.9, "100000"),
        (123456.0, "123500"),
        (2.5e-5, "0.000025"),
        (1e-7, "1e-7"),
        (1.25e-12, "1.25e-12"),
    ],
)
def test_figures_have_four_digits_that_count(value, text):
    assert shown(value) == text
    assert float(text) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((25.1575, 25.16, 25.1625), ["25.1575", "25.16", "25.1625"]),
        ((22.5, 23.0), ["22.5", "23"]),
        ((1234567.0, 1234568.0), ["1234567", "1234568"]),
        ((0.0, 5e-7, 1e-6, 1.5e-6), ["0", "5e-7", "1e-6", "1.5e-6"]),
        ((1.2345e-4, 1.2346e-4, 1.2347e-4), ["1.2345e-4", "1.2346e-4", "1.2347e-4"]),
        ((0.0, 5e-4, 1e-3), ["0", "0.0005", "0.001"]),
        ((0.0,), ["0"]),
        ((), []),
    ],
)
def test_ticks_of_an_axis_can_be_told_apart(values, texts):
    assert shown_ticks(values) == texts


@pytest.mark.parametrize(("step", "text"), [(0, "0"), (500, "500"), (1500, "1.5k"), (300_000, "300k"), (2e6, "2M")])
def test_steps_are_short(step, text):
    assert shown_step(step) == text
