"""Files to a model repository of the Hugging Face Hub: all in one commit, and looked at afterwards.

The content goes over plain HTTP whatever the client prefers: that is how its progress can be shown and its waiting be
bounded. Nothing is sent twice: a second upload of the same files makes no commit and gives the revision that is there.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from ddnsr_cli.errors import HubError
from ddnsr_cli.weights.hub.client import explain, settings, watched, wrap_errors
from ddnsr_cli.weights.hub.download import HubAccess, Progress, cache_dir_of, endpoint_of, timeout_of

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

BY_SETTINGS = HubAccess()
PATIENCE_S = 15.0  # a commit takes the Hub longer than an answer about a file: seconds, not tens of them
_ADVICE = "Check the connection and run it again: what has arrived is not sent twice"


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """Where files are after an upload."""

    url: str
    """The repository's page."""

    revision: str
    """The full commit (40 digits) that holds them."""


def check_repo(repo: str) -> None:
    """Raise HubError when `repo` cannot be the name of a repository, `owner/name`. Asks nobody."""
    with _wrap_errors(repo, BY_SETTINGS):
        from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # exported lazily

        if repo.count("/") != 1:
            raise HubError(f"{repo!r} is no name of a Hub repository. Give owner/name.")
        validate_repo_id(repo)


def upload(
    repo: str,
    files: Mapping[str, bytes],
    *,
    message: str,
    private: bool = False,
    on_progress: Progress | None = None,
    hub: HubAccess = BY_SETTINGS,
) -> Pushed:
    """Put files into a model repository, made when missing, by one commit on `main` with this message.

    files: content by path in the repository; other files there stay. private: make it a private one; of one that is
    there it must be true already. on_progress: bytes done and in all, of the safetensors files.
    The token is that of `hub`, else `HF_TOKEN` or the login's. At the end the Hub is asked for the hashes of what it
    stored, so the revision is known to hold these bytes.
    Raises HubError when there is no token, in offline mode, and when the Hub refuses, is silent (some 50 seconds at
    most), cannot be reached or stored something else.
    """
    check_repo(repo)
    if settings().HF_HUB_OFFLINE:
        raise HubError(f"upload to {repo}: HF_HUB_OFFLINE is set, and offline the Hub is not asked. Unset it.")
    timeout_s = hub.timeout_s or max(PATIENCE_S, timeout_of(hub))
    with _wrap_errors(repo, hub), watched(f"upload to {repo}", timeout_s), _no_bars():
        from huggingface_hub import HfApi

        api = HfApi(endpoint=hub.endpoint, token=_token(hub))
        try:
            return _push(api, repo, files, message=message, private=private, report=on_progress)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as cause:  # JSON of another kind, or none
            raise HubError(_no_hub(repo, endpoint_of(hub))) from cause


def _push(
    api: "HfApi", repo: str, files: Mapping[str, bytes], *, message: str, private: bool, report: Progress | None
) -> Pushed:
    # None, not False: an organization may have set that its new repositories are private.
    api.create_repo(repo, private=private or None, exist_ok=True)
    if private and not api.model_info(repo).private:
        raise HubError(
            f"{api.endpoint}/{repo} exists and is public: --private makes new repositories private, not old ones. "
            f"Nothing was sent. Change it in its settings, or choose another name."
        )
    done = api.create_commit(repo, _operations(files, report), commit_message=message)
    if not re.fullmatch("[0-9a-f]{40}", done.oid):
        raise HubError(_no_hub(repo, api.endpoint))
    _check_stored(api, repo, done.oid, files)
    return Pushed(url=f"{api.endpoint}/{repo}", revision=done.oid)


class _Content(io.BytesIO):
    """Bytes that tell how far they were read, once `on_read` is set."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.on_read: Callable[[], None] | None = None
        self.sent = 0  # the furthest: the client goes back to the start, also when it is done

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        if self.on_read is not None:
            self.sent = max(self.sent, self.tell())
            self.on_read()
        return piece


def _operations(files: Mapping[str, bytes], report: Progress | None) -> list["CommitOperationAdd"]:
    from huggingface_hub import CommitOperationAdd

    contents = {name: _Content(content) for name, content in files.items()}
    made = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in contents.items()]
    if report is not None:  # only now: the client has hashed what it is to send
        large = [content for name, content in contents.items() if name.endswith(".safetensors")]
        on_read = partial(_report, large, sum(content.getbuffer().nbytes for content in large), report, Lock())
        for content in large:
            content.on_read = on_read
    return made


def _report(contents: Sequence[_Content], total: int, report: Progress, lock: Lock) -> None:
    with lock:  # the client sends the files side by side
        report(sum(content.sent for content in contents), total)


def _check_stored(api: "HfApi", repo: str, revision: str, files: Mapping[str, bytes]) -> None:
    """A repository's `.gitignore` makes the client leave files out without a word, for one."""
    info = api.model_info(repo, revision=revision, files_metadata=True)
    stored = {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id for file in info.siblings or ()}
    for name, content in files.items():
        git_hash = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        if stored.get(name) not in (hashlib.sha256(content).hexdigest(), git_hash):
            state = "holds another" if name in stored else "has no"
            raise HubError(
                f"upload to {repo}: the revision {revision} {state} {name}. Do not use it; look for a .gitignore in "
                f"the repository, and run it again."
            )


def _no_hub(repo: str, endpoint: str) -> str:
    return (
        f"upload to {repo}: {endpoint} does not answer as a Hub does: a sign-in page or a filter in between? Open the "
        f"address in a browser, or check HF_ENDPOINT."
    )


def _token(hub: HubAccess) -> str:
    from huggingface_hub import get_token

    token = hub.token if isinstance(hub.token, str) else None
    if token is None and hub.token is not False:
        token = get_token()
    if not token:
        raise HubError(
            f"There is no token for {endpoint_of(hub)}: uploading needs one with the right to write. Log in (hf auth "
            f"login), or set HF_TOKEN."
        )
    return token


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the client from drawing; what is done is reported through the content."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported lazily
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()


def _wrap_errors(repo: str, hub: HubAccess) -> AbstractContextManager[None]:
    return wrap_errors(lambda cause: _explained(cause, repo, hub))


def _explained(cause: BaseException, repo: str, hub: HubAccess) -> HubError:
    while type(cause) is RuntimeError and cause.__cause__ is not None:  # from the client's thread for a file
        cause = cause.__cause__
    if isinstance(cause, HubError):
        return HubError(str(cause))
    what, endpoint = f"upload to {repo}", endpoint_of(hub)
    lines = str(cause).splitlines()
    if len(lines) > 1 and "metadata in README.md" in lines[0]:
        said = "".join(filter(str.isprintable, lines[1])).lstrip("- ")[:160].rstrip(" .")
        return HubError(f"{what}: {endpoint} refuses the head of README.md: {said}. Correct it in the run's folder.")
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if status in (409, 412):
        return HubError(f"{what}: the repository was changed at the same time (status {status}). Run it again.")
    if status == 404 and type(cause).__name__ == "HfHubHTTPError":
        return HubError(f"{what}: {endpoint} knows no such place (status 404). Check the owner's name and HF_ENDPOINT.")
    return explain(cause, what, repo, endpoint, cache_dir_of(hub), advice=_ADVICE, undone="cannot be made at")
