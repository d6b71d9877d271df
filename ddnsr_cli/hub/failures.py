"""The failures of the Hub's client, told in one line each.

They come from five modules and two generations (`httpx` and `httpx2`), and the reason is often only in `__cause__`;
so they are told apart by the names of their classes.
"""

import errno
import importlib
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ddnsr_cli.errors import HubError

BUSY = (408, 429)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
_ADVICE = "Check the connection, or use weights that are here with --offline"

# Class name, a word of its text (any of them; none: every text), message. The first that fits is told.
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
        return f"{file}: the token is not accepted{said}. Log in anew (hf auth login), or unset HF_TOKEN."
    if status == 403:
        return f"{file}: access is refused{said}. Check the token's rights at {endpoint}/settings/tokens."
    return f"{file}: {refusal(status) or f'{endpoint} answers with status {status}{said}.'}"


def _one_line(what: object) -> str:
    """First line of what others say, short and printable: it may come from a hostile server."""
    lines = str(what).strip().splitlines() or [type(what).__name__ if isinstance(what, BaseException) else ""]
    return "".join(char for char in lines[0] if char.isprintable())[:120].rstrip(" .")
