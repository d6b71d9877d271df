from pathlib import Path

import pytest

from ddnsr_cli.commands.evaluate import models
from ddnsr_cli.commands.evaluate.models import labeled, refuse_doubles, short_name
from ddnsr_cli.commands.evaluate.options import EvaluateListener, EvaluateOptions
from ddnsr_cli.commands.evaluate.run import MOST_NAME_BYTES, folder_name
from ddnsr_cli.errors import ConfigError
from ddnsr_cli.weights.registry import read_registry


@pytest.mark.parametrize(
    ("text", "label", "what"),
    [
        ("ddnsr-lite", None, "ddnsr-lite"),
        ("Ours=runs/a=b", "Ours", "runs/a=b"),
        ("DDNSR GAN = run".replace(" = ", "="), "DDNSR GAN", "run"),
        ("runs/lr=1e-4/sr.safetensors", None, "runs/lr=1e-4/sr.safetensors"),
        ("=x", None, "=x"),
        ("x=", None, "x="),
    ],
)
def test_a_name_may_stand_before_what_is_meant(text, label, what):
    assert labeled(text) == (label, what)


def test_a_path_that_is_there_is_no_name_and_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=1e-4").mkdir()
    assert labeled("lr=1e-4") == (None, "lr=1e-4")
    (tmp_path / "1e-4").mkdir()
    assert labeled("lr=1e-4") == ("lr", "1e-4")


def test_short_names(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "x.pth").touch()
    monkeypatch.chdir(tmp_path / "run")
    assert short_name(str(tmp_path / "x.pth")) == "x"
    assert short_name(str(tmp_path / "run")) == short_name(".") == "run"
    assert short_name("owner/repo:file.safetensors") == "owner/repo:file.safetensors"


def test_two_of_one_name_are_refused():
    refuse_doubles(["a", "b"])
    with pytest.raises(ConfigError, match="'a'"):
        refuse_doubles(["a", "b", "a"])


def test_folders_of_kept_images_stay_in_their_place_and_apart():
    labels = ["a", "a/b", "a%2Fb", "..", "../x", ".hidden", "über", "owner/repo:file", "DDNSR GAN"]
    names = [folder_name(label) for label in labels]
    assert len(set(names)) == len(labels)
    assert not any("/" in name or name.startswith(".") for name in names)
    assert names[-1] == "DDNSR GAN"


def test_folders_of_labels_bear_any_name_and_stay_unlike():
    long = "写真" * 60
    names = [folder_name(label) for label in ("caf\udce9", "café", ".hidden", long, f"{long}2")]
    assert len(set(names)) == 5
    assert all(len(name) <= MOST_NAME_BYTES and not name.startswith(".") for name in names)
    assert names[0] == "caf%E9"


def test_bicubic_alone_asks_for_no_network(tmp_path):
    options = EvaluateOptions(lr=tmp_path, models=("bicubic",))
    assert models._weights(options, read_registry(), EvaluateListener(note=print, tick=print, download=print)) == []


def test_a_tilde_behind_a_name_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert models.path_named("ours=~/results") == Path("/home/me/results")
