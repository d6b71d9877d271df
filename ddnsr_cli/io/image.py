"""The image between reading and writing: pixels, alpha, metadata; other color spaces brought to sRGB.

Pixels of large images wait in files without a name: memory holds the part of them that is being looked at.
"""

import math
import mmap
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from io import BytesIO
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image, ImageCms

COMMENT = "Comment"
"""The keyword, as PNG has it, of the comment of a JPEG or GIF."""

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""Integer samples; 0 is black or transparent, the largest value of the type is white or opaque."""

MOST_BYTES = 1 << 24
"""Of pixels that stay in memory, where they are `mapped`."""

_WRITTEN_ROWS = 64

_SPACES = {1: b"GRAY", 3: b"RGB "}
_PRIMARIES_NEAR_SRGB, _CURVES_NEAR_SRGB = (1, 2, 5, 6), (1, 2, 6, 13, 14, 15)  # H.273; 2: not stated

_BAND_ROWS = 256

INTENT = {"intent": "relative", "black_point_compensation": True}
_FAILED = "its color profile could not be used; the colors were left as they are"
_PROBED = np.arange(0, 256, 15, dtype=np.uint8)

_D65 = (0.3127, 0.329)  # white as x and y, as are red, green and blue of these
_SRGB_XY = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_PRIMARIES = dict.fromkeys(_PRIMARIES_NEAR_SRGB, _SRGB_XY)
_PRIMARIES |= {9: (0.708, 0.292, 0.17, 0.797, 0.131, 0.046), 12: (0.68, 0.32, 0.265, 0.69, 0.15, 0.06)}  # BT.2020, P3
_SRGB_CURVE: tuple[float, ...] = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_CURVES = dict.fromkeys(_CURVES_NEAR_SRGB, _SRGB_CURVE)
_CURVES |= {4: (2.2,), 5: (2.8,), 8: (1.0,)}
_USUAL_GAMMA = range(45_000, 46_001)  # what writers tell for sRGB's curve
_PCS_WHITE = np.array([0.9642, 1.0, 0.8249])
_CONES = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])  # Bradford's

_SQUARE = 0.01  # resolutions are whole numbers

MAX_PIXELS = 268_435_456
"""2^28: a square of 16,384 pixels a side; decoded to 16-bit RGB it takes 1.5 GiB."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What travels with the pixels. It speaks of an upright image: no orientation is left to apply."""

    icc: bytes | None = None
    """The ICC profile, byte for byte; its color space fits the pixels (gray or RGB)."""

    exif: bytes | None = None
    """EXIF as a TIFF structure, without the "Exif" prefix of JPEG."""

    xmp: bytes | None = None
    """The XMP packet."""

    dpi: tuple[float, float] | None = None
    """Dots per inch, across and down."""

    iptc: bytes | None = None
    """IPTC data as records, as they stand in a TIFF: without the frame that Photoshop puts around them."""

    text: dict[str, str] = field(default_factory=dict)
    """Text by keyword: text chunks of a PNG, without those that hold EXIF, XMP or IPTC; "Comment": that of a JPEG
    or GIF."""

    languages: dict[str, tuple[str, str]] = field(default_factory=dict)
    """For texts of a PNG that tell it: the language and the translated keyword."""

    png_color: tuple[tuple[bytes, bytes], ...] = ()
    """Chunks of a PNG that say what its colors mean, such as gAMA, byte for byte: (kind, data)."""

    is_converted: bool = field(default=False, compare=False)
    """The colors were converted to sRGB, of which EXIF and XMP do not know yet."""

    size: tuple[int, int] | None = field(default=None, compare=False)
    """Width and height of the image in whose pixels EXIF and XMP tell places; None: that of the image they are with."""


