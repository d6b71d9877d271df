import pytest
import torch
from torch import nn

from ddnsr_cli.errors import ConfigError, WeightsError
from ddnsr_cli.nets.vgg19 import LAYERS, Tap, VGG19Features, mean_activations

# The published table of VGG19 (configuration E): channels, and P for a pooling.
TABLE = [64, 64, "P", 128, 128, "P", 256, 256, 256, 256, "P", 512, 512, 512, 512, "P", 512, 512, 512, 512, "P"]
NAMES = [f"conv{block}_{place}" for block, count in enumerate((2, 2, 4, 4, 4), 1) for place in range(1, count + 1)]


def plain_vgg(table=TABLE, *, convolutions=16, seed=0):
    """The network of a table as one list, with random weights that keep the size of what they are fed."""
    generator = torch.Generator().manual_seed(seed)
    layers, before = [], 3
    for entry in table:
        if entry == "P":
            layers.append(nn.MaxPool2d(2))
            continue
        if sum(isinstance(layer, nn.Conv2d) for layer in layers) == convolutions:
            break
        conv = nn.Conv2d(before, entry, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, generator=generator)
        nn.init.normal_(conv.bias, std=0.1, generator=generator)
        layers += [conv, nn.ReLU()]
        before = entry
    return nn.Sequential(*layers)


def named(sequence):
    return {f"features.{key}": value for key, value in sequence.state_dict().items()}


@pytest.fixture(scope="module")
def state():
    """Up to conv3_4."""
    return named(plain_vgg(convolutions=8))


@pytest.fixture
def image():
    return torch.rand(2, 3, 21, 32, generator=torch.Generator().manual_seed(1))


def carrier(layers):
    """VGG19 weights that carry R, G, B unchanged, where they are not negative, in the first three channels."""
    state = {}
    before = 3
    for layer in layers:
        channels = min(64 * 2 ** (int(layer[4]) - 1), 512)
        weight = torch.zeros(channels, before, 3, 3)
        weight[[0, 1, 2], [0, 1, 2], 1, 1] = 1
        state |= {f"features.{LAYERS[layer]}.weight": weight, f"features.{LAYERS[layer]}.bias": torch.zeros(channels)}
        before = channels
    return state


def test_every_tap_is_what_the_plain_list_of_layers_gives():
    plain = plain_vgg()
    taps = [Tap(layer=name, activated=activated) for name in NAMES for activated in (True, False)]
    image = torch.rand(1, 3, 35, 32, generator=torch.Generator().manual_seed(1))
    found = VGG19Features(named(plain), taps)(image)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((image.movedim(1, 3) - mean) / std).movedim(3, 1)
    names = iter(NAMES)
    with torch.no_grad():
        for layer in plain:
            x = layer(x)
            if isinstance(layer, nn.Conv2d):
                name = next(names)
                torch.testing.assert_close(found[Tap(layer=name)], x)
                torch.testing.assert_close(found[Tap(layer=name, activated=True)], x.relu())
    assert list(found) == taps


def test_before_the_activation_values_are_negative_too(state, image):
    before, after = Tap(layer="conv2_2"), Tap(layer="conv2_2", activated=True)
    found = VGG19Features(state, [after, before])(image)
    assert (found[before] < 0).any()
    assert torch.equal(found[before].relu(), found[after])


def test_input_is_normalized_as_imagenet():
    image = torch.tensor([0.485 + 0.229, 0.456 + 2 * 0.224, 0.406 + 0.5 * 0.225]).reshape(1, 3, 1, 1).expand(1, 3, 4, 5)
    tap = Tap(layer="conv1_1")
    normalized = VGG19Features(carrier(["conv1_1"]), [tap])(image)[tap]
    torch.testing.assert_close(normalized[0, :3, 2, 3], torch.tensor([1.0, 2.0, 0.5]))
    as_it_is = VGG19Features(carrier(["conv1_1"]), [tap], normalize=False)(image)[tap]
    torch.testing.assert_close(as_it_is[:, :3], image)


