"""Files of the Hugging Face Hub: from the cache without a request, else fetched once, checked by our own SHA-256.

The client is `huggingface_hub`; its settings are honored: `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_TOKEN`, `HF_HOME`,
`HF_HUB_DOWNLOAD_TIMEOUT`, `HF_HUB_ETAG_TIMEOUT`. It reads them when it is first imported, so they must be set before
the program starts. Over plain HTTP it checks the size alone, and keeps a wrong file for good: hence the digest here.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from ddnsr_cli.errors import HubError, WeightsError
from ddnsr_cli.files import sha256_of
from ddnsr_cli.weights.hub.client import bar_class, explain, settings, watched, wrap_errors

Progress = Callable[[int, int], None]
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file of a Hub repository."""

    repo: str
    """`owner/name`."""

    name: str
    """Path in the repository."""

    revision: str = "main"
    """Branch, tag or commit. A full commit (40 digits) is pinned: once cached it is used without a request."""

    sha256: str | None = None
    """Digest that the file must have; None trusts what the Hub declares."""

    size_bytes: int | None = None
    """For the progress, when the Hub does not tell."""

    def __str__(self) -> str:
        return f"{self.name} of {self.repo}@{self.revision[:12]}"

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a full commit, which never changes."""
        return len(self.revision) == 40 and set(self.revision) <= _HEX


@dataclass(frozen=True, kw_only=True)
class HubAccess:
    """Where and how the Hub is asked. None leaves it to the client's settings."""

    endpoint: str | None = None
    cache_dir: Path | None = None

    token: str | bool | None = None
    """False sends none."""

    timeout_s: float | None = None
    """Seconds of silence after which one request is given up; there are three in all. The client's are 10."""


def fetch(
    file: HubFile,
    *,
    offline: bool = False,
    on_progress: Progress | None = None,
    hub: HubAccess = HubAccess(),
    option: str | None = "-m",
) -> Path:
    """Path of the file in the local cache, fetched when it is not there.

    on_progress: called with the bytes done and the bytes in all. offline: ask nobody, as with `HF_HUB_OFFLINE`.
    option: by which the user could give a file instead, for messages; None: whoever calls says it.
    A pinned file in the cache costs no request. Every result has the digest that is pinned, or that the Hub declares.
    Raises HubError when the Hub cannot be reached or refuses, after some 40 seconds at most when it is silent;
    WeightsError when the content is not the expected one.
    """
    check_name(file)
    offline = offline or bool(settings().HF_HUB_OFFLINE)
    with wrap_download_errors(file, hub):
        cached = _cached(file, hub)
    damaged = cached is not None and not _is_whole(cached, file)
    if cached is not None and not damaged and (file.is_pinned or offline):
        return cached
    if offline:
        raise HubError(_offline_message(file, hub, option, damaged=damaged))
    try:
        return _fetch(file, hub, on_progress, force=damaged)
    except HubError as error:
        if cached is None or damaged:
            raise
        raise HubError(f"{error} A copy is in the cache: --offline uses it.") from error


def list_files(repo: str, *, revision: str = "main", offline: bool = False, hub: HubAccess = HubAccess()) -> list[str]:
    """Paths of all files of a repository, by one request. Raises HubError, as `fetch` does."""
    if offline or settings().HF_HUB_OFFLINE:
        raise HubError(f"The files of {repo} cannot be listed offline. Name the file: -m {repo}:FILE.")
    file = HubFile(repo=repo, name="the list of files", revision=revision)
    with wrap_download_errors(file, hub), watched(str(file), timeout_of(hub)):
        from huggingface_hub import HfApi

        api = HfApi(endpoint=hub.endpoint, token=hub.token)
        try:
            info = api.model_info(repo, revision=revision, timeout=timeout_of(hub))
        except (KeyError, TypeError, AttributeError) as cause:  # JSON of another kind
            raise HubError(no_hub_message(file, hub)) from cause
    return [sibling.rfilename for sibling in info.siblings or ()]


def _fetch(file: HubFile, hub: HubAccess, on_progress: Progress | None, *, force: bool) -> Path:
    with wrap_download_errors(file, hub), watched(str(file), timeout_of(hub)) as guard:
        expected, size = _declared(file, hub)

        def report(done: int, total: int) -> None:
            if done:
                guard.on_data()
            if on_progress is not None:
                on_progress(done, total)

        bar = bar_class(report, size)
        path = _download(file, hub, bar, force=force)
        if not _has(path, expected):
            path = _download(file, hub, bar, force=True)  # the copy in the cache, or the transfer, was broken
        if not _has(path, expected):
            _remove(path)
            raise WeightsError(
                f"{file} came twice with a wrong SHA-256 (expected {expected}); the copy was removed. Something "
                f"between here and {endpoint_of(hub)} alters it: try another network."
            )
    return path


