"""The page's server: on the loopback device only, behind a random word in the address, with nothing from elsewhere."""

import io
import json
import math
import re
import secrets
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ddnsr_cli.commands.upscale.options import UpscaleOptions
from ddnsr_cli.errors import ConfigError, DdnsrError, ImageReadError, printable
from ddnsr_cli.inference.pipeline import LookOptions
from ddnsr_cli.io.formats import FOREIGN_EXTENSIONS, READABLE_EXTENSIONS
from ddnsr_cli.io.image import MAX_PIXELS, rgb8, to_8_bits, to_srgb
from ddnsr_cli.io.read import read_image
from ddnsr_cli.io.write import WriteOptions
from ddnsr_cli.processing.resize import OutputSize
from ddnsr_cli.reports.page import PageKind, page_html, reduced, words
from ddnsr_cli.studio.queue import Item, Queue, not_put
from ddnsr_cli.weights.registry import Registry
from ddnsr_cli.weights.resolve import released_entry

HOST = "127.0.0.1"
FORMATS = ("png", "jpg", "webp", "tif", "avif")
SHOWN_BY_BROWSERS = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".avif": "image/avif"}
MOST_UPLOAD_BYTES = 4 << 30
MOST_ORDER_BYTES = 1 << 20
MOST_SHOWN_PX = 40_000_000
"""Pixels of a result that the browser gets as it is, to be compared; of a larger one it gets a smaller copy."""

THUMBNAIL_PX, VIEW_PX = 320, 4096
"""Longer side of a thumbnail, and of a copy to be compared."""

_PAGE = PageKind(package="ddnsr_cli.studio", body="page.html", styles=("page.css",), script="page.js", served=True)
_HEADERS = (
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
)
_OUR_HOST = re.compile(rb"(%s|localhost)(:[0-9]*)?" % re.escape(HOST.encode()))
"""What browsers name when they ask us; without a port where that is 80."""

