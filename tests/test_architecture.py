"""docs/architecture.md says what is so: files, names, layers and packages."""

import ast
import functools
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ddnsr_cli"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FILES = re.findall(r"(?<![\w./])((?:[\w.-]+/)*\w[\w-]*\.(?:py|toml))(?::(\w+))?", PAGE)
FOLDERS = re.findall(r"`((?:\w+/)+)`", PAGE)


def place(path):
    """Inside the package, else in the repository; None: it is nowhere."""
    return next((base / path for base in (PACKAGE, ROOT) if (base / path).exists()), None)


def names_in(path):
    """What a module defines at its top."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def test_every_module_on_the_page_exists():
    modules = {path for path, _ in FILES}
    assert len(modules) > 50
    assert [path for path in sorted(modules) if place(path) is None] == []


def test_every_name_on_the_page_is_in_its_module():
    named = {(path, name) for path, name in FILES if name}
    assert len(named) > 50
    assert [f"{path}:{name}" for path, name in sorted(named) if name not in names_in(place(path))] == []


def test_every_folder_on_the_page_exists_and_every_package_is_on_it():
    assert [folder for folder in FOLDERS if folder != "ddnsr_cli/" and place(folder) is None] == []
    packages = {f"{path.name}/" for path in PACKAGE.iterdir() if path.name != "__pycache__" and any(path.glob("*.*"))}
    rows = set(re.findall(r"^\| `(\w+/)` \|", PAGE, flags=re.MULTILINE))
    assert packages == rows


def test_the_image_is_that_of_the_import_contracts():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    (image,) = re.findall(r"```text\n(.*?)```", PAGE, flags=re.DOTALL)
    drawn = [line.strip() for line in image.splitlines() if line.strip() != "|"]
    assert [re.split(r"\s{3,}", line)[0] for line in drawn] == [layer.replace("ddnsr_cli.", "") for layer in layers]


def imported_at_the_top(path):
    """The modules of the package that a module imports when it is imported itself; not those for type checkers."""
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    for node in (node for node in nodes if isinstance(node, ast.ImportFrom) and node.module):
        for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
            place = ROOT / f"{name.replace('.', '/')}.py"
            if place.is_file():
                yield place


def test_the_modules_are_few_and_no_chain_of_imports_is_long():
    modules = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= 141

    @functools.cache
    def chain(path):
        return 1 + max((chain(below) for below in imported_at_the_top(path)), default=0)

    assert max(map(chain, modules)) == 9


def assigned_outside_init(path):
    """The attributes that methods other than __init__ give a new value, `self.x = ...`; counting up is left out."""
    classes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ClassDef)]
    methods = [node for one in classes for node in one.body if isinstance(node, ast.FunctionDef)]
    for method in (one for one in methods if one.name != "__init__"):
        for node in ast.walk(method):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if isinstance(node, ast.Assign | ast.AnnAssign):
                yield from (name for target in targets for name in ast.walk(target) if is_of_self(name))


def is_of_self(node):
    held = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    return held and isinstance(node.value, ast.Name) and node.value.id == "self"


def test_hardly_any_attribute_gets_another_value_outside_init():
    modules = list(PACKAGE.rglob("*.py"))
    lines = sum(path.read_text(encoding="utf-8").count("\n") for path in modules)
    assert sum(len(list(assigned_outside_init(path))) for path in modules) <= lines / 1000


def test_the_page_is_linked():
    assert "(docs/architecture.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "(docs/architecture.md)" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
