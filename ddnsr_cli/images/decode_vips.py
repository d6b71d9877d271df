"""Samples of deep files through libvips, which keeps all their bits; Pillow would cut them to 8."""

from functools import cache
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

WHITE = 65535
"""The largest sample of 16 bits."""

_MOST_BANDS = 8
_LOADERS = {"PNG": "pngload_source", "TIFF": "tiffload_source", "AVIF": "heifload_source"}


def deep_samples(file: BinaryIO, file_format: str) -> tuple[NDArray[np.uint16], int, tuple[str, ...]]:
    """The first page of a file as (H, W, bands) uint16; how many pages there are; what to tell the user.

    file: a real file, with a descriptor. file_format: "PNG", "TIFF" or "AVIF"; nothing else is tried.
    The transparent colour of a PNG becomes a band, Lab becomes RGB, CMYK stays CMYK. Damage raises pyvips.Error,
    samples of a kind that has no agreed white raise ValueError.
    """
    vips = _vips()
    source = vips.Source.new_from_descriptor(file.fileno())
    # fail_on: without it a file cut short comes back half black and no word is said
    image = getattr(vips.Image, _LOADERS[file_format])(source, access="sequential", fail_on="error")
    pages = int(image.get("n-pages")) if image.get_typeof("n-pages") else 1
    if image.interpretation in {"lab", "labs"}:
        return _samples(image.colourspace("rgb16")), pages, ("Lab was converted to sRGB",)
    samples, notes = _to_16_bits(_samples(image))
    if file_format == "AVIF":  # 10 or 12 bits, put into the upper ones
        samples = _stretched(samples, int(image.get("bits-per-sample")))
    return samples, pages, notes


def _to_16_bits(samples: NDArray[Any]) -> tuple[NDArray[np.uint16], tuple[str, ...]]:
    if samples.dtype == np.uint16:
        return samples, ()
    if samples.dtype == np.uint32:
        return np.rint(samples / 65537).astype(np.uint16), ("32-bit samples were rounded to 16 bits",)
    if samples.dtype in (np.float32, np.float64):
        finite = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=0.0)
        scaled = np.rint(np.clip(finite, 0, 1) * WHITE).astype(np.uint16)
        return scaled, ("floating point samples were read as 0 = black, 1 = white, and clipped to that range",)
    raise ValueError(f"samples of the type {samples.dtype} have no agreed white")


def _stretched(samples: NDArray[np.uint16], bits: int) -> NDArray[np.uint16]:
    """Samples that lie in the upper `bits` bits, scaled so that the largest becomes 65,535."""
    largest = (1 << bits) - 1
    levels = samples.astype(np.uint32) >> (16 - bits)
    return ((levels * WHITE + largest // 2) // largest).astype(np.uint16)


def _samples(image: Any) -> NDArray[Any]:  # noqa: ANN401 - pyvips has no types to name
    if image.bands > _MOST_BANDS:
        raise ValueError(f"it has {image.bands} channels")
    samples: NDArray[Any] = image.numpy()
    return samples.reshape(image.height, image.width, image.bands)


@cache
def _vips() -> ModuleType:
    """Libvips, loaded when the first deep file comes."""
    import pyvips

    pyvips.cache_set_max(0)  # remembered operations would keep their files and pixels alive
    module: ModuleType = pyvips
    return module
