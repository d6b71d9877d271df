"""The command is run as a user runs it; see tests/helpers/command.py."""

import pytest
import torch

from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.rrdb import RRDBNet, start_as_nearest
from ddnsr_cli.weights.checkpoint import save_sr_net
from tests.helpers.command import ddnsr, image_file, quick_model
from tests.helpers.round_trip import Result

__all__ = ["ddnsr", "image_file", "quick_model"]


@pytest.fixture(scope="session")
def repeating_model(tmp_path_factory):
    """A file with a network that repeats every pixel 4x4 times, exactly."""
    net = RRDBNet(RRDBConfig(features=3, blocks=1, growth=1))
    start_as_nearest(net, torch.Generator().manual_seed(0))
    with torch.no_grad():
        net.conv_body.weight.zero_()
    path = tmp_path_factory.mktemp("model") / "repeating.safetensors"
    save_sr_net(path, net, metadata={}, half=False)
    return path


@pytest.fixture
def enlarged(ddnsr, repeating_model, tmp_path):
    """`enlarged(data, "in.tif", "-s", "2")`: the bytes of a file through the command; `to`: the name of the result."""

    def run(data, name="in.bin", *words, to="out.png"):
        source, target = tmp_path / name, tmp_path / "result" / to
        source.write_bytes(data)
        target.unlink(missing_ok=True)
        done = ddnsr("upscale", source, "-o", target, "-m", repeating_model, *words)
        assert done.out == (f"{target}\n" if done.code == 0 else "")
        assert target.exists() == (done.code == 0)
        assert list(tmp_path.rglob("*.part*")) == []
        return Result(done.code, done.err, target)

    return run
