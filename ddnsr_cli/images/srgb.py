"""Pictures of other colour spaces as sRGB, for programs that obey no profile."""

from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

from ddnsr_cli.images.picture import Picture, Pixels

_INTENT = {"intent": "relative", "black_point_compensation": True}
_FAILED = "its colour profile could not be used; the colours were left as they are"


def to_srgb(picture: Picture) -> Picture:
    """The picture with its colours in sRGB, at its own depth; one without a profile is taken for sRGB already.

    Relative colorimetric with black point compensation, as editors do; colours beyond sRGB become the nearest within.
    A colour picture gets an sRGB profile in place of its own; gray stays gray, with sRGB's tone curve and no profile.
    """
    icc = picture.metadata.icc
    if icc is None:
        return picture
    try:
        if _name(icc, picture).startswith("sRGB"):
            return picture
        pixels, profile = _converted(picture.pixels, icc)
    except ValueError:
        return replace(picture, notes=(*picture.notes, _FAILED))
    metadata = replace(picture.metadata, icc=None if picture.is_gray else profile, png_colour=())
    return replace(picture, pixels=pixels, metadata=metadata)


def _name(icc: bytes, picture: Picture) -> str:
    """What a profile calls itself. Raises ValueError where it cannot be used: libvips would take another in silence."""
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "L" if picture.is_gray else "RGB", "RGB")
        return ImageCms.getProfileDescription(profile)
    except (ImageCms.PyCMSError, OSError) as error:
        raise ValueError(str(error)) from error


def _converted(pixels: Pixels, icc: bytes) -> tuple[Pixels, bytes]:
    """Samples in sRGB, and its profile. Raises ValueError where the profile is of no use."""
    import pyvips  # it is slow to load, and few pictures need it

    height, width, channels = pixels.shape
    depth = pixels.itemsize * 8
    image = pyvips.Image.new_from_memory(
        np.ascontiguousarray(pixels), width, height, channels, "uchar" if depth == 8 else "ushort"
    )
    kind = {(1, 8): "b-w", (1, 16): "grey16", (3, 8): "srgb", (3, 16): "rgb16"}[channels, depth]
    image = image.copy(interpretation=kind)
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc)
    try:
        # by way of Lab in floating point: straight from 16 bits to 16 bits dark saturated colours were 10 levels off
        lab = image.icc_import(embedded=True, **_INTENT)
        rgb = lab.icc_export(output_profile="srgb", depth=depth, **_INTENT)
        samples: NDArray[Any] = rgb.numpy().reshape(height, width, -1)
        profile = bytes(rgb.get("icc-profile-data"))
    except pyvips.Error as error:
        raise ValueError(str(error)) from error
    return np.ascontiguousarray(samples[..., :channels]), profile