@pytest.mark.parametrize(("layer", "parameters"), [("conv1_1", 1_792), ("conv2_2", 260_160), ("conv3_4", 2_325_568)])
def test_only_layers_up_to_the_deepest_tap_are_kept(state, layer, parameters):
    vgg = VGG19Features(state, [Tap(layer="conv1_1"), Tap(layer=layer)])
    assert sum(parameter.numel() for parameter in vgg.parameters()) == parameters


def test_what_is_not_a_feature_layer_is_ignored(state, image):
    tap = Tap(layer="conv3_4")
    others = {"classifier.0.weight": torch.zeros(2, 2), "pre_logits.fc1.bias": torch.zeros(2), "head.fc.bias": None}
    assert torch.equal(VGG19Features(state | others, [tap])(image)[tap], VGG19Features(state, [tap])(image)[tap])


def test_weights_are_frozen_and_gradients_reach_the_image(state, image):
    tap = Tap(layer="conv3_4")
    vgg = VGG19Features(state, [tap])
    assert not any(parameter.requires_grad for parameter in vgg.parameters())
    image.requires_grad_(True)
    vgg(image)[tap].square().mean().backward()
    assert image.grad.ne(0).float().mean() > 0.9
    assert all(parameter.grad is None for parameter in vgg.parameters())


def test_weights_are_copies_in_float32(state, image):
    tap = Tap(layer="conv1_2")
    halves = {key: value.half() for key, value in state.items()}
    vgg = VGG19Features(halves, [tap])
    before = vgg(image)[tap]
    for value in halves.values():
        value.zero_()
    assert before.dtype == torch.float32
    assert torch.equal(vgg(image)[tap], before)
    mine = {key: value.clone() for key, value in state.items()}  # float32 already: nothing to convert, still a copy
    vgg = VGG19Features(mine, [tap])
    before = vgg(image)[tap]
    for value in mine.values():
        value.zero_()
    assert torch.equal(vgg(image)[tap], before)


def test_autocast_does_not_reach_inside(state, image):
    tap = Tap(layer="conv3_4")
    vgg = VGG19Features(state, [tap])
    plain = vgg(image)[tap]
    with torch.autocast("cpu", torch.bfloat16):
        inside = vgg(image)[tap]
        coarse = nn.functional.conv2d(image, state["features.0.weight"])  # autocast is really on
    assert coarse.dtype == torch.bfloat16
    assert inside.dtype == torch.float32
    assert torch.equal(inside, plain)


def test_images_in_bfloat16_are_taken(state, image):
    tap = Tap(layer="conv2_2")
    vgg = VGG19Features(state, [tap])
    coarse = image.bfloat16()
    assert torch.equal(vgg(coarse)[tap], vgg(coarse.float())[tap])


def test_building_draws_no_random_number(state):
    before = torch.get_rng_state()
    VGG19Features(state, [Tap(layer="conv3_4")])
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_of_it_needs_saving_but_the_weights(state):
    vgg = VGG19Features(state, [Tap(layer="conv3_4")])
    assert vgg.state_dict().keys() == state.keys()


def test_features_are_divided_by_their_scale(state, image):
    near, far = Tap(layer="conv2_2"), Tap(layer="conv3_4", activated=True)
    plain = VGG19Features(state, [near, far])(image)
    scaled = VGG19Features(state, [near, far], scales={far: 4.0, near: 0.5})(image)
    assert torch.equal(scaled[near], plain[near] * 2)
    assert torch.equal(scaled[far], plain[far] / 4)


def test_measured_scales_make_weights_of_any_size_alike(state, image):
    taps = [Tap(layer="conv2_2"), Tap(layer="conv3_4")]
    # Convolution and ReLU carry a factor through: these are the same weights on a scale 50 times as large.
    large = state | {
        "features.0.weight": 50 * state["features.0.weight"],
        "features.0.bias": 50 * state["features.0.bias"],
    }
    large |= {key: 50 * value for key, value in state.items() if key.endswith("bias")}
    results = []
    for weights in (state, large):
        scales = mean_activations(VGG19Features(weights, taps), [image])
        vgg = VGG19Features(weights, taps, scales=scales)
        assert mean_activations(vgg, [image]) == pytest.approx(scales)  # measured before they apply
        results.append((scales, vgg(image)))
    (small_scales, small), (large_scales, same) = results
    for tap in taps:
        assert large_scales[tap] == pytest.approx(50 * small_scales[tap], rel=1e-4)
        torch.testing.assert_close(same[tap], small[tap], rtol=1e-3, atol=1e-4)
        assert same[tap].abs().mean().item() == pytest.approx(1, rel=1e-4)


