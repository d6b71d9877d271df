"""Networks compiled by OpenVINO once for all tests of a process: it takes a third of the time of a small upscaling."""

import hashlib
import threading
from functools import cache

from ddnsr_cli.inference import openvino_graph


class _Core:
    """As a core of OpenVINO, as far as the program asks it."""

    def __init__(self, core):
        self._core = core
        self._compiled = {}

    def read_model(self, text, weights):
        return text, weights

    def compile_model(self, model, device, options):
        """What the program gives is the key, to the last bit, and so is the thread: each has a network of its own."""
        text, weights = model
        given = repr((text, hashlib.sha256(weights.data).hexdigest(), device, options))
        key = (given, threading.get_ident())
        if key not in self._compiled:
            self._compiled[key] = self._core.compile_model(self._core.read_model(text, weights), device, options)
        return openvino_graph.openvino_package().CompiledModel(self._compiled[key])  # with a request of its own


def compile_once(monkeypatch):
    """From here to the end of the test."""
    monkeypatch.setattr(openvino_graph, "_core", _once)


@cache
def _once():
    return _Core(openvino_graph.openvino_package().Core())
