"""docs/python.md: what it shows runs, in order, in one program."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/python.md"


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 7
    names = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)
    assert (tmp_path / "photo_x4.tif").is_file()
