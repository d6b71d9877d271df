"""How strong the noise of an image is, as far as its flat parts tell, and grain as strong laid over a result."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.io.image import Pixels, rounded

PATCH_PX = 8  # small enough to lie within flat parts, large enough for a variance within a fifth
BINS = 16  # of brightness
LEAST_PATCHES = 16  # of one brightness; fewer tell nothing
FLATTEST = 0.1  # share of the patches that are taken for flat
MOST_PATCHES = 65_536  # spread over the picture: enough for every bin
# The flattest tenth of patches of pure noise is flatter than the noise: the mean over the lowest tenth of a chi-square
# variable is 0.70 of its mean at 61 degrees of freedom (one channel, or three that go together) and 0.82 at 183.
SELECTION = 0.76
# At some brightnesses a picture has nothing but texture. The noise of cameras, after their tone curve, varies by less
# than this around that of the flattest parts.
MOST_TIMES_FLOOR = 1.5

STRIP_ROWS = 64
_TABLE = 256  # steps of brightness in which the strength is looked up
_HEART, _SIDE = np.float32(0.5), np.float32(0.25)  # softens single pixels, which look like digital snow, into grain


@dataclass(frozen=True, kw_only=True, eq=False)  # arrays have no single answer to ==
class Noise:
    """Noise of a picture; samples as fractions of white."""

    brightness: NDArray[np.float32]
    """Where the strength is known, mean of the channels, ascending, in [0, 1]."""

    strength: NDArray[np.float32]
    """Standard deviation there, mean over the channels (root of the mean variance)."""

    mixing: NDArray[np.float32]
    """(C, C): makes independent noise of deviation 1 into noise whose channels go together as the picture's do."""

    @property
    def levels(self) -> float:
        """The strength over all brightnesses in one figure, levels of 255."""
        return 255 * float(np.sqrt(np.square(self.strength, dtype=np.float64).mean()))


def noise_of(pixels: Pixels) -> Noise | None:
    """The noise of a picture, (H, W, C) uint8 or uint16. None where it has too few patches.

    Patches of 8 x 8 pixels are freed of slopes, those with black or white in them left out, since these hide noise.
    Of the patches of about one brightness the flattest tenth counts, but no more than a half above that of the whole.
    """
    patches = _patches(pixels)
    if len(patches) < LEAST_PATCHES:
        return None
    covariance = _covariances(patches)
    variance = covariance.trace(axis1=1, axis2=2) / covariance.shape[1]
    bins = np.minimum(patches.mean((1, 2, 3)) * BINS, BINS - 1).astype(int)
    chosen = {index: _flattest(np.flatnonzero(bins == index), variance) for index in range(BINS)}
    known = [index for index, members in chosen.items() if len(members)]
    floor = _flattest(np.arange(len(patches)), variance)
    if not known:
        chosen, known = {BINS // 2: floor}, [BINS // 2]
    most = MOST_TIMES_FLOOR**2 * variance[floor].mean()
    strength = [np.sqrt(min(variance[chosen[index]].mean(), most) / SELECTION) for index in known]
    return Noise(
        brightness=((np.array(known) + 0.5) / BINS).astype(np.float32),
        strength=np.array(strength, np.float32),
        mixing=_mixing(covariance[floor]),
    )


def _patches(pixels: Pixels) -> NDArray[np.float32]:
    """(N, 8, 8, C) in [0, 1], without clipped ones, at most `MOST_PATCHES`, evenly taken."""
    rows, columns = (length // PATCH_PX for length in pixels.shape[:2])
    index = np.arange(0, rows * columns, max(1, -(-rows * columns // MOST_PATCHES)))
    cut = pixels[: rows * PATCH_PX, : columns * PATCH_PX].reshape(rows, PATCH_PX, columns, PATCH_PX, pixels.shape[2])
    taken = cut[index // max(1, columns), :, index % max(1, columns)]
    white = np.iinfo(pixels.dtype).max
    whole = (taken.min((1, 2, 3)) > 0) & (taken.max((1, 2, 3)) < white)
    patches: NDArray[np.float32] = taken[whole].astype(np.float32) / np.float32(white)
    return patches


def _covariances(patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, C, C): how the channels vary together in each patch, around the plane that fits it best."""
    ramp = np.arange(PATCH_PX, dtype=np.float32) - (PATCH_PX - 1) / 2
    energy = np.square(ramp).sum() * PATCH_PX
    rest = patches - patches.mean((1, 2), keepdims=True)
    for slope in (ramp[:, None, None], ramp[None, :, None]):
        rest = rest - (rest * slope).sum((1, 2), keepdims=True) / energy * slope
    flat = rest.reshape(len(rest), -1, rest.shape[3])
    together: NDArray[np.float32] = flat.swapaxes(1, 2) @ flat / (PATCH_PX**2 - 3)
    return together


def _flattest(members: NDArray[np.intp], variance: NDArray[np.float32]) -> NDArray[np.intp]:
    if len(members) < LEAST_PATCHES:
        return members[:0]
    return members[np.argsort(variance[members], kind="stable")[: max(2, round(FLATTEST * len(members)))]]


def _mixing(covariances: NDArray[np.float32]) -> NDArray[np.float32]:
    """A root of the mean covariance, scaled to a mean variance of 1."""
    mean = covariances.mean(0, dtype=np.float64)
    scale = max(mean.trace() / len(mean), 1e-12)
    root: NDArray[np.float64] = np.linalg.cholesky(mean / scale + 1e-6 * np.eye(len(mean)))
    return root.astype(np.float32)


def add_grain(pixels: Pixels, noise: Noise, *, amount: float, seed: tuple[int, ...]) -> None:
    """Lay grain over a picture in place: (H, W, C), the channels those that `noise` was measured on.

    Its standard deviation is `amount` times that of the noise at each brightness, and at most half of what a sample is
    away from black and white; its size is about one and a half pixels, whatever size the noise had. Same seed, same
    grain.
    """
    white = float(np.iinfo(pixels.dtype).max)
    steps = (np.arange(_TABLE, dtype=np.float32) + 0.5) / _TABLE
    table = (amount * white * np.interp(steps, noise.brightness, noise.strength)).astype(np.float32)
    grain = _grain_rows(pixels.shape, np.random.default_rng(seed))
    for top in range(0, len(pixels), STRIP_ROWS):
        strip = pixels[top : top + STRIP_ROWS].astype(np.float32)
        bright = np.minimum(strip.mean(axis=2) * (_TABLE / white), _TABLE - 1).astype(np.intp)
        # near black and white less, else what is cut off there would shift the colours
        strength = np.minimum(table[bright][..., None], np.minimum(strip, white - strip) / 2)
        strip += strength * (next(grain) @ noise.mixing.T)
        pixels[top : top + STRIP_ROWS] = rounded(strip, pixels)


def _grain_rows(shape: tuple[int, ...], random: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    """Strips of soft white noise of deviation 1, (rows, W, C); together they have no seams."""
    height, width, channels = shape
    gain = 1 / (_HEART**2 + 2 * _SIDE**2)  # the softening takes that much of the deviation away
    held = random.standard_normal((2, width + 2, channels), np.float32)
    for top in range(0, height, STRIP_ROWS):
        rows = min(STRIP_ROWS, height - top)
        fresh = random.standard_normal((rows, width + 2, channels), np.float32)
        block = np.concatenate((held, fresh))
        held = block[-2:]
        down: NDArray[np.float32] = block[1:-1] * _HEART + (block[:-2] + block[2:]) * _SIDE
        yield (down[:, 1:-1] * _HEART + (down[:, :-2] + down[:, 2:]) * _SIDE) * gain
