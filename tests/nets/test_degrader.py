import pytest
import torch

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig, ResidualBlock, start_as_area, start_with_noise

SMALL = DegraderConfig(features=4, blocks=1)


def conv(before, after, side=3):
    """Parameters of a convolution with bias."""
    return after * (before * side * side + 1)


def table_parameters(f, blocks):
    """Parameters by the layers of the paper's figure 2, for f features at LR size."""
    hr = [conv(3, f), conv(f, 2 * f), conv(2 * f, 2 * f, 4), conv(2 * f, 4 * f), conv(4 * f, 4 * f, 4), conv(4 * f, f)]
    noise = [conv(3, f), conv(f, 2 * f), conv(2 * f, 4 * f), conv(4 * f, 8 * f)]
    merge = [conv(9 * f, f), *[conv(f, f)] * (2 * blocks), conv(f, f)]
    return sum(hr) + sum(noise) + sum(merge) + conv(f, 3)


def reach_lr_px(blocks):
    """LR pixels from a border that zero padding changes, for a flat HR image and no noise input."""
    hr = 0
    for stride in (1, 1, 2, 1, 2, 1):  # a 4x4 convolution of stride 2 reads HR pixels 2i - 1 to 2i + 2
        hr = hr + 1 if stride == 1 else hr // 2 + 1
    noise = 3  # of four convolutions the first sees zeros on both sides of the border
    return max(hr, noise) + 1 + 2 * blocks + 1 + 1


def seeded(config, seed=0):
    torch.manual_seed(seed)
    return Degrader(config).eval().double().requires_grad_(False)


def flat_hr(lr_px, value=0.4):
    return torch.full((1, 3, 4 * lr_px, 4 * lr_px), value, dtype=torch.float64)


def single_input(blocks, px):
    return seeded(DegraderConfig(features=4, blocks=blocks))(
        flat_hr(px), torch.zeros(1, 3, px, px, dtype=torch.float64)
    )


@pytest.mark.parametrize("config", [DegraderConfig(), DegraderConfig(features=16, blocks=3)])
def test_parameters_are_those_of_the_papers_table(config):
    with torch.device("meta"):
        net = Degrader(config)
    count = sum(parameter.numel() for parameter in net.parameters())
    assert count == table_parameters(config.features, config.blocks)


def test_the_full_network_meets_at_576_channels():
    with torch.device("meta"):
        assert Degrader(DegraderConfig()).merge[0].in_channels == 576


def test_a_crop_of_128_becomes_one_of_32():
    net = Degrader(DegraderConfig(features=8, blocks=1))
    with torch.no_grad():
        assert net(torch.rand(2, 3, 128, 128), torch.rand(2, 3, 32, 32)).shape == (2, 3, 32, 32)


@pytest.mark.parametrize("size", [(1, 1), (5, 8), (7, 3)])
def test_any_size_at_scale_4_works(size):
    net = Degrader(DegraderConfig(features=2, blocks=1))
    with torch.no_grad():
        lr_fake = net(torch.rand(1, 3, 4 * size[0], 4 * size[1]), torch.rand(1, 3, *size))
    assert lr_fake.shape == (1, 3, *size)


@pytest.mark.parametrize("blocks", [1, 8])
def test_without_a_noise_input_a_flat_image_stays_flat_inside(blocks):
    # Appendix A of the paper: a stack of convolutions makes nothing out of a constant but for its zero padding.
    reach = reach_lr_px(blocks)
    lr_fake = single_input(blocks, px=2 * reach + 4)
    inside = lr_fake[..., reach:-reach, reach:-reach]
    assert inside.shape[-1] == 4
    assert (inside - inside[..., :1, :1]).abs().max() < 1e-12


def test_the_border_of_a_flat_image_is_not_flat_up_to_the_reach():
    reach = reach_lr_px(blocks=1)
    middle = single_input(blocks=1, px=2 * reach + 4)[..., reach + 2, :]
    assert (middle[..., reach - 1] - middle[..., reach]).abs().max() > 1e-9
    assert (middle[..., -reach] - middle[..., -reach - 1]).abs().max() > 1e-9