@dataclass(frozen=True, kw_only=True, eq=False)  # arrays have no single answer to ==
class RasterImage:
    """An upright still image in memory."""

    pixels: Pixels
    """(H, W, C), uint8 or uint16; C is 1 for gray, 3 for RGB."""

    alpha: Pixels | None = None
    """(H, W), the type of `pixels`; straight, not multiplied into the colors. None: opaque, no channel."""

    metadata: Metadata = field(default_factory=Metadata)
    """Profile, EXIF, XMP, resolution, text."""

    notes: tuple[str, ...] = ()
    """What the user should hear once: what reading had to change or leave out, and the damage."""

    damage: str = ""
    """What is wrong with the pixels of the file, though it could be read; empty: nothing."""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[2] not in {1, 3} or 0 in self.pixels.shape:
            raise ValueError(f"pixels must be (H, W, 1) or (H, W, 3), got {self.pixels.shape}.")
        if self.pixels.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"pixels must be uint8 or uint16, got {self.pixels.dtype}.")
        if self.alpha is not None and (self.alpha.shape, self.alpha.dtype) != (
            self.pixels.shape[:2],
            self.pixels.dtype,
        ):
            raise ValueError(f"alpha must be as large as pixels and of their type, got {self.alpha.shape}.")

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """The samples for NumPy: (H, W) for gray, else (H, W, C), the alpha channel last."""
        samples: NDArray[Any] = self.pixels
        if self.alpha is not None:
            samples = np.concatenate((samples, self.alpha[..., None]), axis=2)
        return np.array(samples[..., 0] if samples.shape[2] == 1 else samples, dtype=dtype, copy=copy)

    @property
    def width(self) -> int:
        """Pixels across."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Pixels down."""
        return int(self.pixels.shape[0])

    @property
    def channels(self) -> int:
        """1 for gray, 3 for RGB; alpha is not counted."""
        return int(self.pixels.shape[2])

    @property
    def depth_bits(self) -> int:
        """Bits of a sample: 8 or 16."""
        return self.pixels.dtype.itemsize * 8

    @property
    def is_gray(self) -> bool:
        """One channel; a color file whose values happen to be gray is not gray."""
        return self.channels == 1

    @property
    def has_alpha(self) -> bool:
        """There is an alpha channel, even if it is opaque everywhere."""
        return self.alpha is not None


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageRows:
    """An upright still image without alpha that comes once, from top to bottom, and is never whole in memory."""

    width: int
    """Pixels across."""

    height: int
    """Pixels down."""

    channels: int
    """1 for gray, 3 for RGB."""

    depth_bits: int
    """Bits of a sample: 8 or 16."""

    bands: Iterator[Pixels]
    """(h, W, C), uint8 or uint16, of any height each; together they are the image."""

    metadata: Metadata = field(default_factory=Metadata)
    """Profile, EXIF, XMP, resolution, text."""

    @property
    def is_gray(self) -> bool:
        """One channel."""
        return self.channels == 1

    @property
    def has_alpha(self) -> bool:
        """Never: the alpha channel of a result is made after its colors."""
        return False


Writable = RasterImage | ImageRows
"""What encoders take that go from top to bottom."""


def bands_of(image: Writable, rows: int) -> Iterator[NDArray[Any]]:
    """An image in bands (rows, W, C or C + 1) from top to bottom, alpha behind the colors; the last one may be less.

    Raises ValueError where the bands of an image end too early.
    """
    if isinstance(image, ImageRows):
        height = 0
        for band in _cut_anew(image.bands, rows):
            height += len(band)
            yield band
        if height != image.height:
            raise ValueError(f"its rows are {height} instead of {image.height}")
        return
    for top in range(0, image.height, rows):
        band = image.pixels[top : top + rows]
        yield band if image.alpha is None else np.concatenate((band, image.alpha[top : top + rows, :, None]), axis=2)


def _cut_anew(bands: Iterator[Pixels], rows: int) -> Iterator[NDArray[Any]]:
    """The same rows in bands of `rows`."""
    held: list[Pixels] = []
    missing = rows
    for band in bands:
        rest: Pixels = band
        while len(rest) >= missing:
            yield np.concatenate((*held, rest[:missing]))
            held, rest, missing = [], rest[missing:], rows
        held.append(rest)
        missing -= len(rest)
    if missing < rows:
        yield np.concatenate(held)


