from pathlib import Path

from ddnsr_cli.errors import shown


def test_paths_are_shown_on_one_line():
    assert shown(Path("a\nb\x1b[31m\udce9ü.png")) == "a?b?[31m?ü.png"
