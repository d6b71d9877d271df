import json

import pytest

from ddnsr_cli.reports.history import read_history


@pytest.fixture
def history(tmp_path):
    """`history(rows, tail=b"")`: what a log of these rows, then these bytes, tells."""

    def read(rows, tail=b""):
        log = tmp_path / "log.jsonl"
        log.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows) + tail)
        return read_history(log)

    return read


def points(history, name):
    curve = history.curves[name]
    return list(zip(curve.steps.tolist(), curve.values.tolist(), strict=True))


def test_rows_become_curves(history):
    seen = history([{"step": 50, "l1": 0.5, "rate": 1e-4}, {"step": 50, "psnr_db": 20}, {"step": 100, "l1": 0.25}])
    assert seen.step == 100
    assert seen.left_out == 0
    assert points(seen, "l1") == [(50, 0.5), (100, 0.25)]
    assert points(seen, "psnr_db") == [(50, 20.0)]
    assert list(seen.curves) == ["l1", "rate", "psnr_db"]


@pytest.mark.parametrize(
    "tail", [b'{"step": 150, "l1', b'{"step": 150}x', b'{"step": 150, "l1": "\xff\xfe', b"[1, 2]\n"]
)
def test_a_line_cut_by_a_kill_is_left_out(history, tail):
    seen = history([{"step": 100, "l1": 0.25}], tail)
    assert (seen.step, seen.left_out) == (100, 1)
    assert points(seen, "l1") == [(100, 0.25)]


def test_rows_after_a_cut_line_are_read(history):
    seen = history([{"step": 100, "l1": 0.25}], b'{"step": 1\n{"step": 150, "l1": 0.2}\n')
    assert (seen.step, seen.left_out) == (150, 1)
    assert points(seen, "l1") == [(100, 0.25), (150, 0.2)]


def test_a_whole_last_line_counts_without_its_line_end(history):
    assert history([], b'{"step": 50, "l1": 0.5}').step == 50


def test_steps_done_twice_count_as_done_the_second_time(history):
    before = [{"step": step, "l1": 1.0} for step in (50, 100, 150, 200)] + [{"step": 200, "psnr_db": 30.0}]
    after = [{"step": step, "l1": 2.0} for step in (120, 170)]
    seen = history(before + after)
    assert seen.step == 170
    assert points(seen, "l1") == [(50, 1.0), (100, 1.0), (120, 2.0), (170, 2.0)]
    assert "psnr_db" not in seen.curves


def test_a_step_logged_twice_in_a_row_counts_once(history):
    assert points(history([{"step": 50, "l1": 1.0}, {"step": 50, "l1": 2.0}]), "l1") == [(50, 2.0)]


def test_what_is_no_finite_number_is_left_out(history):
    seen = history([{"step": 50, "l1": float("nan"), "psnr_db": float("inf"), "t": "21:12", "on": True, "n": None}])
    assert seen.curves == {}
    assert seen.step == 50


@pytest.mark.parametrize("row", [{"l1": 0.5}, {"step": "50", "l1": 0.5}, {"step": True, "l1": 0.5}])
def test_a_row_without_a_step_is_left_out(history, row):
    seen = history([row])
    assert (seen.curves, seen.left_out) == ({}, 1)


def test_no_log_is_an_empty_log(tmp_path):
    seen = read_history(tmp_path / "log.jsonl")
    assert (seen.step, seen.curves, seen.left_out) == (0, {}, 0)


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b'{"step": 99999999999999999999999, "l1": 1}', b'{"step": -1, "l1": 1}']
)
def test_a_damaged_line_of_any_kind_is_left_out(history, line):
    seen = history([{"step": 100, "l1": 0.25}], line + b"\n")
    assert (seen.step, seen.left_out) == (100, 1)


def test_a_whole_number_beyond_floats_is_left_out(history):
    assert history([], b'{"step": 1, "l1": 1' + b"0" * 400 + b"}\n").curves == {}
