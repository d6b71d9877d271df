"""Whether the noise of one set of LR images is like that of another: a set's looks, four checks, one sentence."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.metrics.noise import BRIGHTNESS_BINS, LUMA, Levels, Noise, measure_noise
from ddnsr_cli.metrics.noise_transfer import NoiseTransfer

TILE_PX = 32
LEAST_PX = TILE_PX
"""The shorter side of an image that can be measured."""

LEAST_VOTES = 3  # images that must know the noise at a brightness

# Halves of one camera's tiles, split by scene, came out within 1.17, 0.01, 0.01 and 1.11; halves of small textured
# images with the same white noise within 1.08, 0.10, 0.07 and 1.07; two cameras 2.7, 0.36, 0.03 and 1.4 apart.
LEVEL_FACTOR = 1.25
LEVEL_STEP = 0.5  # levels; a factor means little where there is hardly any noise
NEIGHBORS_STEP = 0.1
CHANNELS_STEP = 0.15
COURSE_FACTOR = 1.25

LEAST_CARRIED = 0.9
MOST_LEAKED = 0.1


@dataclass(frozen=True, kw_only=True)
class ImageFigures:
    """One image, measured."""

    noise: Noise | None
    """None when too little of the image is neither black nor white."""

    spectrum: tuple[float, ...]
    """Amplitude by frequency, 1 to 16 waves in 32 pixels, of everything in the image, levels of 255."""

    mean_rgb: tuple[float, float, float]
    """Levels."""

    contrast: float
    """Standard deviation of the brightness, levels."""


@dataclass(frozen=True, kw_only=True)
class Realism:
    """A set of images, measured: every figure is the median over the images that have it.

    So some images that are all texture, or not of the kind, do not move it. Levels are levels of 255.
    """

    images: int
    measured: int
    """Images whose noise could be measured. With none, all the noise figures are None or empty."""

    noise: float | None
    """Standard deviation of a channel in the smooth parts, levels."""

    noise_rgb: tuple[float, ...] | None

    each_noise: tuple[float, ...]
    """The noise of every measured image, the least first."""

    neighbors: float | None
    """Correlation of the noise with the next pixel's: 0 for white noise. None where noise is below half a level."""

    channels: float | None
    """Correlation of the noise between channels: 1 for gray noise. None where noise is below half a level."""

    by_brightness: tuple[float | None, ...]
    """Noise where the image is that bright: eight stretches of 32 levels; None where fewer than three images know
    it (or not all, of a smaller set)."""

    noise_spectrum: tuple[float, ...]
    """See `Noise.spectrum`: six amplitudes."""

    spectrum: tuple[float, ...]
    """Sixteen amplitudes, as of `ImageFigures.spectrum`."""

    mean_rgb: tuple[float, float, float]
    contrast: float


def measure_image(image: Levels) -> ImageFigures:
    """Measure one image, at least 32 pixels a side. Raises ValueError for a smaller one."""
    if image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < LEAST_PX:
        raise ValueError(f"An image is (H, W, 3) with sides of at least {LEAST_PX}, got {image.shape}.")
    levels = image.astype(np.float32) / np.float32(257 if image.dtype == np.uint16 else 1)
    red, green, blue = (float(mean) for mean in levels.reshape(-1, 3).mean(0, dtype=np.float64))
    return ImageFigures(
        noise=measure_noise(image),
        spectrum=_spectrum(levels),
        mean_rgb=(red, green, blue),
        contrast=float((levels @ LUMA).std()),
    )


def gather(figures: Sequence[ImageFigures]) -> Realism:
    """The figures of a set. Raises ValueError for an empty one."""
    if not figures:
        raise ValueError("A set has at least one image.")
    noises = [figure.noise for figure in figures if figure.noise is not None]
    levels = tuple(sorted(noise.level for noise in noises))
    return Realism(
        images=len(figures),
        measured=len(noises),
        noise=_median(levels, 1),
        noise_rgb=_color([noise.rgb for noise in noises]) if noises else None,
        each_noise=levels,
        neighbors=_median_of(noises, lambda noise: noise.neighbors),
        channels=_median_of(noises, lambda noise: noise.channels),
        by_brightness=_by_brightness(noises),
        noise_spectrum=_columns([noise.spectrum for noise in noises]),
        spectrum=_columns([figure.spectrum for figure in figures]),
        mean_rgb=_color([figure.mean_rgb for figure in figures]),
        contrast=float(np.median([figure.contrast for figure in figures])),
    )


