import re

import pytest
import torch

from ddnsr_cli.errors import WeightsError
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.weights import layouts
from ddnsr_cli.weights.layouts import build, read_layout

SIZES = {"features": 8, "blocks": 2, "growth": 4}


@pytest.fixture
def state(small_net):
    return small_net().state_dict()


def output(config, state):
    net = RRDBNet(config)
    net.load_state_dict(state)
    with torch.no_grad():
        return net(torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(1)))


def refused(loaded, *words):
    with pytest.raises(WeightsError) as caught:
        read_layout(loaded, "net.pth")
    message = str(caught.value)
    assert message.startswith("net.pth")
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


@pytest.mark.parametrize("layout", [1, 2, 3])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_all_layouts_and_scales_give_the_same_network(small_net, as_layout, layout, scale):
    net = small_net(scale=scale)
    config, state = read_layout(as_layout(net.state_dict(), layout), "net.pth")
    assert config == net.config == RRDBConfig(scale=scale, **SIZES)
    lr = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(output(config, state), net(lr))


def test_each_convolution_goes_to_its_own_place(state, as_layout):
    # Each tensor holds a number of its own, so that two that change places are seen.
    numbered = {key: torch.full_like(value, number) for number, (key, value) in enumerate(state.items())}
    for layout in (1, 2, 3):
        _, read = read_layout(as_layout(numbered, layout), "net.pth")
        assert {key: value.flatten()[0].item() for key, value in read.items()} == dict(
            zip(state, range(len(state)), strict=True)
        )


@pytest.mark.parametrize(
    "sizes", [{"features": 12, "blocks": 1, "growth": 5}, {"features": 5, "blocks": 12, "growth": 2}]
)
def test_sizes_are_deduced_from_the_shapes(small_net, as_layout, sizes):
    net = small_net(**sizes)
    for layout in (1, 2, 3):
        assert read_layout(as_layout(net.state_dict(), layout), "net.pth")[0] == net.config


@pytest.mark.parametrize("nest", ["params_ema", "params", "generator", "state_dict"])
def test_nests_and_wrappers_are_opened(state, nest):
    wrapped = {f"module.{key}": value for key, value in state.items()}
    for loaded in ({nest: state}, {nest: wrapped}, {"epoch": 3, nest: state}, {"state_dict": {nest: state}}):
        assert read_layout(loaded, "net.pth")[1].keys() == state.keys()
    assert read_layout({f"{nest}.{key}": value for key, value in state.items()}, "n")[1].keys() == state.keys()


def test_averaged_weights_are_preferred(state):
    averaged = {key: value + 1 for key, value in state.items()}
    flat = {f"params.{key}": value for key, value in state.items()}
    flat |= {f"params_ema.{key}": value for key, value in averaged.items()}
    for loaded in ({"params": state, "params_ema": averaged}, flat):
        _, read = read_layout(loaded, "net.pth")
        assert all(torch.equal(read[key], averaged[key]) for key in averaged)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_become_float32(state, dtype):
    _, read = read_layout({key: value.to(dtype) for key, value in state.items()}, "net.pth")
    assert {value.dtype for value in read.values()} == {torch.float32}
    assert all(torch.equal(read[key], state[key].to(dtype).float()) for key in state)


def test_the_result_shares_no_memory_with_what_was_read(state):
    _, read = read_layout(state, "net.pth")
    read["conv_first.bias"].zero_()
    assert state["conv_first.bias"].abs().sum() > 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused(state, value):
    state["body.1.rdb3.conv5.weight"][0, 0, 0, 0] = value
    refused(state, "not finite", "body.1.rdb3.conv5.weight")


@pytest.mark.parametrize("layout", [1, 2, 3])
@pytest.mark.parametrize(
    "key", ["conv_first.weight", "conv_last.weight", "conv_hr.bias", "conv_body.weight", "body.1.rdb2.conv3.bias"]
)
def test_a_missing_tensor_is_named_as_ours(state, as_layout, layout, key):
    rest = {name: value for name, value in as_layout(state, layout).items() if value is not state[key]}
    refused(rest, f"lacks {key}")


