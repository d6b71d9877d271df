"""How far models shift colors that do not change: `python tests/bench/colors.py [--models NAME...]`.

Levels of 255, of 16-bit images as `ddnsr upscale` makes them, with and without `--color-fix`; the greatest shift of

- flat grays: the mean of an image of 64 x 64 pixels, any of 52 grays from black to white;
- flat colors: the same, any of the 60 colors of a grid of 4 x 4 x 4 that are no grays;
- ramp: any square of 8 x 8 pixels of 32 x 256 that go from black to white;
- chart: the mean of any patch of 32 x 32 pixels of a chart of 8 grays and 4 colors.

The mean of a flat image leaves out 8 pixels at its borders, that of a patch 8 pixels beside its neighbors.
"""

import argparse
import itertools

import numpy as np
from looks import LISTENER

from ddnsr_cli.commands.upscale.options import UpscaleOptions
from ddnsr_cli.commands.upscale.worker import start_engine
from ddnsr_cli.inference.pipeline import LookOptions, enlarge_image
from ddnsr_cli.io.image import RasterImage

WHITE = 65535
EDGE_PX = 8
GRAYS = [(level, level, level) for level in np.linspace(0, 1, 52)]
COLORS = [color for color in itertools.product(np.linspace(0, 1, 4), repeat=3) if len(set(color)) > 1]
CHART = [*GRAYS[:: len(GRAYS) // 7][:8], (0.7, 0.2, 0.2), (0.2, 0.6, 0.25), (0.2, 0.3, 0.7), (0.9, 0.75, 0.1)]


def flat(color, side=64):
    return np.broadcast_to(np.array(color), (side, side, 3))


def ramp():
    return np.broadcast_to(np.linspace(0, 1, 256)[None, :, None], (32, 256, 3))


def chart():
    patches = [flat(color, 32) for color in CHART]
    return np.concatenate([np.concatenate(patches[row : row + 4], axis=1) for row in range(0, 12, 4)])


def shifts(enlarge, pixels, square, edge):
    """The greatest shift of the mean of any square, `edge` pixels at each of its sides left out; in levels."""
    rounded = np.rint(pixels * WHITE).astype(np.uint16)
    larger = enlarge(rounded) / WHITE
    scale = len(larger) // len(rounded)
    worst = 0.0
    for top, left in itertools.product(*(range(0, length, square) for length in rounded.shape[:2])):
        inner = np.s_[top + edge : top + square - edge, left + edge : left + square - edge]
        outer = tuple(slice(scale * one.start, scale * one.stop) for one in inner)
        shift = larger[outer].mean((0, 1)) - rounded[inner].mean((0, 1)) / WHITE
        worst = max(worst, 255 * float(np.abs(shift).max()))
    return worst


def measured(engine, look):
    def enlarge(pixels):
        return enlarge_image(RasterImage(pixels=pixels), engine.upscaler, look, LISTENER)[0].pixels

    return (
        max(shifts(enlarge, flat(gray), 64, EDGE_PX) for gray in GRAYS),
        max(shifts(enlarge, flat(color), 64, EDGE_PX) for color in COLORS),
        shifts(enlarge, ramp(), 8, 0),
        shifts(enlarge, chart(), 32, EDGE_PX),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["ddnsr-lite"])
    given = parser.parse_args()
    print(f"{'':40} grays  colors  ramp  chart")
    for name in given.models:
        engine = start_engine(UpscaleOptions(model=name, device="cpu"), LISTENER)
        for option, wanted in (("--no-color-fix", False), ("", True)):
            figures = measured(engine, LookOptions(color_fix=wanted))
            print(f"{name + ' ' + option:40}" + "  ".join(f"{figure:5.2f}" for figure in figures), flush=True)


if __name__ == "__main__":
    main()
