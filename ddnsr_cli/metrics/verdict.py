"""Whether the noise of one set of LR pictures is like that of another: four checks, and one sentence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ddnsr_cli.metrics.realism import Realism

# Halves of one camera's tiles, split by scene, came out within 1.17, 0.01, 0.01 and 1.11; halves of small textured
# pictures with the same white noise within 1.08, 0.10, 0.07 and 1.07; two cameras 2.7, 0.36, 0.03 and 1.4 apart.
LEVEL_FACTOR = 1.25
LEVEL_STEP = 0.5  # levels; a factor means little where there is hardly any noise
NEIGHBOURS_STEP = 0.1
CHANNELS_STEP = 0.15
COURSE_FACTOR = 1.25


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


def compare(real: Realism, fake: Realism) -> Verdict:
    """Hold the fake noise against the real.

    Close means that its level, its correlation with the next pixel and between channels, and its course over
    brightness lie within the limits. Colour and contrast are the subjects' and are not judged: in unpaired sets they
    differ.
    """
    if real.noise is None or fake.noise is None:
        return Verdict(sentence=_too_little(real, fake), close=None, checks=())
    found = (
        _level(real.noise, fake.noise),
        _correlation("Neighbours correlate", (real.neighbours, fake.neighbours), NEIGHBOURS_STEP, "fine coarse"),
        _correlation("Channels correlate", (real.channels, fake.channels), CHANNELS_STEP, "colourful gray"),
        _course(real.by_brightness, fake.by_brightness),
    )
    checks = tuple(check for check in found if check is not None)
    faults = [check.fault for check in checks if check.fault]
    said = f"the noise of the fake LR is {_listed(faults)}" if faults else "the fake LR is close to the real"
    return Verdict(sentence=f"{_figures(real, fake)}: {said}.", close=not faults, checks=checks)


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


def _figures(real: Realism, fake: Realism) -> str:
    told = [f"Noise {fake.noise:.1f} against {real.noise:.1f} levels"]
    if real.neighbours is not None and fake.neighbours is not None:
        told.append(f"neighbours correlate {fake.neighbours:.2f} against {real.neighbours:.2f}")
    if real.channels is not None and fake.channels is not None:
        told.append(f"channels {fake.channels:.2f} against {real.channels:.2f}")
    return ", ".join(told)


def _too_little(real: Realism, fake: Realism) -> str:
    return (
        f"Too little to tell: enough that is neither black nor white have {real.measured} of {real.pictures} real and "
        f"{fake.measured} of {fake.pictures} fake pictures."
    )


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