_START_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A model that the page offers."""

    name: str
    """As `-m` takes it."""

    title: str
    about: str


@dataclass(frozen=True, kw_only=True)
class StudioOptions:
    """What the page offers, and how images are enlarged."""

    choices: tuple[Choice, ...]
    """The first is taken where the user takes none."""

    upscale: UpscaleOptions = field(default_factory=UpscaleOptions)
    """Device, number format, tiles and limits of all images; model, size and look are chosen on the page."""

    results: Path | None = None
    """Folder in which results stay; None: they are gone with the server."""

    port: int = 0
    """0: one that is free."""


def choices_of(registry: Registry, first: str, own: tuple[str, ...]) -> tuple[Choice, ...]:
    """The user's own models, then those of the registry that are here or can be fetched; `first` before all.

    first: a name among them.
    """
    found = [Choice(name=name, title=Path(name).name, about=name) for name in own if not released_entry(name, registry)]
    for entry in registry.entries:
        if entry.network == "rrdb" and not registry.lacks(entry):
            size = f"{entry.size_bytes / 1e6:.0f} MB"
            place = f"fetched when first used, {size}" if entry.repo else f"it is here, {size}"
            terms = "for research only" if entry.research_only else entry.license
            about = f"{entry.description.partition('. ')[0].rstrip('.')}. License: {terms}; {place}."
            found.append(Choice(name=entry.name, title=entry.title, about=about))
    return tuple(sorted(found, key=lambda choice: choice.name != first))


class Studio:
    """What the browser can ask for. Everything lies below a word that only whoever was given the address knows."""

    def __init__(self, queue: Queue, options: StudioOptions) -> None:
        self.word = secrets.token_urlsafe(24)
        self._queue = queue
        self._options = options
        self._one_at_a_time = threading.Lock()  # decoding takes a lot of memory
        self._began = secrets.token_hex(4)

    def app(self) -> ASGIApp:
        """For a server of ASGI."""
        inside = [
            Route("/", self.page),
            Route("/state", self.state),
            Route("/images", self.take, methods=["PUT"]),
            Route("/enlarge", self.enlarge, methods=["POST"]),
            Route("/results.zip", self.results),
            Route("/images/{number:int}", self.remove, methods=["DELETE"]),
            Route("/images/{number:int}/stop", self.stop, methods=["POST"]),
            Route("/images/{number:int}/result", self.result),
            Route("/images/{number:int}/{view}", self.view),
        ]
        app = Starlette(routes=[Mount(f"/{self.word}", routes=inside), Route("/favicon.ico", _nothing)])
        app.add_exception_handler(DdnsrError, _refused)
        return _Guard(app)

    async def page(self, _request: Request) -> Response:
        """The page itself."""
        return HTMLResponse(page_of(self._options), headers={"cache-control": "no-store"})

    async def state(self, request: Request) -> Response:
        """All images, as JSON; nothing (204) where `since` is the state as it is."""
        version, items = self._queue.snapshot()
        mark = f"{self._began}-{version}"
        if request.query_params.get("since") == mark:
            return Response(status_code=204)
        return JSONResponse({"mark": mark, "images": [item_json(item) for item in items]})

    async def take(self, request: Request) -> Response:
        """An image from the browser: its bytes as they are, its name in the address."""
        number, path = self._queue.place(request.query_params.get("name", ""))
        try:
            await self._write(request, path)
        except ClientDisconnect:
            self._queue.drop(number)
            return Response(status_code=400)
        except BaseException:
            self._queue.drop(number)
            raise
        return JSONResponse(item_json(await run_in_threadpool(self._queue.add, number, path)), status_code=201)

    async def _write(self, request: Request, path: Path) -> None:
        size = 0
        try:
            with path.open("wb") as file:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > MOST_UPLOAD_BYTES:
                        raise ImageReadError(
                            f"{path.name} has more than {MOST_UPLOAD_BYTES >> 30} GB. Shrink it first."
                        )
                    file.write(chunk)
        except OSError as error:
            raise not_put(path, error) from error

    async def enlarge(self, request: Request) -> Response:
        """Let images wait for their turn, with the settings of the page."""
        asked = await _order(request)
        options, suffix = upscale_options(asked, self._options)
        numbers = [number for number in _list(asked.get("images")) if isinstance(number, int)]
        return JSONResponse({"waiting": self._queue.enlarge(numbers, options, suffix)})

    async def stop(self, request: Request) -> Response:
        """Take an image out of the queue."""
        self._queue.stop(request.path_params["number"])
        return Response(status_code=204)

    async def remove(self, request: Request) -> Response:
        """Take an image off the page."""
        await run_in_threadpool(self._queue.remove, request.path_params["number"])
        return Response(status_code=204)

    async def result(self, request: Request) -> Response:
        """The result, to be saved."""
        item = self._item(request)
        if item is None or item.result is None or not item.result.output.is_file():
            return _gone()
        path = item.result.output
        return FileResponse(path, filename=path.name, media_type="application/octet-stream")

    async def results(self, _request: Request) -> Response:
        """All results in one archive, to be saved."""
        _, items = self._queue.snapshot()
        paths = [item.result.output for item in items if item.result and item.result.output.is_file()]
        if not paths:
            return _gone()
        archive = await run_in_threadpool(self._queue.archive, paths)
        return FileResponse(
            archive,
            filename="ddnsr-results.zip",
            media_type="application/zip",
            background=BackgroundTask(archive.unlink, missing_ok=True),
        )

    async def view(self, request: Request) -> Response:
        """The image to be looked at: a thumbnail of it, it as it was, or its result."""
        item, view = self._item(request), request.path_params["view"]
        if item is None or view not in {"thumbnail", "before", "after"}:
            return _gone()
        path, most_px = item.source, THUMBNAIL_PX if view == "thumbnail" else VIEW_PX
        if view == "after":
            if item.result is None or not item.result.output.is_file():
                return _gone()
            path = item.result.output
            kind = SHOWN_BY_BROWSERS.get(path.suffix.lower())
            if kind and item.result.width * item.result.height <= MOST_SHOWN_PX:
                return FileResponse(path, media_type=kind, headers=_KEPT)
        content, kind = await run_in_threadpool(self._shown, path, most_px)
        return Response(content, media_type=kind, headers=_KEPT)

    def _shown(self, path: Path, most_px: int) -> tuple[bytes, str]:
        with self._one_at_a_time:
            return copy_to_show(path, most_px, max_pixels=max(self._queue.max_pixels, 64 * MAX_PIXELS))

    def _item(self, request: Request) -> Item | None:
        return self._queue.item(request.path_params["number"])


_KEPT = {"cache-control": "private, max-age=86400, immutable"}
"""The addresses have the version of what is shown in them."""


def page_of(options: StudioOptions) -> str:
    """The page, as HTML."""
    models = "".join(
        f'<option value="{words(one.name)}" data-about="{words(one.about)}">{words(one.title)}</option>'
        for one in options.choices
    )
    kept = "" if options.results is None else f"Results are also kept in {words(str(options.results))}. "
    accept = ",".join(("image/*", *sorted(READABLE_EXTENSIONS | FOREIGN_EXTENSIONS)))
    formats = "".join(f"<option>{name}</option>" for name in FORMATS)
    parts = {"models": models, "kept": kept, "formats": formats, "accept": accept}
    return page_html(_PAGE, parts, title="ddnsr studio")


def item_json(item: Item) -> dict[str, Any]:
    """An image as the page takes it."""
    done = item.result
    result: dict[str, Any] | None = None
    if done is not None:
        result = {
            "name": done.output.name,
            "width": done.width,
            "height": done.height,
            "bytes": _bytes_of(done.output),
            "seconds": round(done.seconds, 1),
            "version": item.version,
        }
    return {
        "number": item.number,
        "name": item.name,
        "width": item.width,
        "height": item.height,
        "state": item.state.value,
        "model": Path(item.model).name if item.model else None,
        "tiles": item.tiles,
        "fetched": item.fetched,
        "notes": [printable(note) for note in item.notes],
        "error": printable(item.error),
        "result": result,
    }


def _bytes_of(result: Path) -> int | None:
    """None: it is gone, as when the image is enlarged anew."""
    try:
        return result.stat().st_size
    except OSError:
        return None


def upscale_options(asked: Mapping[str, Any], studio: StudioOptions) -> tuple[UpscaleOptions, str]:
    """What the page asks for, and what the names of results end in. Raises ConfigError."""
    model, file_format = asked.get("model"), asked.get("format", "png")
    if model not in [choice.name for choice in studio.choices]:
        raise ConfigError("The page asks for a model that is not offered. Load it again.")
    if file_format not in FORMATS:
        raise ConfigError(f"Results can be {', '.join(FORMATS)}. Choose one of them.")
    scale, long_side = _number(asked, "scale"), _number(asked, "long_side")
    if scale is not None and not 0.25 <= scale <= 16:
        raise ConfigError(f"The size must be 0.25 to 16 times the image's, got {scale:g}.")
    if long_side is not None and long_side != int(long_side):
        raise ConfigError(f"The longer side is a whole number of pixels, got {long_side:g}.")
    quality = _number(asked, "quality", 95)
    if quality is None or quality not in range(1, 101):
        raise ConfigError(f"The quality is a whole number from 1 to 100, got {quality}.")
    options = replace(
        studio.upscale,
        model=model,
        format=file_format,
        size=OutputSize(scale=scale, long_side=None if long_side is None else int(long_side)),
        look=LookOptions(strength=_told(asked, "strength", 1.0), grain=_told(asked, "grain", 0.0)),
        write=WriteOptions(quality=int(quality)),
    )
    return options, options.size.ending


def _number(asked: Mapping[str, Any], name: str, default: float | None = None) -> float | None:
    value = asked.get(name, default)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)):
        return value
    raise ConfigError(f"{name.replace('_', ' ')} must be a number, got {value!r}.")


def _told(asked: Mapping[str, Any], name: str, default: float) -> float:
    value = _number(asked, name, default)
    if value is None:
        raise ConfigError(f"{name} must be a number, got None.")
    return value


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


async def _order(request: Request) -> Mapping[str, Any]:
    """What the browser sends as JSON. Raises ConfigError."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_ORDER_BYTES:
            raise ConfigError("The page asks for too much at once.")
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise ConfigError("The page asks for something that is not understood. Load it again.")
    return asked


