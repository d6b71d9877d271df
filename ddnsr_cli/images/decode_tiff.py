"""TIFF of any depth."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from PIL import UnidentifiedImageError

from ddnsr_cli.errors import ImageReadError
from ddnsr_cli.images.decode import Decoded, check_size, decode_with_pillow, first_of
from ddnsr_cli.images.decode_vips import inks_to_rgb, vips_samples
from ddnsr_cli.images.formats import shown
from ddnsr_cli.images.iptc import iptc_of
from ddnsr_cli.images.picture import Metadata, Pixels
from ddnsr_cli.images.tiff_header import TiffHeader, read_tiff_header

_DEPTHS = (1, 2, 4, 8, 16, 32)


def decode_tiff(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """The first page of a TIFF; camera raw is refused. Damage raises whatever the decoders raise."""
    header = read_tiff_header(file)
    if header.is_camera_raw:
        raise ImageReadError(f"{shown(path)} is a camera raw file. Develop it first, to TIFF or PNG.")
    check_size(path, header.width, header.height, max_pixels)
    _check_kind(header)
    iptc = iptc_of(header.iptc) if header.iptc else None
    metadata = Metadata(icc=header.icc, exif=header.exif, xmp=header.xmp, dpi=header.dpi, iptc=iptc)
    decoded = None
    if header.bits <= 8:  # of more, Pillow would cut the samples to 8
        with suppress(UnidentifiedImageError):  # a layout that it does not know, such as a big-endian BigTIFF
            file.seek(0)
            decoded = decode_with_pillow(path, file, file_format="TIFF", max_pixels=max_pixels, metadata=metadata)
    decoded = decoded or _decode_with_vips(file, header, metadata)
    pages = (first_of(header.pages),) if header.pages > 1 else ()
    place = ("its place on the map (GeoTIFF) was left out",) if header.is_map else ()
    others = (f"{header.other_channels} channels beyond its colours were left out",) if header.other_channels else ()
    return replace(decoded, notes=(*pages, *decoded.notes, *others, *place))


def _check_kind(header: TiffHeader) -> None:
    """Refuse by name what the decoders would call damage, or show in colours that it does not have."""
    if header.colour_channels == 0:
        raise ValueError("its colours are of an unknown kind")
    if header.is_signed:
        raise ValueError("its samples are signed and have no agreed white")
    if header.bits not in _DEPTHS:
        raise ValueError(f"its samples have {header.bits} bits")


def _decode_with_vips(file: BinaryIO, header: TiffHeader, metadata: Metadata) -> Decoded:
    samples, notes = vips_samples(file, "TIFF")
    alpha: Pixels | None = None
    if header.alpha_channel is not None and header.alpha_channel < samples.shape[2]:
        alpha = samples[..., header.alpha_channel]
    colours = header.colour_channels
    if header.is_palette:  # libvips has looked the colours up
        colours = 3 if samples.shape[2] >= 3 else 1
    pixels: Pixels = samples[..., :colours]
    if colours == 4:
        pixels, note = inks_to_rgb(pixels, metadata.icc)
        metadata, notes = replace(metadata, icc=None), (*notes, note)
    return Decoded(pixels=pixels, alpha=alpha, metadata=metadata, orientation=header.orientation, notes=notes)
