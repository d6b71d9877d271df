"""What the command line of `ddnsr train` asks for, as the requests of its workflows."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from ddnsr_cli.cli.options import DegradationPreset, home_path
from ddnsr_cli.config import Precision, TargetType
from ddnsr_cli.data.config import NoiseInput
from ddnsr_cli.errors import ConfigError
from ddnsr_cli.files import is_folder

if TYPE_CHECKING:
    from ddnsr_cli.commands.train.joint import JointRequest
    from ddnsr_cli.commands.train.pair_sources import SourcePaths
    from ddnsr_cli.commands.train.paired import PairedRequest
    from ddnsr_cli.data.config import StreamConfig
    from ddnsr_cli.nets.config import RRDBConfig
    from ddnsr_cli.training.options import JointOptions
    from ddnsr_cli.training.paired_options import PairedOptions
    from ddnsr_cli.training.reconstruction_options import Discriminator as TrainDiscriminator
    from ddnsr_cli.training.reconstruction_options import GanKind as TrainGanKind
    from ddnsr_cli.training.reconstruction_options import PerceptualLayers, ReconstructionWeights
    from ddnsr_cli.weights.registry import Network


@dataclass(frozen=True, kw_only=True)
class ScheduleArguments:
    """What the command line says of the schedule; None: the default of the kind of training."""

    steps: int | None
    learning_rate: float | None
    warmup_steps: int | None
    milestones: tuple[int, ...] | None
    precision: Precision


class Discriminator(StrEnum):
    """The discriminator of HR images."""

    VGG_STYLE = "vgg-style"
    PATCH_GAN = "patchgan"
    U_NET = "unet"
    PROJECTED = "projected"


class JointPreset(StrEnum):
    """Methods by name."""

    PAPER = "paper"
    DNSR = "dnsr"
    CYCLEGAN_LR = "cyclegan-lr"


class GanKind(StrEnum):
    """How a discriminator compares real and made images."""

    RELATIVISTIC = "relativistic"
    PLAIN = "plain"

    @property
    def option(self) -> "TrainGanKind":
        """As the options of a run name it; without torch, this module does not know them."""
        from ddnsr_cli.training.reconstruction_options import GanKind as TrainGanKind

        return TrainGanKind(self.value)


def weights_file(word: str | None, network: "Network", *, offline: bool, quiet: bool) -> Path | None:
    """The weights to begin with or to learn from: a file, that of a run's folder, or that of a released name.

    A file may be gone: where a run goes on, it is needed no more. Raises WeightsError and HubError as `find_weights`.
    """
    from ddnsr_cli.cli.progress import download_view
    from ddnsr_cli.weights.registry import read_registry
    from ddnsr_cli.weights.resolve import entry_of, find_weights

    if word is None:
        return None
    path = home_path(word)
    registry = read_registry()
    if os.path.isfile(path) or (  # noqa: PTH113 - False for a name too long
        entry_of(word, registry) is None and not is_folder(path)
    ):
        return path
    with download_view(quiet=quiet) as download:
        return find_weights(word, registry=registry, network=network, offline=offline, on_progress=download).path


def validation_folders(val: Path | None, lr: Path | None, hr: Path | None) -> tuple[Path | None, Path | None]:
    """Folders of the (LR, HR) images to validate on, or two times None. Raises ConfigError or DataError."""
    if (lr is None) != (hr is None):
        raise ConfigError("--val-lr and --val-hr belong together. Give both or none.")
    if val is None:
        return lr, hr
    if lr is not None:
        raise ConfigError("--val stands for both --val-lr and --val-hr. Give it, or those two.")
    from ddnsr_cli.data.targets import find_pair_folders

    return find_pair_folders(val)


def network_sizes(given: tuple[int | None, int | None, int | None], plain: "RRDBConfig") -> "RRDBConfig":
    """The reconstruction network of (features, blocks, growth); None: as in the plain one."""
    features, blocks, growth = given
    return replace(
        plain, features=features or plain.features, blocks=blocks or plain.blocks, growth=growth or plain.growth
    )


def paired_options(
    sizes: "RRDBConfig", schedule: ScheduleArguments, stream: "StreamConfig", *, pretrain: bool
) -> "PairedOptions":
    """What and how a paired run learns. pretrain: by the mean absolute error alone. Raises ConfigError."""
    from ddnsr_cli.training.options import ScheduleConfig
    from ddnsr_cli.training.paired_options import PairedOptions, PairSource, with_equation_2

    plain = ScheduleConfig() if pretrain else ScheduleConfig(learning_rate=5e-5)
    planned = ScheduleConfig(
        steps=schedule.steps or plain.steps,
        learning_rate=plain.learning_rate if schedule.learning_rate is None else schedule.learning_rate,
        warmup_steps=plain.warmup_steps if schedule.warmup_steps is None else schedule.warmup_steps,
    )
    options = PairedOptions(
        network=sizes,
        stream=stream,
        sources=(PairSource().of_scale(sizes.scale),),
        schedule=planned,
        precision=schedule.precision,
    )
    return options if pretrain else with_equation_2(options)


def with_losses(
    options: "PairedOptions",
    weights: dict[str, float],
    kinds: tuple[Discriminator | None, GanKind | None, tuple[str, bool]],
) -> "PairedOptions":
    """The options with other losses. weights: those given; kinds: (discriminator, GAN, (perceptual, as authors)).

    Raises ConfigError.
    """
    from ddnsr_cli.training.reconstruction_options import PerceptualLayers, ReconstructionWeights

    discriminator, gan, (perceptual, as_authors) = kinds
    if odd := sorted(weights.keys() - vars(ReconstructionWeights()).keys()):
        raise ConfigError(f"--loss {odd[0]} is the degrader's, which learns on a --track only. Leave it out.")
    losses = replace(options.losses, **weights)
    return replace(
        options,
        losses=losses,
        layers=PerceptualLayers(perceptual=perceptual, as_authors=as_authors),
        discriminator=chosen_discriminator(discriminator, options.discriminator, losses),
        gan=gan.option if gan else options.gan,
    )


def chosen_discriminator(
    asked: Discriminator | None, otherwise: "TrainDiscriminator", losses: "ReconstructionWeights"
) -> "TrainDiscriminator":
    """The discriminator, none where its loss has no weight. Raises ConfigError where one is asked for then."""
    from ddnsr_cli.training.reconstruction_options import Discriminator as TrainDiscriminator

    if losses.hr_adversarial:
        return otherwise if asked is None else TrainDiscriminator(asked.value)
    if asked is not None:
        raise ConfigError(
            f"--discriminator {asked.value} would learn for nothing: hr_adversarial has no weight here. Leave it out, "
            f"or give --loss hr_adversarial=0.005."
        )
    return TrainDiscriminator.NONE


def with_targets(
    options: "PairedOptions", sharpen: str | None, taught: tuple[Path | None, float | None]
) -> "PairedOptions":
    """The options with targets that are sharpened (amount, sigma, threshold) or a teacher's.

    taught: (weights of the teacher, share of the truth), as far as given. Raises ConfigError.
    """
    from ddnsr_cli.training.paired_options import SharpenConfig, TeacherConfig

    if sharpen is not None:
        try:
            amount, sigma_px, threshold = map(float, sharpen.split(","))
        except ValueError as cause:
            raise ConfigError(
                f"--sharpen-targets takes amount,sigma,threshold, as in 0.5,8,10; got {sharpen!r}."
            ) from cause
        options = replace(options, sharpen=SharpenConfig(amount=amount, sigma_px=sigma_px, threshold=threshold))
    teacher, truth_share = taught
    if teacher is None:
        if truth_share is not None:
            raise ConfigError("--truth-share is the truth's beside a teacher. Give --teacher, too, or leave it out.")
        return options
    return replace(options, teacher=TeacherConfig() if truth_share is None else TeacherConfig(truth_share=truth_share))


def with_sources(
    options: "PairedOptions",
    folders: tuple[Path | None, Path | None],
    mix: Sequence[str],
    rule: tuple[DegradationPreset | None, Sequence[str]],
) -> tuple["PairedOptions", tuple["SourcePaths", ...]]:
    """The options with the sources of pairs that are asked for, and where each lies.

    folders: (hr, lr). mix: NAME=SHARE. rule: (preset, settings) of degradations made on the way. Raises ConfigError.
    """
    from ddnsr_cli.cli.options import source_of, sources_of

    given = sources_of(mix, folders, rule) if mix else [source_of(folders, rule)]
    sources = tuple(source.of_scale(options.network.scale) for source, _ in given)
    return replace(options, sources=sources), tuple(paths for _, paths in given)


def paired_request(
    sources: tuple["SourcePaths", ...],
    output: Path,
    options: "PairedOptions",
    validation: tuple[Path | None, Path | None],
) -> "PairedRequest":
    """A paired run. validation: folders of (LR, HR) images, or two times None."""
    from ddnsr_cli.commands.train.paired import PairedRequest

    return PairedRequest(sources=sources, run=output, options=options, val_lr=validation[0], val_hr=validation[1])


ABLATIONS_OF_LOSSES = {"A", "B", "C"}
"""Those that take away a loss which `--preset cyclegan-lr` has its own way with."""

OF_SINGLE_INPUT = {JointPreset.DNSR, JointPreset.CYCLEGAN_LR}


def refuse_contradictions(
    preset: JointPreset | None, *, noise_input: NoiseInput | None, l2: bool, ablation: str | None
) -> None:
    """Raises ConfigError where a preset would have it otherwise than an option that was given."""
    if preset is JointPreset.PAPER and noise_input is NoiseInput.SMOOTH:
        raise ConfigError("--preset paper has crops for noise inputs. Leave --noise-input out, or the preset.")
    if preset is JointPreset.DNSR and l2:
        raise ConfigError("--preset dnsr learns by mean absolute error. Leave --l2 out, or the preset.")
    if preset is JointPreset.CYCLEGAN_LR and (ablation or "").upper() in ABLATIONS_OF_LOSSES:
        raise ConfigError(
            f"--preset cyclegan-lr has losses of its own, and --ablation {ablation} would change none. Leave one out."
        )


def refuse_idle_perceptual(layers: "PerceptualLayers", weights: Path | None) -> None:
    """Raises ConfigError for options of the perceptual loss that it would not look at. weights: a file of LPIPS."""
    if layers.lpips_trunk is not None and layers.as_authors:
        raise ConfigError(
            f"--as-authors squares differences of VGG19's features, and --perceptual {layers.perceptual} is LPIPS. "
            f"Leave one out."
        )
    if layers.lpips_trunk is None and weights is not None:
        raise ConfigError(
            f"--perceptual-weights is a file of LPIPS, and --perceptual {layers.perceptual} compares by VGG19. Leave "
            f"it out, or give --perceptual lpips-alex."
        )


def refuse_idle_noise_input(
    options: "PairedOptions | JointOptions", preset: JointPreset | None, *, single_input: bool
) -> None:
    """Raises ConfigError where --noise-input is given, and there is no degrader or one of a single input.

    Not for ablation D, which is to differ from the others in nothing else.
    """
    from ddnsr_cli.training.paired_options import PairedOptions, SourceKind

    if isinstance(options, PairedOptions):
        if all(source.kind is not SourceKind.LEARNED for source in options.sources):
            raise ConfigError(
                "--noise-input is what a degrader is given, and no --mix of --paired or --pretrain names one. Leave it "
                "out, or name one."
            )
        return
    if not options.dual_input and (single_input or preset in OF_SINGLE_INPUT):
        why = "--single-input" if single_input else f"--preset {preset}"
        raise ConfigError(f"--noise-input is the degrader's second input, and {why} has none. Leave one out.")


def joint_options(
    track: int,
    sizes: "RRDBConfig",
    schedule: ScheduleArguments,
    noise_input: NoiseInput | None,
    *,
    lite: bool,
    l2: bool,
    ablation: str | None,
    preset: JointPreset | None,
    single_input: bool,
) -> "JointOptions":
    """What and how a joint run learns, but for its stream, of which it has the noise inputs only: whether crops and
    batches are too small depends on what else is asked for. lite: small networks beside the reconstruction one.

    Raises ConfigError.
    """
    from ddnsr_cli.data.config import StreamConfig
    from ddnsr_cli.training import options as kinds
    from ddnsr_cli.training.options import ablated, small_helpers, track_options, with_preset, without_discriminator

    stream = StreamConfig(noise_input=noise_input or NoiseInput.SMOOTH)
    options = replace(track_options(track), sr_net=sizes, stream=stream)
    options = small_helpers(options) if lite else options
    options = without_discriminator(options) if l2 else options
    options = ablated(options, ablation.upper()) if ablation else options
    options = with_preset(options, kinds.JointPreset(preset.value)) if preset else options
    options = replace(options, dual_input=options.dual_input and not single_input)
    plain = options.schedule
    planned = replace(
        plain,
        steps=schedule.steps or plain.steps,
        learning_rate=plain.learning_rate if schedule.learning_rate is None else schedule.learning_rate,
        milestones=plain.milestones if schedule.milestones is None else schedule.milestones,
        warmup_steps=plain.warmup_steps if schedule.warmup_steps is None else schedule.warmup_steps,
    )
    return replace(options, schedule=planned, precision=schedule.precision)


def joint_request(
    what: tuple[int, TargetType],
    folders: tuple[Path | None, Path | None, Path | None],
    output: Path,
    options: "JointOptions",
    validation: tuple[Path | None, Path | None],
) -> "JointRequest":
    """A joint run. what: (track, target); folders: (hr, lr, data), as given or else found under the last.

    Raises ConfigError or DataError when none are, and ConfigError for an HR folder that the target does not take.
    """
    from ddnsr_cli.commands.train.joint import JointRequest
    from ddnsr_cli.data.targets import TargetOptions, find_track_folders

    (track, target), (hr, lr, data) = what, folders
    kind = TargetOptions(kind=target)
    if hr is not None and not kind.needs_hr_folder:
        raise ConfigError(
            f"--target {target} makes its HR crops of the images of --lr and takes none of --hr. Drop one."
        )
    if data is not None:
        found = find_track_folders(data, track, kind, hr=hr, lr=lr)
        hr, lr = found.hr, found.lr
        if validation == (None, None) and found.val_hr is not None:
            validation = (found.val_lr, found.val_hr)
    if lr is None:
        raise ConfigError("The method needs real noisy photos. Give their folder with --lr, or --data.")
    return JointRequest(
        lr=lr, hr=hr, run=output, track=track, target=kind, options=options, val_lr=validation[0], val_hr=validation[1]
    )
