"""The Dockerfile: what of it can be seen without Docker, and, where a Docker daemon answers, the container at work."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from PIL import Image

from tests.helpers.drawn_images import drawn_image
from tests.helpers.packages import built

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "Dockerfile").exists(), reason="installed without the repository")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions():
    """(word, rest) of each instruction, comments and line ends taken out."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [tuple(line.split(" ", 1)) for line in lines if line]


def final_stage():
    whole = instructions()
    last = max(place for place, (word, _) in enumerate(whole) if word == "FROM")
    return whole[last:]


def copied():
    """(source, target) of everything that comes out of the build context."""
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            yield from ((source, Path(target)) for source in sources)


def environment():
    (told,) = [rest for word, rest in final_stage() if word == "ENV"]
    return dict(pair.split("=", 1) for pair in told.split())


def test_it_runs_the_command_and_not_as_root():
    stage = final_stage()
    words = [word for word, _ in stage]
    (user,) = [rest for word, rest in stage if word == "USER"]
    assert user not in ("root", "0")
    assert max(words.index("USER"), words.index("ENTRYPOINT")) > max(words.index("COPY"), words.index("RUN"))
    (entry,) = [json.loads(rest) for word, rest in stage if word == "ENTRYPOINT"]
    assert entry == list(PROJECT["scripts"])


def test_fetched_models_lie_in_a_volume_that_anyone_may_write_to():
    stage = final_stage()
    (volume,) = [rest for word, rest in stage if word == "VOLUME"]
    assert environment()["HF_HOME"] == volume
    assert any(word == "RUN" and re.search(rf"mkdir --mode=1777 .*{volume}\b", rest) for word, rest in stage)


def test_its_python_is_one_of_ours():
    versions = {rest.split()[0].removeprefix("python:").removesuffix("-slim") for word, rest in instructions()[:1]}
    versions |= {final_stage()[0][1].removeprefix("python:").removesuffix("-slim")}
    (version,) = versions
    assert version in SpecifierSet(PROJECT["requires-python"])
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]


def test_it_installs_the_pinned_versions_without_cuda():
    (install,) = [rest for word, rest in instructions() if word == "RUN" and "uv pip install" in rest]
    assert "--torch-backend=cpu" in install
    assert " -c /source/constraints.txt " in install


def test_the_build_gets_what_it_copies_and_nothing_else():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    assert let_in == {source for source, _ in copied()}
    assert all((ROOT / source).exists() for source in let_in)


def test_what_is_copied_makes_the_same_wheel(built_wheel, tmp_path):
    context = tmp_path / "context"
    for source, target in copied():
        place = context / target.relative_to("/source")
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / source, place)
    assert built("wheel", tmp_path / "theirs", root=context).read_bytes() == built_wheel.read_bytes()


def docker_missing():
    """Why the container cannot be tried here; empty: it can."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    asked = subprocess.run(["docker", "info"], check=False, capture_output=True, text=True)
    return "" if asked.returncode == 0 else f"no Docker daemon answers: {asked.stderr.strip()}"


def docker(*words):
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout


def test_the_container_enlarges_an_image(tmp_path):
    if reason := docker_missing():
        pytest.skip(reason)
    Image.fromarray(drawn_image(3, side=40)).save(tmp_path / "image.png")
    tag = f"ddnsr-test-{os.getpid()}"
    docker("build", "--quiet", "--tag", tag, str(ROOT))
    try:
        assert docker("run", "--rm", "--entrypoint", "id", tag, "-un").strip() == "ddnsr"
        owner = f"{os.getuid()}:{os.getgid()}"
        shared = ["--user", owner, "--network", "none", "--volume", f"{tmp_path}:/work"]
        assert docker("run", "--rm", *shared, tag, "upscale", "image.png").split() == ["image_x4.png"]
        assert "Usage" in docker("run", "--rm", tag)
    finally:
        docker("rmi", "--force", tag)
    with Image.open(tmp_path / "image_x4.png") as large:
        assert large.size == (160, 160)
