"""Networks of other architectures, through spandrel, which runs in a process of its own."""

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from ddnsr_cli.errors import WeightsError
from ddnsr_cli.weights import foreign
from ddnsr_cli.weights.checkpoint import load_own_net, load_sr_net
from tests.helpers.command import image_file

__all__ = ["image_file"]

TESTS = Path(__file__).parents[1]
needs_spandrel = pytest.mark.skipif(importlib.util.find_spec("spandrel") is None, reason="spandrel is not installed")

MAKE = """
import sys
import torch
from spandrel.architectures.DAT import DAT
from spandrel.architectures.HAT import HAT
from spandrel.architectures.PLKSR import RealPLKSR
from spandrel.architectures.SAFMN import SAFMN
from spandrel.architectures.SPAN import SPAN
from spandrel.architectures.SwinIR import SwinIR

torch.manual_seed(0)
nets = {
    "SPAN": SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2),
    "RealPLKSR": RealPLKSR(dim=16, n_blocks=2, upscaling_factor=4),
    "SAFMN": SAFMN(dim=12, n_blocks=2, upscaling_factor=4),
    "SwinIR": SwinIR(embed_dim=12, num_heads=[2, 2], upscale=4, depths=[2, 2], window_size=8, upsampler="nearest+conv"),
    "DAT": DAT(embed_dim=32, num_heads=[2, 2], upscale=4, depth=[2, 2], split_size=[2, 4], upsampler="pixelshuffle"),
    "HAT": HAT(embed_dim=96, num_heads=[2], upscale=4, depths=[2], window_size=16, upsampler="pixelshuffle"),
    "gray": SPAN(num_in_ch=1, num_out_ch=1, feature_channels=8, upscale=2),
}
for name, net in nets.items():
    torch.save({"params_ema": net.state_dict()}, f"{sys.argv[1]}/{name}.pth")
"""

COMPARE = """
import json, sys
from pathlib import Path
import spandrel
import torch
from ddnsr_cli.weights.checkpoint import load_sr_net
from ddnsr_cli.inference.tiling import TileConfig
from ddnsr_cli.inference.net_upscaler import NetUpscaler

CPU = torch.device("cpu")
lr = torch.rand(1, 3, 28, 180, generator=torch.Generator().manual_seed(3))
for path in map(Path, sys.argv[1:]):
    theirs, (ours, _) = spandrel.ModelLoader(device="cpu").load_from_file(path), load_sr_net(path)
    whole, tiled = (
        NetUpscaler(ours, device=CPU, dtype=torch.bfloat16, tiles=TileConfig(tile_px=tile)) for tile in (None, 32)
    )
    sr, single, joined = theirs.eval()(lr), whole.whole(lr), tiled.whole(lr)
    print(json.dumps({
        "architecture": ours.architecture, "shape": list(single.shape), "range": float(sr.max() - sr.min()),
        "scale": whole.scale, "difference": float((single - sr).abs().max()), "dtype": str(whole.dtype),
        "tiles": tiled.plan(28, 180).tiles, "seams": float((joined - single).abs().max()),
    }))
"""

COMMAND = """
import sys
from ddnsr_cli.cli.app import main

sys.argv[0] = "ddnsr"
main()
"""


