"""Classifiers from PyTorch's server: one on the loopback device, whose files are not the real ones."""

import hashlib
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ddnsr_cli.errors import HubError, WeightsError
from ddnsr_cli.weights import feature_weights
from ddnsr_cli.weights.feature_weights import ALEXNET, SQUEEZENET, VGG16, Classifier, cached, fetch_classifier

DATA = bytes(range(256)) * 10_000
FILE = Classifier(name="net.pth", sha256=hashlib.sha256(DATA).hexdigest(), size_bytes=len(DATA))


class Server:
    def __init__(self, data, declared=None, pause_s=0.0):
        self.asked = asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                time.sleep(pause_s)
                self.send_response(200 if data is not None else 404)
                self.send_header("Content-Length", str(declared or len(data or b"")))
                self.end_headers()
                with suppress(OSError):  # who asked has gone
                    self.wfile.write(data or b"")

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}/models"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def serve(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers = []

    def start(data, **how):
        servers.append(Server(data, **how))
        monkeypatch.setattr(feature_weights, "SERVER", servers[-1].address)
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


@pytest.fixture
def place(tmp_path):
    """Where torchvision and lpips look."""
    return tmp_path / "torch" / "hub" / "checkpoints" / "net.pth"


def refused(kind, *words):
    with pytest.raises(kind) as caught:
        fetch_classifier(FILE)
    message = str(caught.value)
    assert message.isprintable()
    for word in ("net.pth", *words):
        assert word in message


def test_fetched_once_and_kept_where_pytorch_keeps_them(serve, place):
    server, progress = serve(DATA), []
    assert cached(FILE) is None
    assert fetch_classifier(FILE, on_progress=lambda *at: progress.append(at)) == place
    assert place.read_bytes() == DATA
    assert server.asked == ["/models/net.pth"]
    assert progress[0] == (0, len(DATA))
    assert progress[-1] == (len(DATA), len(DATA))
    assert fetch_classifier(FILE) == fetch_classifier(FILE, offline=True) == cached(FILE) == place
    assert len(server.asked) == 1


def test_what_is_there_damaged_is_fetched_again(serve, place):
    serve(DATA)
    place.parent.mkdir(parents=True)
    place.write_bytes(DATA[:-1] + b"?")
    assert cached(FILE) is None
    assert fetch_classifier(FILE).read_bytes() == DATA


@pytest.mark.parametrize("other", [DATA[:-1] + b"?", DATA + b"?", DATA[:100], b"<html>Sign in</html>"])
def test_another_content_is_refused_and_nothing_is_left(serve, place, other):
    serve(other)
    refused(WeightsError, "wrong SHA-256", FILE.sha256)
    assert list(place.parent.iterdir()) == []


def test_trouble_with_the_server_is_one_line(serve, place, monkeypatch):
    serve(None)
    refused(HubError, "404", "copy it to", str(place.parent))
    serve(DATA[:1000], declared=len(DATA))  # breaks off
    refused(WeightsError, "broke off")
    monkeypatch.setattr(feature_weights, "TIMEOUT_S", 0.1)
    serve(DATA, pause_s=1.0)
    refused(HubError, "timed out")
    monkeypatch.setattr(feature_weights, "SERVER", "http://127.0.0.1:9")
    refused(HubError, "refused")
    assert list(place.parent.iterdir()) == []


def test_offline_nobody_is_asked(serve):
    server = serve(DATA)
    with pytest.raises(HubError, match="offline"):
        fetch_classifier(FILE, offline=True)
    assert server.asked == []


def test_the_pins_agree_with_the_names():
    for file in (ALEXNET, SQUEEZENET, VGG16):  # torchvision writes the digest's start into the name
        assert file.name.endswith(f"-{file.sha256[:8]}.pth")
        assert len(file.sha256) == 64
