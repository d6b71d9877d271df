"""Pictures inside a page: as `data:` addresses, lossless or small."""

from io import BytesIO

import numpy as np
from PIL import Image

from ddnsr_cli.workflows.evaluation.pages.detail import Rgb8
from ddnsr_cli.workflows.webpage.shell import data_uri


def lossless(picture: Rgb8) -> str:
    """A picture (H, W, 3) as WebP that has lost nothing: a tenth smaller than PNG. For small ones."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, format="WEBP", lossless=True)
    return data_uri(buffer.getvalue(), "image/webp")


def compressed(picture: Rgb8, *, quality: int) -> str:
    """A picture (H, W, 3) as JPEG with colours at full resolution, which keep the look of coloured noise."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=quality, subsampling=0, optimize=True)
    return data_uri(buffer.getvalue(), "image/jpeg")


def reduced(picture: Rgb8, *, most_px: int) -> Rgb8:
    """The picture with its longer side at `most_px` where it is longer: Lanczos, antialiased."""
    height, width = picture.shape[:2]
    longer = max(height, width)
    if longer <= most_px:
        return picture
    size = max(1, round(width * most_px / longer)), max(1, round(height * most_px / longer))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