def test_the_mean_counts_each_value_once_and_by_its_size():
    tap = Tap(layer="conv1_1")
    vgg = VGG19Features(carrier(["conv1_1"]), [tap], normalize=False)
    # 12 pixels of 0.5 and 4 of -1 in three of 64 channels.
    batches = [torch.full((3, 3, 2, 2), 0.5), torch.full((1, 3, 1, 4), -1.0)]
    assert mean_activations(vgg, batches) == {tap: pytest.approx((12 * 0.5 + 4 * 1) / 16 * 3 / 64)}
    with pytest.raises(ValueError, match="at least one image"):
        mean_activations(vgg, [])


def refused(state, layer, *words):
    with pytest.raises(WeightsError) as caught:
        VGG19Features(state, [Tap(layer=layer)], source="feature_nets.safetensors")
    message = str(caught.value)
    assert message.startswith("feature_nets.safetensors")
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_file_that_ends_too_early_says_where(state):
    refused(state, "conv5_4", "conv3_4", "conv5_4")
    refused(state, "conv4_1", "conv3_4", "conv4_1")
    VGG19Features(state, [Tap(layer="conv3_4")])


def test_a_hole_in_the_file_is_where_it_ends(state):
    holed = {key: value for key, value in state.items() if not key.startswith("features.10.")}
    refused(holed, "conv3_4", "ends at conv2_2")
    VGG19Features(holed, [Tap(layer="conv2_2")])


def test_relatives_are_refused(state):
    sixteen = [64, 64, "P", 128, 128, "P", 256, 256, 256, "P", 512, 512, 512, "P", 512, 512, 512, "P"]
    refused(named(plain_vgg(sixteen)), "conv2_2", "no VGG19")
    with_norm = {"features.0.weight": torch.zeros(64, 3, 3, 3), "features.1.weight": torch.zeros(64)}
    refused(with_norm, "conv1_1", "no VGG19")
    refused({"conv1_1.weight": torch.zeros(64, 3, 3, 3)}, "conv1_1", "no VGG19", "missing")


def test_damaged_tensors_are_named(state):
    refused(
        state | {"features.5.weight": torch.zeros(128, 64, 1, 1)}, "conv2_1", "features.5.weight", "(128, 64, 1, 1)"
    )
    refused(state | {"features.2.bias": torch.full((64,), torch.nan)}, "conv1_2", "features.2.bias", "not finite")
    refused({key: value for key, value in state.items() if key != "features.7.bias"}, "conv2_2", "features.7.bias")


def test_taps_and_scales_are_checked(state):
    tap, other = Tap(layer="conv1_1"), Tap(layer="conv1_2")
    with pytest.raises(ConfigError, match="conv6_1"):
        Tap(layer="conv6_1")
    with pytest.raises(ValueError, match="at least one tap"):
        VGG19Features(state, [])
    for scales in ({}, {other: 1.0}, {tap: 1.0, other: 1.0}):
        with pytest.raises(ValueError, match="must name the taps"):
            VGG19Features(state, [tap], scales=scales)
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="positive"):
            VGG19Features(state, [tap], scales={tap: scale})


def test_images_are_checked(state):
    vgg = VGG19Features(state, [Tap(layer="conv3_4")])
    for shape in ((3, 32, 32), (1, 1, 32, 32), (1, 4, 32, 32)):
        with pytest.raises(ValueError, match="RGB"):
            vgg(torch.zeros(shape))
    with pytest.raises(ValueError, match="at least"):
        vgg(torch.zeros(1, 3, 3, 32))
    vgg(torch.zeros(1, 3, 4, 4))