def test_a_missing_block_is_named(small_net):
    state = {k: v for k, v in small_net(blocks=4).state_dict().items() if not k.startswith("body.2.")}
    refused(state, "lacks body.2.rdb1.conv1.weight")


def test_a_huge_block_number_builds_nothing(state):
    state["body.4000000000.rdb1.conv1.weight"] = state["body.0.rdb1.conv1.weight"]
    refused(state, "lacks body.2.")


@pytest.mark.parametrize("key", ["body.{}.weight", "RRDB_trunk.{}.RDB1.conv1.weight", "model.{}.weight"])
def test_a_number_that_python_does_not_read_is_no_number(state, small_compact, key):
    extra = {key.format("9" * 5000): torch.zeros(4, 4, 3, 3)}
    refused(state | extra, "holds")
    refused(small_compact().state_dict() | extra, "holds")
    refused(extra | {"model.1.sub.0.RDB1.conv1.0.weight": torch.zeros(4, 4, 3, 3)}, "net.pth")


def test_blocks_without_their_parts_are_not_built(state, monkeypatch):
    monkeypatch.setattr(layouts, "build", lambda _: pytest.fail("it was built"))
    parts = {f"body.{number}.rdb1.conv1.weight": state["body.0.rdb1.conv1.weight"] for number in range(2, 3000)}
    refused(state | parts, "lacks body.2.rdb1.conv1.bias")


def test_claimed_shapes_are_not_believed(state):
    state["conv_first.weight"] = torch.zeros(1).expand(100_000, 100_000, 1, 1)
    refused(state, "claims more than")


def test_an_extra_tensor_is_refused_and_named(state):
    refused(state | {"conv_up3.weight": torch.zeros(8, 8, 3, 3)}, "conv_up3.weight", "8x8x3x3", "Real-ESRGAN")


def test_a_wrong_shape_is_named_with_both_shapes(state):
    refused(state | {"conv_hr.weight": torch.zeros(8, 9, 3, 3)}, "conv_hr.weight", "8x9x3x3", "8x8x3x3")


@pytest.mark.parametrize("channels", [1, 4, 6, 16])
def test_networks_that_are_not_rgb_are_refused(state, channels):
    refused(state | {"conv_first.weight": torch.zeros(8, channels, 3, 3)}, f"maps {channels} input", "only RGB")
    refused(state | {"conv_last.weight": torch.zeros(channels, 8, 3, 3)}, f"to {channels} output", "only RGB")


def test_one_up_sampling_convolution_is_refused_with_the_reason(state, as_layout):
    second = {key: value for key, value in as_layout(state, 2).items() if not key.startswith("upconv2")}
    refused(second, "doubles the size 1 time", "conv_up2")
    third = as_layout(state, 3)
    first = {key: value for key, value in third.items() if not re.match(r"model\.(6|8|10)\.", key)}
    for old, new in (("8", "5"), ("10", "7")):
        first |= {f"model.{new}.{kind}": third[f"model.{old}.{kind}"] for kind in ("weight", "bias")}
    refused(first, "doubles the size 1 time")


def test_esrgan_plus_is_refused_by_name(state, as_layout):
    plus = as_layout(state, 3) | {"model.1.sub.0.RDB1.conv1x1.weight": torch.zeros(4, 8, 1, 1)}
    refused(plus, "ESRGAN+", "model.1.sub.0.RDB1.conv1x1.weight", "4x8x1x1")


@pytest.fixture
def compact(small_compact):
    return small_compact().state_dict()


@pytest.mark.parametrize(
    "sizes", [{"features": 8, "convs": 3, "scale": 4}, {"features": 5, "convs": 0, "scale": 1}, {"scale": 3}]
)
def test_sizes_of_a_compact_network_are_deduced_from_the_shapes(small_compact, sizes):
    net = small_compact(**sizes)
    config, state = read_layout(net.state_dict(), "net.pth")
    assert config == net.config
    assert all(torch.equal(state[key], value) for key, value in net.state_dict().items())


