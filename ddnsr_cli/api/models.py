"""Networks for Python programs: loaded once, used on image after image; and figures of what they make."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from ddnsr_cli.api.images import AnyImage, SomeImage, take_apart
from ddnsr_cli.commands.degrade.methods import DegraderEngine, crop_input, smooth_input, start_degrader
from ddnsr_cli.commands.degrade.worker import LEAST_HR_PX
from ddnsr_cli.commands.upscale.options import UpscaleListener, UpscaleOptions
from ddnsr_cli.commands.upscale.worker import Engine, start_engine
from ddnsr_cli.config import SCALE
from ddnsr_cli.data.config import NoiseInput
from ddnsr_cli.data.noise_patches import LEAST_NOISE_PX, pair_rng
from ddnsr_cli.errors import ConfigError, DataError, OutOfMemoryError
from ddnsr_cli.inference.degrader import Levels, LevelsInMemory, LevelsSource
from ddnsr_cli.inference.engine import DtypeName, EngineName, Note
from ddnsr_cli.inference.memory import is_out_of_memory
from ddnsr_cli.inference.pipeline import LookOptions, check_memory, upscale_image
from ddnsr_cli.inference.tiling import Progress, TileConfig
from ddnsr_cli.io.image import RasterImage, rgb8, to_srgb
from ddnsr_cli.metrics.fidelity import SSIM_TAPS, luma, psnr_db, ssim
from ddnsr_cli.processing.resize import OutputSize

Name = str | os.PathLike[str]


def _silent(*_: object) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class _Listener:
    tile: Progress
    note: Note


class Model:
    """A network that enlarges, ready on its device. May be used from several threads: they take turns."""

    def __init__(self, engine: Engine) -> None:
        """Use `load_model`."""
        self.name = engine.model
        self.scale = engine.upscaler.scale
        self.device = torch.device(engine.upscaler.device)
        self.dtype: torch.dtype = getattr(torch, engine.upscaler.dtype)
        self._upscaler = engine.upscaler
        self._turn = threading.Lock()

    def upscale(
        self,
        image: AnyImage,
        *,
        scale: float | None = None,
        width: int | None = None,
        height: int | None = None,
        long_side: int | None = None,
        megapixels: float | None = None,
        strength: float = 1.0,
        color_fix: bool = True,
        grain: float = 0.0,
        seed: int = 0,
        to_srgb: bool = False,
        progress: Progress | None = None,
        on_note: Note | None = None,
    ) -> AnyImage:
        """The image enlarged, of the kind, depth and channels that were given: the pixels of `ddnsr upscale`.

        image: see `api.images.AnyImage`. Size and look are as the command's options of those names; without a size the
        network's own scale. progress: called with (tiles done, tiles in all) of each image. on_note: called with each
        sentence that the user should read.
        Raises ConfigError, ImageReadError, OutOfMemoryError, and WeightsError for weights that give NaN.
        """
        size = OutputSize(scale=scale, width=width, height=height, long_side=long_side, megapixels=megapixels)
        _check_numbers(Real, strength=strength, grain=grain)
        _check_numbers(Integral, seed=seed)
        look = LookOptions(strength=strength, color_fix=color_fix, grain=grain, seed=seed, to_srgb=to_srgb)
        listener = _Listener(tile=progress or _silent, note=on_note or _silent)
        images, give_back = take_apart(image)
        with self._turn, _memory_errors():
            result: AnyImage = give_back([self._upscaled(one, look, size, listener) for one in images])
        return result

    def _upscaled(self, image: RasterImage, look: LookOptions, size: OutputSize, listener: _Listener) -> RasterImage:
        if look.to_srgb:
            image = to_srgb(image)
        pixels = size.pixels(image.width, image.height, self.scale)
        check_memory(image, pixels, self.scale, name="The image")
        upscaled = upscale_image(image, self._upscaler, look, pixels, listener)
        for note in (*image.notes, *upscaled.notes):
            listener.note(note)
        return upscaled.image


class Degrader:
    """A network that makes images small and noisy, as a camera would have taken them, ready on its device."""

    def __init__(self, engine: DegraderEngine) -> None:
        """Use `load_degrader`."""
        self.name = engine.model
        self.scale = SCALE
        self.takes_noise = engine.takes_noise
        """Whether `degrade` needs a noisy image."""

        self._tiled = engine.tiled

    def degrade(
        self,
        hr: AnyImage,
        noise: object = None,
        *,
        seed: int = 0,
        noise_input: NoiseInput | str = NoiseInput.SMOOTH,
        progress: Progress | None = None,
    ) -> AnyImage:
        """The LR partner of a clean image, of the kind given: four times smaller, RGB, whole levels of 8 bits.

        hr: sides are cut to multiples of 4. noise: a real noisy image of any kind, at its native resolution; the second
        input is made of it, and each image of a batch draws its own by `seed`. noise_input: `smooth`, the noise of its
        smooth parts, or `crop`, a part of it as it is, whose subject shows faintly in the result. Alpha is left out.
        progress: called with (tiles done, tiles in all) of each image.
        Raises ConfigError where the network needs noise and there is none, DataError for images too small or without
        smooth parts, and others.
        """
        if self.takes_noise and noise is None:
            raise ConfigError(f"{self.name} takes its noise from a real photo. Give a noisy image as `noise`.")
        _check_numbers(Integral, seed=seed)
        if seed < 0:
            raise ConfigError(f"seed must be at least 0, got {seed}.")
        noisy = _noise_levels(noise) if self.takes_noise else None
        kind = _noise_input(noise_input)
        images, give_back = take_apart(hr)
        with _memory_errors():
            noises = [_Noise(levels=noisy, kind=kind, draw=(seed, index)) for index in range(len(images))]
            lr = [self._lr(one, noise, progress) for one, noise in zip(images, noises, strict=True)]
            result: AnyImage = give_back([RasterImage(pixels=levels) for levels in lr])
        return result

    def _lr(self, hr: RasterImage, noise: "_Noise", progress: Progress | None) -> Levels:
        height, width = (length // SCALE * SCALE for length in (hr.height, hr.width))
        if min(height, width) < LEAST_HR_PX:
            raise DataError(f"hr has {hr.width}x{hr.height} pixels; a side needs {LEAST_HR_PX}. Give a larger one.")
        levels = rgb8(hr)[:height, :width]
        return self._tiled.lr(LevelsInMemory(levels), noise.beside(levels), on_tile=progress)


@dataclass(frozen=True, kw_only=True)
class _Noise:
    """What the noise input of one image of a batch is made of."""

    levels: Levels | None
    kind: NoiseInput
    draw: tuple[int, int]
    """Seed, and number of the image."""

    def beside(self, hr: Levels) -> LevelsSource | None:
        """The noise input for `hr`; None for a network of a single input."""
        if self.levels is None:
            return None
        seed, index = self.draw
        rng = pair_rng(seed, "", index)
        if self.kind is NoiseInput.CROP:
            return crop_input(self.levels, hr, rng)
        smooth = smooth_input(self.levels, hr, rng)
        if smooth is None:
            raise DataError("noise has no smooth part to take noise from. Give another image, or noise_input='crop'.")
        return smooth


def load_model(
    name_or_path: Name | None = None,
    *,
    device: str | torch.device = "auto",
    dtype: DtypeName = "auto",
    engine: EngineName = "auto",
    tile_px: int | None = 0,
    tta: bool = False,
    offline: bool = False,
    progress: Callable[[int, int], None] | None = None,
    on_note: Note | None = None,
) -> Model:
    """The network of that name, file, run folder or Hub id, as `-m` takes them; None: the one that comes along.

    tile_px: side of a tile, LR pixels; 0: by free memory, None: no tiles. tta: the mean over eight flips and turns.
    offline: nothing is fetched. progress: called with (bytes done, bytes in all) of a download.
    on_note: called with a sentence about the terms of the weights, another default, or an engine that is not there.
    Raises WeightsError, HubError, DeviceError, ConfigError.
    """
    if dtype not in get_args(DtypeName):
        raise ConfigError(f"dtype is one of {', '.join(get_args(DtypeName))}, got {dtype!r}.")
    if engine not in get_args(EngineName):
        raise ConfigError(f"engine is one of {', '.join(get_args(EngineName))}, got {engine!r}.")
    if tile_px is not None:
        _check_numbers(Integral, tile_px=tile_px)
    options = UpscaleOptions(
        model=_text(name_or_path),
        device=str(device),
        dtype=dtype,
        engine=engine,
        tiles=TileConfig(tile_px=tile_px),
        tta=tta,
        offline=offline,
    )
    listener = UpscaleListener(
        image=_silent,
        tile=_silent,
        note=on_note or _silent,
        detail=_silent,
        failed=_silent,
        download=progress or _silent,
    )
    return Model(start_engine(options, listener))


def load_degrader(
    name_or_path: Name | None = None,
    *,
    device: str | torch.device = "auto",
    offline: bool = False,
    progress: Callable[[int, int], None] | None = None,
    on_note: Note | None = None,
) -> Degrader:
    """The degrader of that name, file, run folder or Hub id; None: the one that comes along.

    The rest is as `load_model` has it.
    """
    engine = start_degrader(_text(name_or_path), device=str(device), offline=offline, download=progress or _silent)
    if on_note is not None and engine.weights.terms:
        on_note(engine.weights.terms)
    return Degrader(engine)


def upscale(image: AnyImage, *, model: Name | None = None, device: str | torch.device = "auto") -> AnyImage:
    """One image enlarged by the network of that name. For several, load it once: see `load_model`, `Model.upscale`."""
    return load_model(model, device=device).upscale(image)


def degrade(
    hr: AnyImage,
    noise: object = None,
    *,
    model: Name | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
) -> AnyImage:
    """One image degraded. For several, load the network once: see `load_degrader`, `Degrader.degrade`."""
    return load_degrader(model, device=device).degrade(hr, noise, seed=seed)


def _check_numbers(kind: type, **options: object) -> None:
    """Raises ConfigError for options that are no numbers of a kind: Real, Integral."""
    for name, value in options.items():
        if not isinstance(value, kind):
            raise ConfigError(f"{name} must be a {'whole ' if kind is Integral else ''}number, got {value!r}.")


def _noise_input(name: NoiseInput | str) -> NoiseInput:
    try:
        return NoiseInput(name)
    except ValueError as error:
        raise ConfigError(f"noise_input is {' or '.join(NoiseInput)}, got {name!r}.") from error


def _noise_levels(noise: object) -> Levels:
    levels = rgb8(take_apart(noise)[0][0])
    if min(levels.shape[:2]) < LEAST_NOISE_PX:
        size = f"{levels.shape[1]}x{levels.shape[0]}"
        raise DataError(f"noise has {size} pixels; a side needs {LEAST_NOISE_PX}. Give a larger one.")
    return levels


def _text(name: Name | None) -> str | None:
    return None if name is None else os.fspath(name)


@contextmanager
def _memory_errors() -> Iterator[Any]:
    """Memory that runs out beside the tiles, which have their own words, as an error of ours."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError("The image needs more memory than there is. Ask for a smaller result.") from error


