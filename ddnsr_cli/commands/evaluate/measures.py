"""The figures of one sample's images, of each by itself: what a batch rounds otherwise is no difference."""

import difflib
import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ddnsr_cli.config import SCALE
from ddnsr_cli.data.images import shrunk
from ddnsr_cli.errors import ConfigError, DataError, WeightsError
from ddnsr_cli.metrics.fidelity import BLOCK_PX, SSIM_TAPS, Distance, compare, edge_gain, flat_noise, luma, psnr_db
from ddnsr_cli.metrics.niqe import BLOCK_PX as NIQE_BLOCK_PX
from ddnsr_cli.metrics.niqe import PristineModel, niqe
from ddnsr_cli.nets.lpips import TRUNKS
from ddnsr_cli.reports.page import Rgb8
from ddnsr_cli.reports.results import Metric

BEST_DB = 100.0
"""PSNR of equal images, which would be infinite and spoil every mean."""

ROUNDING_NOISE = math.sqrt(1 / 12)
"""Standard deviation of what rounding to whole levels does: less noise than that, no 8-bit image can show."""

PYIQA_MISSING = "--pyiqa needs pyiqa, which is not installed. Get it with: pip install 'ddnsr[pyiqa]'"

Degrade = Callable[[Rgb8, Rgb8], Rgb8]
"""(sr, lr) -> sr as it would be at the LR's size, by a learned degradation."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shot:
    """All that was made of one sample, for the measures."""

    name: str
    """The sample's file, for messages."""

    sr: tuple[Rgb8, ...]
    """One image a model, all of the same size."""

    lr: Rgb8 | None
    reference: Rgb8 | None


class Measure(Protocol):
    """One or more figures of every model's image."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What they are, in the order of the tables."""

    def __call__(self, shot: Shot) -> dict[str, list[float]]:
        """By the metrics' keys, one finite value a model. Raises DataError for images that are too small."""


@dataclass(frozen=True, kw_only=True)
class LpipsMetric:
    """LPIPS on a trunk."""

    trunk: str
    """`alex`, `vgg` or `squeeze`."""

    origin: str
    """File and hash of its weights."""

    distance: Distance


PSNR_RGB = Metric(key="psnr_rgb", title="PSNR RGB (dB)", higher_is_better=True, digits=2)
SSIM_RGB = Metric(key="ssim_rgb", title="SSIM RGB", higher_is_better=True, digits=3)
PSNR_Y = Metric(key="psnr_y", title="PSNR Y (dB)", higher_is_better=True, digits=2)
SSIM_Y = Metric(key="ssim_y", title="SSIM Y", higher_is_better=True, digits=3)
NIQE = Metric(key="niqe", title="NIQE", higher_is_better=False, digits=2)
NOISE_LEFT = Metric(key="noise_left", title="noise left (bicubic: 1)", higher_is_better=False, digits=3)
DETAIL_KEPT = Metric(key="detail_kept", title="detail kept (reference: 1)", higher_is_better=False, digits=3, ideal=1.0)
SELF_CONSISTENCY = Metric(key="self_consistency_db", title="self-consistency (dB)", higher_is_better=True, digits=2)
SELF_CONSISTENCY_LEARNED = Metric(
    key="self_consistency_learned_db", title="self-consistency, learned (dB)", higher_is_better=True, digits=2
)


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """PSNR and SSIM on RGB and Y, and LPIPS, against the reference."""

    crop_px: int
    """Border left out, pixels of the reference."""

    device: torch.device
    lpips: LpipsMetric | None = None

    at_lr_size: bool = False
    """The reference has the LR's size: the images are shrunk to it."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """PSNR and SSIM, and LPIPS where its network is here."""
        plain = (PSNR_RGB, SSIM_RGB, PSNR_Y, SSIM_Y)
        return plain if self.lpips is None else (*plain, lpips_metric(self.lpips.trunk))

    def __call__(self, shot: Shot) -> dict[str, list[float]]:
        """The figures of every model's image against the reference, by the metrics' keys."""
        assert shot.reference is not None  # this measure is chosen only where there are references
        least_px = max(SSIM_TAPS, 0 if self.lpips is None else TRUNKS[self.lpips.trunk].least_px)
        _refuse_small(shot.name, shot.reference, least_px + 2 * self.crop_px)
        hr = stacked([shot.reference], self.device)
        found = [self._compared(shrunk(one, SCALE) if self.at_lr_size else one, hr) for one in shot.sr]
        return {key: [figures[key] for figures in found] for key in found[0]}

    @torch.inference_mode()
    def _compared(self, image: Rgb8, hr: Tensor) -> dict[str, float]:
        sr = stacked([image], self.device)
        lpips = None if self.lpips is None else self.lpips.distance
        rgb = compare(sr, hr, crop_px=self.crop_px, lpips=lpips)
        y = compare(luma(sr), luma(hr), crop_px=self.crop_px)
        scores = {"psnr_rgb": rgb["psnr"].clamp(max=BEST_DB), "ssim_rgb": rgb["ssim"]}
        scores |= {"psnr_y": y["psnr"].clamp(max=BEST_DB), "ssim_y": y["ssim"]}
        if self.lpips is not None:
            scores[lpips_metric(self.lpips.trunk).key] = rgb["lpips"]
        return {key: value.item() for key, value in scores.items()}


@dataclass(frozen=True, kw_only=True)
class NoiseAndDetail:
    """What is left of the noise, and of the detail, of an LR image: its clean reference has its size."""

    crop_px: int
    """Border left out, LR pixels."""

    device: torch.device
    metrics: tuple[Metric, ...] = (NOISE_LEFT, DETAIL_KEPT)

    @torch.inference_mode()
    def __call__(self, shot: Shot) -> dict[str, list[float]]:
        """Both figures of every model's image against the clean reference, by their keys. The first is bicubic."""
        assert shot.reference is not None  # as above
        _refuse_small(shot.name, shot.reference, BLOCK_PX + 2 * self.crop_px)
        inner = (..., slice(self.crop_px, -self.crop_px or None), slice(self.crop_px, -self.crop_px or None))
        made = stacked([shrunk(one, SCALE) for one in shot.sr], self.device)[inner]
        clean = stacked([shot.reference], self.device)[inner].expand_as(made)
        noise = flat_noise(made, clean)
        left = noise / noise[0].clamp(min=ROUNDING_NOISE)
        return {"noise_left": left.tolist(), "detail_kept": edge_gain(made, clean).tolist()}