@pytest.mark.parametrize("prefix", ["params.", "params_ema.", "module.", "netG.", "model.net.", "params.module."])
def test_any_prefix_that_all_names_share_is_taken_off(state, compact, prefix):
    for bare in (state, compact):
        wrapped = {f"{prefix}{key}": value for key, value in bare.items()}
        assert read_layout(wrapped, "n")[1].keys() == bare.keys()
        assert read_layout({"state_dict": wrapped}, "n")[1].keys() == bare.keys()


def test_averaged_weights_are_preferred_under_any_prefix(compact):
    flat = {f"net_g.{key}": value for key, value in compact.items()}
    flat |= {f"net_g_ema.{key}": value + 1 for key, value in compact.items()}
    assert torch.equal(read_layout(flat, "n")[1]["body.1.weight"], compact["body.1.weight"] + 1)


@pytest.mark.parametrize("key", ["body.0.weight", "body.2.bias", "body.3.weight", "body.8.weight"])
def test_a_missing_part_of_a_compact_network_is_named(compact, key):
    rest = {name: value for name, value in compact.items() if name != key}
    refused(rest, f"lacks {key}")
    refused({name: value for name, value in compact.items() if not name.startswith("body.8.")}, "lacks body.8.weight")


def test_compact_networks_of_other_channels_or_scales_are_refused(compact):
    refused(compact | {"body.0.weight": torch.zeros(8, 1, 3, 3)}, "maps 1 input to 48 output", "only RGB")
    for channels in (0, 16, 50, 3 * 81):
        refused(compact | {"body.8.weight": torch.zeros(channels, 8, 3, 3)}, "shape" if not channels else "only RGB")


def test_wrong_parts_of_a_compact_network_are_named(compact):
    refused(compact | {"body.3.weight": torch.zeros(1)}, "body.3.weight", "a Compact network of 8 features")
    refused(compact | {"body.1.bias": torch.zeros(8)}, "body.1.bias", "which a Compact network of 8 features")
    refused(compact | {"extra.weight": torch.zeros(8)}, "extra.weight")
    refused(compact | {"body.4000000000.weight": torch.zeros(8)}, "lacks body.9.weight")
    refused(compact | {"body.2.weight": compact["body.2.weight"] / 0}, "not finite", "body.2.weight")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("layers.0.residual_group.blocks.0.norm1.weight", "SwinIR"),
        ("body.3.conv1.weight", "not known"),
        ("body.0.conv1.weight", "EDSR"),
        ("IMDB1.c1.weight", "IMDN"),
        ("features.0.weight", "VGG"),
        ("weird\n\x1b[31m" + "x" * 500, "not known"),
    ],
)
def test_other_networks_are_refused_with_what_was_found(key, name):
    message = refused({key: torch.zeros(3, 2)}, name, "3x2")
    assert message.isprintable()
    assert len(message) < 400


@pytest.mark.parametrize(
    "loaded",
    [None, {}, [1, 2], torch.zeros(3), {"epoch": 3}, {"params": {}}, {"params": {"a": 1}}, {1: torch.zeros(1)}],
)
def test_what_holds_no_weights_is_refused(loaded):
    refused(loaded, "What loads")


def test_integers_and_sparse_tensors_are_refused(state):
    refused(state | {"conv_hr.bias": torch.zeros(8, dtype=torch.int64)}, "conv_hr.bias", "int64")
    refused(state | {"conv_hr.bias": torch.zeros(8).to_sparse()}, "conv_hr.bias", "sparse")
    refused(state | {"conv_hr.bias": torch.zeros(8, device="meta")}, "conv_hr.bias", "meta")
    nested = torch.nested.nested_tensor([torch.zeros(3), torch.zeros(5)], layout=torch.jagged)
    for key in ("conv_hr.bias", "extra"):
        refused(state | {key: nested}, f"{key} is no tensor")


def test_two_layouts_at_once_are_refused(state, as_layout):
    refused(state | as_layout(state, 2), "two layouts")


def test_only_a_wrapper_around_all_is_taken_off(state):
    refused(state | {"module.x": torch.zeros(1)}, "module.x")


def test_a_network_that_is_yet_to_be_loaded_is_not_initialized(small_net, monkeypatch):
    config = small_net().config
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda *_: 1 / 0)
    assert {value.device.type for value in build(config).parameters()} == {"meta"}
