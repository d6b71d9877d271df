"""What `ddnsr train` may be told to begin with: files, runs and released names."""

from functools import partial
from pathlib import Path

import pytest

from ddnsr_cli.cli.train_arguments import weights_file
from ddnsr_cli.errors import WeightsError
from ddnsr_cli.weights.checkpoint import load_rrdb_net

find = partial(weights_file, offline=True, quiet=True)


def test_a_released_name_is_its_file():
    assert find("ddnsr-lite", "rrdb").name == "ddnsr-lite.safetensors"
    assert find("degrader-lite", "degrader").name == "degrader-lite.safetensors"


def test_a_file_goes_before_a_released_name(tmp_path, monkeypatch):
    (tmp_path / "ddnsr-lite").write_bytes(b"mine")
    monkeypatch.chdir(tmp_path)
    assert find("ddnsr-lite", "rrdb").read_bytes() == b"mine"


def test_a_run_is_its_network_of_that_kind(tmp_path):
    for name in ("sr", "degrader"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    assert find(str(tmp_path), "rrdb") == tmp_path / "sr.safetensors"
    assert find(str(tmp_path), "degrader") == tmp_path / "degrader.safetensors"


def test_a_file_may_be_gone_and_nothing_is_nothing():
    assert find("runs/gone.safetensors", "rrdb") == Path("runs/gone.safetensors")
    assert find(None, "rrdb") is None


def test_a_name_of_another_kind_is_refused():
    with pytest.raises(WeightsError, match="degrader-lite is"):
        find("degrader-lite", "rrdb")


def test_a_training_begins_with_a_released_name(ddnsr, tmp_path, image_file):
    for name in "ab":
        image_file(f"hr/{name}.png", width=64, height=64)
    words = (
        "train",
        "--pretrain",
        "--hr",
        tmp_path / "hr",
        "--crop",
        32,
        "--batch",
        1,
        "--steps",
        1,
        "--offline",
        "-q",
    )
    done = ddnsr(*words, "--start-from", "ddnsr-lite", "-o", tmp_path / "run")
    assert done.code == 0, done.err
    card = (tmp_path / "run/README.md").read_text()
    assert "ddnsr-lite.safetensors" in card
    assert load_rrdb_net(tmp_path / "run/sr.safetensors")[0].config.blocks == 3
