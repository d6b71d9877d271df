"""Two processes with uneven shares of each batch, taken in micro-batches, give what one gives with it whole."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import TCPStore

from ddnsr_cli.errors import ConfigError, TrainingError
from ddnsr_cli.training import distributed
from ddnsr_cli.training.distributed import GlobalBatchNorm2d, World, joined_world, share_batch_statistics
from tests.helpers.processes import ready_processes
from tests.helpers.two_processes import go_on_from, join_and_leave, train

SETTINGS = ("track 1", "track 2", "paired")


def run_processes(count, folder, micro_batch):
    """The figures of every step in each setting, as the processes agree on them, in float64."""
    folder.mkdir()
    context = ready_processes()
    processes = [
        context.Process(target=train, args=(rank, count, folder, SETTINGS, micro_batch)) for rank in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * count
    told = [(folder / f"{rank}.json").read_text() for rank in range(count)]
    assert len(set(told)) == 1  # all processes tell the same
    return json.loads(told[0])


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory):
    """What one process gives, and what two give."""
    folder = tmp_path_factory.mktemp("processes")
    return run_processes(1, folder / "one", None), run_processes(2, folder / "two", 2)


LEAVE = """
import pathlib, torch
from ddnsr_cli.training.distributed import joined_world

with joined_world() as world:
    assert world.agree(True, torch.device("cpu"))
    import torch._dynamo  # as the first step of an optimizer does
print(sorted({task.read_text().strip() for task in pathlib.Path("/proc/self/task").glob("*/comm")}))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="names of threads are Linux's")
def test_nothing_of_the_group_lives_on_when_it_is_left(tmp_path):
    """What does may still be at work when Python ends, and abort it."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2"}
    elastic = {"TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    paths = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    told = tmp_path / "told"
    other = ready_processes().Process(target=join_and_leave, args=(1, store.port, told))  # it has imported all before
    other.start()
    words, environment = [sys.executable, "-c", LEAVE], {**os.environ, **meeting, **elastic, **paths, "RANK": "0"}
    fresh = subprocess.run(words, env=environment, timeout=120, check=False, stdout=subprocess.PIPE, text=True)
    other.join(120)
    assert (fresh.returncode, other.exitcode) == (0, 0)
    for threads in (fresh.stdout, told.read_text()):
        assert "python" in threads
        assert "gloo" not in threads


@pytest.mark.parametrize("setting", SETTINGS)
def test_two_processes_give_the_losses_of_one(setting, one_and_two):
    one, two = (figures[setting] for figures in one_and_two)
    assert len(one) == len(two) == (6 if setting == "paired" else 3)
    for ours, theirs in zip(one, two, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            # Batch norm on four samples of one pixel each, deep in this small discriminator, magnify rounding in norms.
            tolerance = 2e-2 if name.startswith("norm_") else 2e-4
            assert theirs[name] == pytest.approx(ours[name], rel=tolerance, abs=1e-6), name


def test_alone_nothing_changes():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    share_batch_statistics(net, World())
    assert type(net[1]) is nn.BatchNorm2d
    values = torch.rand(4, 2)
    assert World().mean(values) is values
    assert World().share(values) is not None
    assert World().mean_of({"a": 1.5}, torch.device("cpu")) == {"a": 1.5}


def test_global_batch_norm_equals_plain_batch_norm_when_alone():
    torch.manual_seed(0)
    plain, x = nn.BatchNorm2d(4), torch.randn(5, 4, 6, 7)
    nn.init.normal_(plain.weight)
    ours = GlobalBatchNorm2d(plain, World())
    for net in (plain, ours):
        net.train()
    torch.testing.assert_close(ours(x), plain(x))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x))


@pytest.mark.parametrize("training", [True, False])
def test_a_global_batch_norm_is_where_the_plain_one_was(training):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to("meta", torch.float64).train(training)
    share_batch_statistics(net, World(size=2))
    assert type(net[1]) is GlobalBatchNorm2d
    assert net[1].training == training
    assert all(tensor.is_meta for tensor in net.state_dict().values())
    assert net[1].weight.dtype == net[1].running_mean.dtype == torch.float64


@pytest.mark.parametrize(("steps", "are_one"), [((4, 4), True), ((4, 0), False)])
def test_processes_that_go_on_from_different_steps_are_refused(tmp_path, steps, are_one):
    context = ready_processes()
    processes = [
        context.Process(target=go_on_from, args=(rank, step, tmp_path / "meet", tmp_path / str(rank)))
        for rank, step in enumerate(steps)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    for rank, step in enumerate(steps):
        told = (tmp_path / str(rank)).read_text()
        assert told == "" if are_one else f"this one from {step}: they see different run folders" in told


def test_processes_wait_for_the_first_longer_than_backends_do_by_themselves(monkeypatch):
    joined = {}
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "rendezvous", lambda _how: iter([(dist.HashStore(), 0, 2)]))
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **options: joined.update(options))
    monkeypatch.setattr(dist, "all_reduce", lambda _value: None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    with distributed.joined_world() as world:
        assert (world.rank, world.size) == (0, 2)
    assert joined["timeout"].total_seconds() > 8 * 3600


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ConfigError, match="1 cannot be shared by 2"):
        World(rank=1, size=2, batch=1)


@pytest.mark.parametrize("count", [6, 7, 8])
def test_shares_are_in_order_and_make_the_batch(count):
    batch, worlds = torch.arange(count), [World(rank=rank, size=3, batch=count) for rank in range(3)]
    shares = [world.share(batch) for world in worlds]
    assert torch.equal(torch.cat(shares), batch)
    assert {len(share) for share in shares} <= {2, 3}
    assert [len(share) for share in shares] == pytest.approx([world.weight * count / 3 for world in worlds])


@pytest.mark.parametrize(
    ("variable", "given", "kind", "told"),
    [
        ("WORLD_SIZE", "0", ConfigError, "WORLD_SIZE .* got '0'"),
        ("RANK", "", ConfigError, "RANK is to be 0 to 1, .* got ''"),
        ("RANK", "2", ConfigError, "RANK is to be 0 to 1, .* got '2'"),
        ("MASTER_PORT", "x", ConfigError, "2 processes.*'x'.*torchrun"),
        ("MASTER_PORT", "100000", ConfigError, "2 processes.*100000.*torchrun"),
        ("MASTER_PORT", None, TrainingError, r"could not meet at 127.0.0.1:\d+ \(.*\). Check that address"),
    ],
)
def test_processes_that_cannot_meet_say_why(monkeypatch, variable, given, kind, told):
    with socket.create_server(("127.0.0.1", 0)) as other:  # whose port is taken
        port = str(other.getsockname()[1])
        known = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in (known | ({} if given is None else {variable: given})).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(kind, match=told), joined_world():
            pass
