import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.nets.config import DISC_HR_TRACK1, DISC_LR, PATCH_GAN_LEAST_PX, VGGStyleConfig
from ddnsr_cli.nets.discriminators import (
    PROJECTED_TAPS,
    PatchGANDiscriminator,
    ProjectedDiscriminator,
    UNetDiscriminator,
    VGGStyleDiscriminator,
)

SMALL = VGGStyleConfig(input_px=16, features=4, stages=2)
NETS = [(lambda: VGGStyleDiscriminator(SMALL), 16), (lambda: PatchGANDiscriminator(4), 32)]  # and their input side
UNET = (lambda: UNetDiscriminator(4), 16)


def conv(before, after, side):
    """Parameters of a convolution with bias."""
    return after * (before * side * side + 1)


def norm(channels):
    """Parameters of a batch norm."""
    return 2 * channels


def vgg_parameters(channels, last_side):
    count, before = 0, 3
    for stage, after in enumerate(channels):
        count += conv(before, after, 3) + (norm(after) if stage else 0) + conv(after, after, 4) + norm(after)
        before = after
    return count + (before * last_side**2 * 100 + 100) + (100 + 1)


def size_of(net):
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("config", "channels", "last_side"),
    [(DISC_HR_TRACK1, [64, 128, 256, 512, 512], 4), (DISC_LR, [128, 256, 512], 4), (SMALL, [4, 8], 4)],
)
def test_vgg_parameters_are_those_of_the_table(config, channels, last_side):
    with torch.device("meta"):
        assert size_of(VGGStyleDiscriminator(config)) == vgg_parameters(channels, last_side)


def test_patchgan_parameters_are_those_of_the_table():
    layers = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1)]
    expected = sum(conv(before, after, 4) for before, after in layers) + sum(map(norm, (128, 256, 512)))
    with torch.device("meta"):
        assert size_of(PatchGANDiscriminator()) == expected


@pytest.mark.parametrize(("config", "px"), [(DISC_HR_TRACK1, 128), (DISC_LR, 32), (SMALL, 16)])
def test_vgg_gives_one_logit_an_image(config, px):
    with torch.device("meta"):
        assert VGGStyleDiscriminator(config)(torch.empty(3, 3, px, px)).shape == (3, 1)


@pytest.mark.parametrize(("size", "grid"), [((128, 128), (14, 14)), ((32, 48), (2, 4)), ((72, 40), (7, 3))])
def test_patchgan_gives_one_logit_a_patch(size, grid):
    with torch.device("meta"):
        assert PatchGANDiscriminator(2)(torch.empty(3, 3, *size)).shape == (3, 1, *grid)


@pytest.mark.parametrize(("make", "norms"), [(lambda: VGGStyleDiscriminator(SMALL), 3), (PatchGANDiscriminator, 3)])
def test_every_convolution_is_normed_but_the_first_and_the_scores(make, norms):
    net = make()
    kinds = [type(layer) for layer in (net.features if isinstance(net, VGGStyleDiscriminator) else net.layers)]
    assert kinds[:3] == [nn.Conv2d, nn.LeakyReLU, nn.Conv2d]
    assert kinds.count(nn.BatchNorm2d) == norms
    assert kinds[3:6] == [nn.BatchNorm2d, nn.LeakyReLU, nn.Conv2d]


@pytest.mark.parametrize(("make", "px"), [*NETS, UNET])
def test_scores_are_logits_not_chances(make, px):
    net = make().eval().double()
    last = [layer for layer in net.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]
    image = torch.rand(2, 3, px, px, dtype=torch.float64)
    with torch.no_grad():
        before = net(image)
        last.bias += 5
        torch.testing.assert_close(net(image), before + 5)


def test_a_patchgan_scores_a_patch_from_its_smallest_side_on():
    net = PatchGANDiscriminator(4)
    assert net(torch.rand(1, 3, PATCH_GAN_LEAST_PX, PATCH_GAN_LEAST_PX)).shape == (1, 1, 1, 1)
    with pytest.raises(RuntimeError):
        net(torch.rand(2, 3, PATCH_GAN_LEAST_PX - 8, PATCH_GAN_LEAST_PX - 8))


@pytest.mark.parametrize(("px", "batch"), [(4, 2), (8, 1)])
def test_a_vgg_style_one_learns_from_its_least_batch_on(px, batch):
    config = VGGStyleConfig(input_px=px, features=4, stages=2)
    assert config.least_batch == batch
    net = VGGStyleDiscriminator(config)
    assert net(torch.rand(batch, 3, px, px)).shape == (batch, 1)
    if batch > 1:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            net(torch.rand(batch - 1, 3, px, px))


@pytest.mark.parametrize(("make", "px"), NETS)
def test_batch_norm_learns_in_training_mode_only(make, px):
    net = make()
    image = 0.5 + torch.rand(4, 3, px, px)
    statistics = {name: value.clone() for name, value in net.named_buffers()}
    with torch.no_grad():
        net.eval()(image)
        assert all(torch.equal(value, statistics[name]) for name, value in net.named_buffers())
        net.train()(image)
    assert [name for name, value in net.named_buffers() if torch.equal(value, statistics[name])] == []


