"""HEIC, as telephones make it, where the library for it is installed; it is not among those that come along."""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.errors import ImageReadError
from ddnsr_cli.images.colour import coded_colours
from ddnsr_cli.images.decode import Decoded, check_size, first_of
from ddnsr_cli.images.decode_vips import stretched
from ddnsr_cli.images.exif import bare_exif
from ddnsr_cli.images.formats import READABLE, shown
from ddnsr_cli.images.picture import Metadata

_MODES = ("L", "LA", "RGB", "RGBA")  # also with ";16" behind; alpha multiplied into the colours is not among them


def decode_heic(path: Path, file: BinaryIO, *, max_pixels: int) -> Decoded:
    """The main picture of a HEIC. Raises ImageReadError where pillow-heif is missing; damage raises what it raises."""
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageReadError(
            f"{shown(path)} is a HEIC picture. To read those: pip install pillow-heif. Or save it as: {READABLE}."
        ) from error
    heif = pillow_heif.open_heif(file, convert_hdr_to_8bit=False)
    width, height = heif.size
    check_size(path, width, height, max_pixels)
    if heif.mode.removesuffix(";16") not in _MODES:
        raise ValueError(f"pixels of the kind {heif.mode} are not supported")
    samples: NDArray[Any] = np.asarray(heif)
    if samples.dtype == np.uint16:  # 10 or 12 bits, in the upper ones
        samples = stretched(samples, int(heif.info["bit_depth"]))
    if samples.ndim == 2:
        samples = samples[..., None]
    has_alpha = samples.shape[2] in {2, 4}
    exif, xmp, icc = (heif.info.get(name) or None for name in ("exif", "xmp", "icc_profile"))
    told = heif.info.get("nclx_profile") if icc is None else None
    colours = coded_colours(told["color_primaries"], told["transfer_characteristics"]) if told else ()
    return Decoded(
        pixels=samples[..., :-1] if has_alpha else samples,
        alpha=samples[..., -1] if has_alpha else None,
        # it lies upright already
        metadata=Metadata(icc=icc, exif=bare_exif(exif) if exif else None, xmp=xmp, png_colour=colours),
        notes=(first_of(len(heif)),) if len(heif) > 1 else (),
    )