def test_noise_in_the_real_input_comes_out():
    reach = reach_lr_px(SMALL.blocks)
    px = 2 * reach + 4
    noise = torch.randn(1, 3, px, px, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 8 / 255
    inside = seeded(SMALL)(flat_hr(px), 0.4 + noise)[..., reach:-reach, reach:-reach]
    assert inside.std(dim=(2, 3)).min() > 1e-5


def test_both_inputs_reach_the_result():
    net = seeded(DegraderConfig(features=4, blocks=1))
    hr = torch.rand(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    lr_real = torch.rand(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    net(hr, lr_real).sum().backward()
    assert hr.grad.any()
    assert lr_real.grad.any()


def test_what_the_merge_finds_is_added_to_the_hr_branch():
    net = seeded(SMALL)
    torch.nn.init.zeros_(net.merge[-1].weight)
    torch.nn.init.zeros_(net.merge[-1].bias)
    hr, lr_real = (torch.rand(1, 3, side, side, dtype=torch.float64) for side in (16, 4))
    torch.testing.assert_close(net(hr, lr_real), net.conv_last(net.hr_branch(hr)))


def test_one_lr_pixel_further_is_four_hr_pixels_further():
    net = seeded(DegraderConfig(features=4, blocks=1))
    reach = reach_lr_px(1) + 1  # noise is no longer zero
    g = torch.Generator().manual_seed(2)
    hr = torch.rand(1, 3, 128, 128, dtype=torch.float64, generator=g)
    lr_real = torch.rand(1, 3, 32, 32, dtype=torch.float64, generator=g)
    here = net(hr[..., :-4, :-4], lr_real[..., :-1, :-1])
    there = net(hr[..., 4:, 4:], lr_real[..., 1:, 1:])
    inner = slice(reach + 1, -reach - 1)
    shifted = slice(reach, -reach - 2)
    torch.testing.assert_close(here[..., inner, inner], there[..., shifted, shifted])


@pytest.mark.parametrize("lr_size", [(8, 9), (7, 8), (32, 32)])
def test_inputs_that_do_not_fit_are_refused_with_their_sizes(lr_size):
    net = Degrader(DegraderConfig(features=2, blocks=1))
    with pytest.raises(ValueError, match=rf"32, 32.*{lr_size[0]}, {lr_size[1]}"):
        net(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, *lr_size))


def test_the_inputs_are_left_as_they_were():
    net = Degrader(DegraderConfig(features=2, blocks=1))
    hr, lr_real = torch.randn(1, 3, 16, 16), torch.randn(1, 3, 4, 4)
    before = hr.clone(), lr_real.clone()
    with torch.no_grad():
        net(hr, lr_real)
    assert torch.equal(hr, before[0])
    assert torch.equal(lr_real, before[1])


def test_a_residual_block_with_nothing_learned_is_the_identity():
    block = ResidualBlock(3)
    torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.zeros_(block.conv2.bias)
    x = torch.randn(1, 3, 5, 5)
    with torch.no_grad():
        assert torch.equal(block(x), x)


@pytest.mark.parametrize("nonsense", [{"features": 0}, {"blocks": 0}])
def test_sizes_that_mean_nothing_are_refused(nonsense):
    with pytest.raises(ConfigError, match="at least 1"):
        DegraderConfig(**nonsense)


def test_a_fresh_degrader_averages():
    torch.manual_seed(0)
    net = Degrader(DegraderConfig(features=8, blocks=2))
    start_as_area(net, torch.Generator().manual_seed(0))
    hr, noise = torch.rand(2, 3, 24, 32), torch.rand(2, 3, 6, 8)
    torch.testing.assert_close(net(hr, noise), torch.nn.functional.avg_pool2d(hr, 4), rtol=0, atol=1e-6)


def fresh_with_noise():
    net = Degrader(DegraderConfig(features=8, blocks=2))
    start_as_area(net, torch.Generator().manual_seed(0))
    start_with_noise(net)
    return net


def test_a_start_with_noise_adds_the_finest_detail_of_the_image():
    generator = torch.Generator().manual_seed(1)
    hr, image = torch.rand(2, 3, 48, 48, generator=generator), torch.rand(2, 3, 12, 12, generator=generator)
    expected = torch.nn.functional.avg_pool2d(hr, 4) + image - torch.nn.functional.avg_pool2d(image, 3, 1, 1)
    torch.testing.assert_close(fresh_with_noise()(hr, image), expected, rtol=0, atol=1e-5)


def test_a_start_with_noise_adds_nothing_of_a_flat_image_and_nothing_for_zeros():
    hr = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(2))
    area = torch.nn.functional.avg_pool2d(hr, 4)
    net = fresh_with_noise()
    torch.testing.assert_close(net(hr, torch.zeros(1, 3, 12, 12)), area, rtol=0, atol=1e-6)
    flat = net(hr, torch.full((1, 3, 12, 12), 0.7))
    torch.testing.assert_close(flat[..., 1:-1, 1:-1], area[..., 1:-1, 1:-1], rtol=0, atol=1e-6)