def test_patchgan_sees_patches_of_70_pixels():
    torch.manual_seed(0)
    net = PatchGANDiscriminator(2).eval().double()
    image = torch.rand(1, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    net(image)[0, 0, 7, 7].backward()
    touched = image.grad[0].abs().sum(0) > 0
    rows, columns = touched.any(1).nonzero().flatten(), touched.any(0).nonzero().flatten()
    assert len(rows) == len(columns) == 70
    assert rows.tolist() == columns.tolist() == list(range(33, 103))


def test_unet_parameters_are_those_of_the_formula():
    """1068 f^2 + 37 f + 1; with 64 features 4,376,897, as many as Real-ESRGAN's has."""
    with torch.device("meta"):
        assert [size_of(UNetDiscriminator(f)) for f in (2, 64)] == [1068 * f**2 + 37 * f + 1 for f in (2, 64)]


@pytest.mark.parametrize("size", [(8, 8), (32, 48), (128, 128)])
def test_unet_gives_one_logit_a_pixel(size):
    with torch.device("meta"):
        assert UNetDiscriminator(2)(torch.empty(3, 3, *size)).shape == (3, 1, *size)


def test_unet_halves_thrice_doubles_thrice_and_adds_what_had_the_same_size():
    """The graph of Wang et al. 2021, written down layer by layer."""
    torch.manual_seed(0)
    net, image = UNetDiscriminator(2).eval(), torch.rand(2, 3, 16, 24)

    def bent(x):
        return F.leaky_relu(x, 0.2)

    def doubled(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    with torch.no_grad():
        whole = bent(net.first(image))
        half = bent(F.conv2d(whole, net.down[0].weight, stride=2, padding=1))
        quarter = bent(F.conv2d(half, net.down[1].weight, stride=2, padding=1))
        eighth = bent(F.conv2d(quarter, net.down[2].weight, stride=2, padding=1))
        up = bent(F.conv2d(doubled(eighth), net.up[0].weight, padding=1)) + quarter
        up = bent(F.conv2d(doubled(up), net.up[1].weight, padding=1)) + half
        up = bent(F.conv2d(doubled(up), net.up[2].weight, padding=1)) + whole
        for layer in net.refine:
            up = bent(F.conv2d(up, layer.weight, padding=1))
        torch.testing.assert_close(net(image), net.last(up))


def test_unet_keeps_the_steepness_of_its_inner_convolutions_at_1_while_it_learns():
    torch.manual_seed(0)
    net = UNetDiscriminator(4)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        net(torch.rand(1, 3, 16, 16)).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        for _ in range(50):  # the largest singular value is told by power iterations, one a pass
            net(torch.rand(1, 3, 8, 8))
    net.eval()
    steepness = {
        name: torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item()
        for name, layer in net.named_modules()
        if isinstance(layer, nn.Conv2d)
    }
    assert len(steepness) == 10
    assert [value for name, value in steepness.items() if name not in {"first", "last"}] == pytest.approx(
        [1] * 8, rel=0.02
    )
    assert abs(steepness["first"] - 1) > 0.1  # without a norm


def test_unet_scores_an_image_whatever_others_are_in_the_batch():
    torch.manual_seed(0)
    net = UNetDiscriminator(4)
    one, *others = torch.rand(3, 1, 3, 16, 16)
    scores = [copy.deepcopy(net)(torch.cat([one, other]))[0] for other in others]
    assert torch.equal(*scores)


def seen(image):
    """Features of the sizes and channels of VGG19's, which follow from the image alone."""
    gray = image.mean(dim=1, keepdim=True)
    sizes = zip((1, 2, 4), PROJECTED_TAPS.items(), strict=True)
    return {tap: F.avg_pool2d(gray, px).expand(-1, channels, -1, -1) for px, (tap, channels) in sizes}


def test_projected_gives_three_logits_a_pixel_and_learns_by_its_heads_alone():
    net = ProjectedDiscriminator(seen, 8)
    assert net(torch.rand(2, 3, 16, 24)).shape == (2, 3, 16, 24)
    widths = [9 * 8 * (channels + 8 + 8) + conv(8, 1, 3) for channels in (64, 128, 256)]  # without biases inside
    assert size_of(net) == sum(widths)


def test_projected_weights_hold_no_vgg():
    vgg = nn.Conv2d(3, 3, 1)
    assert not any("see" in name for name in ProjectedDiscriminator(vgg, 4).state_dict())


def test_projected_scores_each_image_by_itself_and_leads_back_to_it():
    torch.manual_seed(0)
    net, image = ProjectedDiscriminator(seen, 4).eval(), torch.rand(2, 3, 8, 8, requires_grad=True)
    scores = net(image)
    torch.testing.assert_close(scores[:1], net(image[:1]))
    scores[0].sum().backward()
    assert (image.grad[0] != 0).all()
    assert (image.grad[1] == 0).all()


def test_patchgan_moves_with_the_image():
    torch.manual_seed(0)
    net = PatchGANDiscriminator(2).eval().double()
    image = torch.rand(1, 3, 136, 136, dtype=torch.float64)
    with torch.no_grad():
        here, there = net(image[..., :128, :128]), net(image[..., 8:, 8:])
    torch.testing.assert_close(here[..., 5:10, 5:10], there[..., 4:9, 4:9])
    assert not torch.allclose(here, there)


@pytest.mark.parametrize(
    "nonsense", [{"input_px": 100}, {"input_px": 0}, {"features": 0}, {"stages": 0}, {"input_px": 128, "stages": 8}]
)
def test_sizes_that_mean_nothing_are_refused(nonsense):
    with pytest.raises(ConfigError, match="multiple of 2"):
        VGGStyleConfig(**nonsense)
