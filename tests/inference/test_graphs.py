"""CUDA graphs, recorded and replayed on a processor by a stand-in for `torch.cuda`."""

import threading
from contextlib import contextmanager
from time import sleep

import pytest
import torch

from ddnsr_cli.inference import device
from ddnsr_cli.inference.device import CudaBackend, GraphedNet
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.rrdb import RRDBNet
from tests.helpers.cuda_stand_in import CudaStandIn


@pytest.fixture(scope="module")
def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return RRDBNet(RRDBConfig(features=4, blocks=1, growth=2)).eval().requires_grad_(False)


def images(number, height=10, width=12):
    return torch.rand(number, 1, 3, height, width, generator=torch.Generator().manual_seed(number))


@torch.inference_mode()
def replays(graphed, net, lrs, cuda):
    """How often a graph ran for each image; what comes out is the network's."""
    found = []
    for lr in lrs:
        before = sum(graph.replays for graph in cuda.graphs)
        sr = graphed(lr)
        torch.testing.assert_close(sr, net(lr))
        found.append(sum(graph.replays for graph in cuda.graphs) - before)
    return found


def test_a_shape_that_comes_again_and_again_is_recorded_once(net):
    cuda = CudaStandIn()
    graphed = GraphedNet(net, cuda)
    assert replays(graphed, net, images(6), cuda) == [0, 0, 2, 1, 1, 1]  # one to compare
    assert replays(graphed, net, images(3, height=11), cuda) == [0, 0, 2]
    assert replays(graphed, net, images(2), cuda) == [1, 1]
    assert len(cuda.graphs) == 2
    (stream, none), (other, pool) = cuda.places
    assert (stream, none, pool) == (other, None, cuda.graphs[0].pool())  # memory is shared: no two run at a time


def test_results_stay_as_they_are_when_the_graph_runs_again(net):
    graphed = GraphedNet(net, CudaStandIn())
    with torch.inference_mode():
        lrs = images(6)
        srs = [graphed(lr) for lr in lrs]
        for lr, sr in zip(lrs, srs, strict=True):
            torch.testing.assert_close(sr, net(lr))


def test_large_images_run_without_a_graph(net, monkeypatch):
    monkeypatch.setattr(device, "MOST_GRAPH_PX", 120)
    cuda = CudaStandIn()
    graphed = GraphedNet(net, cuda)
    assert replays(graphed, net, images(5, width=13), cuda) == [0] * 5
    assert replays(graphed, net, images(4), cuda) == [0, 0, 2, 1]
    assert replays(graphed, net, [torch.cat([lr, lr]) for lr in images(4)], cuda) == [0] * 4


def test_a_network_keeps_no_more_graphs_than_so_many(net, monkeypatch):
    monkeypatch.setattr(device, "MOST_GRAPHS", 1)
    cuda = CudaStandIn()
    graphed = GraphedNet(net, cuda)
    replays(graphed, net, images(3), cuda)
    assert replays(graphed, net, images(5, height=9), cuda) == [0] * 5
    assert replays(graphed, net, images(2), cuda) == [1, 1]


@pytest.mark.parametrize(
    "error", [RuntimeError("operation not permitted"), torch.OutOfMemoryError("CUDA out of memory")]
)
def test_after_a_recording_that_failed_all_shapes_run_without(net, error):
    cuda = CudaStandIn(fail=error)
    graphed = GraphedNet(net, cuda)
    assert replays(graphed, net, images(6), cuda) == [0] * 6
    assert replays(graphed, net, images(4, height=9), cuda) == [0] * 4
    assert len(cuda.graphs) == 1  # it is not tried again
    assert cuda.current_stream(None) is cuda.default  # else what follows runs beside its copies


def test_what_is_forgotten_runs_without(net):
    cuda = CudaStandIn()
    graphed = GraphedNet(net, cuda)
    replays(graphed, net, images(4), cuda)
    graphed.forget()
    assert replays(graphed, net, images(4), cuda) == [0] * 4
    assert replays(graphed, net, images(4, height=9), cuda) == [0] * 4


def test_an_image_that_overflows_may_be_the_first_of_a_graph(net):
    cuda = CudaStandIn()
    graphed = GraphedNet(net, cuda)
    lrs = images(5)
    lrs[2, 0, 0, 0, 0] = torch.nan
    with torch.inference_mode():
        for lr in lrs:
            torch.testing.assert_close(graphed(lr), net(lr), equal_nan=True)
    assert cuda.graphs[0].replays == 4


def test_networks_are_recorded_one_at_a_time(net):
    class Slow(CudaStandIn):
        def CUDAGraph(self):  # noqa: N802 - as in `torch.cuda`
            graph = super().CUDAGraph()
            sleep(0.02)
            return graph

        @contextmanager
        def graph(self, *args, **options):
            with super().graph(*args, **options):
                sleep(0.05)
                yield

    cudas = [Slow() for _ in range(3)]
    lrs = images(4)

    @torch.inference_mode()
    def run(cuda):
        graphed = GraphedNet(net, cuda)
        for lr in lrs:
            graphed(lr)

    threads = [threading.Thread(target=run, args=(cuda,)) for cuda in cudas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[graph.replays for graph in cuda.graphs] for cuda in cudas] == [[3]] * 3


def test_a_graph_that_gives_another_image_is_not_used(net):
    class Wrong(CudaStandIn):
        def CUDAGraph(self):  # noqa: N802 - as in `torch.cuda`
            graph = super().CUDAGraph()
            replay = graph.replay

            def spoilt():
                replay()
                graph.operators[-1][3].add_(0.01)

            graph.replay = spoilt
            return graph

    cuda = Wrong()
    assert replays(GraphedNet(net, cuda), net, images(5), cuda) == [0, 0, 1, 0, 0]


def test_threads_that_share_a_graph_get_their_own_images(net):
    graphed, wrong = GraphedNet(net, CudaStandIn()), []
    with torch.inference_mode():
        lrs = images(4)
        expected = [net(lr) for lr in lrs]

    @torch.inference_mode()
    def run(lr, sr):
        wrong.extend(round for round in range(40) if not torch.allclose(graphed(lr), sr, atol=1e-5))

    threads = [threading.Thread(target=run, args=pair) for pair in zip(lrs, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_networks_on_cuda_are_graphed_and_those_on_cards_of_amd_are_not(net, monkeypatch):
    cuda = CudaStandIn()
    backend = CudaBackend(torch.device("cuda:0"), cuda)
    assert replays(backend.prepared(net), net, images(3), cuda) == [0, 0, 2]
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert backend.prepared(net) is net
