"""A real browser for pages that people open: Chromium, driven through a pipe by the DevTools protocol.

No driver program and no Python package is needed. Everything that the page logs, throws or asks the network for is
kept, so that a test can say: nothing.
"""

import base64
import json
import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-features=BackForwardCache,SpareRendererForSitePerProcess",  # else each page has a process of its own
    "--remote-debugging-pipe",
)


class Browser:
    """One tab. Use it as a context manager: the browser ends with the block."""

    def __init__(self, profile: Path) -> None:
        self.requests: list[str] = []
        """Addresses that the page asked for, but for `data:` ones."""
        self.complaints: list[str] = []
        """What the console or an exception told."""
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        self.process = _start(profile, theirs_in, theirs_out)
        os.close(theirs_in)
        os.close(theirs_out)
        self.answers = os.fdopen(ours_in, "rb")
        self.orders = os.fdopen(ours_out, "wb")
        self.waiting = b""
        self.count = 0
        self.events: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.tab(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(EOFError, OSError):
            self.call("Browser.close")
        self.orders.close()
        self.answers.close()
        self.process.wait(timeout=30)

    def open(self, page: Path | str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a file or an address, in a window of that many CSS pixels, and forget what earlier pages did."""
        self.tab("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tab("Emulation.setEmulatedMedia", features=[scheme])
        self.requests.clear()
        self.complaints.clear()
        self.events.clear()
        self.tab("Page.navigate", url=page if isinstance(page, str) else page.resolve().as_uri())
        while "Page.loadEventFired" not in self.events:
            self._take(self._message())

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.tab("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 60.0) -> Any:
        """The value of a JavaScript expression, as soon as it is a true one."""
        until = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < until, f"{expression} stays {value!r}"
            time.sleep(0.02)
        return value

    def give_files(self, selector: str, *files: Path) -> None:
        """Choose files in a field for them."""
        root = self.tab("DOM.getDocument")["root"]["nodeId"]
        node = self.tab("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.tab("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def point_at(self, x: float, y: float) -> None:
        """Move the mouse there; CSS pixels of the window."""
        self.tab("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, file: Path) -> None:
        """The whole page as PNG."""
        shot = self.tab("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def tab(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.call(method, session=self.session, **parameters)

    def call(self, method: str, *, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send one order and wait for its answer."""
        self.count += 1
        order = {"id": self.count, "method": method, "params": parameters}
        if session:
            order["sessionId"] = session
        self.orders.write(json.dumps(order).encode() + b"\0")
        self.orders.flush()
        while True:
            message = self._message()
            if message.get("id") == self.count:
                assert "error" not in message, message
                return message["result"]
            self._take(message)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self.waiting:
            piece = self.answers.read1(1 << 16)
            if not piece:
                raise EOFError("the browser has ended")
            self.waiting += piece
        line, _, self.waiting = self.waiting.partition(b"\0")
        return json.loads(line)

    def _take(self, message: dict[str, Any]) -> None:
        method, told = message.get("method", ""), message.get("params", {})
        self.events.append(method)
        if method == "Network.requestWillBeSent" and not told["request"]["url"].startswith("data:"):
            self.requests.append(told["request"]["url"])
        if method in {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}:
            self.complaints.append(json.dumps(told))


def _start(profile: Path, orders: int, answers: int) -> subprocess.Popen[bytes]:
    """Chromium reads orders from descriptor 3 and answers on 4."""

    def arrange() -> None:
        high = os.dup(orders), os.dup(answers)  # either may be 3 or 4 itself
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)

    assert CHROMIUM
    return subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}"],
        preexec_fn=arrange,  # noqa: PLW1509  # tests have no threads that hold a lock here
        close_fds=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
