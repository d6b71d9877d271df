"""Images compared with each other: such as repeat others, and pairs that do not show the same."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ddnsr_cli.data.validation.report import GRAY_LEVELS, Finding, Role, Severity, Trouble
from ddnsr_cli.errors import ImageReadError, shown
from ddnsr_cli.files import sha256_of
from ddnsr_cli.io.image import rgb8
from ddnsr_cli.io.read import read_image

if TYPE_CHECKING:
    from ddnsr_cli.data.images import ImagePair

SAMPLE_BYTES = 65536


def near_pairs(hashes: Sequence[int], most_bits: int) -> Iterator[tuple[int, int, int]]:
    """(index, earlier index, bits that differ) for every hash with another before it at most `most_bits` away.

    Each index comes once, with one earlier. Not all pairs are compared: two hashes that differ in at most
    `most_bits` bits agree in one of `most_bits + 1` pieces.
    """
    first_with: dict[int, int] = {}
    for index, value in enumerate(hashes):
        first_with.setdefault(value, index)
    values = np.array(list(first_with), dtype=np.uint64)
    owner = list(first_with.values())
    for index, value in enumerate(hashes):
        if first_with[value] != index:
            yield index, first_with[value], 0
    for later, (bits, earlier) in _some_earlier(values, most_bits).items():
        yield owner[later], owner[earlier], bits


def _some_earlier(values: NDArray[np.uint64], most_bits: int) -> dict[int, tuple[int, int]]:
    """Position -> (bits that differ, earlier position) of each of these different values that has one near."""
    found: dict[int, tuple[int, int]] = {}
    for shift, mask in _pieces(most_bits + 1):
        for members in _groups(values >> shift & mask):
            for place in range(1, len(members)):
                later = int(members[place])
                if later in found:  # a long series of like images would take minutes
                    continue
                bits = _bits_between(values[members[:place]], values[later])
                closest = int(bits.argmin())
                if bits[closest] <= most_bits:
                    found[later] = (int(bits[closest]), int(members[closest]))
    return found


def _pieces(count: int) -> list[tuple[np.uint64, np.uint64]]:
    """(shift, mask) of pieces that together are the 64 bits."""
    edges = [64 * piece // count for piece in range(count + 1)]
    return [(np.uint64(low), np.uint64((1 << (high - low)) - 1)) for low, high in pairwise(edges)]


def _groups(keys: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """Positions with the same key, ascending, for keys that occur more than once."""
    order = np.argsort(keys, kind="stable")
    borders = np.flatnonzero(np.diff(keys[order])) + 1
    yield from (group for group in np.split(order, borders) if len(group) > 1)


def _bits_between(values: NDArray[np.uint64], value: np.uint64) -> NDArray[np.int64]:
    different = np.bitwise_xor(values, value).view(np.uint8).reshape(-1, 8)
    bits: NDArray[np.int64] = np.unpackbits(different, axis=1).sum(1, dtype=np.int64)
    return bits


def same_bytes(paths: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """(file, earlier file) of the same content. Reads whole only files of equal size and equal middle.

    Raises OSError when a file cannot be read.
    """
    alike: dict[tuple[int, bytes], list[Path]] = defaultdict(list)
    sizes: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        sizes[path.stat().st_size].append(path)
    for size, group in sizes.items():
        if len(group) > 1:
            for path in group:
                alike[size, _middle_bytes(path, size)].append(path)
    for group in alike.values():
        first: dict[str, Path] = {}
        for path in group if len(group) > 1 else ():
            earlier = first.setdefault(sha256_of(path), path)
            if earlier != path:
                yield path, earlier


def _middle_bytes(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, (size - SAMPLE_BYTES) // 2))
        return file.read(SAMPLE_BYTES)


Plane = NDArray[np.float32]
Rgb8 = NDArray[np.uint8]

MOST_LR_PX = 128  # of each side, around the middle
LEAST_LR_PX = 16
BLUR_PX = 9
LEAST_DETAIL = 1.0  # levels; below it a part is too flat to tell where it lies
FARTHEST = 4  # shifts are looked for up to this part of a side
SAME_DETAIL, SURE_DETAIL = 0.5, 0.7
OTHER_DETAIL, OTHER_LOOK = 0.35, 0.7
CLEARER = 1.25
"""By how much less must be left unexplained with a shift than without."""

LEAST_COMMON_PAIRS, LEAST_COMMON_PX, SURE_ERRORS = 8, 0.6, 5.0
"""A shift that all pairs have: how many tell it, HR pixels, and how many standard errors it must be from none."""

LEAST_COLOR = 4.0  # levels
MOST_PAIRS = 200
SWAP_SHARE, SWAP_LEVELS = 0.5, 2.0
COLORS = ("red", "green", "blue")


Leaning = tuple[tuple[float, float], tuple[float, float]]
"""(slope, bend) of the likeness down and to the right, see `leaning`."""


@dataclass(frozen=True, kw_only=True)
class PairFlaw:
    """One thing that is wrong with a pair."""

    trouble: Trouble

    remark: str
    """The rest of a sentence that begins with the name of the HR image; `{partner}` stands for that of the other."""


def pair_flaws(lr: Rgb8, hr: Rgb8) -> list[PairFlaw]:
    """What is wrong with LR and HR pixels, (h, w, 3) and (s h, s w, 3) for a whole s from 1 on; empty: nothing is seen.

    Told are: gray against color, another image, a mirrored or turned one, a shift in whole HR pixels, and exchanged
    color channels. LR may be blurred, noisy and compressed. Of large images the middle is looked at.
    """
    scale = max(1, len(hr) // len(lr))
    lr, hr = _middle(lr, hr, scale)
    flaws = _gray_against_color(lr, hr)
    if min(lr.shape[:2]) < LEAST_LR_PX:
        return flaws
    is_colored = not flaws
    small, large = _brightness(lr), _brightness(hr)
    if min(float(_detail(small).std()), float(_detail(_shrunk(large, scale)).std())) < LEAST_DETAIL:
        return _swapped_channels(lr, hr, scale) if is_colored else flaws
    place = _best_place(small, large, scale)
    if place.likeness < SURE_DETAIL and (turned := _turned(small, large, scale, place.likeness)) is not None:
        return [*flaws, turned]
    if place.likeness < SAME_DETAIL:
        is_other = place.likeness < OTHER_DETAIL and _correlation(small, _shrunk(large, scale)) < OTHER_LOOK
        if is_other:
            return [*flaws, PairFlaw(trouble=Trouble.OTHER, remark="does not show what {partner} shows")]
        return _swapped_channels(lr, hr, scale) if is_colored else flaws
    if (place.down, place.right) != (0, 0) and (1 - place.likeness**2) * CLEARER < 1 - place.unmoved**2:
        flaws.append(PairFlaw(trouble=Trouble.SHIFTED, remark=f"is shifted against {{partner}}: {_where(place)}"))
    if is_colored:
        flaws += _swapped_channels(lr, _moved(hr, place), scale)
    return flaws


def check_pairs(
    pairs: "Sequence[ImagePair]",
    *,
    seed: int = 0,
    most: int = MOST_PAIRS,
    on_pair: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Finding, ...]:
    """What is wrong with pairs: `pair_flaws`, unlike bit depths, pairs that repeat others, and a shift that goes under
    in the noise of each one but is common to all.

    most: pairs that are decoded, drawn by the seed. on_pair: (pairs looked at, pairs to look at). LR images that cannot
    be read are told; a pair whose HR image cannot be is passed over: who looks at the HR images, or reads them, tells.
    """
    drawn = list(range(len(pairs)))
    if len(pairs) > most:
        drawn = sorted(np.random.default_rng(seed).choice(len(pairs), most, replace=False).tolist())
    found: list[Finding] = []
    leanings: list[Leaning] = []
    for done, place in enumerate(drawn, 1):
        with suppress(ImageReadError):
            found += _of_pair(pairs[place], leanings)
        on_pair(done, len(drawn))
    return (*found, *_common_shift(pairs, leanings), *_twins(pairs))


def _of_pair(pair: "ImagePair", leanings: list[Leaning]) -> Iterator[Finding]:
    """leanings: takes that of a pair without flaws."""
    try:
        lr = read_image(pair.lr)
    except ImageReadError as error:
        trouble, severity = Trouble.UNREADABLE, Severity.WARNING
        yield Finding(severity=severity, trouble=trouble, role=Role.LR, path=pair.lr, sentence=str(error))
        return
    hr = read_image(pair.hr)
    small, large = pair.cut(rgb8(lr), rgb8(hr))
    if len(small) > len(large):  # a finished image beside a reference of the LR image's size
        small, large = large, small
    flaws = pair_flaws(small, large)
    if not flaws and (found := leaning(small, large)) is not None:
        leanings.append(found)
    if lr.depth_bits != hr.depth_bits:
        remark = f"has {hr.depth_bits} bits a sample and {{partner}} {lr.depth_bits}"
        flaws.append(PairFlaw(trouble=Trouble.DEPTHS, remark=remark))
    for flaw in flaws:
        yield _finding(pair, flaw.trouble, flaw.remark.format(partner=shown(pair.lr)))


def leaning(lr: Rgb8, hr: Rgb8) -> Leaning | None:
    """How likeness changes where HR moves by an LR pixel down and to the right: (slope, bend) of a parabola each way.

    Slope over bend is where its peak is, HR pixels. None: the images are too flat or too small. Sizes as `pair_flaws`.
    """
    scale = max(1, len(hr) // len(lr))
    lr, hr = _middle(lr, hr, scale)
    small, large = _brightness(lr), _brightness(hr)
    if min(lr.shape[:2]) < LEAST_LR_PX or float(_detail(small).std()) < LEAST_DETAIL:
        return None
    here = _likeness(small, large, scale, (0, 0))
    moves = ((scale, 0), (-scale, 0), (0, scale), (0, -scale))
    down, up, right, left = (_likeness(small, large, scale, move) for move in moves)
    down_bend, right_bend = (2 * here - on - back for on, back in ((down, up), (right, left)))
    return (scale * (down - up) / 2, down_bend), (scale * (right - left) / 2, right_bend)


def _common_shift(pairs: "Sequence[ImagePair]", leanings: Sequence[Leaning]) -> Iterator[Finding]:
    """One finding for a shift that all pairs share."""
    if len(leanings) < LEAST_COMMON_PAIRS:
        return
    slopes, bends = np.moveaxis(np.array(leanings), 2, 0)  # (pairs, 2) each
    bend = np.maximum(bends.sum(0), 1e-9)
    mean = slopes.sum(0) / bend
    error = np.sqrt(((slopes - mean * bends) ** 2).sum(0)) / bend
    sure = (np.abs(mean) > LEAST_COMMON_PX) & (np.abs(mean) > SURE_ERRORS * error)
    if sure.any():
        down, right = np.where(sure, np.round(mean), 0).astype(int).tolist()
        where = _where(_Place(down=down, right=right, likeness=1.0, unmoved=1.0))
        remark = (
            f"and the other HR images are shifted against LR, all by the same {where} (mean of {len(leanings)} pairs)"
        )
        yield _finding(pairs[0], Trouble.SHIFTED, remark)


def _twins(pairs: "Sequence[ImagePair]") -> Iterator[Finding]:
    """Each pair that comes again, or whose LR image has another HR image in an earlier pair. Several LR images of one
    HR image are no fault.
    """
    of_lr = {pair.lr: pair for pair in pairs}
    with suppress(OSError):
        again = [(of_lr[later], of_lr[earlier]) for later, earlier in same_bytes(list(of_lr))]
        concerned = dict.fromkeys(pair.hr for both in again for pair in both)
        first_of = dict(same_bytes(list(concerned)))
        for later, earlier in again:
            if first_of.get(later.hr, later.hr) == first_of.get(earlier.hr, earlier.hr):
                remark = f"and its partner have the bytes of {shown(earlier.hr)} and its partner. Keep one of the pairs"
            else:
                remark = (
                    f"and {shown(earlier.hr)} differ, but their partners have the same bytes: {shown(later.lr)} and "
                    f"{shown(earlier.lr)}"
                )
            yield _finding(later, Trouble.TWINS, remark)


def _finding(pair: "ImagePair", trouble: Trouble, remark: str) -> Finding:
    sentence = f"{shown(pair.hr)} {remark}."
    return Finding(severity=Severity.WARNING, trouble=trouble, role=Role.HR, path=pair.hr, sentence=sentence)


def _middle(lr: Rgb8, hr: Rgb8, scale: int) -> tuple[Rgb8, Rgb8]:
    height, width = (min(length, MOST_LR_PX) for length in lr.shape[:2])
    top, left = (lr.shape[0] - height) // 2, (lr.shape[1] - width) // 2
    part = hr[top * scale : (top + height) * scale, left * scale : (left + width) * scale]
    return lr[top : top + height, left : left + width], part


def _gray_against_color(lr: Rgb8, hr: Rgb8) -> list[PairFlaw]:
    gray = [int(np.ptp(pixels.astype(np.int16), axis=2).max()) <= GRAY_LEVELS for pixels in (lr, hr)]
    if gray[0] == gray[1] or _colorfulness(hr if gray[0] else lr) < LEAST_COLOR:
        return []
    large, small = ("in color", "gray") if gray[0] else ("gray", "in color")
    return [PairFlaw(trouble=Trouble.COLOR, remark=f"is {large} and {{partner}} is {small}")]


def _colorfulness(image: Rgb8) -> float:
    """Mean spread of the channels in squares, where noise has averaged out, levels."""
    side = max(1, min(16, *(length // 2 for length in image.shape[:2])))
    means = np.stack([_shrunk(image[..., channel].astype(np.float32), side) for channel in range(3)])
    return float(np.ptp(means, axis=0).mean())


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where in HR the LR image lies best."""

    down: int
    right: int
    """HR pixels."""

    likeness: float
    """Correlation of the details there."""

    unmoved: float
    """The same without a shift, over the same part."""


