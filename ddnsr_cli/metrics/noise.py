"""Noise in the smooth parts of one image: how strong, how coarse, how colored. All that asks for noise asks here.

Small patches are split into waves by a cosine transform. Where the five longest waves are weak a patch is smooth; the
noise is measured on the other thirty. In white noise the two are independent: to pick a patch by the ones does not
change what is found in the others.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Levels = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]
"""(H, W, C), C 3 for RGB or 1 for gray. uint8 and float32: levels from 0 to 255; uint16: 65,535 is white."""

Floats = NDArray[np.float64]
Waves = NDArray[np.float32]

PATCH_PX = 6  # in textured images of 150 pixels a side noise of 3 levels was read as 4.7 with 8, as 3.5 with 6
STEP_PX = 3
SMOOTHEST = 0.05  # of the patches
LEAST_OPEN = 48  # patches of an image; below, the smoothest are hardly smooth
LEAST_PICKED = 12
LEAST_ALIKE = 6  # in a stretch of brightness
LEAST_LEVEL = 0.5  # below, what correlates is the rounding
STRAY = 3.0  # times the median power: such a patch holds a thing, not noise
MOST_TIMES_LEVEL = 1.5  # the noise of cameras varies less over brightness, after their tone curve
REACH_PX = 2  # how far noise is taken to correlate, along both axes
MOST_PATCHES = 65_536  # evenly spread over a large image: enough for every figure
BRIGHTNESS_BINS = 8
BIN_LEVELS = 256 / BRIGHTNESS_BINS
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What is left to see in the smooth parts of one image: its noise or, if it has none, its faintest texture."""

    patches: int
    """How many were measured."""

    level: float
    """Standard deviation of a channel, levels of 255: root of the mean of the three variances."""

    rgb: tuple[float, ...]
    """The same of each channel."""

    correlation: tuple[tuple[float, ...], ...]
    """(C, C): of the channels at one pixel. The identity where nothing is left of one."""

    neighbors: float | None
    """Correlation with the next pixel of the same channel, mean of both directions; None where nothing is left."""

    channels: float | None
    """Correlation of two channels at one pixel, mean of the three pairs; None for gray, or with nothing left of one."""

    by_brightness: tuple[float | None, ...]
    """Level in patches of like mean brightness: eight stretches of 32 levels; None where there are too few patches."""

    course: tuple[float | None, ...]
    """Level by brightness where patches of every brightness are picked for themselves, and no more than half above
    `level`: some stretches hold nothing but texture. For grain, which needs all; `by_brightness` is for comparing."""

    luma: float
    """Standard deviation of the brightness (BT.601), levels."""

    chroma: float
    """Standard deviation of a color difference, Cb or Cr of BT.601, root of the mean variance, levels; 0 for gray."""

    luma_spread: float
    """Ratio of the 80 % to the 20 % quantile of `luma` over the patches measured. Noise lies on all smooth parts alike
    (white noise has 1.25), texture on some; infinite where a fifth has nothing at all."""

    chroma_spread: float

    fine_share: float
    """Part of the brightness' amplitude that its finest waves have: 1 for white noise, less for coarse or soft."""

    spectrum: tuple[float, ...]
    """Amplitude by frequency: 2, 3, ... 7 half waves in 6 pixels, in levels. White noise has its level everywhere."""


def measure_noise(image: Levels) -> Noise | None:
    """Measure the noise of an image. None when too little of it is open, that is neither black nor white.

    Rounding to whole levels counts as noise of up to 0.3 levels. Where no part is smooth, texture counts as noise.
    """
    waves, brightness = _open_patches(image)
    if len(waves) < LEAST_OPEN:
        return None
    picked = _smoothest(waves)
    fine = waves[picked][..., _fine_waves()].astype(np.float64)
    power = np.square(fine).mean((1, 2))
    middle = float(np.median(power))
    even = power <= STRAY * middle
    kept = fine[even]  # (n, C, 30)
    shape = np.square(kept).mean(0)
    shape *= middle / (shape.mean() or 1.0)  # the median: a few patches with texture do not move it
    variances, neighbors = _pixel_statistics(shape)
    gain = float(variances.mean()) / middle if middle else 1.0
    correlation = _between_channels(kept)
    return Noise(
        patches=len(kept),
        level=float(np.sqrt(variances.mean())),
        rgb=tuple(np.sqrt(variances).tolist()),
        correlation=tuple(map(tuple, (np.eye(len(variances)) if correlation is None else correlation).tolist())),
        neighbors=neighbors,
        channels=_mean_pair(correlation),
        by_brightness=_by_brightness(gain * power[even], brightness[picked][even]),
        course=_course(waves, brightness, gain=gain, level=float(np.sqrt(variances.mean()))),
        **_brightness_and_color(waves[picked], float(np.sqrt(gain))),
        spectrum=_by_frequency(shape.mean(0)),
    )