def timeout_of(hub: HubAccess) -> float:
    """Seconds without an answer after which a request is given up."""
    return hub.timeout_s or float(max(settings().HF_HUB_ETAG_TIMEOUT, settings().HF_HUB_DOWNLOAD_TIMEOUT))


def cache_dir_of(hub: HubAccess) -> Path:
    """The folder that files of the Hub are kept in."""
    return hub.cache_dir or Path(settings().HF_HUB_CACHE)


def endpoint_of(hub: HubAccess) -> str:
    """The address of the Hub that is asked."""
    return str(hub.endpoint or settings().ENDPOINT)


def check_name(file: HubFile) -> None:
    """Refuse what is no plain path inside a repository."""
    odd = not file.name.isprintable() or "\\" in file.name
    if odd or any(part in ("", ".", "..") for part in file.name.split("/")):
        raise HubError(f"{file.name!r} is no path inside a repository. Give -m owner/name:path/to/file.")


def _cached(file: HubFile, hub: HubAccess) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(file.repo, file.name, cache_dir=cache_dir_of(hub), revision=file.revision)
    return Path(found) if isinstance(found, str) else None


def _is_whole(cached: Path, file: HubFile) -> bool:
    # The cache names a large file by the digest that the Hub declared for it, and links to it.
    return _has(cached, file.sha256 or digest_in(cached.resolve().name))


def _has(path: Path, sha256: str | None) -> bool:
    return sha256 is None or sha256_of(path) == sha256


def digest_in(text: str) -> str | None:
    """A text, when it is a SHA-256 in hexadecimal."""
    return text if len(text) == 64 and set(text) <= _HEX else None


def _declared(file: HubFile, hub: HubAccess) -> tuple[str | None, int | None]:
    """Digest and size that the file must have, by one request for its head. A wrong remote file ends it here."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(file.repo, file.name, revision=file.revision, endpoint=hub.endpoint)
    head = get_hf_file_metadata(url, token=hub.token, timeout=timeout_of(hub), endpoint=hub.endpoint)
    if head.commit_hash is None or head.etag is None:
        raise HubError(no_hub_message(file, hub))
    declared = digest_in(head.etag)  # small files, outside LFS, have a git hash instead
    if file.sha256 is not None and declared not in (None, file.sha256):
        raise WeightsError(
            f"{file} is not the released file: {endpoint_of(hub)} declares the SHA-256 {declared}, expected is "
            f"{file.sha256}. It was not fetched. Update ddnsr, or check HF_ENDPOINT."
        )
    return file.sha256 or declared, head.size or file.size_bytes


def _download(file: HubFile, hub: HubAccess, bar: type, *, force: bool) -> Path:
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(
        file.repo,
        file.name,
        revision=file.revision,
        cache_dir=cache_dir_of(hub),
        endpoint=hub.endpoint,
        token=hub.token,
        etag_timeout=timeout_of(hub),
        force_download=force,
        tqdm_class=bar,
    )
    return Path(path)


def _remove(path: Path) -> None:
    for link in (path.resolve(), path):
        link.unlink(missing_ok=True)


def no_hub_message(file: HubFile, hub: HubAccess) -> str:
    """What is said when something answers that is no Hub."""
    return (
        f"{endpoint_of(hub)} does not answer as a Hub does when asked for {file}: a sign-in page or a filter in "
        f"between? Open the address in a browser, or check HF_ENDPOINT."
    )


def _offline_message(file: HubFile, hub: HubAccess, option: str | None, *, damaged: bool) -> str:
    state = "is damaged in" if damaged else "is not in"
    instead = "" if option is None else f", or give a file with {option}"
    return (
        f"{file} {state} the cache {cache_dir_of(hub)}, and offline the Hub is not asked. Run once without --offline "
        f"and HF_HUB_OFFLINE{instead}."
    )


def wrap_download_errors(file: HubFile, hub: HubAccess) -> AbstractContextManager[None]:
    """Failures of the Hub's client inside the block become a `HubError` of one line."""
    return wrap_errors(lambda cause: explain(cause, str(file), file.repo, endpoint_of(hub), cache_dir_of(hub)))
