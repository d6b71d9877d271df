"""Folders of images: listed; and two of one scene each, matched by name, as the field writes names, and cut to fit."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddnsr_cli.config import SCALE
from ddnsr_cli.errors import DataError, shown
from ddnsr_cli.files import is_folder
from ddnsr_cli.io.discovery import find_images
from ddnsr_cli.io.formats import READABLE, READABLE_EXTENSIONS
from ddnsr_cli.io.provenance import made_as
from ddnsr_cli.io.read import image_size
from ddnsr_cli.io.selection import OwnResults

_SHEETS = ("sheet", "sample")
"""Of what ddnsr makes, what shows results beside other images."""


def list_images(
    folder: Path, *, note: Callable[[str], None] = lambda _text: None, finished: bool = False
) -> list[Path]:
    """Every image under `folder` that `upscale` would find, sorted by its path below it: the same on every machine.

    Links are followed, to folders too. Results of ddnsr itself are left out, with a note, unless there is
    nothing else: then they are meant. finished: results are what is asked for; of ddnsr's only sheets are left out.
    Raises DataError when a folder is missing, cannot be looked into, or there is no
    image.
    """
    if not is_folder(folder):
        raise DataError(f"{shown(folder)} is not a folder. Give a folder of images.")
    own = OwnResults(again=False)
    if finished:
        images = [one for one in find_images([folder]) if made_as(one.source) not in _SHEETS]
    else:
        images = list(own.without(find_images([folder], on_own=own.leave_out)))
    if images and own.left_out:
        note(f"{own.listed} made by ddnsr and left out; a folder of nothing else is taken as it is")
    found = {one.relative.as_posix(): one.source for one in images or find_images([folder])}
    if not found:
        raise DataError(f"{folder} holds no images. What can be read: {READABLE}.")
    for path in found.values():
        if path.suffix.lower() not in READABLE_EXTENSIONS and is_folder(path):
            raise _closed(path)
    return [found[name] for name in sorted(found)]


def _closed(folder: Path) -> DataError:
    """Why a folder was found in the place of its images."""
    try:
        os.scandir(folder).close()
        reason = "it could not be listed"
    except OSError as error:
        reason = error.strerror or str(error)
    return DataError(f"{folder} cannot be looked into ({reason}). Allow it, or move it away.")


def shrunk(image: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    """The image shrunk by antialiased bicubic. Rows and columns beyond a multiple of `times` are cut off first."""
    if times == 1:
        return image
    height, width = (length // times for length in image.shape[:2])
    cut = Image.fromarray(image[: height * times, : width * times])
    return np.array(cut.resize((width, height), Image.Resampling.BICUBIC))  # widens its kernel: antialiased


def images_by_name(
    folder: Path, *, note: Callable[[str], None] = lambda _text: None, finished: bool = False
) -> dict[str, Path]:
    """The images of a folder by their path below it, without the suffix, sorted. note, finished: as `list_images`.

    Raises DataError when two have the same name, or there is none.
    """
    names: dict[str, Path] = {}
    for path in list_images(folder, note=note, finished=finished):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in names:
            raise DataError(f"{shown(path)} and {shown(names[name])} have the same name. Keep one of them.")
        names[name] = path
    return names


Note = Callable[[str], None]

_TAG = r"(?:[_\-. ]?x[1-9](?:[a-z]\d?)?|[_\-. ](?:lr|hr|sr|gt|lq|hq|out|rlt|result|output|ref|input|target)\d?)"
_BOTH = re.compile(rf"(?:{_TAG})+$", re.IGNORECASE)
"""What the field puts after names of both folders: DRealSR's `_x1` and `_x4`, RealSR's `_HR` and `_LR4`."""

_WORD = re.compile(
    r"(?:(?<=^)|(?<=[/_\-. ]))"
    r"(?:(?:lr|hr|sr|gt|lq|hq|noisy|clean|low|high|blur|sharp|input|target|ref)(?:x?\d)?(?=[_\-. ]|$)"
    r"|(?:lr|hr|sr|gt)(?=\d))"
    r"[_\-. ]?",
    re.IGNORECASE,
)
"""Words that the field puts anywhere into names of both folders: `lr_0001` and `hr_0001`, SIDD's NOISY and GT."""

_REST = re.compile(r"(?:[_\-. (\[](?=.*[A-Za-z])|x[1-9])", re.IGNORECASE)
"""How what only one of two names has begins: DIV2K's `x4`, the `_out` of Real-ESRGAN. Numbers alone tell images."""

_SAME_FORM = ("", " but for the Unicode form", " but for Unicode form and case")


@dataclass(frozen=True, kw_only=True)
class PairRules:
    """How partners are found by name and size."""

    lr_suffix: str | None = None
    """What the names of LR images end in and those of their partners lack; LR images without it are left out. None:
    what all of one folder have, where all find a partner so."""

    sr_suffix: str | None = None
    """The same of finished images."""

    mod_crop: bool = False
    """Cut what lies beyond whole LR pixels off, on the right and below, where HR is no multiple of LR."""


PLAIN = PairRules()


