"""Options of `ddnsr degrade`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ddnsr_cli.commands.ray_workers import RayOptions
from ddnsr_cli.config import SCALE
from ddnsr_cli.data.config import DegradationConfig, NoiseInput
from ddnsr_cli.errors import ConfigError, DdnsrError
from ddnsr_cli.io.image import MAX_PIXELS
from ddnsr_cli.io.selection import Selection
from ddnsr_cli.nets.config import SCALES

MethodName = Literal["learned", "bicubic", "gaussian", "patches", "classical", "impressionism"]


@dataclass(frozen=True, kw_only=True)
class DegradeListener:
    """Whom the work tells."""

    progress: Callable[[float, int], None]
    """(images done, images in all); an image in work counts in part."""

    note: Callable[[str], None]
    """One sentence for the user."""

    failed: Callable[[DdnsrError], None]
    """One image of several could not be done."""

    download: Callable[[int, int], None]
    """(bytes done, bytes in all) of the weights."""


@dataclass(frozen=True, kw_only=True)
class DegradeOptions:
    """How pairs are made."""

    selection: Selection = field(default_factory=Selection)
    """Which of the images are meant."""

    noise_source: Path | None = None
    """Folder of real noisy photos, or one image. Needed by the methods that take noise from them, and by a report."""

    method: MethodName = "learned"
    scale: int = SCALE
    """HR pixels per LR pixel along a side: 1, 2 or 4. Degraders and kernels are for 4 only."""

    model: str | None = None
    """As `find_weights` takes, of the learned method; None: the bundled default."""

    per_image: int = 1
    """Pairs of each HR image, each with its own draw of noise."""

    seed: int = 0
    cleanup: int = 1
    """Shrink each HR image so many times first, so that its own noise averages out."""

    sigma: float | None = None
    """Of Gaussian noise, levels of 255; None: 8, as on Track 1 of NTIRE 2020."""

    patch_variance: float | None = None
    """Largest variance of a noise patch, levels squared; None: found in each image."""

    noise_input: NoiseInput | None = None
    """What the learned method gives to its network; None: smooth parts."""

    degradation: DegradationConfig | None = None
    """Of the classical method, which needs it: what is drawn for each image."""

    kernels: int | None = None
    """Of the method impressionism: number of noisy photos whose blur kernels are estimated; None: 10."""

    kernel_steps: int | None = None
    """Of the same method: steps of training for each kernel; None: 250."""

    report: Path | None = None
    """HTML page that compares the LR images with the noisy images."""

    workers: int = 0
    """Images in work at a time; 0: by cores and free memory. Does not change what is made."""

    device: str = "auto"
    overwrite: bool = False
    max_pixels: int = MAX_PIXELS
    """Largest input, pixels."""

    offline: bool = False

    ray: RayOptions | None = None
    """None: all is done in this process."""

    def __post_init__(self) -> None:
        if min(self.per_image, self.cleanup) < 1 or min(self.seed, self.workers) < 0:
            raise ConfigError(
                "--per-image and --cleanup are at least 1, --seed and --workers at least 0; got "
                f"{self.per_image}, {self.cleanup}, {self.seed} and {self.workers}."
            )
        if self.ray is not None and self.workers:
            raise ConfigError("--workers are threads of this process. With --ray, say --ray-workers.")
        for name, count in {"--kernels": self.kernels, "--kernel-steps": self.kernel_steps}.items():
            if count is not None and count < 1:
                raise ConfigError(f"{name} is at least 1, got {count}.")
        self._check_scale()
        if self.sigma is not None and not 0 <= self.sigma <= 255:
            raise ConfigError(f"--sigma lies in 0..255, got {self.sigma}.")
        self._check_methods()
        if self.report is not None and self.selection.shard is not None:
            raise ConfigError("--realism-report is for all pairs. Give it with the last run, without --shard.")
        if self.noise_source is None and (self.method in ("patches", "impressionism") or self.report is not None):
            takes = f"--method {self.method} takes noise from"
            what = "--realism-report compares with" if self.report is not None else takes
            raise ConfigError(f"{what} real noisy photos. Give their folder with --noise-source.")

    def _check_methods(self) -> None:
        for option, (value, methods) in self._of_methods().items():
            if value is not None and self.method not in methods:
                raise ConfigError(
                    f"{option} is for --method {' or '.join(methods)}, and the method is {self.method}. Drop one."
                )
        if self.noise_input is NoiseInput.CROP and self.patch_variance is not None:
            raise ConfigError("--patch-variance is for smooth parts, which --noise-input crop does not use. Drop one.")

    def _check_scale(self) -> None:
        if self.scale not in SCALES:
            raise ConfigError(f"--scale is 1, 2 or 4, got {self.scale}.")
        if self.scale != SCALE and self.method in ("learned", "impressionism"):
            raise ConfigError(
                f"--method {self.method} shrinks {SCALE} times only, not {self.scale}. "
                "Take --method classical, patches, gaussian or bicubic."
            )
        if self.degradation is not None and self.degradation.scale != self.scale:
            raise ConfigError(
                f"LR is {self.scale} times smaller than HR; the degradation has a scale of {self.degradation.scale}."
            )

    def _of_methods(self) -> dict[str, tuple[object, tuple[MethodName, ...]]]:
        """The value of each option that only some methods know."""
        return {
            "--model": (self.model, ("learned",)),
            "--noise-input": (self.noise_input, ("learned",)),
            "--sigma": (self.sigma, ("gaussian",)),
            "--patch-variance": (self.patch_variance, ("patches", "learned", "impressionism")),
            "--kernels": (self.kernels, ("impressionism",)),
            "--kernel-steps": (self.kernel_steps, ("impressionism",)),
            "--degradation-preset or --degradation": (self.degradation, ("classical",)),
        }
