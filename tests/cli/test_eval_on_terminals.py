"""Tables of `ddnsr eval` on terminals of any width: no name and no interval is cut or broken."""

import re

import pytest

from ddnsr_cli.cli.evaluate import print_tables
from ddnsr_cli.commands.evaluate.tables import Table

NAMES = ("bicubic", "ddnsr-lite-full-name", "runs/mine \N{HIRAGANA LETTER A}")
METRICS = ("PSNR RGB (dB)", "SSIM RGB", "PSNR Y (dB)", "SSIM Y", "LPIPS AlexNet", "self-consistency (dB)")


def interval(row, column):
    return f"{row}{column}.118 [{row}{column}.023, {row}{column}.203]"


MEANS = Table(
    title="100 images, mean [95 % interval]",
    header=("", *METRICS),
    rows=tuple((name, *(interval(row, column) for column in range(6))) for row, name in enumerate(NAMES, 1)),
)


@pytest.fixture
def printed(capsys, monkeypatch):
    def run(table, width):
        monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich take anything for a terminal
        monkeypatch.setenv("COLUMNS", str(width))
        print_tables([table], closing="")
        return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)

    return run


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_names_and_intervals_are_whole_and_none_is_missing(printed, width):
    out = printed(MEANS, width)
    assert max(map(len, out.splitlines())) <= width
    assert "…" not in out
    for name in NAMES:
        assert name in out
    for row in range(1, 4):
        for column in range(6):
            mean, _, bounds = interval(row, column).partition(" ")
            assert (out.count(f" {mean} "), out.count(bounds)) == (1, 1)
    titles = [line for line in out.splitlines() if "interval" in line]
    assert titles[0].split("  ")[0] == MEANS.title
    assert all(", continued" in title for title in titles[1:])
    assert (len(titles) == 1) is (width == 200)


def test_a_name_that_is_longer_than_the_terminal_goes_over_several_lines(printed):
    name = "runs/" + "x" * 70 + "/end"
    out = printed(Table(title="t", header=("", "PSNR"), rows=((name, interval(1, 1)),)), 40)
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 40
    assert "[11.023, 11.203]" in out
    assert "".join(line.split("│")[1].strip() for line in out.splitlines() if "│" in line) == name


@pytest.mark.parametrize("width", [1, 5, 10])
def test_on_the_narrowest_terminal_something_is_drawn(printed, width):
    assert printed(MEANS, width)