BORDER_PX = 4


def _on_luma(metric: Callable[..., Tensor], sr: Tensor, hr: Tensor, *, crop_px: int) -> Tensor:
    return metric(luma(sr), luma(hr), crop_px=crop_px)


METRICS: dict[str, Callable[..., Tensor]] = {
    "psnr": psnr_db,
    "ssim": ssim,
    "psnr_y": partial(_on_luma, psnr_db),
    "ssim_y": partial(_on_luma, ssim),
}


def evaluate(
    sr: SomeImage, hr: SomeImage, metrics: str | Sequence[str] = ("psnr", "ssim"), *, crop_px: int = BORDER_PX
) -> dict[str, float]:
    """How near a result is to the truth: the figures by name; of a batch, their means.

    metrics: one or several of `psnr` (dB, RGB; infinite for equal images), `ssim` (RGB), `psnr_y` and `ssim_y` (luma of
    BT.601).
    crop_px: border left out, pixels. Alpha channels are left out. Raises ConfigError for an unknown metric, DataError
    for images of two sizes or too small, ImageReadError for what is no image.
    """
    metrics = (metrics,) if isinstance(metrics, str) else metrics
    if unknown := [name for name in metrics if name not in METRICS]:
        raise ConfigError(f"There is no metric {', '.join(map(repr, unknown))}. Choose from: {', '.join(METRICS)}.")
    results, truths = ([_stacked(one) for one in take_apart(image)[0]] for image in (sr, hr))
    _refuse_unlike(results, truths, crop_px)
    means = {}
    for name in metrics:
        figures = [METRICS[name](ours, truth, crop_px=crop_px) for ours, truth in zip(results, truths, strict=True)]
        means[name] = float(torch.cat(figures).mean())
    return means


def _stacked(image: RasterImage) -> Tensor:
    """(1, 3, H, W), float64 in [0, 1]; gray is repeated."""
    values = image.pixels.transpose(2, 0, 1).astype(np.float64) / np.iinfo(image.pixels.dtype).max
    return torch.from_numpy(values)[None].expand(-1, 3, -1, -1)


def _refuse_unlike(results: Sequence[Tensor], truths: Sequence[Tensor], crop_px: int) -> None:
    shapes = [[tuple(one.shape[2:]) for one in side] for side in (results, truths)]
    if shapes[0] != shapes[1]:
        raise DataError(f"sr and hr must be of one size (height, width), got {shapes[0]} and {shapes[1]}. Resize one.")
    least = SSIM_TAPS + 2 * crop_px
    if crop_px < 0 or min(min(shape) for shape in shapes[0]) < least:
        raise DataError(f"With crop_px={crop_px} a side needs {least} pixels, got {shapes[0]}. Crop less.")
