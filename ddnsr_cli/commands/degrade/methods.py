"""The ways from an HR image to its LR partner: chosen by options, ready for use, and what the manifest says."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from ddnsr_cli.commands.degrade.manifest import PairSettings, as_in_json
from ddnsr_cli.commands.degrade.options import DegradeOptions
from ddnsr_cli.config import SCALE
from ddnsr_cli.data.config import DegradationConfig, NoiseInput
from ddnsr_cli.data.degradations import add_gaussian, degrade_image, shrink_bicubic, whole_levels
from ddnsr_cli.data.kernels import STEPS, KernelFile, PhotoKernel, estimate_kernel, shrink_under, twice
from ddnsr_cli.data.noise_patches import (
    LEAST_NOISE_PX,
    NoiseCrop,
    NoiseImage,
    PatchLimits,
    SmoothPatches,
    draw_crop,
    is_without_noise,
    noise_field,
    smooth_noise_input,
    smooth_patches,
)
from ddnsr_cli.errors import ConfigError, DataError, DdnsrError, TrainingError, WeightsError, printable, shown
from ddnsr_cli.files import is_there, sha256_of
from ddnsr_cli.inference.degrader import (
    Levels,
    LevelsInMemory,
    LevelsSource,
    OnTile,
    TiledDegrader,
    one_thread_each,
    window_bytes,
)
from ddnsr_cli.inference.device import choose_device
from ddnsr_cli.io.discovery import Found
from ddnsr_cli.io.image import rgb8
from ddnsr_cli.io.read import read_image
from ddnsr_cli.weights.checkpoint import load_degrader, takes_noise
from ddnsr_cli.weights.registry import read_registry
from ddnsr_cli.weights.resolve import FoundWeights, find_weights

Inside = TypeVar("Inside")


@dataclass(frozen=True, kw_only=True)
class DrawnImage:
    """The noisy image of a pair."""

    relative: str
    sha256: str
    levels: Levels


class NoisyImages:
    """The noisy images to draw from. May be used from several threads at once."""

    def __init__(self, found: Sequence[Found], *, max_pixels: int) -> None:
        """found: in the order of their listing, which is the same everywhere."""
        self.found = list(found)
        self.max_pixels = max_pixels
        self.bad: dict[Path, DdnsrError] = {}
        """Images that could not be used, as they were met."""

    @property
    def sha256(self) -> str:
        """A digest of names and sizes: what is drawn follows from the list."""
        lines = [f"{one.relative.as_posix()}\n{size_of(one.source)}\n" for one in self.found]
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def draw(
        self, rng: np.random.Generator, suits: Callable[[str, Levels], Inside | None]
    ) -> tuple[DrawnImage, Inside]:
        """The first image, in an order drawn by `rng`, that can be read and in which `suits` finds something.

        suits: given the image's relative path and its levels. Raises DataError when there is none.
        """
        unsuited: list[Found] = []
        for index in rng.permutation(len(self.found)):
            one = self.found[index]
            levels = self._levels(one)
            if levels is None:
                continue
            relative = one.relative.as_posix()
            inside = suits(relative, levels)
            if inside is not None:
                return DrawnImage(relative=relative, sha256=sha256_of(one.source), levels=levels), inside
            unsuited.append(one)
        raise DataError(f"None of {len(self.found)} noisy images is of use: {self._why(unsuited)}.")

    def _why(self, unsuited: Sequence[Found]) -> str:
        """Why none serves, and what to do."""
        if not unsuited:
            return "none can be read. Give other images"
        readable = [levels for one in unsuited if (levels := self._levels(one)) is not None]
        clean = sum(map(is_without_noise, readable))
        told = f"{clean} ha{'s' if clean == 1 else 've'} no noise"
        if clean == len(unsuited):
            return f"{told}. Give images that have some"
        rough = (
            f"{len(unsuited) - clean} have no smooth part; try a larger --patch-variance, with --method learned "
            "--noise-input crop, or other images"
        )
        return f"{told}, {rough}" if clean else rough

    def readable(self) -> Iterator[DrawnImage]:
        """All that can be read, in an order that mixes the scenes and is always the same."""
        for index in np.random.default_rng(0).permutation(len(self.found)):
            one = self.found[index]
            levels = self._levels(one)
            if levels is not None:
                yield DrawnImage(relative=one.relative.as_posix(), sha256=sha256_of(one.source), levels=levels)

    def _levels(self, one: Found) -> Levels | None:
        if one.source in self.bad:
            return None
        try:
            levels = rgb8(read_image(one.source, max_pixels=self.max_pixels))
            if min(levels.shape[:2]) < LEAST_NOISE_PX:
                size = f"{levels.shape[1]}x{levels.shape[0]}"
                raise DataError(f"{shown(one.source)} has {size} pixels; a noisy image needs {LEAST_NOISE_PX} a side.")
        except DdnsrError as error:
            self.bad[one.source] = error
            return None
        return levels


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where the system does not tell: reading it will say why."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


CLASSICAL_BYTES = 128 << 20  # what a classical method takes beside the image
BY_RULE_BYTES = 3 << 29  # the same of the chain of degradations, which holds an image whole: 62 bytes a pixel of 24 MP

KERNELS = "kernels.jsonl"
"""In the folder of the pairs."""

PHOTOS = 10  # whose kernels are estimated
SIGMA = 8.0  # levels of 255: Track 1 of NTIRE 2020
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Made:
    """An LR image and the noise in it."""

    lr: Levels
    drawn: DrawnImage | None = None
    crop: NoiseCrop | None = None
    kernel_source: str | None = None
    """Path of the noisy image whose blur kernel was used."""


Method = Callable[[Levels, np.random.Generator, OnTile], Made]
"""From HR levels, their sides multiples of the scale, to LR. All draws come from the generator. Called from several
threads at once. Raises DdnsrError.
"""


class NoiseSource(Protocol):
    """Where the noise inputs of a degrader come from. May be used from several threads at once."""

    def draw(self, hr: Levels, rng: np.random.Generator) -> tuple[DrawnImage, LevelsSource, NoiseCrop | None]:
        """A noise input of a quarter of the size of `hr`, the image that it is of, and which crop, if it is one.

        Raises DataError when no image is of use.
        """

    def of(self, noisy: Levels, hr: Levels, rng: np.random.Generator) -> LevelsSource | None:
        """The same of a given image; None when it is of no use."""


class SmoothNoise:
    """Noise inputs of the smooth parts of noisy images, as bright as the HR image is."""

    def __init__(self, images: NoisyImages, limits: PatchLimits) -> None:
        self.images = images
        self.limits = limits
        self.found: dict[tuple[str, tuple[int, ...]], SmoothPatches | None] = {}
        """Of the images met so far: found again, they would be the same."""

    def draw(self, hr: Levels, rng: np.random.Generator) -> tuple[DrawnImage, LevelsSource, NoiseCrop | None]:
        """As of every noise source. There is no crop."""
        drawn, patches = self.draw_patches(rng)
        return drawn, LevelsInMemory(smooth_noise_input(drawn.levels, patches, shrink_bicubic(hr), rng)), None

    def of(self, noisy: Levels, hr: Levels, rng: np.random.Generator) -> LevelsSource | None:
        """As of every noise source. An image without smooth parts is of no use."""
        return smooth_input(noisy, hr, rng, self.limits)

    def draw_patches(self, rng: np.random.Generator) -> tuple[DrawnImage, SmoothPatches]:
        """An image that has smooth parts, and these. Raises DataError when none has."""
        return self.images.draw(rng, self._patches)

    def _patches(self, relative: str, levels: Levels) -> SmoothPatches | None:
        key = (relative, levels.shape)  # a file that is replaced meanwhile may have become smaller
        if key not in self.found:
            self.found[key] = smooth_patches(levels, self.limits)
        return self.found[key]


class CroppedNoise:
    """Noise inputs that are crops of noisy images as they are, with whatever is to be seen there."""

    def __init__(self, images: NoisyImages) -> None:
        self.images = images

    def draw(self, hr: Levels, rng: np.random.Generator) -> tuple[DrawnImage, LevelsSource, NoiseCrop | None]:
        """As of every noise source."""
        drawn, _ = self.images.draw(rng, lambda _relative, _levels: True)
        noise = crop_input(drawn.levels, hr, rng)
        return drawn, noise, noise.crop

    def of(self, noisy: Levels, hr: Levels, rng: np.random.Generator) -> LevelsSource | None:
        """As of every noise source."""
        return crop_input(noisy, hr, rng)


def smooth_input(
    noisy: Levels, hr: Levels, rng: np.random.Generator, limits: PatchLimits | None = None
) -> LevelsSource | None:
    """The noise of the smooth parts of an image, as bright as `hr` is; None when it has none."""
    patches = smooth_patches(noisy, limits or PatchLimits())
    if patches is None:
        return None
    return LevelsInMemory(smooth_noise_input(noisy, patches, shrink_bicubic(hr), rng))


def crop_input(noisy: Levels, hr: Levels, rng: np.random.Generator) -> NoiseImage:
    """A crop of an image, of a quarter of the size of `hr`."""
    height, width = (length // SCALE for length in hr.shape[:2])
    return NoiseImage(noisy, draw_crop(rng, noisy, height=height, width=width))


class Learned:
    """The degrader network, with noise of a noisy image as its second input; with none, for single-input ones."""

    def __init__(self, engine: TiledDegrader, noise: NoiseSource | None) -> None:
        self.engine = engine
        self.noise = noise

    def __call__(self, hr: Levels, rng: np.random.Generator, on_tile: OnTile) -> Made:
        """LR made by the network, with noise of an image that is drawn."""
        if self.noise is None:
            return Made(lr=self.engine.lr(LevelsInMemory(hr), None, on_tile=on_tile))
        image, noise, crop = self.noise.draw(hr, rng)
        return Made(lr=self.engine.lr(LevelsInMemory(hr), noise, on_tile=on_tile), drawn=image, crop=crop)


def bicubic(scale: int) -> Method:
    """Antialiased bicubic, no noise. No draw is made."""

    def make(hr: Levels, _rng: np.random.Generator, _on_tile: OnTile) -> Made:
        return Made(lr=whole_levels(shrink_bicubic(hr, scale)))

    return make


def gaussian(sigma: float, scale: int) -> Method:
    """Bicubic and white Gaussian noise of `sigma` levels."""

    def make(hr: Levels, rng: np.random.Generator, _on_tile: OnTile) -> Made:
        return Made(lr=whole_levels(add_gaussian(shrink_bicubic(hr, scale), sigma, rng)))

    return make


def by_rule(config: DegradationConfig) -> Method:
    """Blur, resizing, noise and compression of one draw for the whole image."""

    def make(hr: Levels, rng: np.random.Generator, _on_tile: OnTile) -> Made:
        planes = np.ascontiguousarray(hr.transpose(2, 0, 1), np.float32)
        planes /= 255
        return Made(lr=np.ascontiguousarray(degrade_image(planes, config, rng).transpose(1, 2, 0)))

    return make


def patches(noise: SmoothNoise, scale: int) -> Method:
    """Bicubic, and noise put together from smooth patches of a noisy image that is drawn."""

    def make(hr: Levels, rng: np.random.Generator, _on_tile: OnTile) -> Made:
        image, found = noise.draw_patches(rng)
        lr = shrink_bicubic(hr, scale)
        lr += noise_field(image.levels, found, lr, rng)
        return Made(lr=whole_levels(lr), drawn=image)

    return make


class KernelPool:
    """Blur kernels of noisy images, estimated once and kept beside the pairs."""

    def __init__(self, images: NoisyImages, *, count: int, steps: int) -> None:
        self.images = images
        self.count = count
        self.steps = steps
        self.kernels: list[PhotoKernel] = []
        """For shrinking by 4, once they are prepared."""

    def prepare(self, folder: Path, note: Callable[[str], None]) -> None:
        """Read the kernels of a folder of pairs, and estimate those that are missing, in some five seconds each.

        Raises DataError when no image can be read, TrainingError when a kernel comes to nothing, ImageWriteError.
        """
        file = KernelFile(folder / KERNELS, steps=self.steps)
        with one_thread_each():
            self.kernels.extend(self._kernel(image, file, note) for image in islice(self.images.readable(), self.count))
        if not self.kernels:
            raise DataError(f"None of {len(self.images.found)} noisy images can be read. Give others.")

    def _kernel(self, image: DrawnImage, file: KernelFile, note: Callable[[str], None]) -> PhotoKernel:
        kernel = file.find(image.sha256)
        if kernel is None:
            note(f"{image.relative}: its blur kernel is estimated in {self.steps} steps, for {file.path.name}")
            try:
                kernel = estimate_kernel(image.levels, steps=self.steps)
            except TrainingError as error:
                raise TrainingError(f"{printable(image.relative)}: {error}") from error
            file.add(PhotoKernel(source=image.relative, sha256=image.sha256, kernel=kernel))
        return PhotoKernel(source=image.relative, sha256=image.sha256, kernel=twice(kernel))


def impressionism(pool: KernelPool, noise: SmoothNoise) -> Method:
    """Shrunk under a kernel of the pool, and noise put together from smooth patches of a noisy image; both are drawn.

    Ji et al. 2020, the winners of NTIRE 2020. The two need not be of one image.
    """

    def make(hr: Levels, rng: np.random.Generator, _on_tile: OnTile) -> Made:
        kernel = pool.kernels[rng.integers(len(pool.kernels))]
        image, found = noise.draw_patches(rng)
        lr = shrink_under(hr, kernel.kernel)
        lr += noise_field(image.levels, found, lr, rng)
        return Made(lr=whole_levels(lr), drawn=image, kernel_source=kernel.source)

    return make


Prepare = Callable[[Path, Callable[[str], None]], None]
"""What is to be done in the folder of the pairs before the first is made, telling the user by notes."""


@dataclass(frozen=True, kw_only=True)
class PreparedMethod:
    """A method ready for use, and what the manifest says of it."""

    method: Method
    settings: PairSettings
    model: str | None
    noisy_images: NoisyImages | None
    bytes_each: int
    """Memory of one worker beside the image itself."""

    prepare: Prepare | None = None

    terms: str | None = None
    """What whoever uses the model has to know."""


def prepare_method(
    noisy_images: NoisyImages | None,
    options: DegradeOptions,
    download: Progress,
    note: Callable[[str], None] | None = None,
) -> PreparedMethod:
    """The method that is asked for, its network loaded.

    noisy_images: to draw noise from. download: called with (bytes done, bytes in all) of the weights. note: as
    `choose_device`. Raises ConfigError when images are missing, and as `find_weights`, `load_degrader` and
    `choose_device`.
    """
    if options.method == "learned":
        return _learned_method(noisy_images, options, download, note)
    if options.method == "patches":
        assert noisy_images is not None  # the options have checked themselves
        noise = SmoothNoise(noisy_images, PatchLimits(most_variance=options.patch_variance))
        return _classical_method(patches(noise, options.scale), noisy_images, options)
    if options.method == "impressionism":
        assert noisy_images is not None  # as before
        return _impressionism_method(noisy_images, options)
    if options.method == "classical":
        assert options.degradation is not None  # as before
        return replace(_classical_method(by_rule(options.degradation), None, options), bytes_each=BY_RULE_BYTES)
    if options.method == "bicubic":
        return _classical_method(bicubic(options.scale), None, options)
    return _classical_method(gaussian(_sigma(options), options.scale), None, options)


def _impressionism_method(noisy_images: NoisyImages, options: DegradeOptions) -> PreparedMethod:
    pool = KernelPool(noisy_images, **_of_kernels(options))
    noise = SmoothNoise(noisy_images, PatchLimits(most_variance=options.patch_variance))
    return replace(_classical_method(impressionism(pool, noise), noisy_images, options), prepare=pool.prepare)


def _of_kernels(options: DegradeOptions) -> dict[str, int]:
    return {"count": options.kernels or PHOTOS, "steps": options.kernel_steps or STEPS}


def _classical_method(method: Method, noisy_images: NoisyImages | None, options: DegradeOptions) -> PreparedMethod:
    settings = _settings(options, noisy_images, model_sha256=None)
    return PreparedMethod(
        method=method, settings=settings, model=None, noisy_images=noisy_images, bytes_each=CLASSICAL_BYTES
    )


@dataclass(frozen=True, kw_only=True)
class DegraderEngine:
    """A degrader, ready on its device, and which one it is."""

    tiled: TiledDegrader
    weights: FoundWeights

    model: str
    """Its name, without a path of this machine."""

    takes_noise: bool
    """It learned with noise as its second input."""

    bytes_each: int
    """Memory of one window."""


def start_degrader(
    model: str | None,
    *,
    device: str,
    offline: bool,
    download: Progress,
    note: Callable[[str], None] | None = None,
) -> DegraderEngine:
    """Find a degrader's weights, fetch them if need be, and bring it to the device.

    model: as `find_weights` takes. download: called with (bytes done, bytes in all). note: as `choose_device`.
    Raises as `find_weights`, `load_degrader` and `choose_device`.
    """
    place = choose_device(device, note=note)
    weights = find_weights(model, registry=read_registry(), network="degrader", offline=offline, on_progress=download)
    net, metadata = load_degrader(weights.path)
    dual_input = takes_noise(metadata, weights.path)
    name = _name_of(weights)
    return DegraderEngine(
        tiled=TiledDegrader(net, device=place, dual_input=dual_input, name=name),
        weights=weights,
        model=name,
        takes_noise=dual_input,
        bytes_each=window_bytes(net.config),
    )


def _learned_method(
    noisy_images: NoisyImages | None, options: DegradeOptions, download: Progress, note: Callable[[str], None] | None
) -> PreparedMethod:
    try:
        engine = start_degrader(
            options.model, device=options.device, offline=options.offline, download=download, note=note
        )
    except WeightsError as error:
        if options.model is None:
            raise WeightsError(f"{error} Or take --method patches, which needs none.") from error
        raise
    if engine.takes_noise and noisy_images is None:
        raise ConfigError("The learned method takes its noise from real photos. Give their folder with --noise-source.")
    used = noisy_images if engine.takes_noise else None
    limits = PatchLimits(most_variance=options.patch_variance)
    return PreparedMethod(
        method=Learned(engine.tiled, noise_source(used, options.noise_input, limits) if used else None),
        settings=_settings(options, used, model_sha256=engine.weights.sha256),
        model=engine.model,
        noisy_images=used,
        bytes_each=engine.bytes_each + CLASSICAL_BYTES,
        terms=engine.weights.terms,
    )


def noise_source(images: NoisyImages, kind: NoiseInput | None, limits: PatchLimits | None = None) -> NoiseSource:
    """Of the kind asked for; None: smooth parts, within the limits."""
    return CroppedNoise(images) if kind is NoiseInput.CROP else SmoothNoise(images, limits or PatchLimits())


def _name_of(weights: FoundWeights) -> str:
    """What the manifest calls a model: no path of this machine."""
    return Path(weights.name).resolve().name if is_there(Path(weights.name).expanduser()) else weights.name


def _sigma(options: DegradeOptions) -> float:
    return SIGMA if options.sigma is None else float(options.sigma)


def _noise_input(options: DegradeOptions) -> str | None:
    return str(options.noise_input or NoiseInput.SMOOTH) if options.method == "learned" else None


def _settings(options: DegradeOptions, noisy_images: NoisyImages | None, *, model_sha256: str | None) -> PairSettings:
    kernels = _of_kernels(options) if options.method == "impressionism" else None
    return PairSettings(
        method=options.method,
        scale=options.scale,
        seed=options.seed,
        cleanup=options.cleanup,
        sigma=_sigma(options) if options.method == "gaussian" else None,
        patch_variance=None if options.patch_variance is None else float(options.patch_variance),
        noise_input=_noise_input(options) if noisy_images else None,
        kernels=kernels["count"] if kernels else None,
        kernel_steps=kernels["steps"] if kernels else None,
        degradation=as_in_json(options.degradation) if options.degradation else None,
        model_sha256=model_sha256,
        noise_set_sha256=noisy_images.sha256 if noisy_images else None,
    )
