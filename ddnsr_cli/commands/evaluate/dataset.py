"""Which images belong together, and reading them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddnsr_cli.config import SCALE
from ddnsr_cli.data.images import PLAIN, PairRules, finished_by_name, images_by_name, match_pairs
from ddnsr_cli.errors import DataError, shown
from ddnsr_cli.io.image import RasterImage, rgb8
from ddnsr_cli.io.read import image_size, read_image
from ddnsr_cli.reports.page import Rgb8
from ddnsr_cli.reports.results import Sample


def find_samples(
    lr: Path | None,
    hr: Path | None,
    *,
    hr_scale: int = SCALE,
    rules: PairRules = PLAIN,
    note: Callable[[str], None] = lambda _text: None,
) -> tuple[Sample, ...]:
    """The images of one folder, or of both matched by name, sorted by name.

    hr_scale: pixels of a reference per LR pixel along a side: 4, or 1 for clean images of the LR's own size.
    note: takes one sentence for the user.
    Raises DataError, naming the file, for a missing or doubled partner and for a wrong size.
    """
    if lr is not None and hr is not None:
        pairs = match_pairs(lr, hr, scale=hr_scale, rules=rules, note=note)
        return tuple(
            Sample(name=pair.name, lr=pair.lr, hr=pair.hr, lr_px=pair.lr_px, hr_px=pair.hr_px) for pair in pairs
        )
    if hr is None:
        found = {} if lr is None else images_by_name(lr, note=note)
        return tuple(Sample(name=name, lr=found[name], hr=None) for name in sorted(found))
    truths = images_by_name(hr, note=note)
    return tuple(_truth(name, truths[name], rules) for name in sorted(truths))


def _truth(name: str, hr: Path, rules: PairRules) -> Sample:
    """A sample of which there is no LR image."""
    if not rules.mod_crop:
        return Sample(name=name, lr=None, hr=hr)
    height, width = (length // SCALE for length in image_size(hr))
    return Sample(name=name, lr=None, hr=hr, lr_px=(height, width), hr_px=(height * SCALE, width * SCALE))


def find_finished(
    folder: Path,
    lr: Path | None,
    hr: Path | None,
    *,
    rules: PairRules = PLAIN,
    note: Callable[[str], None] = lambda _text: None,
) -> dict[str, Path]:
    """Finished images by the name of their sample.

    lr, hr: the folders of the samples; the images have the size of those in `hr`, or 4 times that of `lr`.
    Raises DataError as `find_samples` does.
    """
    truth = hr or lr
    assert truth is not None  # one of the two was asked for
    return finished_by_name(truth, folder, scale=SCALE if hr is None else 1, rules=rules, note=note)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The files of a sample, decoded."""

    sample: Sample
    lr: RasterImage | None
    hr: Rgb8 | None
    depth_bits: int
    """Of all its files, finished images included."""


def open_sample(sample: Sample) -> Opened:
    """Read a sample's files. Raises ImageReadError; DataError when one has transparency, or their depths differ."""
    lr = None if sample.lr is None else _opaque(sample.lr, sample.lr_px)
    hr = None if sample.hr is None else _opaque(sample.hr, sample.hr_px)
    first = lr if lr is not None else hr
    assert first is not None  # a sample is found by a file
    if sample.lr is not None and hr is not None and hr.depth_bits != first.depth_bits:
        raise DataError(_other_depth(str(sample.hr), hr.depth_bits, str(sample.lr), first.depth_bits))
    return Opened(sample=sample, lr=lr, hr=None if hr is None else rgb8(hr), depth_bits=first.depth_bits)


def open_finished(path: Path, opened: Opened) -> Rgb8:
    """Read a finished image of an opened sample. Raises as `open_sample` does."""
    image = _opaque(path, _result_px(opened))
    if image.depth_bits != opened.depth_bits:
        other = str(opened.sample.hr or opened.sample.lr)
        raise DataError(_other_depth(str(path), image.depth_bits, other, opened.depth_bits))
    return rgb8(image)


def _result_px(opened: Opened) -> tuple[int, int]:
    """(height, width) of every result of a sample."""
    if opened.lr is not None:
        return opened.lr.height * SCALE, opened.lr.width * SCALE
    assert opened.hr is not None  # a sample is found by a file
    return opened.hr.shape[0], opened.hr.shape[1]


def _opaque(path: Path, px: tuple[int, int] | None) -> RasterImage:
    """px: (height, width) that it is cut to."""
    image = read_image(path)
    if image.damage:
        raise DataError(f"{shown(path)} is damaged, so that no metric can judge it ({image.damage}). Get a fresh copy.")
    if image.alpha is not None and image.alpha.min() < np.iinfo(image.alpha.dtype).max:
        raise DataError(f"{shown(path)} is transparent in places, which no metric can judge. Give it a background.")
    return RasterImage(pixels=image.pixels if px is None else image.pixels[: px[0], : px[1]])


def _other_depth(path: str, bits: int, other: str, other_bits: int) -> str:
    return f"{path} has {bits} bits a sample, {other} has {other_bits}. Save both with the same depth."