def copy_to_show(path: Path, most_px: int, *, max_pixels: int) -> tuple[bytes, str]:
    """An image file as browsers can show it, in sRGB, its longer side at most `most_px`; and its MIME type.

    Raises ImageReadError.
    """
    image = to_srgb(read_image(path, max_pixels=max_pixels))
    rgb = Image.fromarray(reduced(rgb8(image), most_px=most_px))
    buffer = io.BytesIO()
    if image.alpha is None:
        rgb.save(buffer, format="JPEG", quality=92, subsampling=0)
        return buffer.getvalue(), "image/jpeg"
    alpha = to_8_bits(image.alpha)
    rgb.putalpha(Image.fromarray(alpha).resize(rgb.size, Image.Resampling.LANCZOS))
    rgb.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue(), "image/png"


async def _nothing(_request: Request) -> Response:
    return Response(status_code=204)


def _gone() -> Response:
    return JSONResponse({"error": "It is not there any more."}, status_code=404)


async def _refused(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": printable(" ".join(str(error).split()))}, status_code=422)


class _Guard:
    """Refuses requests that name another host (a page from elsewhere whose name was turned to this machine)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Any) -> None:  # noqa: ANN401 - a message of ASGI
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        host = dict(scope.get("headers", ())).get(b"host", b"")
        app: Callable[[Scope, Receive, Any], Awaitable[None]] = self._app
        if scope["type"] != "http" or not _OUR_HOST.fullmatch(host):
            app = Response("ddnsr studio is for this machine only.\n", status_code=403, media_type="text/plain")
        await app(scope, receive, send_guarded)


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server at work."""

    address: str
    """To be opened in a browser; whoever knows it may use the page."""

    queue: Queue


@contextmanager
def running(options: StudioOptions, folder: Path) -> Iterator[Running]:
    """The server, in threads of its own, for as long as the block lasts; then the image in work ends after its tile.

    folder: for what the browser sends, and for results. Raises ConfigError where the port is not to be had.
    """
    listening = _listening(options.port)
    queue = Queue(folder, results=options.results, max_pixels=options.upscale.max_pixels)
    studio = Studio(queue, options)
    config = uvicorn.Config(
        studio.app(), loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None, access_log=False,
        server_header=False, timeout_graceful_shutdown=2,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        until = time.monotonic() + _START_S
        while not server.started and thread.is_alive() and time.monotonic() < until:
            time.sleep(0.01)
        yield Running(address=f"http://{HOST}:{listening.getsockname()[1]}/{studio.word}/", queue=queue)
    finally:
        server.should_exit = True
        queue.close()
        thread.join(5)
        listening.close()


def _listening(port: int) -> socket.socket:
    """Raises ConfigError."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(64)
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"Port {port} cannot be used ({reason}). Leave --port out: a free one is taken then."
        ) from error
    return listening
