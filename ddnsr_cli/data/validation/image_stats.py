"""What the checks learn from one image: its past, as its header and its pixels tell."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddnsr_cli.data.validation.report import GRAY_LEVELS, Trouble
from ddnsr_cli.errors import ImageReadError
from ddnsr_cli.io.image import RasterImage, rgb8
from ddnsr_cli.io.read import read_image, stored_size
from ddnsr_cli.metrics.noise import LUMA, measure_noise

Plane = NDArray[np.float32]

HASH_SIDE = 8  # 8 x 8 coefficients: 64 bits
SMALL_PX = 32
LEAST_CONTRAST = 2.0  # levels; the hash of an empty sky is made of its noise
BLOCK_PX = 8  # JPEG's own
JUMP_CLIP = 6.0  # levels; edges of things would outweigh the grid
TILE_PX = 64
MOST_TILES = 64
ROUNDING_VARIANCE = 1 / 12  # of whole levels

MEASURED_PX = 768  # of each side, around the middle: enough to tell, and quick for a 50-megapixel image

Remark = tuple[Trouble, str]
"""A kind of trouble and the rest of a sentence that begins with the file's name."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """From which figure on an image is called noisy, blocky or up-scaled."""

    luma_noise: float = 1.5
    """Levels of brightness noise. Nearly all phone tiles have more; below it most clean images have some grain."""

    chroma_noise: float = 1.5
    """Levels of color noise. Texture hardly has any (clean images stay below 1.1); untreated sensor noise and Gaussian
    noise of 3 levels have more."""

    texture: float = 6.5
    """Levels from which on brightness alone is texture (sand, fur): noise so strong comes with color noise."""

    spread: float = 1.65
    """Largest spread over the smoothest patches, see `Noise`. Phone tiles have 1.5 in the median, clean images 2.4."""

    regular: float = 1.1
    """Smallest spread: patches more alike are a regular pattern."""

    fine_share: float = 0.65
    """Smallest share of the finest waves. Phone tiles have 0.75 to 0.87, white noise 1, soft patterns 0.2."""

    block_jump: float = 0.25
    """Levels by which neighbors differ more across the lines of an 8-pixel grid than across any other such lines.
    Clean images reach 0.11; JPEG quality 75 gives 0.4 in the median, quality 50 gives 0.8."""

    fine_detail: float = 0.01
    """Smallest ratio between the power in the upper and in the middle of the spectrum. Clean images and camera tiles
    reach down to 0.014; the same up-scaled twice by bicubic have 0.004 to 0.006."""


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """What is left to see in the smooth parts of an image, as standard deviations in levels."""

    luma: float
    chroma: float
    luma_is_noise: bool
    """Whether the patches share the value, as noise does and texture does not."""
    chroma_is_noise: bool


def noise_floor(image: NDArray[np.uint8], limits: Limits) -> NoiseFloor | None:
    """The noise of the smooth parts. None when too little of the image is neither black nor white."""
    noise = measure_noise(image)
    if noise is None:
        return None
    return NoiseFloor(
        luma=noise.luma,
        chroma=noise.chroma,
        luma_is_noise=(
            limits.luma_noise < noise.luma < limits.texture
            and limits.regular < noise.luma_spread < limits.spread
            and noise.fine_share > limits.fine_share
        ),
        chroma_is_noise=limits.chroma_noise < noise.chroma and noise.chroma_spread < limits.spread,
    )


def block_jump(image: NDArray[np.uint8]) -> float:
    """How much more neighbors differ across the lines of an 8-pixel grid than elsewhere, levels.

    The grid may start anywhere; both directions must show it, so the smaller figure counts. 0 for an image below
    32 pixels a side.
    """
    if min(image.shape[:2]) < 4 * BLOCK_PX:
        return 0.0
    y = _luma(image)
    return min(_jump_across_columns(y), _jump_across_columns(y.T))


