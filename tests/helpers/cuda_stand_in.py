"""What `torch.cuda` has of streams, events and graphs, on a processor."""

import threading
from contextlib import contextmanager

from torch.utils._python_dispatch import TorchDispatchMode


class Stream:
    """A queue whose work is done when it is asked for."""

    def wait_stream(self, other):
        assert isinstance(other, Stream)


class Graph:
    """Operators that were recorded; `replay` does them again, from the same memory into the same memory."""

    def __init__(self):
        self.operators, self.replays = [], 0

    def pool(self):
        return id(self)

    def replay(self):
        self.replays += 1
        for function, args, kwargs, result in self.operators:
            again = function(*args, **kwargs)
            if again is not result and again.data_ptr() != result.data_ptr():
                result.copy_(again)


class Recording(TorchDispatchMode):
    def __init__(self, graph):
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, function, _types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.graph.operators.append((function, args, kwargs or {}, result))
        return result


class CudaStandIn:
    """In place of the module. fail: every recording does, at its end, with this error."""

    recording = False  # on the whole device: another recording would fail

    def __init__(self, fail=None):
        self.fail, self.graphs, self.places = fail, [], []
        self.default, self.here = Stream(), threading.local()

    def current_stream(self, _device):
        return getattr(self.here, "stream", self.default)

    def Stream(self, _device):  # noqa: N802 - as in `torch.cuda`
        return Stream()

    @contextmanager
    def stream(self, stream):
        before, self.here.stream = self.current_stream(None), stream
        try:
            yield
        finally:
            self.here.stream = before

    def CUDAGraph(self):  # noqa: N802 - as in `torch.cuda`
        self.graphs.append(Graph())
        return self.graphs[-1]

    @contextmanager
    def graph(self, graph, *, pool, stream, capture_error_mode):
        """As in `torch.cuda`, the stream stays the current one when the recording fails."""
        assert capture_error_mode == "thread_local"  # other threads go on meanwhile
        if CudaStandIn.recording:
            raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")
        self.places.append((stream, pool))
        before, self.here.stream, CudaStandIn.recording = self.current_stream(None), stream, True
        try:
            with Recording(graph):
                yield
            if self.fail is not None:
                raise self.fail
        finally:
            CudaStandIn.recording = False
        self.here.stream = before
