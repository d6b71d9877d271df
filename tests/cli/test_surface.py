"""The names people type are a promise: a change here is a change for users."""

import json
import os
import subprocess
import sys
import tempfile

import pytest
import typer
from rich.text import Text

from ddnsr_cli import __version__
from ddnsr_cli.cli.app import app
from ddnsr_cli.weights import registry
from tests.helpers.command_tree import commands

SURFACE = {
    "upscale": (
        "images -i/--input -o/--output --list --shard --again -m/--model -n/--name -s/--scale --width --height "
        "--long-side --megapixels --strength --color-fix --grain --seed --to-srgb -f/--format --quality --suffix "
        "--overwrite --compare --dry-run --fail-fast --max-pixels -t/--tile --device/-g --dtype --fp32 --engine "
        "-x/--tta --ray --ray-workers --offline --json -0/--null -v/--verbose -q/--quiet"
    ),
    "degrade": (
        "-o/--output images -i/--input --list --shard --again --noise-source --per-image --seed --method --scale "
        "-m/--model --sigma --patch-variance --kernels --kernel-steps --noise-input --degradation-preset --degradation "
        "--cleanup --realism-report --overwrite --max-pixels --workers --ray --ray-workers --device/-g --offline "
        "--json -0/--null -q/--quiet"
    ),
    "train": (
        "-o/--output --track --paired --pretrain --hr --lr --data --val --val-lr --val-hr --lr-suffix --mod-crop "
        "--mix --check --target --start-from --start-degrader --l2 --ablation --preset --single-input --noise-input "
        "--vgg --perceptual --perceptual-weights --as-authors --loss --discriminator --gan --teacher --truth-share "
        "--sharpen-targets --discriminator-first-steps --discriminator-learning-rate --degrader-pretrain-steps "
        "--degrader-only-steps --degradation-preset --degradation --lpips --lite --features --blocks "
        "--growth --scale --steps --batch --micro-batch --crop --learning-rate --warmup-steps --lr-milestones "
        "--precision --compile --seed --workers --log-every --save-every --keep-every --validate-every --sample-every "
        "--device/-g --offline -q/--quiet"
    ),
    "eval": (
        "ranking_files --lr --hr --data --track -m/--models --sr --table3 --reference --lr-suffix --sr-suffix "
        "--mod-crop --degrader --crop-border --lpips --lpips-weights --niqe --pyiqa --against --seed --json --csv "
        "--markdown --report --keep --ranking --scoring --mean-opinion --device/-g --offline -q/--quiet"
    ),
    "studio": "-m/--model -o/--output --port --open --device/-g --max-pixels --offline -q/--quiet",
    "weights list": "--json",
    "weights info": "name",
    "weights pull": "name --offline -q/--quiet",
    "weights convert": "name -o/--output --half --offline -q/--quiet",
    "weights mix": "first second -o/--output --share --half --offline -q/--quiet",
    "weights push": "run repo --license --private --dry-run --toml -q/--quiet",
}


def test_the_surface_is_the_one_promised():
    found = {name: " ".join("/".join(p.opts) for p in command.params if p.name != "help")
             for name, command in commands(typer.main.get_command(app))}  # fmt: skip
    assert found == SURFACE


def test_no_word_of_the_help_is_taken_for_markup():
    told = [text for _, command in commands(typer.main.get_command(app)) for text in helps_of(command)]
    assert len(told) > 100
    assert [text for text in told if Text.from_markup(text).plain != text] == []


def helps_of(command):
    return [text for text in (command.help, *(getattr(param, "help", None) for param in command.params)) if text]


def test_the_help_of_quiet_names_what_it_prints(ddnsr, image_file, quick_model, tmp_path):
    done = ddnsr("upscale", image_file(), "-o", tmp_path / "o.png", "-m", quick_model, "-q")
    assert (done.out, done.err) == (f"{tmp_path / 'o.png'}\n", "")
    told = [param.help for _, command in commands(typer.main.get_command(app)) for param in command.params]
    assert "Print results and errors only." in told
    assert "Print errors only." not in told


def test_version(ddnsr):
    assert ddnsr("--version").out == f"ddnsr {__version__}\n"


HELPS = (["--help"], ["upscale", "--help"], ["train", "-h"], ["degrade", "-h"], ["eval", "-h"], ["weights", "--help"])
SHOW = """
import io, json, sys
from contextlib import redirect_stdout
from ddnsr_cli.cli.app import main

told = []
for words in json.loads(sys.argv.pop()):
    sys.argv, code = ["ddnsr", *words], 0
    with redirect_stdout(io.StringIO()) as out:
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    told.append([code, out.getvalue(), list(sys.modules)])
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def helps():
    """What a new interpreter gives for HELPS, one after the other: status, text, and the modules that it has then."""
    words = [sys.executable, "-c", SHOW, json.dumps(HELPS)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize("index", range(len(HELPS)), ids=[" ".join(words) for words in HELPS])
def test_help_is_quick_and_loads_no_engine(helps, index):
    code, text, modules = helps[index]
    heavy = {"torch", "numpy", "PIL", "pyvips", "huggingface_hub", "safetensors", "starlette", "uvicorn"}
    assert heavy.isdisjoint(modules)
    assert code == 0
    assert f"Usage: ddnsr {' '.join(HELPS[index][:-1])}".strip() in text


def test_the_module_runs_as_the_command():
    done = subprocess.run([sys.executable, "-m", "ddnsr_cli", "--version"], capture_output=True, text=True, check=False)
    assert done.stdout == f"ddnsr {__version__}\n"


def test_an_unexpected_error_is_one_line_with_a_log_and_exit_70(ddnsr, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path))
    monkeypatch.setattr(registry, "read_registry", lambda: 1 / 0)
    done = ddnsr("weights", "list")
    assert done.code == 70
    assert done.err.count("\n") == 1
    assert "ZeroDivisionError" in done.err
    (log,) = tmp_path.glob("ddnsr-*.log")
    assert str(log) in done.err
    assert "Traceback" in log.read_text()
