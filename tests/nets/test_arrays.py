"""Networks as arrays give what those of PyTorch give, and round as they round."""

import numpy as np
import pytest
import torch

from ddnsr_cli.nets import bf16
from ddnsr_cli.nets.arrays import (
    Conv,
    doubling_kernels,
    enlarged_by_numpy,
    folded,
    in_two_parts,
    network_layers,
    rounded,
)
from ddnsr_cli.nets.blocks import conv3x3
from ddnsr_cli.nets.config import RRDBConfig
from tests.helpers.foreign import small_compact, small_net

NETS = {
    "x4": small_net(),
    "x2": small_net(scale=2),
    "x1": small_net(scale=1),
    "odd": small_net(features=7, blocks=1, growth=3),
    "compact": small_compact(),
    "compact-x2": small_compact(scale=2),
    "no-convs": small_compact(convs=0),
}


def arrays(net):
    return {name: weight.numpy() for name, weight in net.state_dict().items()}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("size", [(8, 8), (5, 7)])
def test_the_plain_computation_gives_the_networks_image(name, size):
    net, lr = NETS[name], torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    result = enlarged_by_numpy(net.config, arrays(net), lr.numpy())
    assert result.dtype == np.float32
    torch.testing.assert_close(torch.from_numpy(result), net(lr[None])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["x4", "compact"])
def test_a_weight_that_is_missing_or_too_many_or_of_another_size_is_refused(name):
    net, weights = NETS[name], arrays(NETS[name])
    first = next(iter(weights))
    network_layers(net.config, weights)
    with pytest.raises(KeyError, match=first):
        network_layers(net.config, {key: value for key, value in weights.items() if key != first})
    with pytest.raises(ValueError, match="another"):
        network_layers(net.config, {**weights, "another": weights[first]})
    with pytest.raises(ValueError, match=first.removesuffix(".weight")):
        network_layers(net.config, {**weights, first: weights[first][:, :, :2]})
    if name == "compact":
        with pytest.raises(ValueError, match=r"body\.1"):
            network_layers(net.config, {**weights, "body.1.weight": weights["body.1.weight"][1:]})
        with pytest.raises(KeyError):
            network_layers(RRDBConfig(), weights)


def random_kernels(*shape):
    """With taps of equal size among them, whose order counts."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    weight[0, 0, 0] = torch.tensor([0.1, -0.1, 0.1])[: shape[3]]
    return weight


@pytest.mark.parametrize("shape", [(5, 4, 3, 3), (8, 3, 2, 2)])
def test_kernels_are_rounded_bit_for_bit_as_those_of_pytorch(shape):
    weight = random_kernels(*shape)
    expected = bf16.rounded(weight).float()
    assert torch.equal(torch.from_numpy(rounded(weight.numpy())), expected)
    assert not torch.equal(weight.to(torch.bfloat16).float(), expected)


def test_values_in_the_middle_go_to_the_even_one():
    weight = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 0.0]).view(4, 1, 1, 1)
    assert rounded(weight.numpy()).ravel().tolist() == [1, 1 + 2**-6, -1, 0]
    assert torch.equal(torch.from_numpy(rounded(weight.numpy())), bf16.rounded(weight).float())


def test_what_doubled_pixels_see_is_as_with_pytorch():
    weight = random_kernels(5, 4, 3, 3)
    assert torch.equal(torch.from_numpy(doubling_kernels(weight.numpy())), bf16.doubling_kernels(weight))


def test_the_last_convolution_is_in_the_same_two_parts():
    conv = conv3x3(6, 3).requires_grad_(False)
    narrow = bf16.NarrowLast(conv)
    parts, rest = in_two_parts(Conv(weight=conv.weight.numpy(), bias=conv.bias.numpy()))
    assert torch.equal(torch.from_numpy(parts.weight), narrow.conv.weight.detach().float())
    assert torch.equal(torch.from_numpy(parts.bias), narrow.conv.bias.detach().float())
    assert torch.equal(torch.from_numpy(rest), narrow.get_buffer("rest"))


def test_a_convolution_is_rounded_as_that_before_the_last():
    conv = conv3x3(6, 4).requires_grad_(False)
    narrow = bf16.with_rounded_weight(conv)
    result = Conv(weight=conv.weight.numpy(), bias=conv.bias.numpy()).rounded()
    assert torch.equal(torch.from_numpy(result.weight), narrow.weight.detach().float())
    assert torch.equal(torch.from_numpy(result.bias), narrow.bias.detach().float())


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_an_image_is_folded_as_the_network_folds_it(scale):
    net, lr = small_net(scale=scale), torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.from_numpy(folded(lr.numpy(), net.config.unshuffle).copy()), net.folded(lr))
