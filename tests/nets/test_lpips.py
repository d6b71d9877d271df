from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from ddnsr_cli.errors import ConfigError, WeightsError
from ddnsr_cli.nets.lpips import LPIPS, TRUNKS
from ddnsr_cli.weights.feature_weights import load_lpips

BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "weights"
"""Where real weights lie beside some checkouts."""

VGG16 = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 17: 512, 19: 512, 21: 512, 24: 512, 26: 512, 28: 512}
ALEX = {0: (64, 11), 3: (192, 5), 6: (384, 3), 8: (256, 3), 10: (256, 3)}  # channels, kernel
FIRES = {
    3: (16, 64),
    4: (16, 64),
    6: (32, 128),
    7: (32, 128),
    9: (48, 192),
    10: (48, 192),
    11: (64, 256),
    12: (64, 256),
}
HEADS = {
    "alex": (64, 192, 384, 256, 256),
    "squeeze": (64, 128, 256, 384, 384, 512, 512),
    "vgg": (64, 128, 256, 512, 512),
}


def shapes(trunk):
    """Shapes of the trunk's weights by name without `.weight`, from the published tables."""
    found, before = {}, 3
    if trunk == "squeeze":
        found["features.0"] = (64, 3, 3, 3)
        before = 64
        for index, (few, many) in FIRES.items():
            found[f"features.{index}.squeeze"] = (few, before, 1, 1)
            found[f"features.{index}.expand1x1"] = (many, few, 1, 1)
            found[f"features.{index}.expand3x3"] = (many, few, 3, 3)
            before = 2 * many
        return found
    for index, size in (ALEX if trunk == "alex" else VGG16).items():
        channels, kernel = size if trunk == "alex" else (size, 3)
        found[f"features.{index}"] = (channels, before, kernel, kernel)
        before = channels
    return found


def random_state(trunk):
    generator = torch.Generator().manual_seed(3)
    state = {}
    for name, shape in shapes(trunk).items():
        deviation = (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        state[f"{name}.weight"] = deviation * torch.randn(shape, generator=generator)
        state[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
    for number, channels in enumerate(HEADS[trunk]):
        state[f"lin{number}.weight"] = torch.rand(1, channels, 1, 1, generator=generator) / 10
    return state


@pytest.fixture(scope="module", params=["alex", "squeeze", "vgg"])
def trunk(request):
    return request.param


@pytest.fixture(scope="module")
def state(trunk):
    return random_state(trunk)


@pytest.fixture(scope="module")
def net(trunk, state):
    return LPIPS(trunk, state)


def noise(seed, shape=(2, 3, 36, 45)):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def conv(state, x, name, **how):
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **how).relu()


def alex_features(state, x):
    found = [conv(state, x, "features.0", stride=4, padding=2)]
    found.append(conv(state, F.max_pool2d(found[-1], 3, 2), "features.3", padding=2))
    found.append(conv(state, F.max_pool2d(found[-1], 3, 2), "features.6", padding=1))
    found.append(conv(state, found[-1], "features.8", padding=1))
    found.append(conv(state, found[-1], "features.10", padding=1))
    return found


def squeeze_features(state, x):
    x = conv(state, x, "features.0", stride=2)
    found = [x]
    for index in FIRES:
        if index in (3, 6, 9):
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        few = conv(state, x, f"features.{index}.squeeze")
        wide = conv(state, few, f"features.{index}.expand3x3", padding=1)
        x = torch.cat([conv(state, few, f"features.{index}.expand1x1"), wide], dim=1)
        if index not in (3, 6):
            found.append(x)
    return found


def vgg_features(state, x):
    found = []
    for block in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
        for index in block:
            x = conv(state, x, f"features.{index}", padding=1)
        found.append(x)
        x = F.max_pool2d(x, 2)
    return found


def written_out(trunk, state, image, reference):
    """LPIPS as the paper and the tables of the three networks have it, in float64, step by step."""
    state = {key: value.double() for key, value in state.items()}
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64).reshape(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64).reshape(1, 3, 1, 1)
    features = {"alex": alex_features, "squeeze": squeeze_features, "vgg": vgg_features}[trunk]
    pair = [features(state, (2 * rgb.double() - 1 - shift) / scale) for rgb in (image, reference)]
    total = 0
    for number, (ours, theirs) in enumerate(zip(*pair, strict=True)):
        one = ours / (ours.square().sum(1, keepdim=True).sqrt() + 1e-10)
        other = theirs / (theirs.square().sum(1, keepdim=True).sqrt() + 1e-10)
        total += (state[f"lin{number}.weight"] * (one - other) ** 2).sum(1).mean((1, 2))
    return total


def test_equals_the_definition_written_out(trunk, state, net):
    image, reference = noise(1), noise(2)
    found = net(image, reference)
    assert found.shape == (2,)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), written_out(trunk, state, image, reference), rtol=1e-5, atol=0)


def test_zero_for_equal_and_symmetric(net):
    image, reference = noise(1), noise(2)
    assert net(image, image).tolist() == [0, 0]
    assert torch.equal(net(image, reference), net(reference, image))
    assert (net(image, reference) > 0).all()


def test_grows_with_noise(net):
    image = 0.25 + 0.5 * F.interpolate(noise(1, (1, 3, 5, 6)), scale_factor=8, mode="bilinear")
    grain = noise(2, image.shape) - 0.5
    distances = [net(image, image + amount * grain).item() for amount in (0.01, 0.03, 0.1, 0.3)]
    assert distances == sorted(distances)
    assert distances[-1] > 3 * distances[0] > 0


