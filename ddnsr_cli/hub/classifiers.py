"""torchvision's classifiers, from PyTorch's own server, kept where PyTorch keeps them.

`torchvision` and `lpips` fetch the same files to the same place (`TORCH_HOME`, by default `~/.cache/torch`): what one
of them has fetched, or a person has copied there, is used. PyTorch's own downloader waits for ever when a server is
silent, and checks eight digits of the SHA-256; hence the one here.
"""

import hashlib
import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from ddnsr_cli.errors import HubError, WeightsError
from ddnsr_cli.files import atomic_path, sha256_of
from ddnsr_cli.hub.client import settings
from ddnsr_cli.hub.fetch import Progress

SERVER = "https://download.pytorch.org/models"
TIMEOUT_S = 10.0  # of silence
_PIECE_BYTES = 1 << 20


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