def rounded(values: NDArray[np.float32] | NDArray[np.float64], like: Pixels) -> Pixels:
    """Values as samples of the type of `like`: clamped to its range, then rounded to the nearest."""
    levels: NDArray[Any] = np.rint(np.clip(values, 0, 255 if like.dtype == np.uint8 else 65535))
    return levels.astype(np.uint8) if like.dtype == np.uint8 else levels.astype(np.uint16)


def to_8_bits(samples: Pixels) -> NDArray[np.uint8]:
    """Samples at 8 bits, rounded to the nearest: 65,535 becomes 255. Those of 8 bits are given back as they are."""
    if samples.dtype == np.uint8:
        return samples.astype(np.uint8, copy=False)
    narrow = np.empty(samples.shape, np.uint8)
    for top in range(0, len(samples), _BAND_ROWS):  # no wider copy of a whole image
        narrow[top : top + _BAND_ROWS] = (samples[top : top + _BAND_ROWS].astype(np.uint32) + 128) // 257
    return narrow


def rgb8(image: RasterImage) -> NDArray[np.uint8]:
    """The image as 8-bit RGB, (H, W, 3): 16 bits are rounded, gray is repeated, alpha is left out.

    8-bit RGB is given back as it is, not copied.
    """
    samples = to_8_bits(image.pixels)
    return np.repeat(samples, 3, axis=2) if image.is_gray else samples


def oblong(across: float, down: float) -> tuple[str, ...]:
    """A note where pixels are not square, by a density without a unit, for which no result has a place; else none."""
    if not (0 < across < math.inf and 0 < down < math.inf) or abs(across / down - 1) <= _SQUARE:
        return ()
    return (f"its pixels are not square ({down / across:.3g} times as wide as high), which was left out",)


def profile_fits(icc: bytes, channels: int) -> bool:
    """Whether an ICC profile describes pixels of so many channels: 1 gray, 3 RGB.

    A profile of another space (CMYK over RGB pixels, say) makes every viewer that obeys it show wrong colors.
    """
    return color_space(icc) == _SPACES[channels]


def coded_colors(primaries: int, curve: int) -> tuple[tuple[bytes, bytes], ...]:
    """Colors that a file tells by the code points of H.273, as a chunk of a PNG; none where they are those of sRGB."""
    if primaries in _PRIMARIES_NEAR_SRGB and curve in _CURVES_NEAR_SRGB:
        return ()
    return ((b"cICP", bytes((primaries & 0xFF, curve & 0xFF, 0, 1))),)  # 0, 1: the pixels are RGB, of full range


def is_for_cmyk(icc: bytes) -> bool:
    """Whether an ICC profile is for CMYK, and whole enough to convert with."""
    if color_space(icc) != b"CMYK":
        return False
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "CMYK", "RGB")
    except (ImageCms.PyCMSError, OSError):
        return False
    return True


def cmyk_to_rgb(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, str]:
    """A CMYK image as sRGB, through its profile if it has a good one; and what to tell the user."""
    if icc and color_space(icc) == b"CMYK":
        try:
            return _to_srgb(image, ImageCms.ImageCmsProfile(BytesIO(icc))), "CMYK was converted to sRGB by its profile"
        except (ImageCms.PyCMSError, OSError):
            pass  # a damaged profile is as good as none: the note says which way was taken
    return image.convert("RGB"), "CMYK without a usable profile was converted to RGB by rule of thumb"


def lab_to_rgb(image: Image.Image) -> tuple[Image.Image, str]:
    """A Lab image (8 bits) as sRGB; and what to tell the user."""
    return _to_srgb(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))), "Lab was converted to sRGB"


def gray_to_rgb(image: Image.Image, icc: bytes) -> Image.Image:
    """A gray image with a gray profile as sRGB, for formats that hold no gray."""
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
        raise OSError("the colors were not converted")
    return converted


def color_space(icc: bytes) -> bytes | None:
    """The color space that a profile is for, as its header has it; None: not a profile."""
    return icc[16:20] if len(icc) >= 128 and icc[36:40] == b"acsp" else None


@cache
def libvips() -> ModuleType:
    """Libvips, loaded when it is first needed: that takes a while."""
    import pyvips

    pyvips.cache_set_max(0)  # remembered operations would keep their files and pixels alive
    module: ModuleType = pyvips
    return module


