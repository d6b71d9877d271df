"""The weights of the frozen networks, VGG19 and LPIPS, and torchvision's classifiers they are cut from."""

import hashlib
import http.client
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from torch import Tensor

from ddnsr_cli.errors import ConfigError, HubError, WeightsError
from ddnsr_cli.files import atomic_path, sha256_of
from ddnsr_cli.metrics.niqe import PristineModel
from ddnsr_cli.nets.lpips import TRUNKS
from ddnsr_cli.nets.vgg19 import LAYERS, Tap, check_depth
from ddnsr_cli.weights.files import LOADS, file_kind, read_pickle, read_safetensors
from ddnsr_cli.weights.hub.client import settings
from ddnsr_cli.weights.hub.download import HubAccess, HubFile, Progress, fetch

SERVER = "https://download.pytorch.org/models"
TIMEOUT_S = 10.0  # of silence
_PIECE_BYTES = 1 << 20

VGG19_ON_HUB = HubFile(
    repo="timm/vgg19.tv_in1k",  # torchvision's weights, BSD-3-Clause
    revision="128d4708565b3a414bcbb9bbad440b2fe37b9f18",
    name="model.safetensors",
    sha256="11aea017b543ff59233749d8f1cf544cda749378f5790d2fedab841fb86b7669",
)
_BY_SETTINGS = HubAccess()
LPIPS_FOLDER = "DDNSR_LPIPS"
"""Environment variable: the folder where LPIPS files are looked for."""
_LPIPS_FILE = "lpips_{trunk}_v0.1.safetensors"
_VGG19_FILES = (
    f"torchvision's VGG19 without batch norm, as .pth or .safetensors (features.0.weight, ...; the one of "
    f"{VGG19_ON_HUB.repo} on the Hugging Face Hub serves)"
)
_VGG19_NAME = re.compile(r"features\.(\d+)\.(?:weight|bias)")


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A file of weights on ImageNet, as torchvision names it. BSD-3-Clause."""

    name: str
    sha256: str
    size_bytes: int


ALEXNET = Classifier(
    name="alexnet-owt-7be5be79.pth",
    sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    size_bytes=244_408_911,
)
SQUEEZENET = Classifier(
    name="squeezenet1_1-b8a52dc0.pth",
    sha256="b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
    size_bytes=4_958_839,
)
VGG16 = Classifier(
    name="vgg16-397923af.pth",
    sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    size_bytes=553_433_881,
)


def cached(file: Classifier) -> Path | None:
    """Path of the file in PyTorch's cache; None when it is not there, or not what it should be."""
    path = _place(file)
    try:
        return path if sha256_of(path) == file.sha256 else None
    except OSError:
        return None


