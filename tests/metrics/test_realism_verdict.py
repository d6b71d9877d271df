"""The verdict follows the figures, within the limits that it states."""

from dataclasses import replace

import pytest

from ddnsr_cli.metrics.noise_transfer import NoiseTransfer
from ddnsr_cli.metrics.realism import Realism, compare

REAL = Realism(
    images=20,
    measured=20,
    noise=8.0,
    noise_rgb=(8.0, 8.0, 8.0),
    each_noise=(7.0, 8.0, 9.0),
    neighbors=0.35,
    channels=0.4,
    by_brightness=(None, 6.0, 7.0, 8.0, 9.0, 10.0, None, None),
    noise_spectrum=(9.0, 8.0, 7.0, 6.0, 5.0, 4.0),
    spectrum=(50.0,) * 16,
    mean_rgb=(100.0, 110.0, 120.0),
    contrast=50.0,
)


def test_a_close_set_is_reported_in_one_sentence():
    verdict = compare(REAL, replace(REAL, noise=7.12, neighbors=0.31, channels=0.38))
    assert verdict.close is True
    assert verdict.sentence == (
        "Noise 7.1 against 8.0 levels, neighbors correlate 0.31 against 0.35, channels 0.38 against 0.40: "
        "the fake LR is close to the real."
    )
    assert len(verdict.checks) == 4


@pytest.mark.parametrize("method", ["learned", "patches", "gaussian", "bicubic", "classical", "impressionism"])
def test_what_to_try_next_follows_the_method_and_is_another(method):
    verdict = compare(REAL, replace(REAL, noise=1.0), method=method)
    assert verdict.advice.endswith("train a degrader on these images (ddnsr train --track 2) and name it with -m.")
    assert ("--method patches" in verdict.advice) == (method not in ("patches", "impressionism"))
    assert compare(REAL, REAL, method=method).advice == ""


def test_a_degrader_that_loses_noise_is_to_be_trained_on():
    transfer = NoiseTransfer(carried_flat=0.5, carried_textured=0.9, leaked=0.0)
    assert "--loss noise_transfer" in compare(REAL, REAL, transfer).advice


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"noise": 6.3}, "too weak"),
        ({"noise": 10.1}, "too strong"),
        ({"neighbors": 0.24}, "too fine"),
        ({"neighbors": 0.46}, "too coarse"),
        ({"channels": 0.24}, "too colorful"),
        ({"channels": 0.56}, "too gray"),
        ({"by_brightness": (None, 10.0, 9.0, 8.0, 7.0, 6.0, None, None)}, "spread differently between dark and bright"),
    ],
)
def test_each_fault_is_named(change, fault):
    verdict = compare(REAL, replace(REAL, **change))
    assert verdict.close is False
    assert verdict.sentence.endswith(f": the noise of the fake LR is {fault}.")
    assert [check.fault for check in verdict.checks if check.fault] == [fault]


@pytest.mark.parametrize(
    "change",
    [
        {"noise": 6.5},
        {"noise": 9.9},
        {"neighbors": 0.26},
        {"neighbors": 0.44},
        {"channels": 0.26},
        {"channels": 0.54},
        {"by_brightness": (None, 3.0, 3.5, 4.0, 4.5, 5.0, None, 9.0)},  # the same course, at half the level
        {"mean_rgb": (10.0, 200.0, 10.0), "contrast": 5.0},  # the subjects' own
    ],
)
def test_within_the_limits_nothing_is_said(change):
    assert compare(REAL, replace(REAL, **change)).close is True


def test_several_faults_are_listed():
    verdict = compare(REAL, replace(REAL, noise=1.0, neighbors=0.0, channels=0.9))
    assert verdict.sentence.endswith("the noise of the fake LR is too weak, too fine and too gray.")


def test_hardly_any_noise_is_compared_in_levels():
    faint = replace(REAL, noise=0.3, neighbors=None, channels=None)
    verdict = compare(faint, replace(faint, noise=0.7))
    assert verdict.sentence == "Noise 0.7 against 0.3 levels: the fake LR is close to the real."
    assert compare(faint, replace(faint, noise=0.0)).close is True
    assert compare(REAL, replace(faint, noise=0.0)).close is False


def test_without_figures_there_is_no_verdict():
    blind = replace(REAL, measured=0, noise=None, neighbors=None, channels=None, by_brightness=(None,) * 8)
    verdict = compare(REAL, blind)
    assert verdict.close is None
    assert "20 of 20 real and 0 of 20 fake" in verdict.sentence
    assert verdict.checks == ()


@pytest.mark.parametrize(
    ("shares", "fault"),
    [
        ((0.95, 0.93, 0.05), None),
        ((0.6, 0.95, 0.05), "lost in flat parts"),
        ((0.95, 0.6, 0.05), "lost in texture"),
        ((0.95, 0.95, 0.3), "mixed with 30% of the noise image's own detail"),
    ],
)
def test_what_a_degrader_makes_of_its_noise_input_counts(shares, fault):
    flat, textured, leaked = shares
    transfer = NoiseTransfer(carried_flat=flat, carried_textured=textured, leaked=leaked)
    verdict = compare(REAL, REAL, transfer)
    assert verdict.close is (fault is None)
    assert len(verdict.checks) == 7
    assert [check.apart for check in verdict.checks[-3:]] == [
        f"{flat - 1:+.2f}",
        f"{textured - 1:+.2f}",
        f"{leaked:+.2f}",
    ]
    assert [check.fault for check in verdict.checks if check.fault] == [fault] * (fault is not None)
    assert verdict.sentence.endswith(f"the noise of the fake LR is {fault}." if fault else "close to the real.")
