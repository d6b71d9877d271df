"""Weights that are damaged, swapped, or traps: one line, no code of theirs runs, nothing is written."""

import io
import os
import pickle
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save

from ddnsr_cli.nets.degrader import Degrader, DegraderConfig
from ddnsr_cli.weights import files
from ddnsr_cli.weights.checkpoint import save_degrader
from tests.helpers.foreign import small_net


@pytest.fixture
def refused(ddnsr, image_file, tmp_path):
    """`refused(name, data, "words")`: weights of these bytes are refused in one line with these words in it."""

    def check(name, data, *parts):
        path, source = tmp_path / name, image_file(width=8, height=8)
        if data is not None:
            path.write_bytes(data)
        done = ddnsr("upscale", source, "-o", tmp_path / "out.png", "-m", path)
        assert done.code == 5, done.err
        assert done.err.count("\n") == 1
        assert done.err.startswith("error: ")
        for part in (name, *parts):
            assert part in done.err
        assert not (tmp_path / "out.png").exists()

    return check


def sound():
    return save(dict(small_net().state_dict()))


@pytest.mark.parametrize("left", [0, 4, 9, 200, 0.5, 0.99])
def test_cut_short(refused, left):
    data = sound()
    refused("cut.safetensors", data[: int(left * len(data)) if isinstance(left, float) else left])


@pytest.mark.parametrize("header", [2**63, 2**40, 3])
def test_a_header_that_lies_about_its_length(refused, header):
    refused("lies.safetensors", struct.pack("<Q", header) + sound()[8:])


def test_values_that_are_not_finite(refused):
    state = dict(small_net().state_dict())
    state["conv_last.bias"] = torch.full_like(state["conv_last.bias"], float("nan"))
    refused("nan.safetensors", save(state), "not finite", "conv_last.bias")


@pytest.mark.parametrize("tag", ["00000000", "476b3001", "56c00200"])
def test_half_of_an_ncnn_pair_names_the_other(ddnsr, image_file, tmp_path, tag):
    (tmp_path / "x4.bin").write_bytes(bytes.fromhex(tag) + bytes(50))
    done = ddnsr("upscale", image_file(), "-m", tmp_path / "x4.bin")
    assert (done.code, done.err.count("\n")) == (5, 1)
    assert "x4.bin holds the weights of x4.param, which is not beside it." in done.err


def test_the_weights_of_something_else(refused, tmp_path):
    refused("vgg.safetensors", save({"features.0.weight": torch.zeros(64, 3, 3, 3)}), "VGG")
    degrader = Degrader(DegraderConfig(features=4, blocks=1))
    save_degrader(tmp_path / "degrader.safetensors", degrader, metadata={}, half=False)
    refused("degrader.safetensors", None)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["trap.pth", "trap.ckpt", "trap.safetensors"])
@pytest.mark.parametrize("kind", ["torch", "torch, old", "pickle"])
def test_a_pickle_with_code_does_not_run_it(refused, tmp_path, name, kind):
    trap = {"params": {**small_net().state_dict(), "extra": Trap(tmp_path / "sprung")}}
    buffer = io.BytesIO()
    if kind == "pickle":
        pickle.dump(Trap(tmp_path / "sprung"), buffer)
    else:
        torch.save(trap, buffer, _use_new_zipfile_serialization=kind == "torch")
    refused(name, buffer.getvalue())
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("member", ["data/0", "data.pkl"])
def test_a_zip_that_inflates_without_measure(refused, monkeypatch, member):
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 1_000_000)
    whole, bomb = io.BytesIO(), io.BytesIO()
    torch.save({"params": dict(small_net().state_dict())}, whole)
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as blown_up:
        for info in archive.infolist():
            zeros = 2_000_000 if info.filename.endswith(member) else 0
            blown_up.writestr(info.filename, archive.read(info) + bytes(zeros))
    assert len(bomb.getvalue()) < 500_000
    refused("bomb.pth", bomb.getvalue(), "inflates to")