def test_a_batch_is_its_images_one_by_one(net):
    image, reference = noise(1), noise(2)
    single = torch.cat([net(image[i : i + 1], reference[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(net(image, reference), single)
    assert single[0] != single[1]


def hand_made():
    """AlexNet of zeros but for two channels of the first layer: the constant 3, and 4 times the scaled red."""
    state = {}
    for name, shape in shapes("alex").items():
        state |= {f"{name}.weight": torch.zeros(shape), f"{name}.bias": torch.zeros(shape[0])}
    state["features.0.bias"][0] = 3
    state["features.0.weight"][1, 0, 5, 5] = 4
    for number, channels in enumerate(HEADS["alex"]):
        state[f"lin{number}.weight"] = torch.zeros(1, channels, 1, 1)
    state["lin0.weight"][0, :2, 0, 0] = torch.tensor([1.0, 2.0])
    return state


def test_a_case_by_hand():
    # Scaled red is 1 and 0: features (3, 4) and (3, 0), of length one (0.6, 0.8) and (1, 0): 0.4^2 + 2 * 0.8^2.
    red, gray = torch.zeros(1, 3, 40, 31), torch.zeros(1, 3, 40, 31)
    red[:, 0] = (1 - 0.030 + 0.458) / 2
    gray[:, 0] = (1 - 0.030) / 2
    assert LPIPS("alex", hand_made())(red, gray).item() == pytest.approx(0.16 + 2 * 0.64, rel=1e-5)


def test_gradients_reach_the_image_and_descend(net):
    image, reference = noise(1).requires_grad_(True), noise(2)
    distance = net(image, reference).sum()
    distance.backward()
    assert torch.isfinite(image.grad).all()
    step = 1e-2 * distance.detach() / image.grad.square().sum()
    assert net(image.detach() - step * image.grad, reference).sum() < distance
    assert all(not parameter.requires_grad and parameter.grad is None for parameter in net.parameters())


def test_stays_finite_where_no_channel_answers():
    state = random_state("alex")
    state["features.10.bias"] -= 1000  # the last layer is zero everywhere: it has no direction
    image = noise(1).requires_grad_(True)
    distance = LPIPS("alex", state)(image, noise(2)).sum()
    distance.backward()
    assert torch.isfinite(distance)
    assert torch.isfinite(image.grad).all()
    assert image.grad.any()


def test_autocast_does_not_reach_inside(net):
    image, reference = noise(1), noise(2)
    plain = net(image, reference)
    with torch.autocast("cpu", torch.bfloat16):
        inside = net(image, reference)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, plain)


def test_the_smallest_image_is_the_smallest(trunk, net):
    least = TRUNKS[trunk].least_px
    one = net(noise(1, (1, 3, least, least)), noise(2, (1, 3, least, least)))
    assert torch.isfinite(one).all()
    smaller = noise(1, (1, 3, least - 1, least))
    with pytest.raises(ValueError, match=f"{least} px"):
        net(smaller, smaller)
    with pytest.raises(RuntimeError, match="too small"):
        net.features(smaller)


def test_images_are_checked(net):
    with pytest.raises(ValueError, match="differ in shape"):
        net(noise(1)[:1], noise(2))
    with pytest.raises(ValueError, match="RGB"):
        net(noise(1)[:, :1], noise(2)[:, :1])


def test_one_reference_serves_a_whole_batch(net):
    torch.testing.assert_close(net(noise(1), noise(2)[:1]), net(noise(1), noise(2)[:1].expand(2, -1, -1, -1)))


def test_weights_of_another_network_are_refused(trunk, state):
    with pytest.raises(ConfigError, match="resnet"):
        LPIPS("resnet", state)
    other = {"alex": "vgg", "vgg": "squeeze", "squeeze": "alex"}[trunk]
    with pytest.raises(WeightsError, match=r"^heads.safetensors .*(has no|another network)"):
        LPIPS(other, state, source="heads.safetensors")
    with pytest.raises(WeightsError, match=r"lin2\.weight"):
        LPIPS(trunk, {key: value for key, value in state.items() if key != "lin2.weight"})


@pytest.mark.parametrize(("name", "far", "near"), [("alex", 0.7219, 0.1376), ("squeeze", 0.7110, 0.1479)])
def test_published_values_with_the_real_weights(name, far, near, tmp_path):
    file = BESIDE / f"lpips_{name}_v0.1.safetensors"
    if not file.exists():
        pytest.skip(f"the real weights are not beside this checkout ({file.name})")

    def image(stem):
        with Image.open(BESIDE / "check" / f"{stem}.png") as opened:
            return torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1)[None] / 255

    reference = image("ex_ref").expand(2, -1, -1, -1)
    found = LPIPS(name, load_file(file))(torch.cat([image("ex_p0"), image("ex_p1")]), reference)
    assert found.tolist() == pytest.approx([far, near], abs=6e-5)
    bare = {key: tensor for key, tensor in load_file(file).items() if key.startswith("features")}
    save_file(bare, tmp_path / "trunk.safetensors")  # the heads then come with the package
    again = LPIPS(name, load_lpips(name, tmp_path / "trunk.safetensors").state)
    assert torch.equal(again(torch.cat([image("ex_p0"), image("ex_p1")]), reference), found)
