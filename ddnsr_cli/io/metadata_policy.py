"""Metadata made fit for the file they go to: true of the larger picture, and within what the format can hold."""

from dataclasses import replace

from ddnsr_cli.io.image import COMMENT, Metadata, Picture, profile_fits
from ddnsr_cli.io.metadata.exif import mend_exif, mend_xmp
from ddnsr_cli.io.metadata.iptc import SEGMENT_PREFIX, resource_block

_JPEG_MARKER_BYTES = 65_533
_JPEG_EXIF_BYTES = _JPEG_MARKER_BYTES - 6
_JPEG_XMP_BYTES = _JPEG_MARKER_BYTES - 29
_JPEG_IPTC_BYTES = _JPEG_MARKER_BYTES - len(SEGMENT_PREFIX) - len(resource_block(b"")) - 1
_MOST_NAMED = 8
_HOLD_IPTC = ("PNG", "TIFF", "JPEG")
_SRGB_GAMMA, _SRGB_CICP = range(45_000, 46_001), b"\x01\x0d\x00\x01"


def fitting_metadata(picture: Picture, file_format: str) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata of a picture as they are to be written, mended for its size, and notes on what has no room.

    file_format: a value of `formats.WRITABLE`.
    """
    metadata, size = picture.metadata, {"width": picture.width, "height": picture.height}
    fitting = replace(
        metadata,
        icc=metadata.icc if metadata.icc and profile_fits(metadata.icc, picture.pixels.shape[2]) else None,
        exif=mend_exif(metadata.exif, **size) if metadata.exif else None,
        xmp=mend_xmp(metadata.xmp, **size) if metadata.xmp else None,
        iptc=metadata.iptc if file_format in _HOLD_IPTC else None,
    )
    notes = _without_place(fitting, file_format)
    if file_format == "WebP" and picture.is_gray and fitting.icc:
        notes.append("WebP holds no gray: it was converted to sRGB by its profile, which was left out")
    if metadata.iptc and not fitting.iptc:
        notes.append(f"{file_format} has no place for IPTC data; they were left out")
    if file_format == "JPEG":
        fitting, too_long = _fitting_jpeg(fitting)
        notes += too_long
    return fitting, tuple(notes)


def _without_place(metadata: Metadata, file_format: str) -> list[str]:
    """Notes on what a format cannot say at all."""
    notes = []
    if file_format == "BMP" and (metadata.icc or metadata.exif or metadata.xmp):
        notes.append("BMP holds no colour profile, EXIF or XMP; they were left out")
    kept = {COMMENT} if file_format == "JPEG" else set()
    if file_format != "PNG" and (lost := [keyword for keyword in metadata.text if keyword not in kept]):
        notes.append(f"{file_format} has no place for text ({_listed(lost)})")
    if file_format != "PNG" and not metadata.icc and _is_far_from_srgb(dict(metadata.png_colour)):
        notes.append(f"{file_format} cannot say what its colours mean (no profile, not sRGB): they will look different")
    return notes


def _listed(keywords: list[str]) -> str:
    """Keywords for one line of a message, whatever they hold and however many they are."""
    names = ("".join(char if char.isprintable() else "?" for char in word) for word in keywords[:_MOST_NAMED])
    return ", ".join(names) + (f" and {len(keywords) - _MOST_NAMED} more" if len(keywords) > _MOST_NAMED else "")


def _is_far_from_srgb(chunks: dict[bytes, bytes]) -> bool:
    """Whether the colour chunks of a PNG, of which the first in this order counts, tell other colours than sRGB."""
    if b"cICP" in chunks:
        return chunks[b"cICP"] != _SRGB_CICP
    gamma = chunks.get(b"gAMA")
    return b"sRGB" not in chunks and gamma is not None and int.from_bytes(gamma, "big") not in _SRGB_GAMMA


def _fitting_jpeg(metadata: Metadata) -> tuple[Metadata, list[str]]:
    """What fits into the segments of a JPEG, and notes on what does not."""
    exif, xmp, iptc, comment = metadata.exif, metadata.xmp, metadata.iptc, metadata.text.get(COMMENT, "")
    notes = []
    if exif and len(exif) > _JPEG_EXIF_BYTES:
        exif = None
        notes.append("the EXIF data are too long for JPEG and were left out")
    if xmp and len(xmp) > _JPEG_XMP_BYTES:
        xmp = None
        notes.append("the XMP data are too long for JPEG and were left out")
    if iptc and len(iptc) > _JPEG_IPTC_BYTES:
        iptc = None
        notes.append("the IPTC data are too long for JPEG and were left out")
    if len(comment.encode("utf-8", "replace")) > _JPEG_MARKER_BYTES:
        comment = ""
        notes.append("the comment is too long for JPEG and was left out")
    text = {COMMENT: comment} if comment else {}
    return replace(metadata, exif=exif, xmp=xmp, iptc=iptc, text=text), notes
