"""What the data doctor learns from one photo: its past, as its header and its pixels tell."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.data.validation.duplicates import picture_hash
from ddnsr_cli.data.validation.report import Trouble
from ddnsr_cli.errors import ImageReadError
from ddnsr_cli.io.image import Picture, rgb8
from ddnsr_cli.io.read import read_picture, stored_size

Plane = NDArray[np.float32]

PATCH_PX = 8  # small enough to lie in flat parts, large enough for a standard deviation within some 10 %
LEAST_PATCHES = 48  # below, the 5 % quantile rests on one or two patches
BLOCK_PX = 8  # JPEG's own
JUMP_CLIP = 6.0  # levels; edges of things would outweigh the grid
TILE_PX = 64
MOST_TILES = 64
ROUNDING_VARIANCE = 1 / 12  # of whole levels

MEASURED_PX = 768  # of each side, around the middle: enough to tell, and quick for a 50-megapixel photo
GRAY_LEVELS = 2  # channels that differ no more are gray, rounding in a JPEG included

Told = tuple[Trouble, str]
"""A kind of trouble and the rest of a sentence that begins with the file's name."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """From which figure on a photo is called noisy, blocky or up-scaled."""

    luma_noise: float = 1.3
    """Levels of brightness noise. Phone tiles begin here; below it most clean photos have some grain."""

    chroma_noise: float = 1.5
    """Levels of colour noise. Texture hardly has any (clean photos stay below 1.3 but for one of 299); untreated
    sensor noise and Gaussian noise of 3 levels have more."""

    texture: float = 6.5
    """Levels from which on brightness alone is texture (sand, fur): noise so strong comes with colour noise."""

    plateau: float = 1.35
    """Largest ratio between the 20 % and the 5 % quantile over patches. Noise lies on all flat parts alike, so
    many patches share one value; texture spreads (median ratio 2.0 on clean photos, 1.2 on phone tiles)."""

    fine_plateau: float = 1.45
    """The same ratio of the highest frequencies, looser since a patch has fewer independent ones."""

    fine_share: float = 0.3
    """Smallest share of the deviation that lies in the highest frequencies. Phone tiles have 0.38 to 0.57, white noise
    0.9, a soft regular pattern 0.1."""

    block_jump: float = 0.25
    """Levels by which neighbours differ more across the lines of an 8-pixel grid than across any other such lines.
    Clean photos reach 0.11; JPEG quality 75 gives 0.4 in the median, quality 50 gives 0.8."""

    fine_detail: float = 0.01
    """Smallest ratio between the power in the upper and in the middle of the spectrum. Clean photos and camera tiles
    reach down to 0.014; the same up-scaled twice by bicubic have 0.004 to 0.006."""


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """What is left to see in the flattest parts of a photo, as standard deviations in levels."""

    luma: float
    chroma: float
    luma_is_noise: bool
    """Whether many patches share the luma value, as noise does and texture does not."""
    chroma_is_noise: bool


def noise_floor(photo: NDArray[np.uint8], limits: Limits) -> NoiseFloor | None:
    """The noise of the flat parts, clipped ones left out. None when the photo has too few patches to tell."""
    open_patch = _open_patches(photo)
    if open_patch.sum() < LEAST_PATCHES:
        return None
    y = _luma(photo)
    cb, cr = (weight * (photo[..., channel] - y) for channel, weight in ((2, 0.564), (0, 0.713)))
    luma = _floor(_patch_deviation(y)[open_patch])
    fine = _floor(_patch_rms(_fine(y))[open_patch])
    both = np.hypot(_patch_deviation(cb), _patch_deviation(cr))[open_patch] / np.sqrt(2)
    chroma = _floor(both)
    return NoiseFloor(
        luma=luma[0],
        chroma=chroma[0],
        luma_is_noise=(
            limits.luma_noise < luma[0] < limits.texture
            and luma[1] < limits.plateau * luma[0]
            and fine[1] < limits.fine_plateau * fine[0]
            and fine[0] > limits.fine_share * luma[0]
        ),
        chroma_is_noise=limits.chroma_noise < chroma[0] and chroma[1] < limits.fine_plateau * chroma[0],
    )


def block_jump(photo: NDArray[np.uint8]) -> float:
    """How much more neighbours differ across the lines of an 8-pixel grid than elsewhere, levels.

    The grid may start anywhere; both directions must show it, so the smaller figure counts. 0 for a photo below
    32 pixels a side.
    """
    if min(photo.shape[:2]) < 4 * BLOCK_PX:
        return 0.0
    y = _luma(photo)
    return min(_jump_across_columns(y), _jump_across_columns(y.T))


