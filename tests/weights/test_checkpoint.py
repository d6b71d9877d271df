import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from ddnsr_cli import __version__
from ddnsr_cli.errors import WeightsError
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig
from ddnsr_cli.weights import checkpoint as module
from ddnsr_cli.weights.checkpoint import load_degrader, load_sr_net, save_degrader, save_sr_net


@pytest.fixture
def net(small_net):
    return small_net()


@pytest.fixture
def saved(tmp_path, net):
    path = tmp_path / "net.safetensors"
    save_sr_net(path, net, metadata={"title": "Test", "steps": "12"}, half=False)
    return path


def test_what_is_saved_is_loaded(saved, net):
    loaded, metadata = load_sr_net(saved)
    assert loaded.config == net.config
    assert not loaded.training
    assert not any(value.requires_grad or value.is_meta for value in loaded.parameters())
    lr = torch.rand(1, 3, 9, 7, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.equal(loaded(lr), net(lr))
    assert metadata["title"] == "Test"
    assert metadata["ddnsr_version"] == __version__
    assert json.loads(metadata["ddnsr_network"]) == {"features": 8, "blocks": 2, "growth": 4, "scale": 4}


@pytest.mark.parametrize("scale", [1, 2])
def test_other_scales_survive(tmp_path, small_net, scale):
    save_sr_net(tmp_path / "a.safetensors", small_net(scale=scale), metadata={}, half=False)
    assert load_sr_net(tmp_path / "a.safetensors")[0].config.scale == scale


@pytest.mark.parametrize(("half", "dtype"), [(False, torch.float32), (True, torch.float16)])
def test_the_safetensors_library_reads_the_file_under_the_names_of_the_field(tmp_path, net, half, dtype):
    save_sr_net(tmp_path / "a.safetensors", net, metadata={}, half=half)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        read = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert read.keys() == net.state_dict().keys()
    for key, value in net.state_dict().items():
        assert read[key].dtype == dtype
        assert torch.equal(read[key], value.to(dtype))


def test_half_weights_are_computed_in_single_precision(tmp_path, net):
    save_sr_net(tmp_path / "a.safetensors", net, metadata={}, half=True)
    loaded, _ = load_sr_net(tmp_path / "a.safetensors")
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.conv_hr.weight, net.conv_hr.weight.half().float())


def test_the_same_network_gives_the_same_bytes_in_every_process(tmp_path, net, saved):
    save_sr_net(tmp_path / "b.safetensors", net, metadata={"steps": "12", "title": "Test"}, half=False)
    assert (tmp_path / "b.safetensors").read_bytes() == saved.read_bytes()
    again = (
        "import sys; from pathlib import Path; from tests.helpers.foreign import small_net;"
        "from ddnsr_cli.weights.checkpoint import *;"
        "save_sr_net(Path(sys.argv[1]), small_net(), metadata={'steps': '12', 'title': 'Test'}, half=False)"
    )
    root = Path(__file__).parents[2]
    env = {"PYTHONPATH": str(root), "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", again, tmp_path / "c.safetensors"], check=True, env=env)
    assert (tmp_path / "c.safetensors").read_bytes() == saved.read_bytes()


def test_other_metadata_give_other_bytes(tmp_path, net, saved):
    save_sr_net(tmp_path / "b.safetensors", net, metadata={"title": "Other", "steps": "12"}, half=False)
    assert (tmp_path / "b.safetensors").read_bytes() != saved.read_bytes()


def test_sizes_in_given_metadata_are_replaced(tmp_path, net):
    stale = {"ddnsr_network": "{}", "ddnsr_version": "0", "ünï": "cödé"}
    save_sr_net(tmp_path / "a.safetensors", net, metadata=stale, half=False)
    _, metadata = load_sr_net(tmp_path / "a.safetensors")
    assert json.loads(metadata["ddnsr_network"])["growth"] == 4
    assert metadata["ddnsr_version"] == __version__
    assert metadata["ünï"] == "cödé"


