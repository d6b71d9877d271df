"""Images as Python programs hold them (files, Pillow, NumPy, PyTorch) taken as images, and results given in kind."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddnsr_cli.errors import ImageReadError, ImageWriteError
from ddnsr_cli.io import read, write
from ddnsr_cli.io.codecs.pillow import alone_with_pillow, decode_image, pillow_metadata
from ddnsr_cli.io.codecs.tiff import DESCRIPTIVE_TAGS, MAKER_NOTE
from ddnsr_cli.io.formats import check_format
from ddnsr_cli.io.image import MAX_PIXELS, Metadata, RasterImage, to_8_bits
from ddnsr_cli.io.metadata.exif import EXIF_PREFIX, INTEROP_IFD, ORIENTATION, POINTERS, bare_exif
from ddnsr_cli.io.read import upright
from ddnsr_cli.io.write import fitting_metadata, to_pillow

if TYPE_CHECKING:
    from torch import Tensor

AnyImage = TypeVar("AnyImage", "Image.Image", "NDArray[Any]", "Tensor", RasterImage)
"""An image: of Pillow, `I` from 0 to 65,535 and `F` from 0 to 1; an array (H, W) or (H, W, C), uint8, uint16 or floats
in [0, 1]; a tensor (C, H, W) or (N, C, H, W), floats in [0, 1] or uint8; or what `read_image` gives. C is 1 for gray, 2
for gray and alpha, 3 for RGB, 4 for RGBA. Floats are worked on with 16 bits."""

SomeImage: TypeAlias = "Image.Image | NDArray[Any] | Tensor | RasterImage"
"""The same where nothing is given back in kind: two of them may be of two kinds."""

GiveBack = Callable[[Sequence[RasterImage]], Any]

_SHAPES = "(H, W), or (H, W, C) with 1 to 4 channels"
_DEEP_WHITE = 65535
_DEEP_MODES = ("I", "F", "I;16L", "I;16B", "I;16N")


def take_apart(image: object) -> tuple[list[RasterImage], GiveBack]:
    """The images of an `AnyImage`, one but for a batch, and what makes results into the kind that was given.

    Raises ImageReadError where it is none.
    """
    if isinstance(image, RasterImage):
        return [image], _only
    if isinstance(image, Image.Image):
        return [_from_pillow(image)], lambda images: _to_pillow(_only(images), image.mode)
    if isinstance(image, np.ndarray):
        back = partial(_to_array, dtype=image.dtype, flat=image.ndim == 2)
        return [_from_array(image)], lambda images: back(_only(images))
    torch = sys.modules.get("torch")  # who has a tensor has imported it
    if torch is not None and isinstance(image, torch.Tensor):
        return _from_tensor(image), partial(_to_tensor, like=image)
    raise ImageReadError(
        f"{type(image).__name__} is no image. Give one of Pillow, an array, a tensor, or read_image()."
    )


def _only(images: Sequence[RasterImage]) -> RasterImage:
    (image,) = images
    return image


def _from_pillow(image: Image.Image) -> RasterImage:
    if 0 in image.size:
        raise ImageReadError(f"The Pillow image has no pixels: {image.width} x {image.height}. Look at how it was cut.")
    try:
        plain = _of_16_bits(image) if image.mode in _DEEP_MODES else image
        return upright(decode_image(plain, find=lambda _: _metadata(image)))
    except ImageReadError:
        raise
    except Exception as error:  # a file that Pillow opened and only reads now raises anything
        raise ImageReadError(
            f"The Pillow image, of mode {image.mode}, cannot be used ({error}). Convert it."
        ) from error


def _of_16_bits(image: Image.Image) -> Image.Image:
    """Gray of 32 bits, floating point or another byte order in the mode `I;16`. Raises ValueError, ImageReadError."""
    values = np.asarray(image)
    if image.mode == "I":
        least, most = int(values.min()), int(values.max())
        if least < 0 or most > _DEEP_WHITE:
            raise ValueError(f"its samples must lie in [0, {_DEEP_WHITE}], and lie in [{least}, {most}]")
        values = values.astype(np.uint16)
    return Image.fromarray(_levels(values))


def _metadata(image: Image.Image) -> Metadata:
    """As Pillow finds them, with EXIF as it is in memory where that is not what stood in the file."""
    known, before, made = pillow_metadata(image), Image.Exif(), Image.Exif()
    hidden = (INTEROP_IFD, MAKER_NOTE)
    with alone_with_pillow(MAX_PIXELS), suppress(Exception):  # damaged EXIF raises anything, and is told of later
        before.load(known.exif or b"")
        now = image.getexif()
        if _plain(now, without=hidden) != _plain(before, without=hidden):
            made.update(_plain(now, without=(INTEROP_IFD,)))
            return replace(known, exif=bare_exif(made.tobytes()))
    return known


def _plain(exif: Image.Exif, *, without: Sequence[int]) -> dict[int, Any]:
    """What describes the image, with the directories below; a TIFF has its structure there as well.

    without: of these, tags that Pillow hides in a loaded image, or gives as a place in the file.
    """
    fields = {tag: value for tag, value in exif.items() if tag in DESCRIPTIVE_TAGS or tag == ORIENTATION}
    for pointer in POINTERS[0]:
        fields[pointer] = {tag: value for tag, value in exif.get_ifd(pointer).items() if tag not in without}
    return {tag: value for tag, value in fields.items() if value}


def _to_pillow(raster: RasterImage, mode: str) -> Image.Image:
    """8 bits, but for gray of 16 bits without alpha: Pillow has no other deep mode for it. mode: what was given."""
    if raster.depth_bits == 16 and raster.is_gray and not raster.has_alpha:
        levels: NDArray[Any] = raster.pixels[..., 0]
        deep = {"I": levels.astype(np.int32), "F": (levels / _DEEP_WHITE).astype(np.float32)}
        image = Image.fromarray(deep.get(mode, levels))
    else:
        image = to_pillow(raster)
    metadata, _ = fitting_metadata(raster, "PNG")
    exif = EXIF_PREFIX + metadata.exif if metadata.exif else None
    info = {"icc_profile": metadata.icc, "exif": exif, "xmp": metadata.xmp, "dpi": metadata.dpi}
    image.info.update({key: value for key, value in info.items() if value})
    return image


def _from_array(array: NDArray[Any]) -> RasterImage:
    samples = array[..., None] if array.ndim == 2 else array
    if samples.ndim != 3 or not 1 <= samples.shape[2] <= 4 or 0 in samples.shape:
        raise ImageReadError(f"An image has the shape {_SHAPES}, and this one {array.shape}. Rearrange its axes.")
    levels = _levels(samples)
    has_alpha = levels.shape[2] in {2, 4}
    channels = levels.shape[2] - has_alpha
    return RasterImage(
        pixels=np.ascontiguousarray(levels[..., :channels]),
        alpha=np.ascontiguousarray(levels[..., -1]) if has_alpha else None,
    )


def _levels(samples: NDArray[Any]) -> NDArray[Any]:
    kind = samples.dtype
    if kind.kind == "u" and kind.itemsize <= 2:
        return samples.astype(kind.newbyteorder("="), copy=False)
    if kind.kind != "f":
        raise ImageReadError(f"Samples are uint8, uint16 or floats in [0, 1], and these {kind}. Convert them.")
    if not bool(np.isfinite(samples).all()):
        raise ImageReadError("The image holds values that are not finite (NaN or infinity). Mend it first.")
    least, most = float(samples.min()), float(samples.max())
    if least < 0 or most > 1:
        raise ImageReadError(f"Floats must lie in [0, 1], and these in [{least:g}, {most:g}]. Scale or clip them.")
    wide = samples.astype(np.promote_types(kind, np.float32)) * _DEEP_WHITE
    deep: NDArray[np.uint16] = np.rint(wide).astype(np.uint16)
    return deep


def _to_array(image: RasterImage, *, dtype: np.dtype[Any], flat: bool) -> NDArray[Any]:
    samples: NDArray[Any] = image.pixels
    if image.alpha is not None:
        samples = np.concatenate((samples, image.alpha[..., None]), axis=2)
    if flat and samples.shape[2] == 1:
        samples = samples[..., 0]
    if dtype.kind == "f":
        wide = samples.astype(np.promote_types(dtype, np.float32))
        fractions: NDArray[Any] = np.divide(wide, np.iinfo(samples.dtype).max).astype(dtype)
        return fractions
    if dtype.itemsize == 1:
        return to_8_bits(samples)
    deep: NDArray[Any] = samples if samples.dtype.itemsize == 2 else samples.astype(np.uint16) * 257
    return deep.astype(dtype, copy=False)


def _from_tensor(tensor: "Tensor") -> list[RasterImage]:
    if tensor.ndim not in {3, 4} or tensor.numel() == 0 or not 1 <= tensor.shape[-3] <= 4:
        raise ImageReadError(
            f"A tensor of images has the shape (3, H, W) or (N, 3, H, W), and this one {tuple(tensor.shape)}. "
            "Rearrange its axes."
        )
    values = tensor.detach().cpu()
    if values.is_floating_point():
        values = values if values.element_size() == 8 else values.float()
    batch = values.movedim(-3, -1).numpy()
    return [_from_array(one) for one in (batch if batch.ndim == 4 else batch[None])]


def _to_tensor(images: Sequence[RasterImage], *, like: "Tensor") -> "Tensor":
    import torch

    wide = {torch.float64: np.float64, torch.uint8: np.uint8, torch.uint16: np.uint16}.get(like.dtype, np.float32)
    arrays = [_to_array(image, dtype=np.dtype(wide), flat=False) for image in images]
    batch = torch.from_numpy(np.stack(arrays)).movedim(-1, -3).contiguous()
    return (batch if like.ndim == 4 else batch[0]).to(like.device, like.dtype)


PathText = str | os.PathLike[str]


def read_image(path: PathText, *, max_pixels: int = MAX_PIXELS) -> RasterImage:
    """The image of a file, upright, with its alpha channel and metadata; `numpy.asarray` gives its samples.

    max_pixels: larger ones are refused. Raises ImageReadError.
    """
    return read.read_image(Path(path), max_pixels=max_pixels)


def write_image(image: SomeImage, path: PathText, *, quality: int = 95, compression: int = 4) -> tuple[str, ...]:
    """Write one image in the format of the extension, whole or not at all; a file of that name is replaced.

    An alpha channel that is opaque everywhere is left out where the format holds none.
    quality: 1 to 100, of JPEG, WebP and AVIF. compression: 0 to 9, of PNG and TIFF. Gives sentences about what the
    format could not hold. Raises ImageWriteError, and ImageReadError for what is no image.
    """
    images, _ = take_apart(image)
    if len(images) != 1:
        raise ImageWriteError(f"{path}: a file holds one image, and this is a batch of {len(images)}. Write each.")
    raster = write.without_idle_alpha(images[0], Path(path))
    options = write.WriteOptions(quality=quality, compression=compression)
    size = {"width": raster.width, "height": raster.height}
    notes = check_format(Path(path), **size, has_alpha=raster.has_alpha, depth_bits=raster.depth_bits)
    return notes + write.write_image(raster, Path(path), options)
