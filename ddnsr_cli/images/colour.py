"""Colour spaces other than RGB and gray, brought to sRGB; and whether a profile fits the pixels."""

from io import BytesIO

from PIL import Image, ImageCms

_SPACES = {1: b"GRAY", 3: b"RGB "}


def profile_fits(icc: bytes, channels: int) -> bool:
    """Whether an ICC profile describes pixels of so many channels: 1 gray, 3 RGB.

    A profile of another space (CMYK over RGB pixels, say) makes every viewer that obeys it show wrong colours.
    """
    return _space(icc) == _SPACES[channels]


def cmyk_to_rgb(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, str]:
    """A CMYK picture as sRGB, through its profile if it has a good one; and what to tell the user."""
    if icc and _space(icc) == b"CMYK":
        try:
            return _to_srgb(image, ImageCms.ImageCmsProfile(BytesIO(icc))), "CMYK was converted to sRGB by its profile"
        except (ImageCms.PyCMSError, OSError):
            pass  # a damaged profile is as good as none: the note says which way was taken
    return image.convert("RGB"), "CMYK without a usable profile was converted to RGB by rule of thumb"


def lab_to_rgb(image: Image.Image) -> tuple[Image.Image, str]:
    """A Lab picture (8 bits) as sRGB; and what to tell the user."""
    return _to_srgb(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))), "Lab was converted to sRGB"


def gray_to_rgb(image: Image.Image, icc: bytes) -> Image.Image:
    """A gray picture with a gray profile as sRGB, for formats that hold no gray."""
    try:
        return _to_srgb(image, ImageCms.ImageCmsProfile(BytesIO(icc)))
    except (ImageCms.PyCMSError, OSError):
        return image.convert("RGB")


def _to_srgb(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    # relative colorimetric with black point compensation: what image editors do by default
    converted = ImageCms.profileToProfile(
        image,
        source,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if converted is None:
        raise OSError("the colours were not converted")
    return converted


def _space(icc: bytes) -> bytes | None:
    """The colour space that a profile is for, as its header has it; None: not a profile."""
    return icc[16:20] if len(icc) >= 128 and icc[36:40] == b"acsp" else None
