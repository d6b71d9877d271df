"""Colour spaces other than RGB and gray, brought to sRGB; and whether a profile fits the pixels."""

from io import BytesIO

from PIL import Image, ImageCms

_SPACES = {1: b"GRAY", 3: b"RGB "}
_PRIMARIES_NEAR_SRGB, _CURVES_NEAR_SRGB = (1, 2, 5, 6), (1, 2, 6, 13, 14, 15)  # H.273; 2: not told


def profile_fits(icc: bytes, channels: int) -> bool:
    """Whether an ICC profile describes pixels of so many channels: 1 gray, 3 RGB.

    A profile of another space (CMYK over RGB pixels, say) makes every viewer that obeys it show wrong colours.
    """
    return colour_space(icc) == _SPACES[channels]


def coded_colours(primaries: int, curve: int) -> tuple[tuple[bytes, bytes], ...]:
    """Colours that a file tells by the code points of H.273, as a chunk of a PNG; none where they are those of sRGB."""
    if primaries in _PRIMARIES_NEAR_SRGB and curve in _CURVES_NEAR_SRGB:
        return ()
    return ((b"cICP", bytes((primaries & 0xFF, curve & 0xFF, 0, 1))),)  # 0, 1: the pixels are RGB, of full range


def is_for_cmyk(icc: bytes) -> bool:
    """Whether an ICC profile is for CMYK, and whole enough to convert with."""
    if colour_space(icc) != b"CMYK":
        return False
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "CMYK", "RGB")
    except (ImageCms.PyCMSError, OSError):
        return False
    return True


def cmyk_to_rgb(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, str]:
    """A CMYK picture as sRGB, through its profile if it has a good one; and what to tell the user."""
    if icc and colour_space(icc) == b"CMYK":
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


def colour_space(icc: bytes) -> bytes | None:
    """The colour space that a profile is for, as its header has it; None: not a profile."""
    return icc[16:20] if len(icc) >= 128 and icc[36:40] == b"acsp" else None