def _best_place(small: Plane, large: Plane, scale: int) -> _Place:
    place = _coarse_shift(_detail(small), _detail(_shrunk(large, scale)), scale)
    likeness = _likeness(small, large, scale, place)
    for _ in range(2 * scale):  # uphill, a pixel a step
        around = [(place[0] + down, place[1] + right) for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1))]
        best, there = max((_likeness(small, large, scale, one), one) for one in around)
        if best <= likeness:
            break
        likeness, place = best, there
    unmoved = likeness if place == (0, 0) else _likeness(small, large, scale, place, at=(0, 0))
    return _Place(down=place[0], right=place[1], likeness=likeness, unmoved=unmoved)


def _coarse_shift(small: Plane, large: Plane, scale: int) -> tuple[int, int]:
    """HR pixels, a multiple of the scale: the peak of the cross-correlation of two planes of one size."""
    height, width = small.shape
    padded = (2 * height, 2 * width)
    waves = np.fft.rfft2(large, padded) * np.conj(np.fft.rfft2(small, padded))
    product = np.fft.irfft2(waves, padded)
    best, where = -np.inf, (0, 0)
    for down, right in itertools.product(*(range(-(n // FARTHEST), n // FARTHEST + 1) for n in (height, width))):
        value = product[down, right] / ((height - abs(down)) * (width - abs(right)))
        if value > best:
            best, where = value, (down, right)
    return where[0] * scale, where[1] * scale


def _likeness(
    small: Plane, large: Plane, scale: int, shift: tuple[int, int], *, at: tuple[int, int] | None = None
) -> float:
    """Correlation of details where HR is moved by so many pixels, over what both have. at: moved by these instead."""
    (top, bottom), (left, right) = (_overlap(n, moved, scale) for n, moved in zip(small.shape, shift, strict=True))
    down, across = shift if at is None else at
    part = large[top * scale + down : bottom * scale + down, left * scale + across : right * scale + across]
    return _correlation(_detail(small[top:bottom, left:right]), _detail(_shrunk(part, scale)))


def _overlap(length: int, moved: int, scale: int) -> tuple[int, int]:
    """First and last LR pixel whose HR pixels are there, moved or not."""
    return max(0, -(moved // scale)), min(length, length - -(-moved // scale))


def _moved(hr: Rgb8, place: _Place) -> Rgb8:
    """HR as LR shows it; what moves in is its own border."""
    height, width = hr.shape[:2]
    rows = np.clip(np.arange(height) + place.down, 0, height - 1)
    columns = np.clip(np.arange(width) + place.right, 0, width - 1)
    return hr[rows][:, columns]


def _turned(small: Plane, large: Plane, scale: int, likeness: float) -> PairFlaw | None:
    """That HR shows the same in another position, by far better than in its own; None: it does not."""
    square = large.shape[0] == large.shape[1]
    for turns in range(4) if square else (0, 2):
        for mirrored in (False, True):
            turned = np.rot90(large[:, ::-1] if mirrored else large, turns)
            there = _best_place(small, np.ascontiguousarray(turned), scale).likeness
            if there >= SURE_DETAIL and (1 - there**2) * CLEARER < 1 - likeness**2:
                how = "mirrored" if mirrored else f"turned by {90 * turns} degrees"
                return PairFlaw(trouble=Trouble.OTHER, remark=f"is {how} against {{partner}}")
    return None


def _where(place: _Place) -> str:
    ways = ((place.down, "down", "up"), (place.right, "to the right", "to the left"))
    parts = [(abs(moved), on if moved > 0 else back) for moved, on, back in ways if moved]
    return " and ".join(f"{pixels} pixel{'s' if pixels > 1 else ''} {way}" for pixels, way in parts)


def _swapped_channels(lr: Rgb8, hr: Rgb8, scale: int) -> list[PairFlaw]:
    small = np.stack([_shrunk(hr[..., channel].astype(np.float32), scale) for channel in range(3)])
    given = lr.astype(np.float32).transpose(2, 0, 1)
    given *= small.mean() / max(1.0, float(given.mean()))  # darker or lighter than HR it may be
    blurred, wanted = (np.stack([_blurred(plane) for plane in planes]) for planes in (small, given))
    errors = {
        order: float(np.mean([np.abs(blurred[one] - wanted[other]).mean() for other, one in enumerate(order)]))
        for order in itertools.permutations(range(3))
    }
    plain, best = errors[0, 1, 2], min(errors, key=lambda order: errors[order])
    if errors[best] > SWAP_SHARE * plain or plain - errors[best] < SWAP_LEVELS:
        return []
    changed = [COLORS[channel] for channel, other in enumerate(best) if channel != other]
    named = f"{', '.join(changed[:-1])} and {changed[-1]}"
    return [PairFlaw(trouble=Trouble.CHANNELS, remark=f"has {named} exchanged against {{partner}}")]


def _brightness(image: Rgb8) -> Plane:
    """The mean of the channels, which does not change where these are exchanged."""
    brightness: Plane = image.mean(2, dtype=np.float32)
    return brightness


def _shrunk(plane: Plane, scale: int) -> Plane:
    """Means of squares."""
    height, width = (length // scale for length in plane.shape)
    squares = plane[: height * scale, : width * scale].reshape(height, scale, width, scale)
    means: Plane = squares.mean((1, 3), dtype=np.float32)
    return means


def _blurred(plane: Plane) -> Plane:
    """Means over `BLUR_PX` pixels in both directions."""
    reach = BLUR_PX // 2
    for axis in (0, 1):
        padding = [(reach + 1, reach) if axis == other else (0, 0) for other in (0, 1)]
        sums = np.cumsum(np.pad(plane, padding, mode="edge"), axis=axis, dtype=np.float64)
        high, low = (np.take(sums, np.arange(plane.shape[axis]) + start, axis=axis) for start in (BLUR_PX, 0))
        plane = ((high - low) / BLUR_PX).astype(np.float32)
    return plane


def _detail(plane: Plane) -> Plane:
    return plane - _blurred(plane)


def _correlation(one: Plane, other: Plane) -> float:
    one, other = one - one.mean(), other - other.mean()
    power = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum()) / power if power > 0 else 0.0
