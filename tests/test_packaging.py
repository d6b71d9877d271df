"""What leaves the project: the wheel, the README's commands, the pinned versions."""

import email.parser
import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from ddnsr_cli import __version__
from ddnsr_cli.weights.registry import read_registry
from ddnsr_cli.weights.resolve import find_weights
from tests.helpers.packages import built

ROOT = Path(__file__).parents[1]


def normal(name):
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def wheel(built_wheel):
    return zipfile.ZipFile(built_wheel)


def test_the_wheel_holds_registry_weights_and_license(wheel):
    names = set(wheel.namelist())
    assert {"ddnsr_cli/weights.toml", "ddnsr_cli/py.typed"} <= names
    assert {f"ddnsr_cli/reports/page.{kind}" for kind in ("html", "css", "js")} <= names
    pages = [f"{page}.{kind}" for page in ("eval_page", "opinion_page") for kind in ("html", "css", "js")]
    assert {f"ddnsr_cli/reports/{name}" for name in pages} <= names
    assert {f"ddnsr_cli/reports/realism.{kind}" for kind in ("html", "css")} <= names
    assert {f"ddnsr_cli/reports/{name}" for name in ("shell.html", "base.css")} <= names
    assert all(
        any(name.endswith(f"licenses/{one}") for name in names)
        for one in ("LICENSE", "LICENSES/Apache-2.0.txt", "NOTICE")
    )
    assert {f"ddnsr_cli/pretrained/{name}.safetensors" for name in ("lpips_v0.1_heads", "niqe_pristine")} <= names
    entries = tomllib.loads(wheel.read("ddnsr_cli/weights.toml").decode())["weights"]
    bundled = [entry for entry in entries if "bundled" in entry]
    assert {entry["license"] for entry in bundled} == {"MIT", "BSD-3-Clause"}
    for entry in bundled:
        assert len(wheel.read(f"ddnsr_cli/{entry['bundled']}")) == entry["bytes"]
    assert not [name for name in names if name.startswith(("tests/", "docs/", "examples/"))]


@pytest.fixture(scope="session")
def metadata(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    return email.parser.Parser().parsestr(wheel.read(name).decode())


def test_the_license_expression_names_all_licenses_in_the_wheel(metadata, wheel):
    notice = read("NOTICE")
    named = set(metadata["License-Expression"].split(" AND "))
    for license_, words in {
        "BSD-2-Clause": "Redistribution and use in source and binary forms",
        "BSD-3-Clause": "BSD 3-Clause License",
        "Apache-2.0": "Apache License, Version 2.0",
    }.items():
        assert (license_ in named) == (words in notice)
    entries = tomllib.loads(read("weights.toml"))["weights"]
    assert named == {"BSD-2-Clause", "Apache-2.0"} | {entry["license"] for entry in entries if "bundled" in entry}


def test_all_addresses_are_of_one_repository(metadata):
    addresses = dict(line.split(", ", 1) for line in metadata.get_all("Project-URL"))
    assert {"Homepage", "Documentation", "Changelog", "Issues"} <= set(addresses)
    assert all(address.startswith(addresses["Homepage"]) for address in addresses.values())
    for name, folder in (("Documentation", "docs"), ("Changelog", "CHANGELOG.md")):
        assert addresses[name].endswith(f"/{folder}")
        assert (ROOT / folder).exists()


def test_the_description_links_to_files_of_the_release(metadata):
    text = metadata.get_payload()
    assert metadata["Description-Content-Type"] == "text/markdown"
    home = dict(line.split(", ", 1) for line in metadata.get_all("Project-URL"))["Homepage"]
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", text)
    assert len(links) > 20
    for image, link in links:
        assert link.startswith("https://")
        if link.startswith(home):
            base = f"{home}/{'raw' if image else 'blob'}/v{__version__}/"
            assert link.startswith(base)
            path = link.removeprefix(base).partition("#")[0]
            assert (ROOT / path).exists() or path.startswith("research/")
    plain = re.sub(rf"{home}/(?:raw|blob)/v{re.escape(__version__)}/", "", text)
    assert plain.strip() == read("README.md").strip()


def files_for_research(names):
    entries = tomllib.loads(read("weights.toml"))["weights"]
    files = {Path(entry["beside"]).name for entry in entries if entry.get("research_only")}
    assert files == {"ddnsr-track2.safetensors", "degrader-track2.safetensors"}
    return [name for name in names if Path(name).name in files or "research" in Path(name).parts]


def test_the_weights_for_research_are_in_no_package(wheel, tmp_path):
    assert files_for_research(wheel.namelist()) == []
    with tarfile.open(built("sdist", tmp_path)) as sdist:
        names = sdist.getnames()
    assert any(name.endswith("/ddnsr_cli/pretrained/ddnsr-lite.safetensors") for name in names)
    assert files_for_research(names) == []


@pytest.mark.skipif(not (ROOT / ".github").is_dir(), reason="packages come without the weights for research")
def test_the_weights_for_research_are_in_the_clone():
    registry = read_registry()
    for name in ("ddnsr-track2", "degrader-track2"):
        found = find_weights(name, registry=registry, network=None, offline=True)
        assert found.path.parent == ROOT / "research"
        assert "research only" in found.terms


def test_readme_tells_how_many_models_come_along_and_their_size():
    entries = tomllib.loads(read("weights.toml"))["weights"]
    sizes = [entry["bytes"] for entry in entries if "bundled" in entry]
    count = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")[len(sizes)]
    assert f"{count} come with the program, {sum(sizes) / 1e6:.0f} MB in all" in read("README.md")


def test_every_requirement_is_pinned():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    names = {normal(re.match(r"[\w-]+", line).group()) for line in wanted}
    pinned = {normal(line.split("==")[0]) for line in read("constraints.txt").splitlines() if "==" in line}
    assert names <= pinned


def test_both_readme_commands_use_the_pins():
    commands = [line for line in read("README.md").splitlines() if line.startswith("python3 -m venv ")]
    assert len(commands) == 2
    assert all("-c constraints.txt" in command for command in commands)
    assert ".venv/bin/ddnsr upscale examples/" in commands[0]
    assert commands[1].endswith("bin/pytest -n auto --dist loadfile")


def test_every_test_that_a_page_names_exists():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "recipes").rglob("*.md")]
    named = {path for page in pages for path in re.findall(r"\btests/[\w/]+(?:\.py\b|/)", page.read_text("utf-8"))}
    assert len(named) > 20
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
