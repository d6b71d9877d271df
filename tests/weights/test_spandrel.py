"""Other programs (chaiNNer, ComfyUI) load through spandrel: it must see in our files what we see, and compute the same.

It runs in a process of its own: see tests/helpers/spandrel_process.py.
"""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from ddnsr_cli.commands.weights.convert import save_pth
from ddnsr_cli.weights.checkpoint import save_sr_net
from ddnsr_cli.weights.registry import read_registry

pytestmark = pytest.mark.skipif(importlib.util.find_spec("spandrel") is None, reason="spandrel is not installed")

PROGRAM = """
import json, sys
from pathlib import Path

import spandrel
import torch
from ddnsr_cli.weights.checkpoint import load_sr_net

for path in map(Path, sys.argv[1:]):
    theirs, (ours, _) = spandrel.ModelLoader(device="cpu").load_from_file(path), load_sr_net(path)
    lr = torch.rand(1, 3, 16, 12, generator=torch.Generator().manual_seed(3)).double()
    with torch.inference_mode():  # in double precision: the order of sums, which differs, must not hide anything else
        sr, own = theirs.model.double()(lr), ours.double()(lr)
    print(json.dumps({
        "architecture": theirs.architecture.id, "scale": theirs.scale, "tags": theirs.tags,
        "channels": [theirs.input_channels, theirs.output_channels],
        "shape": list(sr.shape), "range": float(own.max() - own.min()), "difference": float((sr - own).abs().max()),
    }))
"""


@pytest.fixture
def net(small_net):
    return small_net(features=12, blocks=2, growth=32)  # spandrel takes a growth of 32 for granted


@pytest.fixture
def compared(spandrel):
    def compare(*paths):
        done = spandrel(PROGRAM, *paths)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return compare


def test_our_files_are_esrgan_x4_to_spandrel_and_give_the_same_image(compared, tmp_path, net):
    paths = [tmp_path / "full.safetensors", tmp_path / "half.safetensors"]
    for path, half in zip(paths, (False, True), strict=True):
        save_sr_net(path, net, metadata={"title": "Test"}, half=half)
    for seen in compared(*paths):
        assert seen["architecture"] == "ESRGAN"
        assert seen["scale"] == 4
        assert seen["channels"] == [3, 3]
        assert seen["tags"] == ["12nf", "2nb"]
        assert seen["shape"] == [1, 3, 64, 48]
        assert seen["range"] > 0.1
        assert seen["difference"] < 1e-12 * seen["range"]


def test_compact_networks_give_the_same_image_in_both(compared, tmp_path, small_compact):
    sizes = [(8, 3, 4), (6, 16, 2), (4, 2, 1), (5, 1, 3)]
    for number, (features, convs, scale) in enumerate(sizes):
        net = small_compact(features=features, convs=convs, scale=scale)
        torch.save({"params": net.state_dict()}, tmp_path / f"{number}.pth")
        save_sr_net(tmp_path / f"{number}.safetensors", net, metadata={}, half=False)
    paths = [tmp_path / f"{number}{suffix}" for number in range(len(sizes)) for suffix in (".pth", ".safetensors")]
    for seen, (features, convs, scale) in zip(compared(*paths), [size for size in sizes for _ in "12"], strict=True):
        assert (seen["architecture"], seen["scale"]) == ("Compact", scale)
        assert seen["tags"] == [f"{features}nf", f"{convs}nc"]
        assert seen["range"] > 0.1
        assert seen["difference"] < 1e-12 * seen["range"]


def test_our_pth_files_give_the_same_image_in_both(compared, tmp_path, net, small_compact):
    for name, one in (("esrgan", net), ("compact", small_compact())):
        save_pth(tmp_path / f"{name}.pth", one, half=False)
    for seen, architecture in zip(compared(*sorted(tmp_path.glob("*.pth"))), ("Compact", "ESRGAN"), strict=True):
        assert (seen["architecture"], seen["scale"]) == (architecture, 4)
        assert seen["difference"] < 1e-12 * seen["range"]


def test_the_bundled_models_give_the_same_image_in_both(compared):
    registry = read_registry()
    entries = [entry for entry in registry.entries if entry.bundled and entry.network == "rrdb"]
    assert len(entries) == 4
    for seen in compared(*(registry.folder / entry.bundled for entry in entries)):
        assert (seen["architecture"], seen["scale"], seen["channels"]) == ("ESRGAN", 4, [3, 3])
        assert seen["difference"] < 1e-12 * seen["range"]


PEERS = Path(__file__).parents[2] / "shared" / "weights" / "peers"


@pytest.mark.parametrize("name", ["upscayl_lite_4x", "realesr_animevideov3_x4"])
def test_published_compact_networks_give_the_same_image_in_both(compared, name):
    path = PEERS / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"{path.name} is not beside this checkout")
    (seen,) = compared(path)
    assert (seen["architecture"], seen["scale"]) == ("Compact", 4)
    assert seen["difference"] < 1e-6


def test_files_of_others_give_the_same_image_in_both(compared, tmp_path, net, small_net, as_layout):
    for layout in (1, 2, 3):
        torch.save({"params_ema": as_layout(net.state_dict(), layout)}, tmp_path / f"{layout}.pth")
    unshuffled = small_net(features=12, blocks=1, growth=32, scale=2)
    torch.save({"params_ema": unshuffled.state_dict()}, tmp_path / "x2.pth")
    *fours, two = compared(*(tmp_path / f"{name}.pth" for name in (1, 2, 3, "x2")))
    assert [seen["scale"] for seen in (*fours, two)] == [4, 4, 4, 2]
    for seen in (*fours, two):
        assert seen["architecture"] == "ESRGAN"
        assert seen["range"] > 0.1
        assert seen["difference"] < 1e-12 * seen["range"]