def _brightness_and_color(waves: Waves, gain: float) -> dict[str, float]:
    """The figures of `Noise` by these names. waves: (n, C, 36) of the patches picked; gain: from waves to pixels."""
    planes = np.tensordot(waves, _opponents(waves.shape[1]), axes=(1, 0))  # (n, 36, 3): brightness, Cb, Cr
    fine, finest = (np.square(planes[:, chosen]).mean(1) for chosen in (_fine_waves(), _finest_waves()))
    luma, chroma = np.sqrt(fine[:, 0]), np.sqrt(fine[:, 1:].mean(1))
    middle = float(np.median(luma))
    return {
        "luma": gain * middle,
        "chroma": gain * float(np.median(chroma)),
        "luma_spread": _spread(luma),
        "chroma_spread": _spread(chroma),
        "fine_share": float(np.median(np.sqrt(finest[:, 0]))) / middle if middle else 0.0,
    }


def _opponents(channels: int) -> Waves:
    """(C, 3): what brightness, Cb and Cr take of each channel."""
    if channels != LUMA.size:
        return np.array([[1, 0, 0]], np.float32)
    blue, red = np.eye(3, dtype=np.float32)[[2, 0]]
    return np.stack([LUMA, 0.564 * (blue - LUMA), 0.713 * (red - LUMA)], axis=1).astype(np.float32)


def _spread(amplitudes: Floats | Waves) -> float:
    low, high = np.quantile(amplitudes, (0.2, 0.8))
    return float(high / low) if low > 0 else float("inf")


def brightness_of(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) of an image, (H, W, 1 or 3), in its own unit: what noise is estimated on."""
    return image @ _brightness_weights(image.shape[2])


def _brightness_weights(channels: int) -> NDArray[np.float32]:
    return LUMA if channels == LUMA.size else np.ones(1, np.float32)


def _course(waves: Waves, brightness: Waves, *, gain: float, level: float) -> tuple[float | None, ...]:
    """Level of the smoothest patches of each stretch of brightness, in the light of the whole image's `level`."""
    stretch = (brightness / BIN_LEVELS).astype(np.intp)
    found: list[float | None] = []
    for index in range(BRIGHTNESS_BINS):
        members = waves[stretch == index]
        if len(members) < LEAST_OPEN:
            found.append(None)
            continue
        fine = members[_smoothest(members)][..., _fine_waves()].astype(np.float64)
        power = float(np.median(np.square(fine).mean((1, 2))))
        found.append(min(float(np.sqrt(gain * power)), MOST_TIMES_LEVEL * level))
    return tuple(found)


