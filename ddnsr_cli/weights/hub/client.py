"""The Hub's client, held short: quiet, and bounded in how long it waits."""

import errno
import importlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ddnsr_cli.errors import DdnsrError, HubError

if TYPE_CHECKING:
    from httpx2 import Client, Request, Response

BUSY = (408, 429)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
_ADVICE = "Check the connection, or use weights that are here with --offline"

# Class name, a word of its text (any of them; none: every text), message. The first that fits is reported.
_CASES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("GatedRepoError", (), "{repo} asks for consent: accept its terms at {endpoint}/{repo}, log in (hf auth login)."),
    ("DisabledRepoError", (), "{repo} was disabled by the Hub. Use other weights: ddnsr weights list."),
    ("RepositoryNotFoundError", (), "{endpoint} has no repository {repo}, or it is private: check the name, or log in "
     "(hf auth login, or HF_TOKEN)."),
    ("RevisionNotFoundError", (), "{repo} has no such revision ({file}). Check what follows the @."),
    ("RemoteEntryNotFoundError", (), "{repo} has no such file ({file}). See {endpoint}/{repo}/tree/main."),
    ("HFValidationError", (), "{repo} is no name of a Hub repository: {text}."),
    ("InvalidURL", (), "{endpoint} is no address of a Hub ({text}). Check HF_ENDPOINT."),
    ("UnsupportedProtocol", (), "{endpoint} is no address of a Hub ({text}). Check HF_ENDPOINT."),
    ("ProxyError", (), "{file}: the proxy refuses ({text}). Check HTTPS_PROXY and NO_PROXY."),
    ("TimeoutException", (), "{file}: {endpoint} is silent. {advice}."),
    ("ConnectError", ("name resolution", "not known", "getaddrinfo", "nodename", "No address"),
     "{file}: the address of {endpoint} is not known here. {advice}."),
    ("ConnectError", ("CERTIFICATE", "certificate"),
     "{file}: the certificate of {endpoint} is not trusted ({text}). Check the clock and the network."),
    ("ConnectError", (), "{file}: {endpoint} cannot be reached ({text}). {advice}."),
    ("TooManyRedirects", (), "{file}: {endpoint} leads in circles. Check HF_ENDPOINT."),
    ("TransportError", (), "{file}: the transfer with {endpoint} broke off ({text}). Try again."),
    ("OSError", ("Consistency check",), "{file}: the transfer from {endpoint} broke off, it was too short. Try again."),
    ("FileMetadataError", (), "{endpoint} does not answer as a Hub does ({text}). Check HF_ENDPOINT."),
)  # fmt: skip

MAX_TRIES = 3  # requests in a row without an answer, or without new data


def kinds_of_failure() -> tuple[type[BaseException], ...]:
    """What the client raises when things go wrong."""
    from huggingface_hub.errors import HfHubHTTPError

    transport = next(c for c in HfHubHTTPError.__mro__ if c.__module__.split(".")[0] in ("httpx", "httpx2"))
    # An address that cannot be parsed has a class of its own, outside the tree of the transport's errors.
    invalid: type[BaseException] = importlib.import_module(transport.__module__.split(".")[0]).InvalidURL
    return (transport, invalid, OSError, ValueError, RuntimeError)


def refusal(status: int) -> str | None:
    """What to say of an HTTP status that means "later"; None for the others."""
    if status in BUSY:
        return f"the Hub is busy, or had too many requests from here (status {status}). Try again in some minutes."
    if status >= 500:
        return f"the Hub has trouble of its own (status {status}). Try again later."
    return None


def explain(
    cause: BaseException,
    file: str,
    repo: str,
    endpoint: str,
    cache_dir: Path,
    *,
    advice: str = _ADVICE,
    undone: str = "cannot be fetched from",
) -> HubError:
    """The error to raise for a failure of the client. What follows the cause is for the message.

    file: what was wanted, or done. advice: what to do without a connection. undone: between `file` and the endpoint.
    """
    inner = _inner(cause)
    names, text = {kind.__name__ for kind in type(inner).__mro__}, str(inner)
    proxy = " (a proxy is set: is it right?)" if _is_proxied(endpoint) else ""
    facts = {"file": file, "repo": repo, "endpoint": endpoint, "text": _one_line(inner), "advice": advice + proxy}
    for name, words, message in _CASES:
        if name in names and (not words or any(word in text for word in words)):
            return HubError(message.format(**facts))
    if isinstance(inner, OSError) and inner.errno in _NO_ROOM:
        reason = inner.strerror or _one_line(inner)
        return HubError(
            f"The cache {cache_dir} cannot be written: {reason}. Make room, or set HF_HOME to another folder."
        )
    return HubError(_about_status(inner, file, endpoint) or f"{file} {undone} {endpoint}: {facts['text']}.")


def _inner(cause: BaseException) -> BaseException:
    """The reason inside the client's general errors."""
    general = type(cause) is ValueError or type(cause).__name__ == "LocalEntryNotFoundError"
    return cause.__cause__ if general and cause.__cause__ is not None else cause


