#!/usr/bin/env python3
"""Whether a release can go out: versions, addresses, packages, and the README's first command on what was built.

    python .ci/release.py --keep dist

Looks at the last commit, not at the work tree. Needs a network, and some minutes; installs into environments of its
own, publishes nothing. The packages that passed lie in the folder of --keep. Exit status 1, and a line for each fault,
when something is wrong.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 95_000_000
"""Of a wheel or source package: package indexes take files of up to 100 MB, and the rest is left as room."""


def read(root: Path, name: str) -> str:
    """A text file of the project."""
    return (root / name).read_text(encoding="utf-8")


def version_faults(root: Path) -> Iterator[str]:
    """Where version or date are not the same in the package, CHANGELOG.md and CITATION.cff."""
    version = re.findall(r'^__version__ = "(.+)"$', read(root, "ddnsr_cli/__init__.py"), flags=re.MULTILINE)[0]
    changelog = read(root, "CHANGELOG.md")
    heading, *_ = [*re.findall(r"^## \[(\d\S*)\] - (\S+)$", changelog, flags=re.MULTILINE), ("none", "none")]
    if heading[0] != version:
        yield f"CHANGELOG.md: the newest release is {heading[0]}, the package {version}"
    unreleased = re.search(r"^## \[Unreleased\]$(.*?)(?=^## |\Z)", changelog, flags=re.MULTILINE | re.DOTALL)
    if unreleased and "\n- " in unreleased[1]:
        yield "CHANGELOG.md: there are changes under Unreleased; move them to the release"
    citation = dict(re.findall(r'^(version|date-released): "?([^"\n]+)"?$', read(root, "CITATION.cff"), re.MULTILINE))
    if citation.get("version") != version:
        yield f"CITATION.cff: version is {citation.get('version')}, the package {version}"
    if heading[1] not in ("none", citation.get("date-released")):
        yield f"CITATION.cff: date-released is {citation.get('date-released')}, in CHANGELOG.md it is {heading[1]}"


def address_faults(root: Path, remote: str | None) -> Iterator[str]:
    """Addresses in pyproject.toml that are not of the repository. remote: what git calls it; None: git knows none."""
    project = tomllib.loads(read(root, "pyproject.toml"))
    home = project["project"]["urls"]["Homepage"]
    hook = project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    addresses = [*project["project"]["urls"].values()]
    addresses += [one["replacement"].removeprefix("\\1") for one in hook["substitutions"]]
    for address in addresses:
        if not f"{address}/".startswith(f"{home}/"):
            yield f"pyproject.toml: {address} is not below {home}"
    if remote is None:
        yield f"git knows no remote 'origin' to hold {home} against: add it, or release from the repository's clone"
    elif remote_page(remote) != home:
        yield f"pyproject.toml: Homepage is {home}, the remote of this clone is {remote}"


def remote_page(remote: str) -> str:
    """The page of a repository, from what git fetches from: git@host:owner/name.git or https://host/owner/name."""
    page = re.sub(r"^(?:ssh://)?git@([^:/]+)[:/]", r"https://\1/", remote)
    return page.removesuffix("/").removesuffix(".git")


def size_faults(packages: list[Path]) -> Iterator[str]:
    """Packages that are too large to be taken."""
    for package in packages:
        if package.stat().st_size > MOST_BYTES:
            yield f"{package.name} has {package.stat().st_size} bytes, more than {MOST_BYTES}"


def first_command(readme: str) -> tuple[list[str], Path]:
    """What the README's first command runs once ddnsr is installed, without the program's name, and its result."""
    line = next(line for line in readme.splitlines() if line.startswith("python3 -m venv .venv "))
    words = line.rpartition("&& ")[2].split()
    return words[1:], Path(words[words.index("-o") + 1])


def committed(work: Path) -> Path:
    """The files of the last commit: what is edited meanwhile, or lies about, is in no package."""
    run("git", "archive", "--output", work / "commit.tar", "HEAD")
    with tarfile.open(work / "commit.tar") as archive:
        archive.extractall(work / "commit", filter="data")
    return work / "commit"


