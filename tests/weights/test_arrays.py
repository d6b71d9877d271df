"""Weights read without PyTorch are those that it would read; what is not as simple is left to it."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ddnsr_cli.nets.degrader import Degrader, DegraderConfig
from ddnsr_cli.weights import arrays
from ddnsr_cli.weights.arrays import DEGRADER_KEY, read_arrays
from ddnsr_cli.weights.checkpoint import load_sr_net, save_degrader, save_sr_net
from tests.helpers.foreign import as_layout, small_compact, small_net

NETS = {
    "x4": small_net(),
    "x2": small_net(scale=2),
    "x1": small_net(features=5, blocks=3, growth=2, scale=1),
    "compact": small_compact(),
    "compact-x1": small_compact(scale=1, convs=0),
}


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_they_are_what_pytorch_reads(tmp_path, name, half):
    path = tmp_path / "net.safetensors"
    save_sr_net(path, NETS[name], metadata={}, half=half)
    config, weights = read_arrays(path)
    net, _ = load_sr_net(path)
    assert config == net.config
    assert weights.keys() == net.state_dict().keys()
    for key, weight in net.state_dict().items():
        assert weights[key].dtype == np.float32
        assert torch.equal(torch.from_numpy(weights[key]), weight)


def test_a_file_of_another_program_under_the_same_names_is_read(tmp_path):
    save_file(NETS["x4"].state_dict(), tmp_path / "net.safetensors")
    config, weights = read_arrays(tmp_path / "net.safetensors")
    assert config == NETS["x4"].config
    assert len(weights) == len(NETS["x4"].state_dict())


def other_files(folder):
    """Name -> a file that only the other way can read, or refuse."""
    state = NETS["x4"].state_dict()
    kinds = {
        "other names": as_layout(state, 2),
        "a prefix": {f"net_g.{key}": value for key, value in state.items()},
        "bfloat16": {key: value.bfloat16() for key, value in state.items()},
        "double": {key: value.double() for key, value in state.items()},
        "NaN": {**state, "conv_first.bias": torch.full((8,), torch.nan)},
        "odd scale": {**state, "conv_first.weight": torch.zeros(8, 5, 3, 3)},
        "no growth": {key: value for key, value in state.items() if key != "body.0.rdb1.conv1.weight"},
        "nothing of ours": {"x": torch.zeros(3)},
        "no blocks": {"conv_first.weight": torch.zeros(8, 3, 3, 3)},
        "scalar": {**state, "conv_first.weight": torch.zeros(())},
    }
    for name, tensors in kinds.items():
        save_file(tensors, folder / f"{name}.safetensors")
    torch.save(state, folder / "pickle.pth")
    degrader = Degrader(DegraderConfig(features=4, blocks=1))
    save_degrader(folder / "degrader.safetensors", degrader, metadata={}, half=False)
    metadata = {DEGRADER_KEY: "{}"}
    save_file(state, folder / "crafted degrader.safetensors", metadata)
    whole = (folder / "a prefix.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-7])
    (folder / "empty.safetensors").touch()
    (folder / "text.safetensors").write_bytes(len(b"{}x").to_bytes(8, "little") + json.dumps([1]).encode())
    return sorted(folder.iterdir())


def test_all_others_are_left_to_pytorch(tmp_path):
    files = other_files(tmp_path)
    assert len(files) == 16
    assert [path.name for path in files if read_arrays(path) is not None] == []
    assert read_arrays(tmp_path / "missing.safetensors") is None
    assert read_arrays(tmp_path) is None


def test_more_values_than_any_network_has_are_looked_at_by_the_other_way(monkeypatch, tmp_path):
    save_file(NETS["x4"].state_dict(), tmp_path / "net.safetensors")
    number = sum(value.numel() for value in NETS["x4"].state_dict().values())
    monkeypatch.setattr(arrays, "MAX_VALUES", number)
    assert read_arrays(tmp_path / "net.safetensors") is not None
    monkeypatch.setattr(arrays, "MAX_VALUES", number - 1)
    assert read_arrays(tmp_path / "net.safetensors") is None
