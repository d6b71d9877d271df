"""What the command line of `ddnsr train` asks for, as the requests of its workflows."""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from ddnsr_cli.errors import ConfigError

if TYPE_CHECKING:
    from ddnsr_cli.data.degradation_config import DegradationConfig
    from ddnsr_cli.data.stream import StreamConfig
    from ddnsr_cli.nets.rrdb import RRDBConfig
    from ddnsr_cli.training.joint_options import JointOptions
    from ddnsr_cli.training.pieces import Precision as TrainPrecision
    from ddnsr_cli.workflows.train_fidelity import FidelityRequest
    from ddnsr_cli.workflows.train_joint import JointRequest


class Precision(StrEnum):
    """Number format of the networks that learn."""

    AUTO = "auto"
    BF16 = "bf16"
    FP32 = "fp32"


@dataclass(frozen=True, kw_only=True)
class Course:
    """What the command line says of the schedule; None: the default of the kind of training."""

    steps: int | None
    rate: float | None
    rise: int | None
    halve_at: tuple[int, ...] | None
    precision: Precision


class Target(StrEnum):
    """Where clean HR crops come from."""

    DIV2K = "div2k"
    CLEANUP = "cleanup"
    MIXED = "mixed"
    CANON = "canon"


def validation_folders(val: Path | None, lr: Path | None, hr: Path | None) -> tuple[Path | None, Path | None]:
    """Folders of the (LR, HR) photos to validate on, or two times None. Raises ConfigError or DataError."""
    if (lr is None) != (hr is None):
        raise ConfigError("--val-lr and --val-hr belong together. Give both or none.")
    if val is None:
        return lr, hr
    if lr is not None:
        raise ConfigError("--val stands for both --val-lr and --val-hr. Give it, or those two.")
    from ddnsr_cli.data.folders import find_pair_folders

    return find_pair_folders(val)


def network_sizes(given: tuple[int | None, int | None, int | None], *, lite: bool) -> "RRDBConfig":
    """The reconstruction network of (features, blocks, growth); None: as in the lite one or the paper's."""
    from ddnsr_cli.nets.rrdb import RRDBConfig
    from ddnsr_cli.training.options import LITE

    plain = LITE if lite else RRDBConfig()
    features, blocks, growth = given
    return RRDBConfig(features=features or plain.features, blocks=blocks or plain.blocks, growth=growth or plain.growth)


def fidelity_request(
    folders: tuple[Path | None, Path | None],
    output: Path,
    sizes: "RRDBConfig",
    course: Course,
    stream: "StreamConfig",
    validation: tuple[Path | None, Path | None],
    degradation: "DegradationConfig",
) -> "FidelityRequest":
    """The warm-up. folders: (hr, lr), lr only where pairs are ready. Raises ConfigError."""
    from ddnsr_cli.training.options import FidelityOptions, ScheduleConfig
    from ddnsr_cli.workflows.train_fidelity import FidelityRequest

    hr, lr = folders
    if hr is None:
        raise ConfigError("The warm-up needs clean photos. Give their folder with --hr.")
    plain = ScheduleConfig()
    if course.halve_at is not None:
        raise ConfigError("--halve-at belongs to --track; the warm-up's rate falls in a straight line. Leave it out.")
    schedule = ScheduleConfig(
        steps=course.steps or plain.steps,
        peak=plain.peak if course.rate is None else course.rate,
        rise_steps=plain.rise_steps if course.rise is None else course.rise,
    )
    return FidelityRequest(
        hr=hr,
        lr=lr,
        run=output,
        options=FidelityOptions(
            network=sizes,
            stream=stream,
            degradation=degradation,
            schedule=schedule,
            precision=_precision(course.precision),
        ),
        val_lr=validation[0],
        val_hr=validation[1],
    )


def joint_options(
    track: int,
    sizes: "RRDBConfig",
    course: Course,
    stream: "StreamConfig",
    *,
    lite: bool,
    l2: bool,
    ablation: str | None,
) -> "JointOptions":
    """What and how a joint run learns. lite: small networks beside the reconstruction one. Raises ConfigError."""
    from ddnsr_cli.training.joint_options import ablated, small_helpers, track_options, without_critic

    options = replace(track_options(track), sr_net=sizes, stream=stream)
    options = small_helpers(options) if lite else options
    options = without_critic(options) if l2 else options
    options = ablated(options, ablation.upper()) if ablation else options
    plain = options.schedule
    schedule = replace(
        plain,
        steps=course.steps or plain.steps,
        rate=plain.rate if course.rate is None else course.rate,
        halve_at=plain.halve_at if course.halve_at is None else course.halve_at,
        rise_steps=plain.rise_steps if course.rise is None else course.rise,
    )
    return replace(options, schedule=schedule, precision=_precision(course.precision))


def _precision(chosen: Precision) -> "TrainPrecision":
    from ddnsr_cli.training.pieces import Precision as TrainPrecision

    return TrainPrecision(chosen.value)


def joint_request(
    what: tuple[int, Target],
    folders: tuple[Path | None, Path | None, Path | None],
    output: Path,
    options: "JointOptions",
    validation: tuple[Path | None, Path | None],
) -> "JointRequest":
    """A joint run. what: (track, target); folders: (hr, lr, data), as given or else found under the last.

    Raises ConfigError or DataError when none are.
    """
    from ddnsr_cli.data.folders import find_track_folders
    from ddnsr_cli.data.targets import TargetOptions, TargetType
    from ddnsr_cli.workflows.train_joint import JointRequest

    (track, target), (hr, lr, data) = what, folders
    kind = TargetOptions(kind=TargetType(target.value))
    if data is not None:
        found = find_track_folders(data, track, kind)
        hr, lr = hr or found.hr, lr or found.lr
        if validation == (None, None) and found.val_hr is not None:
            validation = (found.val_lr, found.val_hr)
    if lr is None:
        raise ConfigError("The method needs real noisy photos. Give their folder with --lr, or --data.")
    return JointRequest(
        lr=lr, hr=hr, run=output, track=track, target=kind, options=options, val_lr=validation[0], val_hr=validation[1]
    )