def fine_detail(photo: NDArray[np.uint8]) -> float | None:
    """Power density in the upper part of the spectrum over that in the middle. None below 64 pixels a side.

    Upper: 0.65 to 0.95 of the highest frequency along either axis, which up-scaling cannot fill; middle: 0.2 to 0.45.
    """
    height, width = photo.shape[:2]
    if min(height, width) < TILE_PX:
        return None
    tiles = _tiles(_luma(photo), TILE_PX)
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


def _luma(photo: NDArray[np.uint8]) -> Plane:
    luma: Plane = photo.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return luma


def _tiles(plane: NDArray[np.generic], side: int) -> NDArray[np.generic]:
    """(H, W) -> (N, side, side), row by row; what does not fill a tile is cut off."""
    rows, columns = (length // side for length in plane.shape)
    cut = plane[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return cut.swapaxes(1, 2).reshape(-1, side, side)


def _open_patches(photo: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which patches are nowhere clipped: black and white hide noise."""
    clipped = ((photo <= 4) | (photo >= 251)).view(np.uint8)
    any_channel = _tiles(clipped[..., 0] | clipped[..., 1] | clipped[..., 2], PATCH_PX)
    unclipped: NDArray[np.bool_] = any_channel.max((1, 2)) == 0
    return unclipped


def _patch_deviation(plane: Plane) -> Plane:
    """Standard deviation of each patch around its best plane, so that a soft gradient counts nothing."""
    patches = _tiles(plane, PATCH_PX)
    ramp = np.arange(PATCH_PX, dtype=np.float32) - (PATCH_PX - 1) / 2
    energy = np.square(ramp).sum() * PATCH_PX
    rest = patches - patches.mean((1, 2), keepdims=True)
    across, down = (rest * ramp).sum((1, 2)) / energy, (rest * ramp[:, None]).sum((1, 2)) / energy
    rest = rest - across[:, None, None] * ramp - down[:, None, None] * ramp[:, None]
    deviation: Plane = np.sqrt(np.square(rest).sum((1, 2)) / (PATCH_PX**2 - 3))
    return deviation


def _patch_rms(plane: Plane) -> Plane:
    rms: Plane = np.sqrt(np.square(_tiles(plane, PATCH_PX)).mean((1, 2)))
    return rms


def _fine(plane: Plane) -> Plane:
    """The second difference along both axes, scaled to leave the deviation of white noise as it is."""
    wide = np.pad(plane, 1, mode="reflect")
    down = wide[:-2] - 2 * wide[1:-1] + wide[2:]
    both: Plane = (down[:, :-2] - 2 * down[:, 1:-1] + down[:, 2:]) / 6
    return both


def _floor(deviations: Plane) -> tuple[float, float]:
    """The 5 % and the 20 % quantile."""
    low, high = np.quantile(deviations, (0.05, 0.2))
    return float(low), float(high)


def _jump_across_columns(luma: Plane) -> float:
    step = np.minimum(np.abs(np.diff(luma, axis=1)), 2 * JUMP_CLIP)
    excess = np.clip(step[:, 1:-1] - (step[:, :-2] + step[:, 2:]) / 2, -JUMP_CLIP, JUMP_CLIP).mean(0)
    whole = excess[: excess.size // BLOCK_PX * BLOCK_PX].reshape(-1, BLOCK_PX).mean(0)
    second, largest = np.sort(whole)[-2:]  # the second rules out grids of 4 and 2, as in WebP and nearest up-scaling
    return float(largest - second)


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
        picture = read_picture(facts.path)
    except ImageReadError as error:
        return replace(facts, damage=str(error))
    photo = rgb8(picture)
    middle = _middle(photo)
    noisy, noise = _noise(middle, limits)
    return replace(
        facts,
        measured=True,
        oddities=(*_lost(picture), *_gray(middle)),
        flaws=(*noise, *_blocks(middle, limits)),
        upscaled=_upscaled(middle, limits),
        noisy=noisy,
        hash=picture_hash(photo),
    )


def _middle(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    top, left = (max(0, (length - MEASURED_PX) // 2) for length in photo.shape[:2])
    return photo[top : top + MEASURED_PX, left : left + MEASURED_PX]


def _lost(picture: Picture) -> tuple[Told, ...]:
    """What 8-bit RGB does not hold."""
    told: list[Told] = []
    if picture.depth_bits > 8:
        told.append((Trouble.DEEP, f"has {picture.depth_bits} bits a channel; training rounds them to 8."))
    share = 0.0 if picture.alpha is None else float((picture.alpha < np.iinfo(picture.alpha.dtype).max).mean())
    if share > 0:
        told.append((Trouble.ALPHA, f"is transparent in {share:.1%} of its pixels; their colours may be meaningless."))
    return tuple(told)


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
