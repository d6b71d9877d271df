""".ci/release.py: what it finds before it builds anything. The whole of it takes minutes and is run by hand."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from ddnsr_cli import __version__

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".ci" / "release.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="installed without the repository")
RELEASED = f"""# Changelog

## [Unreleased]

## [{__version__}] - 2026-11-28

### Added
- Something.
"""


@pytest.fixture(scope="module")
def release():
    spec = importlib.util.spec_from_file_location("release", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path):
    """A project that is ready, as far as texts go."""
    (tmp_path / "ddnsr_cli").mkdir()
    for name in ("ddnsr_cli/__init__.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(RELEASED)
    (tmp_path / "CITATION.cff").write_text(f'title: x\nversion: {__version__}\ndate-released: "2026-11-28"\n')
    return tmp_path


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_one_version_everywhere_is_no_fault(release, project):
    assert list(release.version_faults(project)) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("ddnsr_cli/__init__.py", __version__, "9.8.7", f"the newest release is {__version__}, the package 9.8.7"),
        ("CHANGELOG.md", f"## [{__version__}] - 2026-11-28\n", "", "CHANGELOG.md: the newest release is none"),
        ("CHANGELOG.md", "[Unreleased]\n", "[Unreleased]\n\n- More.\n", "there are changes under Unreleased"),
        ("CITATION.cff", __version__, "0.0.9", "CITATION.cff: version is 0.0.9"),
        ("CITATION.cff", "2026-11-28", "2026-11-29", "date-released is 2026-11-29, in CHANGELOG.md it is 2026-11-28"),
    ],
)
def test_versions_that_differ_are_reported(release, project, name, old, new, told):
    edit(project / name, old, new)
    faults = list(release.version_faults(project))
    assert any(told in fault for fault in faults)
    assert len(faults) <= 2


def test_the_citation_is_of_the_version_at_hand(release):
    assert not [fault for fault in release.version_faults(ROOT) if fault.startswith("CITATION.cff")]


@pytest.mark.parametrize("remote", ["https://github.com/ddnsr/ddnsr", "git@github.com:ddnsr/ddnsr.git"])
def test_addresses_of_the_clone_are_no_fault(release, project, remote):
    assert list(release.address_faults(project, remote)) == []


def test_addresses_of_another_repository_are_reported(release, project):
    (elsewhere,) = release.address_faults(project, "git@example.org:a/b.git")
    assert "the remote of this clone is git@example.org:a/b.git" in elsewhere
    (nowhere,) = release.address_faults(project, None)
    assert "no remote" in nowhere
    edit(project / "pyproject.toml", "ddnsr/ddnsr/raw/", "other/ddnsr/raw/")
    (fault,) = release.address_faults(project, "https://github.com/ddnsr/ddnsr.git")
    assert "https://github.com/other/ddnsr/raw" in fault


def test_a_package_too_large_is_reported(release, tmp_path, monkeypatch):
    monkeypatch.setattr(release, "MOST_BYTES", 10)
    for name, size in (("small.whl", 10), ("large.whl", 11)):
        (tmp_path / name).write_bytes(bytes(size))
    assert list(release.size_faults([tmp_path / "small.whl"])) == []
    (fault,) = release.size_faults([tmp_path / "large.whl"])
    assert "large.whl has 11 bytes" in fault


def test_the_first_command_is_that_of_the_readme(release):
    words, result = release.first_command((ROOT / "README.md").read_text(encoding="utf-8"))
    assert words[0] == "upscale"
    assert (ROOT / words[1]).is_file()
    assert result.suffix == ".png"


def test_a_source_package_that_builds_another_wheel_ends_it(release, tmp_path, monkeypatch):
    def pretend(*words, cwd=None):
        out = Path(words[words.index("--outdir") + 1])
        out.mkdir(parents=True)
        (out / "a.whl").write_text(out.name)
        if "--sdist" in words:
            shutil.make_archive(str(out / "a"), "gztar", ROOT, "examples")

    monkeypatch.setattr(release, "run", pretend)
    with pytest.raises(SystemExit, match="builds another wheel"):
        release.build(tmp_path / "bin", ROOT, tmp_path)


def test_a_description_that_would_not_be_shown_well_is_reported(release, tmp_path, monkeypatch):
    sound = '<a href="#top"><img src="https://x/y.png"></a><table></table><pre lang="sh"></pre>'
    for page, told in (
        (sound, []),
        (sound.replace("https://x/", "docs/"), ["has no <img", "leads nowhere: docs/y.png"]),
        (sound.replace("<table>", ""), ["has no <table>"]),
        ("None", ["has no <img", "has no <table>", "has no <pre"]),
    ):
        monkeypatch.setattr(release, "run", lambda *words, page=page: page)
        faults = list(release.description_faults(tmp_path, tmp_path / "a.whl"))
        assert len(faults) == len(told)
        assert all(word in fault for word, fault in zip(told, faults, strict=True))