def test_a_write_that_fails_leaves_the_old_file(monkeypatch, net, saved):
    before = saved.read_bytes()
    calls = iter(range(1000))

    def full(tensor):
        if next(calls) == 5:
            raise OSError(28, "No space left on device")
        return b""

    monkeypatch.setattr(module, "tensor_bytes", full)
    with pytest.raises(WeightsError, match="No space left"):
        save_sr_net(saved, net, metadata={}, half=False)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_missing_folder_is_reported(tmp_path, net):
    with pytest.raises(WeightsError, match="cannot be written"):
        save_sr_net(tmp_path / "no" / "a.safetensors", net, metadata={}, half=False)


@pytest.mark.parametrize(("value", "half"), [(float("nan"), False), (float("inf"), True), (70000.0, True)])
def test_values_that_are_not_finite_are_not_saved(tmp_path, net, value, half):
    net.conv_hr.weight[0, 0, 0, 0] = value
    with pytest.raises(WeightsError, match=r"conv_hr\.weight"):
        save_sr_net(tmp_path / "a.safetensors", net, metadata={}, half=half)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", [1, 2, 3])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".PTH"])
def test_pickles_of_plain_tensors_load(tmp_path, net, as_layout, layout, suffix):
    path = tmp_path / f"net{suffix}"
    torch.save({"params_ema": as_layout(net.state_dict(), layout)}, path)
    loaded, metadata = load_sr_net(path)
    assert metadata == {}
    assert torch.equal(loaded.conv_last.weight, net.conv_last.weight)


def test_the_older_pickle_format_loads(tmp_path, net):
    torch.save(net.state_dict(), tmp_path / "net.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(load_sr_net(tmp_path / "net.pth")[0].conv_hr.bias, net.conv_hr.bias)


def test_safetensors_load_under_any_name(tmp_path, saved):
    for name in ("net.pth", "net", "net.bin"):
        assert load_sr_net(saved.rename(saved.with_name(name)))[0].config.features == 8
        saved = saved.with_name(name)


def test_a_degrader_comes_back_as_it_was(tmp_path):
    torch.manual_seed(0)
    net = Degrader(DegraderConfig(features=4, blocks=1))
    save_degrader(tmp_path / "d.safetensors", net, metadata={"track": "2"}, half=False)
    back, metadata = load_degrader(tmp_path / "d.safetensors")
    assert (back.config, metadata["track"]) == (net.config, "2")
    assert all(torch.equal(value, back.state_dict()[name]) for name, value in net.state_dict().items())
    assert not any(parameter.requires_grad for parameter in back.parameters())


def test_what_is_no_degrader_is_refused(tmp_path, small_net):
    sr, cut = tmp_path / "sr.safetensors", tmp_path / "cut.safetensors"
    save_sr_net(sr, small_net(), metadata={}, half=False)
    save_degrader(cut, Degrader(DegraderConfig(features=4, blocks=1)), metadata={}, half=False)
    cut.write_bytes(cut.read_bytes()[:-8])
    for path in (sr, cut, tmp_path / "gone.safetensors"):
        with pytest.raises(WeightsError, match=path.name):
            load_degrader(path)


@pytest.mark.parametrize("told", [{"features": 150}, {"blocks": 5000}])
def test_a_small_file_does_not_make_a_large_degrader(tmp_path, monkeypatch, told):
    net, path = Degrader(DegraderConfig(features=4, blocks=1)), tmp_path / "d.safetensors"
    net.config = replace(net.config, **told)
    save_degrader(path, net, metadata={}, half=False)
    initialized = []
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda tensor, *_, **__: initialized.append(tensor) or tensor)
    with pytest.raises(WeightsError, match=r"d\.safetensors is damaged"):
        load_degrader(path)
    assert not [tensor for tensor in initialized if tensor.device.type != "meta"]
    assert len(initialized) < 100