def as_vips(samples: Pixels) -> Any:  # noqa: ANN401 - pyvips has no types to name
    """Gray or RGB, (H, W, 1 or 3), as an image of libvips; nothing is copied, and `samples` must outlive it."""
    height, width, channels = samples.shape
    depth = samples.itemsize * 8
    image = libvips().Image.new_from_memory(
        np.ascontiguousarray(samples), width, height, channels, "uchar" if depth == 8 else "ushort"
    )
    kind = {(1, 8): "b-w", (1, 16): "grey16", (3, 8): "srgb", (3, 16): "rgb16"}[channels, depth]
    return image.copy(interpretation=kind)


def to_srgb(image: RasterImage) -> RasterImage:
    """The image with its colors in sRGB, at its own depth; one that tells no colors is taken for sRGB already.

    Relative colorimetric with black point compensation, as editors do; colors beyond sRGB become the nearest within.
    A color image gets an sRGB profile in place of its own; gray stays gray, with sRGB's tone curve and no profile.
    """
    chunks = dict(image.metadata.png_color)
    icc, told = image.metadata.icc, _telling(chunks)
    if icc is None and not told:
        return image
    try:
        is_likely = icc is None or _name(icc, image).startswith("sRGB")
        icc = icc or _told_profile(chunks, image.channels)
        if is_likely and _is_srgb(icc, image.channels):
            return image
        pixels, profile = _converted(image.pixels, icc)
    except ValueError:
        failed = _FAILED if icc else f"its colors are told by {' and '.join(told)} and were not converted"
        return replace(image, notes=(*image.notes, failed))
    own = None if image.is_gray else profile
    metadata = replace(image.metadata, icc=own, png_color=(), is_converted=True)
    return replace(image, pixels=pixels, metadata=metadata)


def _name(icc: bytes, image: RasterImage) -> str:
    """What a profile calls itself. Raises ValueError where it cannot be used: libvips would take another in silence."""
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "L" if image.is_gray else "RGB", "RGB")
        return ImageCms.getProfileDescription(profile)
    except (ImageCms.PyCMSError, OSError) as error:
        raise ValueError(str(error)) from error


def _is_srgb(icc: bytes, channels: int) -> bool:
    """Whether a profile moves no color by more than one level of 8 bits: many that are called sRGB are linear."""
    colors = np.stack(np.meshgrid(*[_PROBED] * channels, indexing="ij"), axis=-1).reshape(1, -1, channels)
    return bool(np.abs(_converted(colors, icc)[0].astype(int) - colors).max() <= 1)


def _telling(chunks: Mapping[bytes, bytes]) -> tuple[str, ...]:
    """Which of the color chunks of a PNG count, where these may tell of other colors than sRGB's."""
    if b"cICP" in chunks:
        return ("cICP",)
    return () if b"sRGB" in chunks else tuple(name for name in ("gAMA", "cHRM") if name.encode() in chunks)


def _told_profile(chunks: Mapping[bytes, bytes], channels: int) -> bytes:
    """A profile of the colors that chunks of a PNG tell. Raises ValueError for HDR, rare colors and nonsense."""
    white, primaries, curve = _D65, _SRGB_XY, _SRGB_CURVE
    if b"cICP" in chunks:
        primary, transfer, _, is_full_range = chunks[b"cICP"]
        if primary not in _PRIMARIES or transfer not in _CURVES or not is_full_range:
            raise ValueError("colors of another kind")
        return _made_profile(white, _PRIMARIES[primary], _CURVES[transfer], channels)
    if b"cHRM" in chunks:
        values = [value / 100_000 for value in struct.unpack(">8I", chunks[b"cHRM"])]
        white, primaries = tuple(values[:2]), tuple(values[2:])
    if b"gAMA" in chunks and (gamma := int.from_bytes(chunks[b"gAMA"], "big")) not in _USUAL_GAMMA:
        curve = (100_000 / max(gamma, 1),)
    return _made_profile(white, primaries, curve, channels)


