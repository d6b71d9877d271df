"""docs/other_programs.md: its commands run, and the options that it names are there."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from ddnsr_cli.weights.checkpoint import load_sr_net

PAGE = (Path(__file__).parents[2] / "docs" / "other_programs.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)
COMMANDS = [shlex.split(line, comments=True) for block in BLOCKS for line in block.splitlines()]


def test_the_files_of_the_first_block_are_written_and_are_one_network(ddnsr, tmp_path, monkeypatch):
    pytest.importorskip("onnx", reason="onnx is not installed")
    monkeypatch.chdir(tmp_path)
    commands = [words for words in COMMANDS if words[1:3] == ["weights", "convert"]]
    assert len(commands) == 4
    for words in commands:
        done = ddnsr(*words[1:], "--offline")
        assert done.code == 0, done.err
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert written == {f"ddnsr-lite-4x.{kind}" for kind in ("safetensors", "pth", "onnx")} | {
        f"models/ddnsr-lite-4x.{kind}" for kind in ("param", "bin")
    }
    assert all(path in PAGE for path in written)
    lr = torch.rand(1, 3, 12, 9, generator=torch.Generator().manual_seed(0))
    first, second, third = (
        load_sr_net(Path(name))[0](lr)
        for name in ("ddnsr-lite-4x.safetensors", "ddnsr-lite-4x.pth", "models/ddnsr-lite-4x.param")
    )
    assert torch.equal(first, second)
    assert (first - third).abs().max() < 0.01  # half precision


def test_the_mixture_of_the_page_is_real_esrgans(ddnsr, tmp_path, monkeypatch, small_compact):
    monkeypatch.chdir(tmp_path)
    (words,) = [words for words in COMMANDS if words[1:3] == ["weights", "mix"]]
    nets = {name: small_compact() for name in words[3:5]}
    for seed, (name, net) in enumerate(nets.items()):
        net.body[-1].bias.fill_(seed)
        torch.save({"params": net.state_dict()}, name)
    place = words.index("--share") + 1
    assert float(words[place]) == 0.5
    words[place] = "0.3"  # of --denoise_strength: the weight of the file without wdn
    assert ddnsr(*words[1:]).code == 0
    mixed = load_sr_net(tmp_path / words[words.index("-o") + 1])[0]
    assert mixed.body[-1].bias.mean().item() == pytest.approx(0.3, abs=1e-6)


def test_the_options_named_as_ours_are_those_of_upscale(ddnsr, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    option = re.compile(r"(?<![\w-])--?[a-z][a-z0-9-]*")
    ours = set(option.findall(ddnsr("upscale", "--help").out))
    cells = re.findall(r"^\| `-.*? \| (.*) \|$", PAGE, flags=re.MULTILINE)
    named = {one for cell in cells for code in re.findall(r"`([^`]*)`", cell) for one in option.findall(code)}
    assert {"-m", "-s", "-t", "-f", "--strength", "--quality"} <= named
    assert named <= ours
