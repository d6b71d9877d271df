"""From options to a method ready for use, and to what the manifest says of it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ddnsr_cli.checkpoint import load_degrader
from ddnsr_cli.data.noise_patches import PatchLimits
from ddnsr_cli.degrading import TiledDegrader, window_bytes
from ddnsr_cli.device import choose_device
from ddnsr_cli.errors import ConfigError, WeightsError
from ddnsr_cli.files import is_there
from ddnsr_cli.registry import read_registry
from ddnsr_cli.weights import FoundWeights, find_weights
from ddnsr_cli.workflows.pairs.manifest import PairSettings, as_in_json
from ddnsr_cli.workflows.pairs.methods import Learned, Method, Patches, bicubic, by_rule, gaussian
from ddnsr_cli.workflows.pairs.options import DegradeOptions
from ddnsr_cli.workflows.pairs.sources import NoisePhotos

CLASSICAL_BYTES = 128 << 20  # what a classical method takes beside the picture
BY_RULE_BYTES = 3 << 29  # the same of the chain of degradations, which holds a picture whole: 62 bytes a pixel of 24 MP

SIGMA = 8.0  # levels of 255: Track 1 of NTIRE 2020
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Way:
    """A method ready for use, and what the manifest says of it."""

    method: Method
    settings: PairSettings
    model: str | None
    photos: NoisePhotos | None
    bytes_each: int
    """Memory of one worker beside the picture itself."""

    terms: str | None = None
    """What whoever uses the model has to know."""


def choose_way(photos: NoisePhotos | None, options: DegradeOptions, download: Progress) -> Way:
    """The method that is asked for, its network loaded.

    photos: to draw noise from. download: told (bytes done, bytes in all) of the weights. Raises ConfigError when
    photos are missing, and as `find_weights`, `load_degrader` and `choose_device`.
    """
    if options.method == "learned":
        return _learned_way(photos, options, download)
    if options.method == "patches":
        assert photos is not None  # the options have checked themselves
        limits = PatchLimits(most_variance=options.patch_variance)
        return _classical_way(Patches(photos, limits), photos, options)
    if options.method == "classical":
        assert options.degradation is not None  # as before
        return replace(_classical_way(by_rule(options.degradation), None, options), bytes_each=BY_RULE_BYTES)
    return _classical_way(bicubic if options.method == "bicubic" else gaussian(_sigma(options)), None, options)


def _classical_way(method: Method, photos: NoisePhotos | None, options: DegradeOptions) -> Way:
    settings = _settings(options, photos, model_sha256=None)
    return Way(method=method, settings=settings, model=None, photos=photos, bytes_each=CLASSICAL_BYTES)


def _learned_way(photos: NoisePhotos | None, options: DegradeOptions, download: Progress) -> Way:
    device = choose_device(options.device)
    try:
        weights = find_weights(
            options.model,
            registry=read_registry(),
            network="degrader",
            offline=options.offline,
            on_progress=download,
        )
    except WeightsError as error:
        if options.model is None:
            raise WeightsError(f"{error} Or take --method patches, which needs none.") from error
        raise
    net, metadata = load_degrader(weights.path)
    dual_input = takes_noise(metadata, weights.path)
    if dual_input and photos is None:
        raise ConfigError("The learned method takes its noise from real photos. Give their folder with --noise-source.")
    name = _name_of(weights)
    engine = TiledDegrader(net, device=device, dual_input=dual_input, name=name)
    used = photos if dual_input else None
    return Way(
        method=Learned(engine, used),
        settings=_settings(options, used, model_sha256=weights.sha256),
        model=name,
        photos=used,
        bytes_each=window_bytes(net.config),
        terms=weights.terms,
    )


def takes_noise(metadata: Mapping[str, str], path: Path) -> bool:
    """Whether a degrader was trained with noisy photos as its second input, by what its file says."""
    try:
        said = json.loads(metadata.get("options", "{}")).get("dual_input", True)
    except (ValueError, AttributeError) as cause:
        raise WeightsError(
            f"{path.name} says nonsense of its options: it is damaged. Fetch or train it again."
        ) from cause
    return bool(said)


def _name_of(weights: FoundWeights) -> str:
    """What the manifest calls a model: no path of this machine."""
    return Path(weights.name).resolve().name if is_there(Path(weights.name).expanduser()) else weights.name


def _sigma(options: DegradeOptions) -> float:
    return SIGMA if options.sigma is None else float(options.sigma)


def _settings(options: DegradeOptions, photos: NoisePhotos | None, *, model_sha256: str | None) -> PairSettings:
    return PairSettings(
        method=options.method,
        seed=options.seed,
        cleanup=options.cleanup,
        sigma=_sigma(options) if options.method == "gaussian" else None,
        patch_variance=options.patch_variance,
        degradation=as_in_json(options.degradation) if options.degradation else None,
        model_sha256=model_sha256,
        noise_set_sha256=photos.sha256 if photos else None,
    )
