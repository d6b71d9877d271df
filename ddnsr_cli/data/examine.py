"""What the data doctor learns from one photo."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddnsr_cli.data.likeness import picture_hash
from ddnsr_cli.data.measures import Limits, block_jump, fine_detail, noise_floor
from ddnsr_cli.data.photos import decode_rgb, stored_size
from ddnsr_cli.data.report import Trouble
from ddnsr_cli.errors import ImageReadError

MEASURED_PX = 768  # of each side, around the middle: enough to tell, and quick for a 50-megapixel photo
GRAY_LEVELS = 2  # channels that differ no more are gray, rounding in a JPEG included

Told = tuple[Trouble, str]
"""A kind of trouble and the rest of a sentence that begins with the file's name."""


@dataclass(frozen=True, kw_only=True)
class PhotoFacts:
    """A photo as far as it was looked at."""

    path: Path
    height: int = 0
    width: int = 0

    damage: str | None = None
    """Why it cannot be read: a whole sentence."""

    measured: bool = False
    """Whether the pixels were looked at; all below needs that."""

    oddities: tuple[Told, ...] = ()
    """What is lost when the photo becomes 8-bit RGB, or was never there."""

    flaws: tuple[Told, ...] = ()
    """What makes it a poor clean photo."""

    upscaled: str | None = None
    """The rest of a sentence, when it looks up-scaled."""

    noisy: bool | None = None
    """None when that cannot be told."""

    hash: int | None = None


def examine_header(path: Path) -> PhotoFacts:
    """Size alone, or why the file cannot be read."""
    try:
        height, width = stored_size(path)
    except ImageReadError as error:
        return PhotoFacts(path=path, damage=str(error))
    return PhotoFacts(path=path, height=height, width=width)


def examine_pixels(facts: PhotoFacts, limits: Limits) -> PhotoFacts:
    """The same photo decoded and measured."""
    try:
        photo, oddities = decode_rgb(facts.path), _of_file(facts.path)
    except ImageReadError as error:
        return replace(facts, damage=str(error))
    middle = _middle(photo)
    noisy, noise = _noise(middle, limits)
    return replace(
        facts,
        measured=True,
        oddities=(*oddities, *_gray(middle)),
        flaws=(*noise, *_blocks(middle, limits)),
        upscaled=_upscaled(middle, limits),
        noisy=noisy,
        hash=picture_hash(photo),
    )


def _middle(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    top, left = (max(0, (length - MEASURED_PX) // 2) for length in photo.shape[:2])
    return photo[top : top + MEASURED_PX, left : left + MEASURED_PX]


def _of_file(path: Path) -> tuple[Told, ...]:
    """What `decode_rgb` gives up. Raises ImageReadError for a damaged file."""
    try:
        with Image.open(path) as image:
            deep = ";16" in str(image.tile) or image.mode.startswith("I;16")  # the rawmode, before it is cut to 8
            share = _transparent_share(image) if image.has_transparency_data else 0.0
    except Exception as cause:  # Pillow's decoders raise a dozen unrelated classes on damaged files
        raise ImageReadError(f"{path} cannot be read as a photo ({cause}). Remove or replace it.") from cause
    told: list[Told] = []
    if deep:
        told.append((Trouble.DEEP, "has 16 bits a channel; training uses the upper 8."))
    if share > 0:
        told.append((Trouble.ALPHA, f"is transparent in {share:.1%} of its pixels; their colours may be meaningless."))
    return tuple(told)


def _transparent_share(image: Image.Image) -> float:
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    return float((alpha < 255).mean())


def _gray(photo: NDArray[np.uint8]) -> tuple[Told, ...]:
    red, green, blue = (photo[..., channel].astype(np.int16) for channel in range(3))
    spread = max(int(np.abs(red - green).max()), int(np.abs(green - blue).max()), int(np.abs(red - blue).max()))
    if spread > GRAY_LEVELS:
        return ()
    return ((Trouble.GRAY, f"is gray: its channels differ by {spread} levels at most. Colour is not learned from it."),)


def _noise(photo: NDArray[np.uint8], limits: Limits) -> tuple[bool | None, tuple[Told, ...]]:
    floor = noise_floor(photo, limits)
    if floor is None:
        return None, ()
    if not (floor.luma_is_noise or floor.chroma_is_noise):
        return False, ()
    told = (
        f"is noisy for a clean photo: its flat parts vary by {floor.luma:.1f} levels in brightness and"
        f" {floor.chroma:.1f} in colour."
    )
    return True, ((Trouble.NOISY, told),)


def _blocks(photo: NDArray[np.uint8], limits: Limits) -> tuple[Told, ...]:
    jump = block_jump(photo)
    if jump <= limits.block_jump:
        return ()
    return ((Trouble.BLOCKY, f"shows JPEG blocks: neighbours differ {jump:.2f} levels more across an 8-pixel grid."),)


def _upscaled(photo: NDArray[np.uint8], limits: Limits) -> str | None:
    share = fine_detail(photo)
    if share is None or share >= limits.fine_detail:
        return None
    return (
        f"looks up-scaled (or smoothed hard): its finest detail has {share:.2%} of the power of the middle one,"
        f" below {limits.fine_detail:.0%}."
    )
