"""The picture between reading and writing: pixels, alpha, and what the file told about them."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

COMMENT = "Comment"
"""The keyword, as PNG has it, of the comment of a JPEG or GIF."""

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""Integer samples; 0 is black or transparent, the largest value of the type is white or opaque."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What travels with the pixels. It speaks of an upright picture: no orientation is left to apply."""

    icc: bytes | None = None
    """The ICC profile, byte for byte; its colour space fits the pixels (gray or RGB)."""

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

    png_colour: tuple[tuple[bytes, bytes], ...] = ()
    """Chunks of a PNG that say what its colours mean, such as gAMA, byte for byte: (kind, data)."""


@dataclass(frozen=True, kw_only=True, eq=False)  # arrays have no single answer to ==
class Picture:
    """An upright still picture in memory."""

    pixels: Pixels
    """(H, W, C), uint8 or uint16; C is 1 for gray, 3 for RGB."""

    alpha: Pixels | None = None
    """(H, W), the type of `pixels`; straight, not multiplied into the colours. None: opaque, no channel."""

    metadata: Metadata = field(default_factory=Metadata)
    """Profile, EXIF, XMP, resolution, text."""

    notes: tuple[str, ...] = ()
    """What the user should hear once: what reading had to change or leave out."""

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

    @property
    def width(self) -> int:
        """Pixels across."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Pixels down."""
        return int(self.pixels.shape[0])

    @property
    def depth_bits(self) -> int:
        """Bits of a sample: 8 or 16."""
        return self.pixels.dtype.itemsize * 8

    @property
    def is_gray(self) -> bool:
        """One channel; a colour file whose values happen to be gray is not gray."""
        return int(self.pixels.shape[2]) == 1

    @property
    def has_alpha(self) -> bool:
        """There is an alpha channel, even if it is opaque everywhere."""
        return self.alpha is not None


def rounded(values: NDArray[np.float32], like: Pixels) -> Pixels:
    """Values as samples of the type of `like`: clamped to its range, then rounded to the nearest."""
    if like.dtype == np.uint8:
        return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    return np.rint(np.clip(values, 0, 65535)).astype(np.uint16)


def to_8_bits(samples: Pixels) -> NDArray[np.uint8]:
    """Samples at 8 bits, rounded to the nearest: 65,535 becomes 255. Those of 8 bits are given back as they are."""
    if samples.dtype == np.uint8:
        return samples.astype(np.uint8, copy=False)
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
