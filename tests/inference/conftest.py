"""A network whose faults are known, ready to enlarge."""

import gc

import pytest
import torch

from ddnsr_cli.commands.upscale.options import UpscaleListener
from ddnsr_cli.inference.net_upscaler import NetUpscaler
from ddnsr_cli.inference.tiling import TileConfig
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.rrdb import RRDBNet


class ShiftingNet(RRDBNet):
    """Enlarges to squares, and makes them brighter and of more contrast than it should."""

    def __init__(self, scale: int) -> None:
        super().__init__(RRDBConfig(features=1, blocks=1, growth=1, scale=scale))
        self.gain = torch.nn.Parameter(torch.tensor([1.06, 1.0, 0.97]).view(1, 3, 1, 1))

    def forward(self, lr):
        side = self.config.scale
        sr = self.gain * lr + 4 / 255
        return sr.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)


@pytest.fixture(scope="module", autouse=True)
def _few_objects_to_go_through():
    """When memory runs out garbage is collected, here hundreds of times: what was there before is not gone through."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def engine():
    """`engine(scale=4, tile_px=64)`: an `Upscaler` with a `ShiftingNet`."""

    def make(scale=4, tile_px=64):
        tiles = TileConfig(tile_px=tile_px)
        return NetUpscaler(ShiftingNet(scale), device=torch.device("cpu"), tiles=tiles)

    return make


@pytest.fixture
def listener():
    """One that hears and forgets."""

    def nothing(*_):
        pass

    return UpscaleListener(image=nothing, tile=nothing, note=nothing, detail=nothing, failed=nothing, download=nothing)
