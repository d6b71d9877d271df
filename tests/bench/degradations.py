"""How many crops are degraded a second, by preset. By hand: python tests/bench/degradations.py --help

One thread; seconds are those of the process. Without images the crops are noise blurred to an image's spectrum. Table
first, one JSON line last.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ddnsr_cli.data.config import PRESETS
from ddnsr_cli.data.degradations import degrade


def made_crops(count: int, side: int) -> torch.Tensor:
    """Amplitudes fall with frequency, as images' do; (count, 3, side, side) in [0, 1]."""
    rng = np.random.default_rng(0)
    wave = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)) + 1 / side
    fields = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((count, 3, side, side))) / wave, s=(side, side))
    fields = 0.5 + 0.2 * fields / fields.std(axis=(2, 3), keepdims=True)
    return torch.from_numpy(np.clip(fields, 0, 1).astype(np.float32))


def image_crops(folder: Path, count: int, side: int) -> torch.Tensor:
    crops = []
    for path in sorted(folder.iterdir())[:count]:
        with Image.open(path) as image:
            left, top = ((length - side) // 2 for length in image.size)
            crops.append(np.asarray(image.convert("RGB").crop((left, top, left + side, top + side))))
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().contiguous() / 255


def crops_per_second(hr: torch.Tensor, preset: str) -> float:
    degrade(hr[:4], PRESETS[preset], np.random.default_rng(0))
    start = time.process_time()
    degrade(hr, PRESETS[preset], np.random.default_rng(1))
    return len(hr) / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of images whose middles are cut out")
    parser.add_argument("--crops", type=int, default=200)
    parser.add_argument("--side", type=int, default=256, help="of a crop, HR pixels")
    options = parser.parse_args()
    torch.set_num_threads(1)
    side = options.side
    hr = image_crops(options.images, options.crops, side) if options.images else made_crops(options.crops, side)
    rates = {preset: round(crops_per_second(hr, preset), 1) for preset in PRESETS}
    print(f"{'preset':>10}  crops of {side}x{side} px a second")
    for preset, rate in rates.items():
        print(f"{preset:>10}  {rate:>8}")
    facts = {"torch": torch.__version__, "processor": platform.processor() or platform.machine()}
    print(json.dumps({**facts, "crops": len(hr), "side": side, "crops_per_second": rates}))


if __name__ == "__main__":
    main()