@dataclass(frozen=True, kw_only=True)
class Naturalness:
    """NIQE of the results, whatever they are compared with otherwise."""

    crop_px: int
    """Border left out, pixels of the results."""

    model: PristineModel
    metrics: tuple[Metric, ...] = (NIQE,)

    def __call__(self, shot: Shot) -> dict[str, list[float]]:
        """NIQE of every model's image. Raises DataError for one that is too small, or has no contrast."""
        height, width = shot.sr[0].shape[:2]
        if min(height, width) < NIQE_BLOCK_PX + 2 * self.crop_px:
            raise DataError(
                f"{shot.name}: the results have {width}x{height} pixels; for NIQE a side needs "
                f"{NIQE_BLOCK_PX + 2 * self.crop_px}. Take it out, or leave out --niqe."
            )
        values = [niqe(sr, self.model, crop_px=self.crop_px) for sr in shot.sr]
        if not all(map(math.isfinite, values)):
            raise DataError(f"{shot.name}: a result has no contrast that NIQE could judge. Leave out it or --niqe.")
        return {NIQE.key: values}


@dataclass(frozen=True, kw_only=True)
class SelfConsistency:
    """PSNR between the LR image and the SR image brought back to its size: whether the result belongs to it."""

    crop_px: int
    """Border left out, LR pixels."""

    device: torch.device
    degrade: Degrade | None = None
    """None: antialiased bicubic."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The one figure, by what brings results back."""
        return (SELF_CONSISTENCY if self.degrade is None else SELF_CONSISTENCY_LEARNED,)

    @torch.inference_mode()
    def __call__(self, shot: Shot) -> dict[str, list[float]]:
        """The consistency of every model's image, by its key."""
        assert shot.lr is not None  # this measure is chosen only where there are LR images
        _refuse_small(shot.name, shot.lr, 1 + 2 * self.crop_px)
        back = [shrunk(one, SCALE) if self.degrade is None else self.degrade(one, shot.lr) for one in shot.sr]
        made = stacked(back, self.device)
        lr = stacked([shot.lr], self.device)
        values = psnr_db(made, lr, crop_px=self.crop_px).clamp(max=BEST_DB)
        return {self.metrics[0].key: values.tolist()}


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A figure of pyiqa."""

    name: str
    """What pyiqa calls it."""

    score: Callable[..., Tensor]
    """Of an image (1, 3, H, W) float32 in [0, 1], and of its reference where it needs one."""

    higher_is_better: bool
    needs_reference: bool


@dataclass(frozen=True, kw_only=True)
class ByPyiqa:
    """Figures of pyiqa, of the results alone or against the reference, image by image."""

    scorers: tuple[Scorer, ...]
    crop_px: int
    """Border left out, pixels of the results."""

    reference_crop_px: int
    """The same, pixels of the reference."""

    device: torch.device
    at_lr_size: bool = False
    """The reference has the LR's size: for figures that need it, the images are shrunk to it."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """One a scorer, under `pyiqa_` and its name."""
        return tuple(
            Metric(key=f"pyiqa_{one.name}", title=one.name, higher_is_better=one.higher_is_better, digits=3)
            for one in self.scorers
        )

    @torch.inference_mode()
    def __call__(self, shot: Shot) -> dict[str, list[float]]:
        """The figures of every model's image. Raises DataError where pyiqa gives none."""
        return {
            metric.key: [_scored(scorer, self._judged(scorer, one, shot.reference), shot.name) for one in shot.sr]
            for scorer, metric in zip(self.scorers, self.metrics, strict=True)
        }

    def _judged(self, scorer: Scorer, result: Rgb8, reference: Rgb8 | None) -> tuple[Tensor, ...]:
        if not scorer.needs_reference:
            return (self._inner(result, self.crop_px),)
        assert reference is not None  # `load_pyiqa` has asked
        beside = shrunk(result, SCALE) if self.at_lr_size else result
        return self._inner(beside, self.reference_crop_px), self._inner(reference, self.reference_crop_px)

    def _inner(self, image: Rgb8, crop_px: int) -> Tensor:
        inside = slice(crop_px, -crop_px or None)
        return stacked([image], self.device)[..., inside, inside].float()