def fetch_classifier(file: Classifier, *, offline: bool = False, on_progress: Progress | None = None) -> Path:
    """Path of the file in PyTorch's cache, fetched whole when it is not there.

    offline: ask nobody, as with `HF_HUB_OFFLINE`. on_progress: called with the bytes done and the bytes in all.
    Raises HubError when it is not there offline, the server cannot be reached or is silent for ten seconds, or the
    cache cannot be written; WeightsError when the content is not the expected one.
    """
    if (found := cached(file)) is not None:
        return found
    path = _place(file)
    if offline or settings().HF_HUB_OFFLINE:
        raise HubError(f"{file.name} is not in the cache {path.parent}, and offline {SERVER} is not asked.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            _download(file, temporary, on_progress)
    except (OSError, http.client.HTTPException) as cause:
        raise HubError(
            f"{file.name} could not be fetched from {SERVER} ({_reason(cause)}). Check the connection, or copy it to "
            f"{path.parent}."
        ) from cause
    return path


def _place(file: Classifier) -> Path:
    from torch.hub import get_dir

    return Path(get_dir()) / "checkpoints" / file.name


def _download(file: Classifier, target: Path, on_progress: Progress | None) -> None:
    report = on_progress or (lambda _done, _total: None)
    digest, done = hashlib.sha256(), 0
    report(0, file.size_bytes)
    with target.open("wb") as out:
        for piece in _pieces(f"{SERVER}/{file.name}"):
            done += len(piece)
            if done > file.size_bytes:
                break  # whatever it is, it is another file
            out.write(piece)
            digest.update(piece)
            report(done, file.size_bytes)
    if digest.hexdigest() != file.sha256:
        raise WeightsError(
            f"{file.name} came from {SERVER} with a wrong SHA-256 (expected {file.sha256}); it was not kept. Something "
            "in between alters it, or it broke off: try again, or another network."
        )


def _reason(cause: Exception) -> str:
    inner: object = cause
    if isinstance(cause, HTTPError):
        cause.close()  # it holds the connection
    elif isinstance(cause, URLError):
        inner = cause.reason
    text = "".join(filter(str.isprintable, str(inner)))[:120]  # a server may have had a part in it
    return text or type(cause).__name__


def _pieces(address: str) -> Iterator[bytes]:
    with urlopen(address, timeout=TIMEOUT_S) as answer:
        while piece := answer.read(_PIECE_BYTES):
            yield piece


_HEADS = Path(__file__).parents[1] / "pretrained" / "lpips_v0.1_heads.safetensors"
_NIQE = Path(__file__).parents[1] / "pretrained" / "niqe_pristine.safetensors"
_TORCHVISION = {"alex": ALEXNET, "squeeze": SQUEEZENET, "vgg": VGG16}
_CLASSIFIERS = {"alex": "AlexNet", "squeeze": "SqueezeNet 1.1", "vgg": "VGG16"}
_LPIPS_NAME = re.compile(r"features\..+|lin\d+\.weight")


@dataclass(frozen=True, kw_only=True)
class FeatureWeights:
    """Tensors for a frozen network, and where they are from."""

    state: Mapping[str, Tensor]
    """By name, as they are stored: float16 or float32."""

    source: str
    """The file, for messages and reports."""

    sha256: str
    """Digest of the file that was read: what to note beside results that depend on it."""


def load_vgg19(
    file: Path | None,
    *,
    taps: Iterable[Tap],
    offline: bool = False,
    on_progress: Progress | None = None,
    hub: HubAccess = _BY_SETTINGS,
) -> FeatureWeights:
    """VGG19's convolutions up to the deepest tap, from a file of the user's or, without one, from the Hub.

    file: safetensors, or a pickle that is read without running its code, of torchvision's names `features.N.weight`
    and `features.N.bias`; more in it is left out. The Hub's file has 575 MB: it is fetched once, whole, so that all of
    it is checked. offline, on_progress, hub: as in `fetch`.
    Raises WeightsError or HubError, saying which file to give instead; ValueError without taps.
    """
    layer = max((tap.layer for tap in taps), key=LAYERS.__getitem__)
    advice = f"--vgg FILE: {_VGG19_FILES}."
    path, source = file, str(VGG19_ON_HUB) if file is None else file.name
    if path is None:
        try:
            path = fetch(VGG19_ON_HUB, offline=offline, on_progress=on_progress, hub=hub, option=None)
        except (HubError, WeightsError) as error:
            raise type(error)(f"{error} Or give {advice}") from error
    state = _read(path, f"Give {advice}", partial(_is_vgg19_up_to, LAYERS[layer]))
    check_depth(state, layer, source)
    return FeatureWeights(state=state, source=source, sha256=sha256_of(path))


def load_lpips(
    trunk: str,
    file: Path | None = None,
    *,
    option: str = "--lpips",
    offline: bool = True,
    on_progress: Progress | None = None,
) -> FeatureWeights:
    """LPIPS on a trunk (`alex`, `squeeze`, `vgg`): the convolutions of a classifier, and the heads of version 0.1.

    file: the classifier, safetensors or a pickle that is read without running its code, of torchvision's names
    `features.*`; heads in it (`lin0.weight`, ...) are taken before those that come with the package. Without one,
    `lpips_TRUNK_v0.1.safetensors` in the folder that the environment variable DDNSR_LPIPS names; without that,
    torchvision's file in PyTorch's cache, or, unless `offline`, fetched from PyTorch's server. option: by which the
    user gives the file, for messages. on_progress: as in `fetch_classifier`.
    Raises ConfigError when the trunk is unknown, WeightsError, saying what to give, when no file is at hand or one is
    of no use, HubError when none can be fetched.
    """
    if trunk not in TRUNKS:
        raise ConfigError(f"LPIPS is on {', '.join(TRUNKS)}; {trunk!r} is none of them.")
    name = _LPIPS_FILE.format(trunk=trunk)
    advice = (
        f"Give {option} FILE: torchvision's {_CLASSIFIERS[trunk]} (features.*), or set {LPIPS_FOLDER} to a folder that "
        f"holds it as {name}."
    )
    folder = os.environ.get(LPIPS_FOLDER)
    if file is None and folder:
        file = Path(folder).expanduser() / name
    if file is not None:
        return _with_heads(trunk, file, file.name, advice)
    try:
        fetched = fetch_classifier(_TORCHVISION[trunk], offline=offline, on_progress=on_progress)
    except (HubError, WeightsError) as error:
        raise (WeightsError if offline else type(error))(f"LPIPS needs a classifier: {error} {advice}") from error
    return _with_heads(trunk, fetched, fetched.name, advice)


def _with_heads(trunk: str, file: Path, source: str, advice: str) -> FeatureWeights:
    """What a file holds of LPIPS; where it holds a classifier alone, with the heads of the package."""
    state = _read(file, advice, lambda key: _LPIPS_NAME.fullmatch(key) is not None)
    if not any(key.startswith("lin") for key in state):
        heads = _read(_HEADS, "Install ddnsr again.")
        state |= {key.partition(".")[2]: tensor for key, tensor in heads.items() if key.startswith(f"{trunk}.")}
        source = f"{source} with the heads of lpips 0.1.4"
    return FeatureWeights(state=state, source=source, sha256=sha256_of(file))


def _read(path: Path, advice: str, wanted: Callable[[str], bool] = lambda _name: True) -> dict[str, Tensor]:
    """The tensors of those names in a file, by the readers for RRDB files; what these say of RRDB in a failure,
    `advice` replaces.
    """
    try:
        loaded = read_safetensors(path, wanted)[0] if file_kind(path) == "safetensors" else read_pickle(path)
    except WeightsError as error:
        raise WeightsError(f"{str(error).partition(LOADS)[0].rstrip()} {advice}") from error
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{path.name} holds no named tensors. {advice}")
    named = {str(name): tensor for name, tensor in loaded.items() if isinstance(tensor, Tensor)}
    return {name: tensor for name, tensor in named.items() if wanted(name)}


def _is_vgg19_up_to(deepest: int, name: str) -> bool:
    match = _VGG19_NAME.fullmatch(name)
    return match is not None and int(match[1]) <= deepest


def load_niqe_model() -> PristineModel:
    """NIQE's statistics of pristine photos, which come with the package. Raises WeightsError when they are damaged."""
    state = _read(_NIQE, "Install ddnsr again.")
    return PristineModel(mean=state["mu_pris_param"].numpy()[0], covariance=state["cov_pris_param"].numpy())