@dataclass(frozen=True, kw_only=True)
class ImagePair:
    """Two files of one scene."""

    name: str
    """Path below both folders, without the suffix."""
    lr: Path
    hr: Path

    lr_px: tuple[int, int] | None = None
    """(height, width) that LR is cut to; None: both are taken whole."""

    hr_px: tuple[int, int] | None = None
    """The same of HR."""

    def cut(self, lr: NDArray[np.uint8], hr: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """(lr, hr), of pixels (H, W, 3), as they are to be used."""
        if self.lr_px is None or self.hr_px is None:
            return lr, hr
        return lr[: self.lr_px[0], : self.lr_px[1]], hr[: self.hr_px[0], : self.hr_px[1]]


def match_pairs(
    lr_folder: Path,
    hr_folder: Path,
    *,
    scale: int,
    rules: PairRules = PLAIN,
    note: Note = lambda _text: None,
) -> list[ImagePair]:
    """Pairs by name (extensions may differ), sorted.

    Partners may be found by what the field puts behind names, by their Unicode form or by case, where that is unique
    for all: it is noted.
    Raises DataError naming the file when a partner is missing or doubled, or when an HR image is not exactly
    `scale` times as large as its LR partner: less than one LR pixel more or less with `mod_crop`.
    """
    lr, hr = images_by_name(lr_folder, note=note), images_by_name(hr_folder, note=note)
    if rules.lr_suffix:
        lr = _ending(lr, rules.lr_suffix, lr_folder)
    matched = _matched(lr, hr, rules.lr_suffix, lr_folder, note)
    if matched is None:
        raise _alone(lr, hr, (lr_folder, hr_folder))
    return [_pair(name, lr[left], hr[name], scale, rules) for name, left in sorted(matched.items())]


def _pair(name: str, lr: Path, hr: Path, scale: int, rules: PairRules) -> ImagePair:
    lr_px = _common_px(lr, hr, scale, rules)
    hr_px = None if lr_px is None else (lr_px[0] * scale, lr_px[1] * scale)
    return ImagePair(name=name, lr=lr, hr=hr, lr_px=lr_px, hr_px=hr_px)


def finished_by_name(
    truth_folder: Path, folder: Path, *, scale: int, rules: PairRules, note: Note = lambda _text: None
) -> dict[str, Path]:
    """Finished images by the name of the image in `truth_folder`. Raises as `match_pairs`.

    With `mod_crop` they may have some pixels more or less, but none less than what the truth is cut to.
    """
    truth, finished = images_by_name(truth_folder), images_by_name(folder, finished=True)
    if rules.sr_suffix:
        finished = _ending(finished, rules.sr_suffix, folder)
    matched = _matched(finished, truth, rules.sr_suffix, folder, note)
    if matched is None:
        raise _alone(finished, truth, (folder, truth_folder))
    for name, other in matched.items():
        _refuse_unlike(truth[name], finished[other], scale, rules)
    return {name: finished[other] for name, other in matched.items()}


def _refuse_unlike(truth: Path, finished: Path, scale: int, rules: PairRules) -> None:
    common_px = _common_px(truth, finished, scale, rules)
    if common_px is None:
        return
    lr_px = SCALE // scale  # along a side, pixels of the truth
    least_px = [length // lr_px * lr_px for length in image_size(truth)]
    if any(common < least for common, least in zip(common_px, least_px, strict=True)):
        raise _misfit(truth, finished, scale, " Crop or remove the pair.")


def _ending(names: Mapping[str, Path], suffix: str, folder: Path) -> dict[str, Path]:
    """Those whose names end in a suffix. Raises DataError where none do."""
    found = {name: path for name, path in names.items() if name.endswith(suffix)}
    if not found:
        raise DataError(f"No name in {shown(folder)} ends in {suffix!r}, as {shown(next(iter(names.values())))} shows.")
    return found


def _matched(
    left: Mapping[str, Path], right: Mapping[str, Path], suffix: str | None, folder: Path, note: Note
) -> dict[str, str] | None:
    """Name on the right -> name on the left, of all on both sides; None where some have no partner."""
    for level, same in enumerate(_SAME_FORM):
        for strip, what in _ways(left, right, suffix, level):
            one, other = _by_form(left, strip[0], level), _by_form(right, strip[1], level)
            if one is not None and other is not None and one.keys() == other.keys():
                if what or (same and left.keys() != right.keys()):
                    first = sorted(other)[0]
                    note(
                        f"{shown(folder)}: {shown(left[one[first]])} is taken for the partner of "
                        f"{shown(right[other[first]])}, and so on for all {len(one)}: names are the same"
                        f"{what}{same}"
                    )
                return {name: one[key] for key, name in other.items()}
    return _matched_but_for_words(left, right, folder, note) if suffix is None else None


def _matched_but_for_words(
    left: Mapping[str, Path], right: Mapping[str, Path], folder: Path, note: Note
) -> dict[str, str] | None:
    """As `_matched`, where all names of a folder have the same words of the field more."""
    (one, words), (other, more) = _without_words(left), _without_words(right)
    is_unique = (len(one), len(other)) == (len(left), len(right)) and one.keys() == other.keys()
    if not is_unique or (len(words), len(more)) != (1, 1) or not any((*words, *more)):
        return None
    first = sorted(other)[0]
    said = " and ".join(repr(" ".join(each)) for each in (*words, *more) if each)
    note(
        f"{shown(folder)}: {shown(left[one[first]])} is taken for the partner of {shown(right[other[first]])}, "
        f"and so on for all {len(one)}: names are the same but for {said}"
    )
    return {name: one[key] for key, name in other.items()}


def _without_words(names: Iterable[str]) -> tuple[dict[str, str], set[tuple[str, ...]]]:
    """Names by what is left of them without words of the field, and the words of each."""
    found = {_WORD.sub("", name).rstrip("_-. "): name for name in names}
    return found, {tuple(word.strip("_-. ") for word in _WORD.findall(name)) for name in found.values()}


Strip = tuple[str, str]
"""What to take off the end of names on the left and on the right."""


def _ways(
    left: Mapping[str, Path], right: Mapping[str, Path], suffix: str | None, level: int
) -> list[tuple[Strip, str]]:
    """Endings to take off, the likeliest first, each with what is said of it."""
    if suffix is not None:
        return [((suffix, ""), "")]
    found: list[tuple[Strip, str]] = [(("", ""), "")]
    for rest, strip in ((_rest(left, right, level), 0), (_rest(right, left, level), 1)):
        if rest:
            found.append((("", rest) if strip else (rest, ""), f" but for {rest!r}"))
    both = _shared_tag(left), _shared_tag(right)
    if all(both):
        found.append((both, f" but for {both[0]!r} and {both[1]!r}"))
    return found


def _rest(names: Mapping[str, Path], others: Mapping[str, Path], level: int) -> str:
    """What the first name has more than one of the others, if it is such as the field puts there; else empty."""
    first, known = next(iter(names)), {_form(other, level) for other in others}
    rests = (first[end:] for end in range(len(first) - 1, 0, -1) if _form(first[:end], level) in known)
    return next((rest for rest in rests if _REST.match(rest)), "")


def _shared_tag(names: Mapping[str, Path]) -> str:
    """The ending, such as `_LR4`, that all names of a folder have; empty: there is none."""
    tags = {match[0] if (match := _BOTH.search(name)) else "" for name in names}
    return tags.pop() if len(tags) == 1 else ""


def _by_form(names: Mapping[str, Path], suffix: str, level: int) -> dict[str, str] | None:
    """Form of each name, without the suffix -> the name; None where one lacks it, or two are of one form."""
    if not all(name.endswith(suffix) for name in names):
        return None
    found = {_form(name.removesuffix(suffix), level): name for name in names}
    return found if len(found) == len(names) else None


def _form(name: str, level: int) -> str:
    if level == 0:
        return name
    composed = unicodedata.normalize("NFC", name)
    return composed if level == 1 else unicodedata.normalize("NFC", composed.casefold())


def _alone(lr: Mapping[str, Path], hr: Mapping[str, Path], folders: tuple[Path, Path]) -> DataError:
    """What has no partner, or too many, and what can be done."""
    for names, folder in ((lr, folders[0]), (hr, folders[1])):
        forms: dict[str, str] = {}
        for name in names:
            if (twin := forms.setdefault(_form(name, 2), name)) != name and not (name in lr and name in hr):
                return DataError(
                    f"{shown(names[name])} and {shown(names[twin])} differ in case or Unicode form alone, so partners "
                    f"in {shown(folders[0] if folder == folders[1] else folders[1])} cannot be known. Rename one."
                )
    missing = sorted(lr.keys() ^ hr.keys())
    first = missing[0]
    path, other = (lr[first], folders[1]) if first in lr else (hr[first], folders[0])
    return DataError(
        f"{shown(path)} has no partner in {shown(other)} ({len(missing)} such). Partners have the same name; where one "
        "side has more behind it, as in 0001x4, give --lr-suffix x4."
    )


def _common_px(lr_path: Path, hr_path: Path, scale: int, rules: PairRules) -> tuple[int, int] | None:
    """What to cut LR to; None: nothing. Raises DataError where sizes do not fit."""
    lr, hr = image_size(lr_path), image_size(hr_path)
    if hr == (lr[0] * scale, lr[1] * scale):
        return None
    slack = max(scale, SCALE)
    near = all(abs(large - small * scale) < slack for small, large in zip(lr, hr, strict=True))
    if near and rules.mod_crop:
        return min(lr[0], hr[0] // scale), min(lr[1], hr[1] // scale)
    way_out = " --mod-crop cuts such pairs to whole LR pixels." if near else " Crop or remove the pair."
    raise _misfit(lr_path, hr_path, scale, way_out)


def _misfit(lr_path: Path, hr_path: Path, scale: int, way_out: str) -> DataError:
    lr, hr = image_size(lr_path), image_size(hr_path)
    times = f"{scale} times " if scale != 1 else ""
    return DataError(
        f"{shown(hr_path)} has {hr[1]}x{hr[0]} pixels; {times}{shown(lr_path)} has {lr[1] * scale}x{lr[0] * scale}."
        + way_out
    )