def load_pyiqa(names: Sequence[str], device: torch.device, *, has_reference: bool) -> tuple[Scorer, ...]:
    """The figures of these names, with their networks, which pyiqa fetches itself.

    Raises ConfigError for a name that is of no use here, or without the package; WeightsError where a network cannot
    be had.
    """
    package = _pyiqa()
    modes = {mode: set(package.list_models(metric_mode=mode)) for mode in ("FR", "NR")}
    for name in names:
        _check_name(name, modes, has_reference=has_reference)
    return tuple(_scorer(package, name, device, needs_reference=name in modes["FR"]) for name in dict.fromkeys(names))


def pyiqa_version() -> str:
    """Which pyiqa it is. Raises ConfigError without the package."""
    return str(_pyiqa().__version__)


def _pyiqa() -> Any:  # noqa: ANN401 - pyiqa is optional, and has no types
    try:
        return importlib.import_module("pyiqa")
    except ModuleNotFoundError as cause:
        if cause.name == "pyiqa":
            raise ConfigError(PYIQA_MISSING) from cause
        raise ConfigError(f"--pyiqa: pyiqa does not start without {cause.name}. Install that.") from cause
    except (ImportError, RuntimeError, AttributeError) as cause:  # a torchvision of another build than PyTorch
        raise ConfigError(f"--pyiqa: pyiqa does not start here: {_first_line(cause)}.") from cause


def _check_name(name: str, modes: dict[str, set[str]], *, has_reference: bool) -> None:
    known = sorted(modes["FR"] | modes["NR"])
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Is {near[0]} meant?" if near else "python -c 'import pyiqa; print(pyiqa.list_models())' lists them."
        raise ConfigError(f"--pyiqa: {name} is no figure of pyiqa. {hint}")
    if "fid" in name or name == "inception_score":
        raise ConfigError(
            f"--pyiqa: {name} judges a set of images as a whole, not each. Keep the results with --keep, and give "
            f"their folder to pyiqa."
        )
    if name in modes["FR"] and not has_reference:
        raise ConfigError(f"--pyiqa: {name} compares with the truth. Give the references with --hr, or leave it out.")


def _scorer(package: Any, name: str, device: torch.device, *, needs_reference: bool) -> Scorer:  # noqa: ANN401 - as above
    try:
        model = package.create_metric(name, device=device)
    except Exception as cause:  # what fetching and building a network raises depends on the network
        raise WeightsError(f"pyiqa cannot make {name}: {_first_line(cause)}. Leave it out of --pyiqa.") from cause
    return Scorer(name=name, score=model, higher_is_better=not model.lower_better, needs_reference=needs_reference)


def _scored(scorer: Scorer, images: tuple[Tensor, ...], name: str) -> float:
    try:
        value = float(scorer.score(*images))
    except Exception as cause:  # as above: of too small an image, say
        raise DataError(
            f"{name}: pyiqa's {scorer.name} fails ({_first_line(cause)}). Take it out, or leave that out of --pyiqa."
        ) from cause
    if not math.isfinite(value):
        raise DataError(f"{name}: pyiqa's {scorer.name} is {value}. Take it out, or leave that out of --pyiqa.")
    return value


def _first_line(cause: Exception) -> str:
    return " ".join(str(cause).split())[:120].rstrip(".") or type(cause).__name__


def _refuse_small(name: str, image: Rgb8, least_px: int) -> None:
    height, width = image.shape[:2]
    if min(height, width) < least_px:
        raise DataError(
            f"{name} has {width}x{height} pixels; to judge it, a side needs {least_px}. Take it out, or lessen "
            f"--crop-border."
        )


def lpips_metric(trunk: str) -> Metric:
    """LPIPS on `alex`, `vgg` or `squeeze`."""
    return Metric(key=f"lpips_{trunk}", title=f"LPIPS {trunk}", higher_is_better=False, digits=3)


def stacked(images: tuple[Rgb8, ...] | list[Rgb8], device: torch.device) -> Tensor:
    """Images of one size as (N, 3, H, W) float64 in [0, 1]: exactly the levels of the files."""
    levels = torch.from_numpy(np.stack(images)).to(device)
    return levels.permute(0, 3, 1, 2).double() / 255
