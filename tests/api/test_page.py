"""docs/python.md: what it shows runs, in order, in one program."""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/python.md"
PACKAGES = {"PIL": "pillow", "skimage": "scikit-image"}


def test_what_the_code_imports_comes_with_the_command_of_the_page():
    page = PAGE.read_text(encoding="utf-8")
    (command,) = re.findall(r"^pip install (.*?)  +#", page, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = {*command.split(), *(re.match(r"[\w-]+", one)[0] for one in project["dependencies"]), "ddnsr_cli"}
    imported = set(re.findall(r"^(?:import|from) (\w+)", page, re.MULTILINE)) - sys.stdlib_module_names
    assert imported > {"PIL", "numpy", "torch"}
    assert {PACKAGES.get(name, name) for name in imported} <= installed


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 7
    names = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)
    assert (tmp_path / "photo_x4.tif").is_file()