def _open_patches(image: Levels) -> tuple[Waves, Waves]:
    """((N, C, 36) waves, (N,) mean brightness) of the patches that are nowhere black or white: those hide noise."""
    channels = image.shape[2]
    if min(image.shape[:2]) < PATCH_PX:
        return np.empty((0, channels, PATCH_PX**2), np.float32), np.empty(0, np.float32)
    windows = sliding_window_view(image, (PATCH_PX, PATCH_PX), axis=(0, 1))[::STEP_PX, ::STEP_PX]
    rows, columns = windows.shape[:2]
    taken = np.arange(0, rows * columns, -(-rows * columns // MOST_PATCHES))
    levels = windows[taken // columns, taken % columns].astype(np.float32)
    patches = levels.reshape(-1, channels, PATCH_PX**2) / np.float32(257 if image.dtype == np.uint16 else 1)
    patches = patches[(patches.min((1, 2)) > 4) & (patches.max((1, 2)) < 251)]
    basis = np.kron(_cosines(), _cosines()).astype(np.float32)
    return patches @ basis.T, patches.mean(2) @ _brightness_weights(channels)


def _smoothest(waves: Waves) -> NDArray[np.intp]:
    """Indices of the patches with the weakest long waves."""
    roughness = np.square(waves[..., _long_waves()]).sum((1, 2))
    count = max(LEAST_PICKED, round(SMOOTHEST * len(waves)))
    return np.argsort(roughness, kind="stable")[:count]


def _pixel_statistics(power: Floats) -> tuple[Floats, float | None]:
    """((C,) variances of a pixel, correlation of neighbors) from the (C, 30) power of the waves.

    The power of each wave is a weighted sum of the covariances at all distances; those up to REACH_PX are solved for.
    """
    solved, *_ = np.linalg.lstsq(_wave_power(), power.T, rcond=None)
    covariances = solved.reshape(REACH_PX + 1, REACH_PX + 1, -1)
    variances: Floats = covariances[0, 0].clip(min=0)
    if variances.mean() < LEAST_LEVEL**2:
        return variances, None
    next_to = (covariances[0, 1] + covariances[1, 0]).sum() / 2
    return variances, float(np.clip(next_to / variances.sum(), -1, 1))


def _between_channels(kept: Floats) -> Floats | None:
    """(C, C), or None where nothing is left of one channel. kept: (n, C, 30)."""
    products = np.einsum("nik,njk->ij", kept, kept) / kept[:, 0].size
    own = np.sqrt(products.diagonal())
    if own.min() < LEAST_LEVEL:
        return None
    correlation: Floats = products / np.outer(own, own)
    return correlation


def _mean_pair(correlation: Floats | None) -> float | None:
    if correlation is None or len(correlation) == 1:
        return None
    return float(correlation[np.triu_indices(len(correlation), k=1)].mean())


def _by_brightness(power: Floats, brightness: Waves) -> tuple[float | None, ...]:
    stretch = (brightness / BIN_LEVELS).astype(np.intp)
    groups = [power[stretch == index] for index in range(BRIGHTNESS_BINS)]
    return tuple(float(np.sqrt(np.median(group))) if len(group) >= LEAST_ALIKE else None for group in groups)


def _by_frequency(power: Floats) -> tuple[float, ...]:
    frequency = np.hypot(*np.indices((PATCH_PX, PATCH_PX))).round().astype(np.intp).ravel()[_fine_waves()]
    return tuple(float(np.sqrt(power[frequency == step].mean())) for step in range(2, PATCH_PX + 2))


@cache
def _cosines() -> Floats:
    """(6, 6): rows are the waves of an orthonormal cosine transform."""
    wave, pixel = np.indices((PATCH_PX, PATCH_PX))
    cosines: Floats = np.cos(np.pi * wave * (2 * pixel + 1) / (2 * PATCH_PX)) * np.sqrt(2 / PATCH_PX)
    cosines[0] /= np.sqrt(2)
    return cosines


@cache
def _long_waves() -> NDArray[np.bool_]:
    """(36,) Which waves are gradients and soft curves: at most two half waves in a patch, the mean left out."""
    half_waves = np.add(*np.indices((PATCH_PX, PATCH_PX))).ravel()
    long: NDArray[np.bool_] = (half_waves > 0) & (half_waves <= 2)
    return long


@cache
def _fine_waves() -> NDArray[np.bool_]:
    half_waves = np.add(*np.indices((PATCH_PX, PATCH_PX))).ravel()
    fine: NDArray[np.bool_] = half_waves > 2
    return fine


@cache
def _finest_waves() -> NDArray[np.bool_]:
    half_waves = np.add(*np.indices((PATCH_PX, PATCH_PX))).ravel()
    finest: NDArray[np.bool_] = half_waves >= PATCH_PX
    return finest


@cache
def _wave_power() -> Floats:
    """(30, 9): mean power of each fine wave when the covariance at one distance, in both signs, is 1 and else 0."""
    cosines = _cosines()
    along = np.array(
        [
            [(1 if lag == 0 else 2) * (wave[: PATCH_PX - lag] @ wave[lag:]) for lag in range(REACH_PX + 1)]
            for wave in cosines
        ]
    )
    return np.kron(along, along)[_fine_waves()]