@pytest.fixture(scope="module")
def files(spandrel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign")
    done = spandrel(MAKE, folder)
    assert done.returncode == 0, done.stderr
    return folder


@needs_spandrel
def test_other_networks_give_the_image_that_spandrel_gives(spandrel, files):
    names = ["SPAN", "RealPLKSR", "SAFMN", "SwinIR", "DAT", "HAT"]
    done = spandrel(COMPARE, *(files / f"{name}.pth" for name in names))
    assert done.returncode == 0, done.stderr
    for name, line in zip(names, done.stdout.splitlines(), strict=True):
        seen = json.loads(line)
        assert name.removeprefix("Real") in seen["architecture"]
        assert seen["scale"] == (2 if name == "SPAN" else 4)
        assert seen["shape"] == [1, 3, 28 * seen["scale"], 180 * seen["scale"]]
        assert seen["range"] > 0.01
        assert seen["difference"] < 1e-6
        assert seen["dtype"] == "float32"  # bfloat16 is for our own networks
        assert seen["tiles"] > 1
        assert seen["seams"] < 0.05 * seen["range"]


@needs_spandrel
def test_other_networks_enlarge_and_are_not_converted(spandrel, files, tmp_path, image_file):
    source, weights = image_file(width=50, height=40), files / "SPAN.pth"
    enlarged = spandrel(COMMAND, "upscale", source, "-m", weights, "-o", tmp_path / "out.png")
    assert enlarged.returncode == 0, enlarged.stderr
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (100, 80)
    refused = spandrel(COMMAND, "weights", "convert", weights, "-o", tmp_path / "x.safetensors")
    assert (refused.returncode, refused.stderr.count("\n")) == (5, 1)
    assert "SPAN.pth is a network that is not known here" in refused.stderr


@needs_spandrel
def test_what_spandrel_cannot_use_is_reported(spandrel, files, tmp_path, image_file):
    source = image_file()
    torch.save({"zebra.weight": torch.zeros(3)}, tmp_path / "zebra.pth")
    broken = torch.load(files / "SPAN.pth", weights_only=True)["params_ema"]
    torch.save(broken | {"conv_2.sk.weight": broken["conv_2.sk.weight"] / 0}, tmp_path / "broken.pth")
    torch.save({key: value for key, value in broken.items() if "block_3" not in key}, tmp_path / "part.pth")
    refusals = {
        files / "gray.pth": "is a SPAN network, not from RGB to RGB",
        tmp_path / "zebra.pth": "is a network that is not known here (it holds zebra.weight of 3)",
        tmp_path / "broken.pth": "not finite in conv_2.sk.weight",
        tmp_path / "part.pth": "part.pth is a network that is not known here",
    }
    for weights, words in refusals.items():
        done = spandrel(COMMAND, "upscale", source, "-m", weights, "-o", tmp_path / "out.png")
        assert (done.returncode, done.stderr.count("\n")) == (5, 1), done.stderr
        assert words in done.stderr


@pytest.fixture
def swin(tmp_path):
    path = tmp_path / "swin.pth"
    torch.save({"layers.0.residual_group.blocks.0.norm1.weight": torch.ones(3)}, path)
    foreign._spandrel.cache_clear()
    yield path
    foreign._spandrel.cache_clear()


def test_without_spandrel_it_is_told_what_to_install(swin, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(WeightsError, match=r"such as SwinIR .* Others load with: pip install 'ddnsr\[archs\]'\.$"):
        load_sr_net(swin)
    with pytest.raises(WeightsError) as caught:
        load_own_net(swin)
    assert "archs" not in str(caught.value)


@pytest.mark.parametrize("error", [RuntimeError("operator torchvision::nms\ndoes not exist"), ImportError("x.so")])
def test_a_spandrel_that_does_not_start_is_reported(swin, monkeypatch, error):
    def start(name):
        raise error

    monkeypatch.setattr(importlib, "import_module", start)
    with pytest.raises(
        WeightsError, match=r"same build as PyTorch and spandrel, which does not start here: .*(exist|x\.so)\.$"
    ):
        load_sr_net(swin)


def test_a_part_of_spandrel_that_is_missing_is_named(swin, monkeypatch):
    def start(name):
        raise ModuleNotFoundError("No module named 'torchvision'", name="torchvision")

    monkeypatch.setattr(importlib, "import_module", start)
    with pytest.raises(WeightsError, match="does not start without torchvision: install that"):
        load_sr_net(swin)


@pytest.mark.parametrize("odd", [torch.zeros(3).to(torch.float8_e4m3fn), torch.zeros(3, device="meta")])
def test_tensors_of_an_odd_kind_are_refused(tmp_path, monkeypatch, odd):
    stand_in = SimpleNamespace(UnsupportedModelError=KeyError)
    monkeypatch.setattr(foreign, "_spandrel", lambda: (stand_in, ""))
    torch.save({"layers.0.residual_group.blocks.0.norm1.weight": odd}, tmp_path / "swin.pth")
    with pytest.raises(WeightsError, match=r"swin\.pth is a transformer such as SwinIR"):
        load_sr_net(tmp_path / "swin.pth")