def _spectrum(image: NDArray[np.float32]) -> tuple[float, ...]:
    """Square root of the mean power over tiles, channels and directions."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (TILE_PX, TILE_PX), axis=(0, 1))[::TILE_PX, ::TILE_PX]
    tiles = windows.reshape(-1, TILE_PX, TILE_PX).astype(np.float32)
    tiles = tiles - tiles.mean((1, 2), keepdims=True)
    window = np.outer(*[np.hanning(TILE_PX + 1)[:-1]] * 2).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft2(tiles * window))).mean(0) / np.square(window).sum()
    across, down = np.fft.rfftfreq(TILE_PX), np.fft.fftfreq(TILE_PX)
    ring = (TILE_PX * np.hypot(down[:, None], across)).round().astype(np.intp)
    return tuple(float(np.sqrt(power[ring == index].mean())) for index in range(1, TILE_PX // 2 + 1))


def _by_brightness(noises: Sequence[Noise]) -> tuple[float | None, ...]:
    least = max(1, min(LEAST_VOTES, len(noises)))
    votes = [[noise.by_brightness[index] for noise in noises] for index in range(BRIGHTNESS_BINS)]
    return tuple(_median([vote for vote in stretch if vote is not None], least) for stretch in votes)


def _median_of(noises: Sequence[Noise], figure: Callable[[Noise], float | None]) -> float | None:
    return _median([value for noise in noises if (value := figure(noise)) is not None], 1)


def _median(values: Sequence[float], least: int) -> float | None:
    return float(np.median(values)) if len(values) >= least else None


def _columns(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    table: NDArray[np.float64] = np.array(rows)
    return tuple(float(value) for value in np.median(table, axis=0)) if rows else ()


def _color(rows: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    red, green, blue = _columns(rows)
    return red, green, blue


@dataclass(frozen=True, kw_only=True)
class Check:
    """One figure of both sets."""

    name: str
    real: float | None
    """None where it is no figure of one set alone."""

    fake: float | None

    apart: str
    """How far the fake set is from the real one."""

    allowed: str
    """How far it may be."""

    fault: str | None
    """What is wrong with the fake noise, to follow "is"; None when it is like the real."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What comes of the comparison."""

    sentence: str

    close: bool | None
    """None when the noise of one set could not be measured."""

    checks: tuple[Check, ...]
    """Those that could be made."""

    advice: str = ""
    """What to try next, in a sentence; empty where the sets are close."""


_LEARN = "train a degrader on these images (ddnsr train --track 2) and name it with -m"
_ADVICE = {
    "learned": f"Try --method patches, which lays on the images' own noise, or {_LEARN}.",
    "patches": f"Give noisy images with larger flat parts, or {_LEARN}.",
    "impressionism": f"Give noisy images with larger flat parts, or {_LEARN}.",
    "gaussian": f"Try another --sigma, --method patches, which lays on the images' own noise, or {_LEARN}.",
    "bicubic": f"It lays on no noise: try --method patches, or {_LEARN}.",
    "classical": f"Change --degradation noise_sigma, try --method patches, or {_LEARN}.",
}
"""What to try next, by the method that made the fake set."""

_TRANSFER_ADVICE = "Train the degrader longer, with a larger --loss noise_transfer, or try --method patches."
_BLIND_ADVICE = "Give images with parts that are neither black nor white."


