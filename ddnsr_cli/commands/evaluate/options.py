"""What `ddnsr eval` is asked, and whom it tells."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ddnsr_cli.config import SCALE
from ddnsr_cli.data.images import PLAIN, PairRules
from ddnsr_cli.errors import ConfigError


class Reference(StrEnum):
    """What the images of the reference folder are."""

    HR = "hr"
    """Four times as large as the LR images: the truth."""

    LR_SIZE = "lr-size"
    """As large as the LR images, and clean: results are shrunk to them."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What to compare, by what, and what to leave behind."""

    lr: Path | None = None
    """Folder of LR images."""

    hr: Path | None = None
    """Folder of references, the same names."""

    models: tuple[str, ...] = ()
    """As `find_weights` takes, or `NAME=MODEL`. None at all, and no `sr`: the bundled default."""

    sr: tuple[str, ...] = ()
    """Folders of finished images, `DIR` or `NAME=DIR`."""

    table3: bool = False
    """Add the models of the paper's comparison whose weights are here."""

    reference: Reference = Reference.HR

    rules: PairRules = PLAIN
    """How images of one scene are found."""

    degrader: str | None = None
    """What shrinks results to LR for the self-consistency figure; None: antialiased bicubic."""

    crop_px: int = 4
    """Border that no metric sees, HR pixels."""

    lpips: str | None = None
    """`alex`, `vgg`, `squeeze`, `none`; None: `alex` when its weights are found."""

    lpips_weights: Path | None = None

    niqe: bool = False
    """Judge the results by NIQE, too."""

    pyiqa: tuple[str, ...] = ()
    """Further figures, as pyiqa names them."""

    against: str | None = None
    """Label of the model that the others are compared with."""

    seed: int = 0
    """Of the blind order in the ranking and scoring pages."""

    keep: Path | None = None
    """Folder for the SR images."""

    report: Path | None = None
    ranking: Path | None = None
    scoring: Path | None = None
    """Pages to write."""

    device: str = "auto"
    offline: bool = False

    def __post_init__(self) -> None:
        if self.lr is None and (self.models or self.table3 or not self.sr):
            raise ConfigError("Models need LR images. Give --lr LR/, or finished images: --sr SR/ --hr HR/.")
        if self.lr is None and self.hr is None:
            raise ConfigError("Finished images need something to compare them with. Give --hr HR/, or --lr LR/.")
        if self.reference is Reference.LR_SIZE and (self.lr is None or self.hr is None):
            raise ConfigError("--reference lr-size needs both folders: --lr with the noisy, --hr with the clean ones.")
        if self.degrader is not None and self.lr is None:
            raise ConfigError("--degrader brings results back to the LR images. Give these with --lr.")
        if self.hr is None and (self.lpips_weights is not None or self.lpips not in (None, "none")):
            raise ConfigError("LPIPS compares with the truth. Give the references with --hr, or drop --lpips.")
        if self.lpips == "none" and self.lpips_weights is not None:
            raise ConfigError("--lpips none leaves LPIPS out, whatever its weights. Drop that or --lpips-weights.")
        if self.pyiqa and self.offline:
            raise ConfigError("pyiqa fetches its networks itself, which --offline forbids. Leave out that or --pyiqa.")
        if self.crop_px < 0:
            raise ConfigError(f"--crop-border is 0 or more, got {self.crop_px}.")

    @property
    def pages(self) -> list[Path]:
        """Those that were asked for."""
        return [path for path in (self.report, self.ranking, self.scoring) if path is not None]

    @property
    def hr_scale(self) -> int:
        """Pixels of a reference per LR pixel along a side."""
        return SCALE if self.reference is Reference.HR else 1

    @property
    def lr_crop_px(self) -> int:
        """The border that no metric sees, whole LR pixels."""
        return -(-self.crop_px // SCALE)


@dataclass(frozen=True, kw_only=True)
class EvaluateListener:
    """Each is called from the working thread and must be quick."""

    note: Callable[[str], None]
    """One sentence for the user."""

    tick: Callable[[int, int], None]
    """(images done, images in all): one of every model for each sample."""

    download: Callable[[int, int], None]
    """(bytes done, bytes in all) of weights."""
