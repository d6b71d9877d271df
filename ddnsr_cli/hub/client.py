"""The Hub's client, held short: quiet, and bounded in how long it waits."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

from ddnsr_cli.errors import DdnsrError, HubError
from ddnsr_cli.hub.failures import kinds_of_failure, refusal

if TYPE_CHECKING:
    from httpx2 import Client, Request, Response

MAX_TRIES = 3  # requests in a row without an answer, or without new data


def settings() -> ModuleType:
    """The client's settings, read from the environment at its first import.

    Before that, two of its habits are turned off unless the user has set them. Xet is a transport whose waiting cannot
    be bounded from here, and plain HTTP serves the same files. Telemetry asks the endpoint one question more.
    """
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import constants

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
        """Bytes on the wire, told beside those of the file: not counted twice."""

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
def told(explained: Callable[[BaseException], HubError]) -> Iterator[None]:
    """Turn every failure of the client into the error that `explained` makes of it, and keep the client quiet."""
    settings()
    try:
        with quiet():
            yield
    except DdnsrError:
        raise
    except kinds_of_failure() as cause:
        raise explained(cause) from cause
