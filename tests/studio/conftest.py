"""A studio at work in this process, with a network that is quick, and ways to ask it."""

import http.client
import json
import time
from contextlib import contextmanager
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.commands.upscale.options import UpscaleOptions
from ddnsr_cli.inference.tiling import TileConfig
from ddnsr_cli.studio.server import Choice, StudioOptions, running
from tests.helpers.command import quick_model

__all__ = ["quick_model"]


class Asked:
    """What the server says to one browser after the other."""

    def __init__(self, address, queue, folder):
        self.folder = folder
        self.address = address
        self.queue = queue

    def send(self, method, path, body=None, **headers):
        """(status, headers, content) of an answer; path below the secret word."""
        parts = urlsplit(self.address)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        try:
            connection.request(method, path if path.startswith("/") else parts.path + path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def put(self, name, content):
        status, _, told = self.send("PUT", f"images?name={quote(name)}", content)
        return status, json.loads(told)

    def enlarge(self, model, *numbers, **settings):
        order = {"images": numbers, "model": str(model), "format": "png", "scale": 4, **settings}
        status, _, told = self.send("POST", "enlarge", json.dumps(order))
        return status, json.loads(told)

    def images(self):
        return json.loads(self.send("GET", "state")[2])["images"]

    def wait(self, *states, seconds=60):
        """The images, once each is in one of the states."""
        until, images = time.monotonic() + seconds, self.images()
        while not all(image["state"] in states for image in images):
            assert time.monotonic() < until, images
            time.sleep(0.01)
            images = self.images()
        return images


@pytest.fixture(scope="session")
def studio(tmp_path_factory, quick_model):
    """`with studio(results=folder) as asked:` -> Asked. Its model is called as the file of the quick network."""

    @contextmanager
    def run(**changes):
        folder = tmp_path_factory.mktemp("studio")
        upscale = UpscaleOptions(device="cpu", tiles=TileConfig(tile_px=32), **changes.pop("upscale", {}))
        choice = Choice(name=str(quick_model), title='quick <b>&"', about="A test's.")
        with running(StudioOptions(choices=(choice,), upscale=upscale, **changes), folder) as server:
            yield Asked(server.address, server.queue, folder)

    return run


@pytest.fixture(scope="module")
def one(studio):
    """A studio for all tests of a module that leave nothing in it."""
    with studio(upscale={"max_pixels": 1000}) as asked:
        yield asked


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """`drawn("name.png", 24, 16)` -> a file: colors that run from one side to the other."""
    folder = tmp_path_factory.mktemp("drawn")

    def draw(name, width=24, height=16, mode="RGB"):
        y, x = np.mgrid[:height, :width]
        levels = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256, x * 255 // width], axis=2)
        path = folder / name
        Image.fromarray(levels.astype(np.uint8), "RGBA").convert(mode).save(path)
        return path

    return draw