def run(*words: str | Path, cwd: Path = ROOT) -> str:
    """What a program prints. Raises SystemExit with all it said when it fails."""
    done = subprocess.run([*map(str, words)], cwd=cwd, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
    return done.stdout


def environment(folder: Path, root: Path, *packages: str | Path) -> Path:
    """The programs of a fresh environment with these packages, pinned as far as the project's constraints.txt does."""
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin/pip", "install", "--quiet", "-c", root / "constraints.txt", *packages)
    return folder / "bin"


def build(programs: Path, root: Path, work: Path) -> tuple[Path, Path]:
    """Wheel and source package of a project. Raises SystemExit when the latter builds another wheel."""
    run(programs / "python", "-m", "build", "--sdist", "--wheel", "--outdir", work / "dist", root)
    (wheel,), (sdist,) = (work / "dist").glob("*.whl"), (work / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(work / "unpacked", filter="data")
    (source,) = (work / "unpacked").iterdir()
    run(programs / "python", "-m", "build", "--wheel", "--outdir", work / "again", source)
    if (work / "again" / wheel.name).read_bytes() != wheel.read_bytes():
        raise SystemExit(f"{sdist.name} builds another wheel than the repository")
    return wheel, sdist


def description_faults(programs: Path, wheel: Path) -> Iterator[str]:
    """What the package index would show otherwise than meant: twine takes any Markdown, so it is rendered here."""
    script = (
        "import email.parser, sys, zipfile; from readme_renderer.markdown import render; "
        "wheel = zipfile.ZipFile(sys.argv[1]); "
        "name = next(name for name in wheel.namelist() if name.endswith('/METADATA')); "
        "print(render(email.parser.Parser().parsestr(wheel.read(name).decode()).get_payload()))"
    )
    page = run(programs / "python", "-c", script, wheel)
    for wanted in ('<img src="https://', "<table>", "<pre"):
        if wanted not in page:
            yield f"the description, rendered, has no {wanted}"
    for link in re.findall(r'(?:href|src)="(?!https://|#)([^"]*)"', page):
        yield f"the description, rendered, has a link that leads nowhere: {link}"


def try_wheel(wheel: Path, root: Path, work: Path) -> str:
    """Install the wheel and run the README's first command in a folder with nothing but its example."""
    programs = environment(work / "fresh", root, wheel)
    words, result = first_command(read(root, "README.md"))
    place = work / "place"
    shutil.copytree(root / "examples", place / "examples")
    run(programs / "ddnsr", *words, cwd=place)
    script = "import sys; from PIL import Image; print(*[Image.open(name).size for name in sys.argv[1:]])"
    sizes = run(programs / "python", "-c", script, words[1], result, cwd=place).strip()
    (width, height), (large_width, large_height) = (map(int, pair.split(", ")) for pair in sizes[1:-1].split(") ("))
    if (large_width, large_height) != (4 * width, 4 * height):
        raise SystemExit(f"the first command of README.md made {result} of another size: {sizes}")
    return f"{result} {large_width} x {large_height}"


def tell(text: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"{text}\n")


def origin() -> str | None:
    """What this clone was cloned from."""
    asked = subprocess.run(
        ["git", "remote", "get-url", "origin"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    return asked.stdout.strip() or None


def main() -> int:
    """Run every check; the exit status."""
    parser = argparse.ArgumentParser(description="Whether a release can go out.")
    parser.add_argument("--keep", type=Path, help="folder for the packages that passed")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory(prefix="ddnsr-release-") as folder:
        work = Path(folder)
        root = committed(work)
        faults = [*version_faults(root), *address_faults(root, origin())]
        tools = environment(work / "tools", root, "build", "twine", "readme_renderer[md]")
        wheel, sdist = build(tools, root, work)
        tell(run(tools / "twine", "--no-color", "check", "--strict", wheel, sdist).strip())
        for package in (wheel, sdist):
            tell(f"{package.name}: {package.stat().st_size / 1e6:.1f} MB")
        faults += [*size_faults([wheel, sdist]), *description_faults(tools, wheel)]
        tell(f"the README's first command, from the wheel: {try_wheel(wheel, root, work)}")
        if keep is not None and not faults:
            keep.mkdir(parents=True, exist_ok=True)
            for package in (wheel, sdist):
                shutil.copy2(package, keep)
    for fault in faults:
        tell(f"fault: {fault}")
    tell("Not ready." if faults else "Ready.")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