def compare(real: Realism, fake: Realism, transfer: NoiseTransfer | None = None, *, method: str = "learned") -> Verdict:
    """Hold the fake noise against the real, and what a degrader makes of its noise input against what it is to make.

    Close means that its level, its correlation with the next pixel and between channels, and its course over
    brightness lie within the limits. Color and contrast are the subjects' and are not judged: in unpaired sets they
    differ. method: of `ddnsr degrade`, by which the fake set was made; the advice follows it.
    """
    if real.noise is None or fake.noise is None:
        return Verdict(sentence=_too_little(real, fake), close=None, checks=(), advice=_BLIND_ADVICE)
    transferred = _transfer(transfer) if transfer is not None else ()
    found = (
        _level(real.noise, fake.noise),
        _correlation("Neighbors correlate", (real.neighbors, fake.neighbors), NEIGHBORS_STEP, "fine coarse"),
        _correlation("Channels correlate", (real.channels, fake.channels), CHANNELS_STEP, "colorful gray"),
        _course(real.by_brightness, fake.by_brightness),
        *transferred,
    )
    checks = tuple(check for check in found if check is not None)
    faults = [check.fault for check in checks if check.fault]
    said = f"the noise of the fake LR is {_listed(faults)}" if faults else "the fake LR is close to the real"
    advice = _TRANSFER_ADVICE if any(check.fault for check in transferred) else _ADVICE[method]
    return Verdict(
        sentence=f"{_figures(real, fake)}: {said}.", close=not faults, checks=checks, advice=advice if faults else ""
    )


def _level(real: float, fake: float) -> Check:
    low, high = sorted((real, fake))
    like = high - low <= LEVEL_STEP or high <= LEVEL_FACTOR * low
    return Check(
        name="Noise, levels of 255",
        real=real,
        fake=fake,
        apart=f"{fake - real:+.2f}",
        allowed=f"{LEVEL_STEP} levels, or a factor of {LEVEL_FACTOR}",
        fault=None if like else "too weak" if fake < real else "too strong",
    )


def _correlation(name: str, pair: tuple[float | None, float | None], step: float, faults: str) -> Check | None:
    real, fake = pair
    if real is None or fake is None:
        return None
    low, high = faults.split()
    return Check(
        name=name,
        real=real,
        fake=fake,
        apart=f"{fake - real:+.2f}",
        allowed=f"{step}",
        fault=None if abs(fake - real) <= step else f"too {low if fake < real else high}",
    )


def _course(real: Sequence[float | None], fake: Sequence[float | None]) -> Check | None:
    """How the noise rises and falls over brightness, its level apart. None below two brightnesses that both know."""
    both = [(ours, theirs) for ours, theirs in zip(real, fake, strict=True) if ours is not None and theirs is not None]
    ratios = [math.log(theirs / ours) for ours, theirs in both if min(ours, theirs) >= LEVEL_STEP]
    if len(ratios) < 2:
        return None
    factor = math.exp(float(np.std(ratios)))
    return Check(
        name="Course over brightness",
        real=None,
        fake=None,
        apart=f"a factor of {factor:.2f}",
        allowed=f"a factor of {COURSE_FACTOR}",
        fault=None if factor <= COURSE_FACTOR else "spread differently between dark and bright",
    )


def _transfer(transfer: NoiseTransfer) -> tuple[Check, ...]:
    """Noise taken over from the noise input where the HR image is flat and where it is textured, and structure."""
    least, most = f"at least {LEAST_CARRIED}", f"at most {MOST_LEAKED}"
    flat, textured, leaked = transfer.carried_flat, transfer.carried_textured, transfer.leaked
    printed = f"mixed with {leaked:.0%} of the noise image's own detail"
    return (
        _share("Noise carried, flat parts", flat, least, "lost in flat parts" if flat < LEAST_CARRIED else None),
        _share("Noise carried, textured", textured, least, "lost in texture" if textured < LEAST_CARRIED else None),
        _share("Structure leaked", leaked, most, printed if leaked > MOST_LEAKED else None, ideal=0.0),
    )


def _share(name: str, share: float, allowed: str, fault: str | None, *, ideal: float = 1.0) -> Check:
    return Check(name=name, real=None, fake=share, apart=f"{share - ideal:+.2f}", allowed=allowed, fault=fault)


def _figures(real: Realism, fake: Realism) -> str:
    parts = [f"Noise {fake.noise:.1f} against {real.noise:.1f} levels"]
    if real.neighbors is not None and fake.neighbors is not None:
        parts.append(f"neighbors correlate {fake.neighbors:.2f} against {real.neighbors:.2f}")
    if real.channels is not None and fake.channels is not None:
        parts.append(f"channels {fake.channels:.2f} against {real.channels:.2f}")
    return ", ".join(parts)


def _too_little(real: Realism, fake: Realism) -> str:
    return (
        f"Too little to tell: {real.measured} of {real.images} real and {fake.measured} of {fake.images} fake images "
        "have enough that is neither black nor white."
    )


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
