"""From what the user names to what is compared, and by what."""

from collections.abc import Iterable
from pathlib import Path

import torch

from ddnsr_cli.errors import ConfigError, WeightsError
from ddnsr_cli.feature_weights import load_lpips, load_niqe_model
from ddnsr_cli.nets.lpips import LPIPS
from ddnsr_cli.registry import Registry, read_registry
from ddnsr_cli.weights import FoundWeights, find_weights
from ddnsr_cli.workflows.evaluation.contestants import (
    BICUBIC,
    Bicubic,
    Contestant,
    Finished,
    labelled,
    load_network,
    refuse_doubles,
    short_name,
)
from ddnsr_cli.workflows.evaluation.learned import LearnedDegrade
from ddnsr_cli.workflows.evaluation.listener import EvaluateListener
from ddnsr_cli.workflows.evaluation.measures import (
    Fidelity,
    Judge,
    Measure,
    Naturalness,
    NoiseAndDetail,
    SelfConsistency,
)
from ddnsr_cli.workflows.evaluation.options import EvaluateOptions, Reference
from ddnsr_cli.workflows.evaluation.ranking_page import MOST_MODELS
from ddnsr_cli.workflows.evaluation.subjects import find_finished
from ddnsr_cli.workflows.evaluation.table3 import rows_at_hand

DEFAULT_TRUNK = "alex"  # what super-resolution papers report


def load_contestants(
    options: EvaluateOptions, device: torch.device, listener: EvaluateListener
) -> tuple[Contestant, ...]:
    """Bicubic where there are LR pictures, then the networks, then the finished pictures, in the order given.

    Raises ConfigError when two are called the same, DataError for folders that do not fit, WeightsError, HubError.
    """
    finished = [_finished(text, options) for text in options.sr]
    weights = _weights(options, read_registry(), listener)
    refuse_doubles([*([BICUBIC] if options.lr else []), *(label for label, _ in weights), *(f.label for f in finished)])
    _tell_terms([found for _, found in weights], listener)
    networks = [load_network(found, label, device, listener.note) for label, found in weights]
    return (*([Bicubic()] if options.lr else []), *networks, *finished)


def load_way_back(options: EvaluateOptions, device: torch.device, listener: EvaluateListener) -> LearnedDegrade | None:
    """The degrader that is asked for. Raises WeightsError, HubError."""
    if options.degrader is None:
        return None
    found = find_weights(
        options.degrader,
        registry=read_registry(),
        network="degrader",
        offline=options.offline,
        on_progress=listener.download,
    )
    _tell_terms([found], listener)
    return LearnedDegrade(found, device)


def load_judge(options: EvaluateOptions, device: torch.device, listener: EvaluateListener) -> Judge | None:
    """LPIPS; None when it is not wanted, or not at hand and not asked for by name: then the user is told.

    Its weights are fetched only when it is asked for by name. Raises WeightsError or HubError when they are not to be
    had then.
    """
    if options.hr is None or options.lpips == "none":
        return None
    trunk = options.lpips or DEFAULT_TRUNK
    try:
        weights = load_lpips(
            trunk,
            options.lpips_weights,
            option="--lpips-weights",
            offline=options.offline or options.lpips is None,
            on_progress=listener.download,
        )
        net = LPIPS(trunk, weights.state, source=weights.source).to(device)
    except WeightsError as error:
        if options.lpips is not None or options.lpips_weights is not None:
            raise
        listener.note(f"the table goes without LPIPS: {error} Or let --lpips {trunk} fetch it once (244 MB).")
        return None
    return Judge(trunk=trunk, origin=f"{weights.source}, sha256 {weights.sha256}", distance=net)


def choose_measures(
    options: EvaluateOptions, device: torch.device, judge: Judge | None, degrade: LearnedDegrade | None
) -> list[Measure]:
    """What the folders allow: figures against the truth, else how consistent the results are with the LR pictures.

    Raises WeightsError when NIQE is wanted and its model is damaged.
    """
    at_lr_size = options.reference is Reference.LR_SIZE
    measures: list[Measure] = []
    if options.hr is not None:
        crop_px = options.lr_crop_px if at_lr_size else options.crop_px
        measures.append(Fidelity(crop_px=crop_px, device=device, judge=judge, at_lr_size=at_lr_size))
    if at_lr_size:
        measures.append(NoiseAndDetail(crop_px=options.lr_crop_px, device=device))
    if options.niqe:
        measures.append(Naturalness(crop_px=options.crop_px, model=load_niqe_model()))
    if options.hr is None or degrade is not None:
        measures.append(SelfConsistency(crop_px=options.lr_crop_px, device=device, degrade=degrade))
    return measures


def check_wishes(options: EvaluateOptions, contestants: tuple[Contestant, ...]) -> None:
    """Raises ConfigError, before the work, when the comparison or the ranking cannot be made of these contestants."""
    labels, against = [one.label for one in contestants], options.against
    if against is not None and against not in labels:
        raise ConfigError(f"--against {against}: none of those compared is called that. They are: {', '.join(labels)}.")
    ranked = sum(label != BICUBIC for label in labels)
    if options.ranking is not None and not 2 <= ranked <= MOST_MODELS:
        raise ConfigError(f"--ranking takes 2 to {MOST_MODELS} models or folders beside bicubic, got {ranked}.")


def _tell_terms(weights: Iterable[FoundWeights], listener: EvaluateListener) -> None:
    for found in weights:
        if found.terms:
            listener.note(found.terms)


def _finished(text: str, options: EvaluateOptions) -> Finished:
    label, folder = labelled(text)
    at_lr_size = options.reference is Reference.LR_SIZE
    paths = find_finished(Path(folder), options.lr, None if at_lr_size else options.hr)
    return Finished(label=label or short_name(folder), origin="finished pictures", paths=paths)


def _weights(
    options: EvaluateOptions, registry: Registry, listener: EvaluateListener
) -> list[tuple[str, FoundWeights]]:
    """(label, weights) of every network."""
    named = [labelled(text) for text in options.models if text != BICUBIC]
    if not named and not options.sr and not options.table3:
        named = [(None, registry.default.name)]
    given: list[tuple[str, FoundWeights]] = []
    for label, name in named:
        found = find_weights(name, registry=registry, offline=options.offline, on_progress=listener.download)
        given.append((label or (found.entry.name if found.entry else short_name(name)), found))
    if not options.table3:
        return given
    here, missing = rows_at_hand(registry, (label for label, _ in given))
    if missing:
        told = "; ".join(f"{row.label} ({row.how})" for row in missing)
        listener.note(f"not in the table, for want of weights: {told}")
    taken = {found.path for _, found in given}
    return [*((found.name, found) for found in here if found.path not in taken), *given]
