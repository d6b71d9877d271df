"""Make docs/before_after.png from the example image: `python docs/before_after.py` with ddnsr installed."""

import subprocess
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "examples" / "coffee.png"
CUT = (146, 96, 256, 196)  # left, top, right, bottom in LR pixels: rim, reflections and grain
SCALE = 4


def main() -> None:
    """Cut the same part out of the bicubic and of our enlargement and set them side by side."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "x4.png"
        subprocess.run(["ddnsr", "upscale", SOURCE, "-o", result], check=True)
        ours = Image.open(result).crop(tuple(SCALE * side for side in CUT))
    image = Image.open(SOURCE)
    enlarged = image.resize((SCALE * image.width, SCALE * image.height), Image.Resampling.BICUBIC)
    bicubic = enlarged.crop(tuple(SCALE * side for side in CUT))
    sheet = Image.new("RGB", (2 * ours.width + 8, ours.height), "white")
    sheet.paste(bicubic, (0, 0))
    sheet.paste(ours, (ours.width + 8, 0))
    sheet.save(ROOT / "docs" / "before_after.png", optimize=True)


if __name__ == "__main__":
    main()