def fine_detail(image: NDArray[np.uint8]) -> float | None:
    """Power density in the upper part of the spectrum over that in the middle. None below 64 pixels a side.

    Upper: 0.65 to 0.95 of the highest frequency along either axis, which up-scaling cannot fill; middle: 0.2 to 0.45.
    """
    height, width = image.shape[:2]
    if min(height, width) < TILE_PX:
        return None
    tiles = _tiles(_luma(image), TILE_PX)
    tiles = tiles[:: -(-len(tiles) // MOST_TILES)]
    window = np.outer(*[np.hanning(TILE_PX + 2)[1:-1]] * 2).astype(np.float32)
    spectra = np.fft.fft2((tiles - tiles.mean((1, 2), keepdims=True)) * window)
    power = np.square(np.abs(spectra)).mean(0) / np.square(window).sum()
    along = np.abs(np.fft.fftfreq(TILE_PX)) * 2
    reach = np.maximum(along[:, None], along)
    upper, middle = (
        max(float(power[(reach > low) & (reach < high)].mean()) - ROUNDING_VARIANCE, 0.0) + 0.01
        for low, high in ((0.65, 0.95), (0.2, 0.45))
    )
    return upper / middle


def _luma(image: NDArray[np.uint8]) -> Plane:
    luma: Plane = image.astype(np.float32) @ LUMA
    return luma


def _tiles(plane: NDArray[np.generic], side: int) -> NDArray[np.generic]:
    """(H, W) -> (N, side, side), row by row; what does not fill a tile is cut off."""
    rows, columns = (length // side for length in plane.shape)
    cut = plane[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return cut.swapaxes(1, 2).reshape(-1, side, side)


def _jump_across_columns(luma: Plane) -> float:
    step = np.minimum(np.abs(np.diff(luma, axis=1)), 2 * JUMP_CLIP)
    excess = np.clip(step[:, 1:-1] - (step[:, :-2] + step[:, 2:]) / 2, -JUMP_CLIP, JUMP_CLIP).mean(0)
    whole = excess[: excess.size // BLOCK_PX * BLOCK_PX].reshape(-1, BLOCK_PX).mean(0)
    second, largest = np.sort(whole)[-2:]  # the second rules out grids of 4 and 2, as in WebP and nearest up-scaling
    return float(largest - second)


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """An image as far as it was looked at."""

    path: Path
    height: int = 0
    width: int = 0

    damage: str | None = None
    """Why it cannot be read: a whole sentence."""

    measured: bool = False
    """Whether the pixels were looked at; all below needs that."""

    oddities: tuple[Remark, ...] = ()
    """What is lost when the image becomes 8-bit RGB, or was never there."""

    flaws: tuple[Remark, ...] = ()
    """What makes it a poor clean image."""

    upscaled: str | None = None
    """The rest of a sentence, when it looks up-scaled."""

    noisy: bool | None = None
    """None when that is not known."""

    hash: int | None = None


def examine_header(path: Path) -> ImageFacts:
    """Size alone, or why the file cannot be read."""
    try:
        height, width = stored_size(path)
    except ImageReadError as error:
        return ImageFacts(path=path, damage=str(error))
    return ImageFacts(path=path, height=height, width=width)


def examine_pixels(facts: ImageFacts, limits: Limits) -> ImageFacts:
    """The same image decoded and measured."""
    try:
        image = read_image(facts.path)
    except ImageReadError as error:
        return replace(facts, damage=str(error))
    levels = rgb8(image)
    middle = _middle(levels)
    noisy, noise = _noise(middle, limits)
    return replace(
        facts,
        measured=True,
        oddities=(*_lost(image), *_gray(middle)),
        flaws=(*noise, *_blocks(middle, limits)),
        upscaled=_upscaled(middle, limits),
        noisy=noisy,
        hash=image_hash(levels),
    )


def _middle(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    top, left = (max(0, (length - MEASURED_PX) // 2) for length in image.shape[:2])
    return image[top : top + MEASURED_PX, left : left + MEASURED_PX]


def _lost(image: RasterImage) -> tuple[Remark, ...]:
    """What damage and 8-bit RGB do not hold."""
    remarks: list[Remark] = []
    if image.damage:
        remarks.append((Trouble.DAMAGED, f"is damaged: {image.damage}."))
    if image.depth_bits > 8:
        remarks.append((Trouble.DEEP, f"has {image.depth_bits} bits a channel; training rounds them to 8."))
    share = 0.0 if image.alpha is None else float((image.alpha < np.iinfo(image.alpha.dtype).max).mean())
    if share > 0:
        remarks.append(
            (Trouble.ALPHA, f"is transparent in {share:.1%} of its pixels; their colors may be meaningless.")
        )
    return tuple(remarks)


def _gray(image: NDArray[np.uint8]) -> tuple[Remark, ...]:
    red, green, blue = (image[..., channel].astype(np.int16) for channel in range(3))
    spread = max(int(np.abs(red - green).max()), int(np.abs(green - blue).max()), int(np.abs(red - blue).max()))
    if spread > GRAY_LEVELS:
        return ()
    return ((Trouble.GRAY, f"is gray: its channels differ by {spread} levels at most. Color is not learned from it."),)


def _noise(image: NDArray[np.uint8], limits: Limits) -> tuple[bool | None, tuple[Remark, ...]]:
    floor = noise_floor(image, limits)
    if floor is None:
        return None, ()
    if not (floor.luma_is_noise or floor.chroma_is_noise):
        return False, ()
    remark = (
        f"is noisy for a clean image: its smooth parts vary by {floor.luma:.1f} levels in brightness and"
        f" {floor.chroma:.1f} in color."
    )
    return True, ((Trouble.NOISY, remark),)


def _blocks(image: NDArray[np.uint8], limits: Limits) -> tuple[Remark, ...]:
    jump = block_jump(image)
    if jump <= limits.block_jump:
        return ()
    return ((Trouble.BLOCKY, f"shows JPEG blocks: neighbors differ {jump:.2f} levels more across an 8-pixel grid."),)


def _upscaled(image: NDArray[np.uint8], limits: Limits) -> str | None:
    share = fine_detail(image)
    if share is None or share >= limits.fine_detail:
        return None
    return (
        f"looks up-scaled (or smoothed hard): its finest detail has {share:.2%} of the power of the middle one,"
        f" below {limits.fine_detail:.0%}."
    )


def image_hash(image: NDArray[np.uint8]) -> int | None:
    """64 bits that survive resizing, compression and noise: signs of the lowest DCT coefficients of the brightness.

    image: (H, W, 3). None for an image too dull to tell from others.
    """
    gray = Image.fromarray(image).convert("L").resize((SMALL_PX, SMALL_PX), Image.Resampling.BOX)
    small = np.asarray(gray, dtype=np.float64)
    if small.std() < LEAST_CONTRAST:
        return None
    waves = np.cos(np.pi * np.outer(np.arange(HASH_SIDE), np.arange(SMALL_PX) + 0.5) / SMALL_PX)
    coefficients = (waves @ small @ waves.T).ravel()
    bits = coefficients > np.median(coefficients[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
