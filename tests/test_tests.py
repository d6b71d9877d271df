"""tests/README.md says where the tests of every module are."""

import re
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "ddnsr_cli"
ROWS = dict(
    pair
    for line in (HERE / "README.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| `")
    for modules, tests in [line.strip("| ").split(" | ")]
    for pair in ((module, re.findall(r"`([^`]*)`", tests)) for module in re.findall(r"`([^`]*)`", modules))
)


def test_every_module_has_tests_under_its_name_or_a_row():
    modules = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")}
    unnamed = {path.as_posix() for path in modules if not list((HERE / path.parent).glob(f"test_{path.stem}*.py"))}
    assert unnamed == ROWS.keys()


def test_every_row_names_tests_that_are_there():
    for tests in ROWS.values():
        assert tests
        assert all((HERE / name).is_file() for name in tests), tests


def test_no_test_replaces_what_a_module_holds_by_the_modules_name_as_text():
    named = [path.name for path in HERE.rglob("*.py") if re.search(r"setattr\(\s*f?[\"']", path.read_text("utf-8"))]
    assert named == []