def _made_profile(
    white: tuple[float, ...], primaries: tuple[float, ...], curve: tuple[float, ...], channels: int
) -> bytes:
    """An ICC profile, of gray or RGB. white, primaries: x and y of each; curve: the numbers of ICC's parametric curves,
    an exponent alone or as sRGB has them. Raises ValueError where they make no sense."""
    tone = b"para" + bytes(4) + struct.pack(">HH", 3 if len(curve) > 1 else 0, 0) + _fixed(curve)
    tags = {b"wtpt": b"XYZ " + bytes(4) + _fixed(_PCS_WHITE)}
    if channels == 1:
        tags[b"kTRC"] = tone
    else:
        for letter, xyz in zip("rgb", _colorants(white, primaries), strict=True):
            tags[f"{letter}XYZ".encode()] = b"XYZ " + bytes(4) + _fixed(xyz)
            tags[f"{letter}TRC".encode()] = tone
    start, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    head = struct.pack(">I4xI4s4s4s12x4s", start + len(body), 0x04200000, b"mntr", _SPACES[channels], b"XYZ ", b"acsp")
    return (head + bytes(28) + _fixed(_PCS_WHITE)).ljust(128, b"\0") + table + body


def _fixed(values: tuple[float, ...] | NDArray[np.float64]) -> bytes:
    """Numbers as a profile has them. Raises ValueError for those that it cannot hold."""
    numbers = np.array(values, np.float64)
    if not np.abs(numbers).max() < 1 << 15:
        raise ValueError("a number without measure")
    return np.rint(numbers * 65536).astype(">i4").tobytes()


def _colorants(white: tuple[float, ...], primaries: tuple[float, ...]) -> NDArray[np.float64]:
    """(3, 3): a row for red, green and blue each, X, Y and Z as seen under the white of profiles.

    Raises ValueError where there are no such colors.
    """
    x, y = np.reshape((*primaries, *white), (4, 2)).T
    if not y.all():
        raise ValueError("a color without light")
    xyz = np.stack((x / y, np.ones(4), (1 - x - y) / y))
    lights = xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])  # that together are white
    gains = (_CONES @ _PCS_WHITE) / (_CONES @ xyz[:, 3])
    adapted: NDArray[np.float64] = np.linalg.solve(_CONES, gains[:, None] * (_CONES @ lights)).T
    return adapted


def _converted(pixels: Pixels, icc: bytes) -> tuple[Pixels, bytes]:
    """Samples in sRGB, and its profile. Raises ValueError where the profile is of no use."""
    vips = libvips()
    height, width, channels = pixels.shape
    image = as_vips(pixels)
    image.set_type(vips.GValue.blob_type, "icc-profile-data", icc)
    try:
        # by way of Lab in floating point: straight from 16 bits to 16 bits dark saturated colors were 10 levels off
        lab = image.icc_import(embedded=True, **INTENT)
        rgb = lab.icc_export(output_profile="srgb", depth=pixels.itemsize * 8, **INTENT)
        samples: NDArray[Any] = rgb.numpy().reshape(height, width, -1)
        profile = bytes(rgb.get("icc-profile-data"))
    except vips.Error as error:
        raise ValueError(str(error)) from error
    return np.ascontiguousarray(samples[..., :channels]), profile


def mapped(pixels: Pixels) -> Pixels:
    """The same pixels, (H, W, C), in a temporary file where they are many, else as they are; not to be written into.

    They stay in memory where there is no room for the file. It has no name, so that nothing is left of it, however the
    program ends.
    """
    if pixels.nbytes <= MOST_BYTES:
        return pixels
    with suppress(OSError), tempfile.TemporaryFile() as file:
        for top in range(0, len(pixels), _WRITTEN_ROWS):  # written, not copied into a map: a full disk is an error then
            file.write(np.ascontiguousarray(pixels[top : top + _WRITTEN_ROWS]).data)
        file.flush()
        return np.ndarray(pixels.shape, pixels.dtype, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return pixels


def let_go(pixels: Pixels) -> None:
    """Give memory back that holds what was looked at of mapped pixels; the next look reads it again.

    Of others nothing changes. Another thread may look at the same pixels meanwhile.
    """
    if isinstance(pixels.base, mmap.mmap):
        pixels.base.madvise(mmap.MADV_DONTNEED)
