import pytest
import torch
from torch import nn

from ddnsr_cli.training.loop import Ema


def filled(net, value):
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(value)
    return net


def weight(ema):
    return ema.average.weight[0, 0].item()


def test_the_average_starts_as_the_network_and_follows_by_the_formula():
    net = filled(nn.Linear(1, 1), 1.0)
    ema = Ema(net, decay=0.25)
    assert weight(ema) == 1.0
    expected = 1.0
    for step, value in enumerate([5.0, -2.0, 3.0, 7.0]):
        ema.update(filled(net, value), step)
        keep = min(0.25, (1 + step) / (10 + step))  # 0.1, 0.182, 0.25, 0.25
        expected = keep * expected + (1 - keep) * value
        assert weight(ema) == pytest.approx(expected)


def test_late_steps_keep_by_the_decay():
    net = filled(nn.Linear(1, 1), 0.0)
    ema = Ema(net, decay=0.999)
    ema.update(filled(net, 1.0), step=10**6)
    assert weight(ema) == pytest.approx(0.001, rel=1e-4)


def test_without_decay_the_average_is_the_network():
    net = filled(nn.Linear(2, 2), 1.0)
    ema = Ema(net, decay=0.0)
    ema.update(filled(net, 4.0), step=5)
    assert torch.equal(ema.average.weight, net.weight)


def test_buffers_are_copied_not_averaged():
    net = nn.BatchNorm2d(2)
    ema = Ema(net, decay=0.9)
    net(torch.randn(4, 2, 3, 3))
    ema.update(net, step=0)
    for slow, fast in zip(ema.average.buffers(), net.buffers(), strict=True):
        assert torch.equal(slow, fast)
    assert ema.average.num_batches_tracked.item() == 1


def test_the_average_is_a_copy_that_does_not_learn_and_leaves_the_network_alone():
    net = filled(nn.Linear(1, 1), 1.0)
    ema = Ema(net, decay=0.5)
    filled(net, 2.0)
    assert weight(ema) == 1.0
    ema.update(net, step=100)
    assert net.weight.item() == 2.0
    assert net.weight.requires_grad
    assert net.training
    assert not ema.average.training
    assert not any(parameter.requires_grad for parameter in ema.average.parameters())