def _is_proxied(endpoint: str) -> bool:
    try:
        return bool(getproxies()) and not proxy_bypass(urlsplit(endpoint).netloc)
    except ValueError:  # no address
        return False


def _about_status(cause: BaseException, file: str, endpoint: str) -> str | None:
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if not isinstance(status, int):
        return None
    said = _one_line(getattr(cause, "server_message", None) or "")
    said = f": {said}" if said else ""
    if status == 401:
        return f"{file}: the token is not accepted{said}. Log in again (hf auth login), or unset HF_TOKEN."
    if status == 403:
        return f"{file}: access is refused{said}. Check the token's rights at {endpoint}/settings/tokens."
    return f"{file}: {refusal(status) or f'{endpoint} answers with status {status}{said}.'}"


def _one_line(what: object) -> str:
    """First line of what others say, short and printable: it may come from a hostile server."""
    lines = str(what).strip().splitlines() or [type(what).__name__ if isinstance(what, BaseException) else ""]
    return "".join(char for char in lines[0] if char.isprintable())[:120].rstrip(" .")


def settings() -> ModuleType:
    """The client's settings, read from the environment at its first import.

    Before that, two of its habits are turned off unless the user has set them. Xet is a transport whose waiting cannot
    be bounded from here, and plain HTTP serves the same files. Telemetry asks the endpoint one question more.
    Raises HubError where the client cannot read one, as a time that is no number.
    """
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from huggingface_hub import constants
    except ValueError as cause:
        raise HubError(f"A setting of the Hub's client makes no sense ({_one_line(cause)}). Check HF_HUB_*.") from cause
    return constants


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the client's warnings and log lines off the terminal: what matters is in our errors."""
    import huggingface_hub.utils.logging  # sets the level when it is first imported: that must be over

    logger = logging.getLogger(huggingface_hub.__name__)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class Guard:
    """Bounds the client's patience.

    Its own retries wait for minutes when a server says nothing, and as long as the server likes when it says 429.
    Our error, raised from its hooks, is none that it retries.
    """

    def __init__(self, what: str, timeout_s: float) -> None:
        self.what = what
        self.timeout_s = timeout_s
        self.tries: dict[tuple[str, str], int] = {}

    def on_request(self, request: "Request") -> None:
        """Called by the client before each request."""
        key = (request.method, str(request.url))
        self.tries[key] = self.tries.get(key, 0) + 1
        if self.tries[key] > MAX_TRIES:
            raise HubError(
                f"{self.what}: the Hub stopped answering ({MAX_TRIES} tries of at most {self.timeout_s:g} s without "
                f"data). Check the connection and try again."
            )
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), self.timeout_s)

    def on_response(self, response: "Response") -> None:
        """Called by the client with the head of each answer."""
        if message := refusal(response.status_code):
            raise HubError(f"{self.what}: {message}")
        if response.request.method == "HEAD":
            self.on_data()

    def on_data(self) -> None:
        """The Hub is alive: forget the vain tries."""
        self.tries.clear()


@contextmanager
def watched(what: str, timeout_s: float) -> Iterator[Guard]:
    """Have the client work under a Guard while the block runs. what: the file, for messages."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory  # it has no public name; the same in 1.x and 2.x

    guard = Guard(what, timeout_s)

    def client() -> "Client":
        made = default_client_factory()
        hooks = made.event_hooks
        made.event_hooks = {
            "request": [*hooks["request"], guard.on_request],
            "response": [*hooks["response"], guard.on_response],
        }
        return made

    set_client_factory(client)
    try:
        yield guard
    finally:
        set_client_factory(default_client_factory)


class Bar:
    """Has the face of a tqdm bar, reports instead of drawing. See `bar_class`."""

    report: ClassVar[Callable[[int, int], None]]
    size_bytes: ClassVar[int | None]

    def __init__(self, *_: object, total: int | None = None, initial: int = 0, **__: object) -> None:
        # What else the client gives differs between its versions: title, unit, whether to draw.
        self.total = total or self.size_bytes or 0
        self.done = initial
        type(self).report(self.done, self.total)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, count: int | None = 1) -> None:
        """`count` more bytes of the file are there."""
        self.done += count or 0
        type(self).report(self.done, self.total)

    def update_transfer(self, count: int | None = 1) -> None:
        """Bytes on the wire, reported beside those of the file: not counted twice."""

    def set_description(self, *_: object, **__: object) -> None:
        """Nothing is drawn."""

    def refresh(self, *_: object, **__: object) -> None:
        """Nothing is drawn."""

    def close(self) -> None:
        """Nothing is open."""


def bar_class(report: Callable[[int, int], None], size_bytes: int | None) -> type[Bar]:
    """A class for the client's `tqdm_class`. report: called with the bytes done and in all, 0 when not known."""
    return type("ReportingBar", (Bar,), {"report": staticmethod(report), "size_bytes": size_bytes})


@contextmanager
def wrap_errors(explained: Callable[[BaseException], HubError]) -> Iterator[None]:
    """Turn every failure of the client into the error that `explained` makes of it, and keep the client quiet."""
    settings()
    try:
        with quiet():
            yield
    except DdnsrError:
        raise
    except kinds_of_failure() as cause:
        raise explained(cause) from cause
