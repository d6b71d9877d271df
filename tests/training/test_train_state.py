import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ddnsr_cli.errors import TrainingError
from ddnsr_cli.training.train_state import (
    FORMAT,
    HEADER_KEY,
    TrainState,
    adam_tensors,
    load_train_state,
    net_tensors,
    restore_adam,
    restore_net,
    save_train_state,
)

NUMBERS = {"options": {"a": [1, 2.5], "b": None}, "best": {"psnr_db": 23.456789012345678}}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def train_state(size=8, step=3):
    generator = torch.Generator().manual_seed(size)
    tensors = {
        "net.weight": torch.randn(size, 3, 2, 2, generator=generator).to(memory_format=torch.channels_last),
        "adam.0.step": torch.tensor(7.0),
        "net.count": torch.tensor(5),
        "net.odd": torch.tensor([float("inf"), float("nan"), -0.0, 1e-45]),
    }
    return TrainState(step=step, numbers=NUMBERS, tensors=tensors)


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def same_bits(one, other):
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and torch.equal(bits(one[name]), bits(other[name]))
        for name in one
    )


def network(memory_format):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1))
    return net.to(memory_format=memory_format)


def trained(net, optimizer, *, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(2, 3, 6, 6, generator=generator)).square().mean().backward()
        optimizer.step()


def adam_of(net, *, fused):
    return torch.optim.Adam(net.parameters(), lr=1e-2, fused=fused)


def test_everything_comes_back_bit_for_bit(tmp_path):
    saved = train_state()
    save_train_state(tmp_path / "s.safetensors", saved)
    loaded = load_train_state(tmp_path / "s.safetensors")
    assert loaded.step == 3
    assert loaded.numbers == NUMBERS
    assert same_bits(dict(loaded.tensors), dict(saved.tensors))
    assert names(tmp_path) == ["s.safetensors"]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_network_and_adam_go_on_as_if_never_saved(tmp_path, memory_format, fused):
    # A fused Adam pairs weights and moments by their place in memory, whatever their strides say.
    net = network(memory_format)
    adam = adam_of(net, fused=fused)
    trained(net, adam, steps=3, seed=1)
    tensors = net_tensors("net", net) | adam_tensors("adam", adam)
    save_train_state(tmp_path / "s.safetensors", TrainState(step=3, numbers={}, tensors=tensors))

    loaded = load_train_state(tmp_path / "s.safetensors").tensors
    other = network(memory_format)
    other_adam = adam_of(other, fused=fused)
    restore_net("net", other, loaded)
    restore_adam("adam", other_adam, loaded)
    for each, optimizer in ((net, adam), (other, other_adam)):
        trained(each, optimizer, steps=3, seed=2)
    assert same_bits(
        net_tensors("net", net) | adam_tensors("adam", adam),
        net_tensors("net", other) | adam_tensors("adam", other_adam),
    )


def test_an_adam_that_has_not_stepped_has_nothing_to_save_and_comes_back_so():
    adam = adam_of(network(torch.contiguous_format), fused=True)
    assert adam_tensors("adam", adam) == {}
    restore_adam("adam", adam, {})
    assert adam_tensors("adam", adam) == {}


def test_adam_comes_back_with_moments_and_counts_of_every_parameter():
    net = network(torch.contiguous_format)
    adam = adam_of(net, fused=True)
    trained(net, adam, steps=2, seed=1)
    found = adam_tensors("adam", adam)
    assert set(found) == {f"adam.{n}.{kind}" for n in range(6) for kind in ("step", "exp_avg", "exp_avg_sq")}
    assert found["adam.0.step"].item() == 2


def test_training_on_does_not_write_into_what_was_loaded():
    net = network(torch.contiguous_format)
    adam = adam_of(net, fused=True)
    trained(net, adam, steps=1, seed=1)
    loaded = {name: tensor.clone() for name, tensor in (net_tensors("n", net) | adam_tensors("a", adam)).items()}
    before = {name: tensor.clone() for name, tensor in loaded.items()}
    restore_net("n", net, loaded)
    restore_adam("a", adam, loaded)
    trained(net, adam, steps=1, seed=2)
    assert same_bits(loaded, before)


def test_a_network_takes_its_own_prefix_and_no_other():
    one, other = network(torch.contiguous_format), network(torch.contiguous_format)
    nn.init.ones_(one[0].weight)
    tensors = net_tensors("net", one) | {
        name.replace("net.", "net2."): t for name, t in net_tensors("net", other).items()
    }
    restore_net("net", other, tensors)
    assert torch.equal(other[0].weight, one[0].weight)
    with pytest.raises(TrainingError, match=r"does not fit the networks: ne\."):
        restore_net("ne", other, tensors)


def broken(path, kind):
    save_train_state(path, train_state())
    whole = path.read_bytes()
    if kind == "missing":
        path.unlink()
    elif kind == "another version":
        save_file({"a": torch.zeros(1)}, path, metadata={HEADER_KEY: json.dumps({"format": "ddnsr-run-0", "step": 1})})
    elif kind == "foreign":
        save_file({"a": torch.zeros(1)}, path)
    else:
        path.write_bytes({"empty": b"", "text": b"hello", "cut": whole[:-3], "header": whole[:20]}[kind])
    return path


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "cut", "header", "foreign", "another version"])
def test_a_damaged_or_foreign_file_is_refused_by_name_in_one_line(tmp_path, kind):
    path = broken(tmp_path / "last.safetensors", kind)
    with pytest.raises(TrainingError, match=r"last\.safetensors (cannot be read|is of format)") as caught:
        load_train_state(path)
    assert "\n" not in str(caught.value)


def test_another_version_is_told_by_both_names(tmp_path):
    path = broken(tmp_path / "last.safetensors", "another version")
    with pytest.raises(TrainingError, match=f"'ddnsr-run-0'.*'{FORMAT}'"):
        load_train_state(path)


def test_a_full_disk_leaves_the_save_before_it(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "last.safetensors"
    save_train_state(path, train_state(size=8, step=1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(TrainingError, match=r"last\.safetensors could not be saved.*free some space") as caught:
            save_train_state(path, train_state(size=8000, step=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert load_train_state(path).step == 1
    assert names(tmp_path) == ["last.safetensors"]


def test_a_folder_that_is_not_there_is_reported(tmp_path):
    with pytest.raises(TrainingError, match="could not be saved"):
        save_train_state(tmp_path / "missing" / "last.safetensors", train_state())
