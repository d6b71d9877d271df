import json

import pytest

from ddnsr_cli.config import options_from_json, options_to_json
from ddnsr_cli.data.config import DegradationConfig, StreamConfig
from ddnsr_cli.errors import ConfigError
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.training.loop import Rhythm
from ddnsr_cli.training.options import ScheduleConfig
from ddnsr_cli.training.paired_options import PairedOptions, PairSource

SCHEDULE = ScheduleConfig(steps=100, learning_rate=0.5, warmup_steps=10, fall_share=0.2)


def test_the_rate_rises_straight_to_its_peak():
    assert [SCHEDULE.rate_at(step) for step in range(10)] == pytest.approx([0.05 * n for n in range(1, 11)])


def test_the_rate_stays_at_its_peak():
    assert {SCHEDULE.rate_at(step) for step in range(9, 81)} == {0.5}


def test_the_rate_falls_straight_and_the_last_step_still_moves():
    assert [SCHEDULE.rate_at(step) for step in range(80, 100)] == pytest.approx([0.025 * n for n in range(20, 0, -1)])
    assert SCHEDULE.rate_at(100) == SCHEDULE.rate_at(101) == 0


def test_without_rise_and_fall_the_rate_is_its_peak_from_first_to_last():
    flat = ScheduleConfig(steps=50, learning_rate=0.5, warmup_steps=0, fall_share=0.0)
    assert {flat.rate_at(step) for step in range(50)} == {0.5}


def test_where_rise_and_fall_meet_the_lower_of_them_counts():
    steep = ScheduleConfig(steps=10, learning_rate=1.0, warmup_steps=10, fall_share=1.0)
    assert [steep.rate_at(step) for step in range(10)] == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.4, 0.3, 0.2, 0.1]
    )


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("rise", [0, 100])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_rate_of_every_step_is_above_zero_and_never_above_its_peak(steps, rise, share):
    schedule = ScheduleConfig(steps=steps, learning_rate=0.5, warmup_steps=rise, fall_share=share)
    assert all(0 < schedule.rate_at(step) <= 0.5 for step in range(steps))


@pytest.mark.parametrize(
    "nonsense",
    [
        lambda: ScheduleConfig(steps=0),
        lambda: ScheduleConfig(learning_rate=0.0),
        lambda: ScheduleConfig(warmup_steps=-1),
        lambda: ScheduleConfig(fall_share=1.5),
        lambda: Rhythm(log_steps=0),
        lambda: Rhythm(save_steps=-1),
        lambda: Rhythm(validate_steps=0),
        lambda: PairedOptions(ema_decay=1.0),
        lambda: PairedOptions(ema_decay=-0.1),
        lambda: PairedOptions(clip_norm=0.0),
        lambda: PairedOptions(stream=StreamConfig(crop_px=30)),
    ],
)
def test_options_that_mean_nothing_are_refused(nonsense):
    with pytest.raises(ConfigError):
        nonsense()


def test_a_network_of_another_scale_than_the_pairs_is_refused():
    with pytest.raises(ConfigError, match="2 times but the pairs are shrunk 4 times"):
        PairedOptions(network=RRDBConfig(scale=2))
    PairedOptions(network=RRDBConfig(scale=2), sources=(PairSource(degradation=DegradationConfig(scale=2)),))


def test_options_come_back_from_json(tiny_options):
    for options in (PairedOptions(), tiny_options(seed=3, ema_decay=0.5)):
        assert options_from_json(PairedOptions, json.loads(json.dumps(options_to_json(options)))) == options
