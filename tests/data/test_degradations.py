from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ddnsr_cli.data import degradations
from ddnsr_cli.data.config import PRESETS, DegradationConfig
from ddnsr_cli.data.degradations import (
    RESIZERS,
    Compression,
    bell,
    coarsened,
    degrade,
    draw_noise,
    filtered,
    generalized_gaussian,
    plateau,
)
from ddnsr_cli.errors import ConfigError

NOTHING = {"blur_chance": 0.0, "bicubic_chance": 1.0, "noise_sigma": (0.0, 0.0), "jpeg_chance": 0.0}
WHITE = {"shot_share": (0.0, 0.0), "gray_share": (0.0, 0.0), "coarse_chance": 0.0}


def config(**changes):
    return DegradationConfig(**(NOTHING | WHITE | changes))


def degraded(hr, seed=0, **changes):
    return degrade(hr, config(**changes), np.random.default_rng(seed))


def flat(value=0.5, crops=24, px=128):
    return torch.full((crops, 3, px, px), value)


def textured(crops=4, px=64, seed=0):
    """Whole levels of every height, with strong detail."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (crops, 3, px, px))).float() / 255


def noise_levels(seed=0, value=0.5, **changes):
    """The noise alone, levels of 255."""
    return degraded(flat(value), seed, **changes).float() - value * 255


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


def neighbors(noise):
    return correlation(noise[..., 1:], noise[..., :-1])


def rounding(sigma):
    """Standard deviation after rounding to whole levels."""
    return (sigma**2 + 1 / 12) ** 0.5


def test_with_nothing_asked_for_it_is_antialiased_bicubic():
    hr = textured()
    for crop, lr in zip(hr, degraded(hr), strict=True):
        levels = (crop * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        expected = np.array(Image.fromarray(levels).resize((16, 16), Image.Resampling.BICUBIC))
        assert np.abs(lr.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_whole_levels_of_the_size_asked_for(scale):
    lr = degraded(torch.rand(2, 3, 16, 24), scale=scale)
    assert lr.shape == (2, 3, 16 // scale, 24 // scale)
    assert lr.dtype == torch.uint8


def test_the_hr_crops_are_left_as_they_were():
    hr = textured()
    before = hr.clone()
    degraded(hr, blur_chance=1.0, noise_sigma=(8, 8), jpeg_chance=1.0)
    assert torch.equal(hr, before)


@pytest.mark.parametrize("changes", [{}, {"blur_chance": 1.0}, {"bicubic_chance": 0.0}])
def test_what_is_flat_stays_flat(changes):
    lr = degraded(flat(100 / 255, px=32), **changes)
    assert torch.equal(lr, torch.full_like(lr, 100))


@pytest.mark.parametrize("sigma", [2.0, 8.0, 16.0])
def test_noise_has_the_standard_deviation_asked_for(sigma):
    noise = noise_levels(noise_sigma=(sigma, sigma))
    assert noise.std().item() == pytest.approx(rounding(sigma), rel=0.02)
    assert noise.mean().item() == pytest.approx(0, abs=0.02 * sigma + 0.5)  # 127.5 is no whole level


def test_each_crop_draws_its_own_strength_from_the_whole_range():
    strengths = noise_levels(noise_sigma=(2.0, 10.0)).std(dim=(1, 2, 3))
    assert strengths.min() > 1.8
    assert strengths.min() < 4
    assert strengths.max() > 8
    assert strengths.max() < 10.4


@pytest.mark.parametrize(("value", "factor"), [(0.25, 0.5), (0.5, 1.0), (0.75, 1.5)])
def test_shot_noise_grows_with_brightness(value, factor):
    noise = noise_levels(value=value, noise_sigma=(8, 8), shot_share=(1.0, 1.0))
    assert noise.std().item() == pytest.approx(8 * factor**0.5, rel=0.03)


@pytest.mark.parametrize("value", [0.25, 0.75])
def test_read_noise_does_not_grow_with_brightness(value):
    assert noise_levels(value=value, noise_sigma=(8, 8)).std().item() == pytest.approx(8, rel=0.03)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_channels_correlate_by_the_gray_share(share):
    noise = noise_levels(noise_sigma=(12, 12), gray_share=(share, share))
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert correlation(noise[:, one], noise[:, other]) == pytest.approx(share, abs=0.03)
    assert noise.std().item() == pytest.approx(12, rel=0.03)


def test_white_noise_knows_nothing_of_its_neighbors():
    assert neighbors(noise_levels(noise_sigma=(8, 8))) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_coarse_noise_is_as_strong_as_white_noise(seed):
    noise = noise_levels(seed, noise_sigma=(8, 8), coarse_chance=1.0)
    assert noise.std().item() == pytest.approx(8, rel=0.04)


def test_coarse_noise_leans_on_its_neighbors():
    found = [neighbors(noise_levels(seed, noise_sigma=(8, 8), coarse_chance=1.0)) for seed in range(8)]
    assert min(found) > -0.02
    assert max(found) < 0.75  # exp(-1 / (4 * 0.8^2)), the widest blur of the noise
    assert 0.1 < sum(found) / len(found) < 0.6


@pytest.mark.parametrize(("side", "near"), [(64, 0.1), (4, 0.7)])
def test_grain_wider_than_its_crop_is_cut_to_it(side, near):
    """The smallest crop of training has 4 LR pixels a side: what is mirrored at its border is strong there."""
    wide = DegradationConfig(coarse_chance=1.0, coarse_sigma=(3.0, 3.0), gray_share=(0.0, 0.0))
    rng = np.random.default_rng(0)
    fields = [draw_noise((side, side), wide, rng, sigma=1.0).field for _ in range(200)]
    assert np.stack(fields).std() == pytest.approx(1, rel=near)


def test_a_wider_grain_leans_further_on_its_neighbors():
    fine, wide = (
        noise_levels(3, noise_sigma=(8, 8), coarse_chance=1.0, coarse_sigma=(sigma, sigma)) for sigma in (0.4, 1.2)
    )
    assert neighbors(fine) + 0.4 < neighbors(wide)
    assert wide.std().item() == pytest.approx(fine.std().item(), rel=0.1)


def test_coarse_noise_keeps_the_gray_share():
    noise = noise_levels(noise_sigma=(8, 8), coarse_chance=1.0, gray_share=(0.5, 0.5))
    assert correlation(noise[:, 0], noise[:, 1]) == pytest.approx(0.5, abs=0.06)


def test_color_can_be_coarser_than_brightness():
    """The difference of two channels is free of what is common to all: it is as wide as asked, and no weaker."""
    wide = {"noise_sigma": (8, 8), "coarse_chance": 1.0, "coarse_sigma": (0.8, 0.8), "gray_share": (0.5, 0.5)}
    noise = noise_levels(**wide, chroma_width=(2.0, 2.0))
    alike = noise_levels(**wide)
    assert neighbors(noise[:, 0] - noise[:, 1]) == pytest.approx(np.exp(-1 / (4 * 1.6**2)), abs=0.03)
    assert neighbors(alike[:, 0] - alike[:, 1]) == pytest.approx(np.exp(-1 / (4 * 0.8**2)), abs=0.03)
    assert noise.std().item() == pytest.approx(alike.std().item(), rel=0.06)
    assert correlation(noise[:, 0], noise[:, 1]) == pytest.approx(0.5, abs=0.06)


def test_coarse_noise_can_be_weaker_than_fine():
    strong = {"noise_sigma": (16, 16), "coarse_level": (0.25, 0.25)}
    assert noise_levels(**strong, coarse_chance=1.0).std().item() == pytest.approx(4, rel=0.05)
    assert noise_levels(**strong, coarse_chance=0.0).std().item() == pytest.approx(16, rel=0.02)


def test_gray_noise_is_the_same_in_all_channels():
    for kind in (0.0, 1.0):
        noise = noise_levels(noise_sigma=(12, 12), gray_chance=1.0, poisson_chance=kind)
        assert (noise[:, 0] - noise[:, 2]).abs().max() <= 1
        assert noise.std().item() == pytest.approx(12, rel=0.6)


@pytest.mark.parametrize(("value", "sigma"), [(0.5, 8.0), (0.25, 8.0), (0.1, 20.0)])
def test_poisson_noise_has_the_variance_and_the_skew_of_counted_photons(value, sigma):
    noise = noise_levels(value=value, noise_sigma=(sigma, sigma), poisson_chance=1.0)
    spread = sigma * (value / 0.5) ** 0.5
    photons = (value * 255 / spread) ** 2
    assert noise.mean().item() == pytest.approx(0, abs=0.05 * sigma + 0.5)
    assert noise.std().item() == pytest.approx(rounding(spread), rel=0.03)
    skew = (noise / noise.std()).pow(3).mean().item()
    assert skew == pytest.approx(photons**-0.5, abs=0.05)


def test_the_share_of_coarse_crops_is_the_chance():
    hr = flat(crops=200, px=64)
    noise = degraded(hr, seed=1, noise_sigma=(12, 12), coarse_chance=0.3).float() - 127.5
    coarse = sum(neighbors(crop) > 0.2 for crop in noise)
    assert 200 * 0.2 < coarse < 200 * 0.4


@pytest.mark.parametrize("chance", ["blur_chance", "jpeg_chance"])
def test_the_share_of_changed_crops_is_the_chance(chance):
    hr = textured(crops=200, px=32)
    same = (degraded(hr) == degraded(hr, **{chance: 0.3})).flatten(1).all(1).sum().item()
    assert 200 * 0.6 < same < 200 * 0.8


def test_shrinking_draws_among_four():
    """Each is Pillow's own, of whole levels; by chance 20 of 60 each."""
    hr = textured(crops=60, px=32)
    lr = degraded(hr, bicubic_chance=0.0).permute(0, 2, 3, 1).numpy().astype(int)
    images = [Image.fromarray((crop * 255).round().byte().permute(1, 2, 0).numpy()) for crop in hr]
    kinds = []
    for image, found in zip(images, lr, strict=True):
        kinds += [
            name
            for name in ("BICUBIC", "BILINEAR", "BOX", "LANCZOS")  # of a whole ratio, BOX is exact
            if np.abs(np.array(image.resize((8, 8), Image.Resampling[name])) - found).max() <= 1
        ]
    assert len(kinds) == 60
    assert set(kinds) == {"BILINEAR", "BOX", "LANCZOS"}
    assert min(kinds.count(kind) for kind in set(kinds)) >= 10


@pytest.mark.parametrize("sigma", [0.8, 1.5])
def test_a_blurred_edge_is_as_wide_as_its_sigma(sigma):
    hr = torch.zeros(1, 3, 32, 64)
    hr[..., 32:] = 1
    row = degraded(hr, scale=1, blur_chance=1.0, blur_sigma=(sigma, sigma))[0, 0, 16].double()
    spread = row.diff() / 255  # the edge's derivative is the Gaussian itself
    place = torch.arange(len(spread)).double()
    center = (spread * place).sum()
    assert spread.sum().item() == pytest.approx(1)
    assert (spread * (place - center).square()).sum().sqrt().item() == pytest.approx(sigma, rel=0.05)


PHASES = [(top, left) for top in range(16) for left in range(16)]


def compressed(levels, **settings):
    """By Pillow, with every phase of the blocks: (256, 3, H, W)."""
    return torch.stack([torch.from_numpy(Compression(phase=phase, **settings).of(levels.numpy())) for phase in PHASES])


def phase_of(lr, levels, **settings):
    """The first phase of the blocks with which Pillow makes `lr` of these levels; None: there is none."""
    for phase in PHASES:
        if np.array_equal(Compression(phase=phase, **settings).of(levels.numpy()), lr.numpy()):
            return phase
    return None


@pytest.mark.parametrize(
    ("changes", "settings"),
    [({}, {}), ({"webp_chance": 1.0}, {"webp": True}), ({"full_chroma_chance": 1.0}, {"chroma": "4:4:4"})],
)
def test_compression_is_that_of_the_quality_drawn_at_any_phase(changes, settings):
    hr = textured(crops=12)
    made = degraded(hr, jpeg_chance=1.0, jpeg_quality=(60, 60), **changes)
    phases = {phase_of(lr, levels, quality=60, **settings) for lr, levels in zip(made, degraded(hr), strict=True)}
    assert None not in phases
    assert len(phases) > 6


def test_a_lower_jpeg_quality_changes_more():
    hr = textured()
    plain = degraded(hr).float()
    change = [(degraded(hr, jpeg_chance=1.0, jpeg_quality=(q, q)).float() - plain).abs().mean() for q in (95, 70, 40)]
    assert change == sorted(change)


def test_both_ends_of_the_jpeg_quality_are_drawn():
    hr = textured(crops=1)
    levels = degraded(hr)[0]
    made = degraded(hr.expand(24, -1, -1, -1), jpeg_chance=1.0, jpeg_quality=(50, 51))
    of = {quality: compressed(levels, quality=quality) for quality in (50, 51)}
    counts = [sum((of[quality] == lr).flatten(1).all(1).any().item() for lr in made) for quality in (50, 51)]
    assert sum(counts) >= 24
    assert min(counts) >= 4


def test_the_same_generator_gives_the_same_bytes():
    hr = textured()
    drawn = DegradationConfig(blur_chance=0.5, coarse_chance=0.5)
    once, again, other = (degrade(hr, drawn, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_the_draw_does_not_touch_the_generators_of_others():
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    degrade(textured(), DegradationConfig(), np.random.default_rng(0))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_what_an_image_draws_does_not_depend_on_the_others():
    """Its place in the batch does: it is its number in the draws."""
    hr, drawn = textured(), PRESETS["photo"]
    alone = degrade(hr[:2], drawn, np.random.default_rng(3))
    others = hr.clone()
    others[0] = 0.5
    among = degrade(others, drawn, np.random.default_rng(3))
    assert torch.equal(among[1], alone[1])


def blob(px=128, sigma=8.0, at=(58.3, 70.9)):
    """A round spot on gray, (1, 3, px, px); `at`: its middle, in pixels from the image's corner."""
    y, x = (torch.arange(px) + 0.5 - middle for middle in at)
    return (0.3 + 0.35 * torch.exp(-(y[:, None] ** 2 + x**2) / (2 * sigma**2))).expand(1, 3, px, px).contiguous()


def middle(lr):
    """Of the spot in (N, 3, h, w) levels: (N, 2), LR pixels from the corner."""
    weight = (lr.double().mean(dim=1) - 0.3 * 255).clamp(min=3) - 3  # what ringing leaves far away has no say
    places = torch.arange(lr.shape[-1]).double() + 0.5
    mass = weight.sum(dim=(1, 2))
    return torch.stack([(weight.sum(dim=2) @ places) / mass, (weight.sum(dim=1) @ places) / mass], dim=1)


@pytest.mark.parametrize("name", RESIZERS)
@pytest.mark.parametrize("size", [(0.5, 1.0), (1.0, 3.0)])
def test_nothing_is_shifted_whatever_size_lies_between(monkeypatch, name, size):
    monkeypatch.setattr(degradations, "RESIZERS", (name, name))
    hr = blob().expand(40, -1, -1, -1)
    filters = {"blur_chance": 1.0, "ring_chance": 0.5, "sharpen_chance": 0.5}
    shift = middle(degraded(hr, twice_chance=1.0, size=size, **filters)) - torch.tensor((58.3, 70.9)) / 4
    assert shift.abs().mean() < 0.02
    assert shift.abs().max() < 0.06


def test_compression_shifts_nothing_on_average():
    hr = blob().expand(80, -1, -1, -1)
    changes = {"jpeg_chance": 1.0, "webp_chance": 0.5, "jpeg_quality": (50, 95)}
    shift = middle(degraded(hr, twice_chance=1.0, **changes)) - torch.tensor((58.3, 70.9)) / 4
    assert shift.mean(dim=0).abs().max() < 0.05


@pytest.mark.parametrize(("shape", "size"), [((48, 80), (0.5, 0.5)), ((16, 200), (0.9, 0.9)), ((64, 64), (3.0, 3.0))])
def test_two_passes_end_at_the_size_of_lr(shape, size):
    lr = degraded(torch.rand(3, 3, *shape), twice_chance=1.0, size=size)
    assert lr.shape == (3, 3, shape[0] // 4, shape[1] // 4)


def test_a_size_below_lr_loses_detail_and_one_above_hardly():
    hr = textured(crops=4, px=128)
    detail = [degraded(hr, twice_chance=1.0, size=(size, size)).float().std().item() for size in (0.5, 0.8, 3.9)]
    assert detail[0] < 0.8 * detail[1]
    assert detail[2] == pytest.approx(degraded(hr).float().std().item(), rel=0.1)


def edge_width(lr):
    """Standard deviation of an edge's derivative, LR pixels; the edge is upright."""
    spread = lr.double().mean(dim=(0, 1, 2)).diff()
    spread /= spread.sum()
    place = torch.arange(len(spread)).double()
    return ((spread * (place - (spread * place).sum()).square()).sum()).sqrt().item()


def test_blur_has_the_same_width_in_hr_pixels_in_both_passes():
    hr = torch.full((1, 3, 128, 256), 0.2)
    hr[..., 128:] = 0.8
    twice = {"twice_chance": 1.0, "size": (2.0, 2.0)}
    blur = {"blur_chance": 1.0, "blur_sigma": (3.0, 3.0)}
    added = edge_width(degraded(hr, **twice, **blur)) ** 2 - edge_width(degraded(hr, **twice)) ** 2
    assert added == pytest.approx(2 * (3 / 4) ** 2, rel=0.05)


def test_a_share_of_images_goes_through_two_passes():
    hr = textured(crops=200, px=32)
    same = (degraded(hr) == degraded(hr, twice_chance=0.3, size=(0.5, 0.5))).flatten(1).all(1).sum().item()
    assert 200 * 0.6 < same < 200 * 0.8


def test_strength_bounds_noise_and_compression_of_an_image_together():
    harm = {"noise_sigma": (0, 20), "jpeg_chance": 1.0, "jpeg_quality": (10, 95), "blur_chance": 1.0}
    weak = degraded(flat(crops=40), **harm, strength=(0.1, 0.1)).float()
    strong = degraded(flat(crops=40), **harm).float()
    assert weak.std(dim=(1, 2, 3)).max() < 2.3
    assert strong.std(dim=(1, 2, 3)).max() > 6
    best, least = (
        degraded(textured(), jpeg_chance=1.0, jpeg_quality=(low, 95), strength=(0.0, 0.0)) for low in (95, 10)
    )
    assert torch.equal(best, least)


@pytest.mark.parametrize(
    ("changes", "kernel"),
    [
        ({}, generalized_gaussian(bell((3.0, 3.0), 0.0))),
        ({"generalized_chance": 1.0, "generalized_beta": (4, 4)}, generalized_gaussian(bell((3.0, 3.0), 0.0), 4)),
        ({"plateau_chance": 1.0, "plateau_beta": (1.5, 1.5)}, plateau(bell((3.0, 3.0), 0.0), 1.5)),
    ],
)
def test_blur_is_of_the_kernel_asked_for(changes, kernel):
    hr = textured(crops=1)
    blurred = degraded(hr, scale=1, blur_chance=1.0, blur_sigma=(3, 3), **changes)[0].numpy().astype(float)
    assert np.abs(blurred - 255 * filtered(hr[0].numpy(), kernel)).max() < 0.51


def test_a_share_of_kernels_is_as_wide_both_ways():
    """An impulse blurred is the kernel itself: the same turned by a quarter where it is round."""
    hr = torch.zeros(100, 3, 33, 33)
    hr[..., 16, 16] = 1
    made = degraded(hr, scale=1, blur_chance=1.0, blur_sigma=(0.5, 2.0), isotropic_chance=0.4).int()
    round_ones = ((made - made.rot90(dims=(2, 3))).abs().flatten(1).max(1).values <= 1).sum().item()
    assert 25 < round_ones < 60


def test_sharpening_leaves_halos_of_brightness_only():
    hr = torch.full((1, 3, 64, 128), 0.4)
    hr[:, :, :, 64:] = torch.tensor((0.7, 0.6, 0.5))[:, None, None]
    plain = degraded(hr, scale=1).float()
    sharp = degraded(hr, scale=1, sharpen_chance=1.0, sharpen_amount=(1, 1), sharpen_radius=(1, 1)).float()
    luma = torch.tensor((0.299, 0.587, 0.114))
    step = (luma * torch.tensor((0.3, 0.2, 0.1))).sum() * 255
    # Half of a sampled Gaussian of sigma 1 and half its middle tap: what is taken away beside an edge.
    beside = step * (1 - 0.5 * (1 + 0.3989))
    assert (sharp - plain)[0, :, 32, 64].tolist() == pytest.approx([beside.item()] * 3, abs=1.01)
    assert (sharp - plain)[0, :, 32, 63].tolist() == pytest.approx([-beside.item()] * 3, abs=1.01)
    assert torch.equal(sharp[..., :50], plain[..., :50])


def test_ringing_swings_on_both_sides_of_an_edge():
    hr = torch.full((1, 3, 64, 128), 0.3)
    hr[..., 64:] = 0.7
    rung = degraded(hr, scale=1, ring_chance=1.0, ring_cutoff=(0.5, 0.5)).float()[0, 0, 32] / 255
    assert rung.max() > 0.7 + 0.4 * 0.035
    assert rung.min() < 0.3 - 0.4 * 0.035


def noise_of(preset, value=0.45, crops=400):
    """Standard deviation of each image of one gray, levels."""
    lr = degrade(flat(value, crops=crops, px=64), PRESETS[preset], np.random.default_rng(0)).float()
    return lr.std(dim=(2, 3)).mean(dim=1)


@pytest.mark.parametrize(
    ("preset", "at_most"), [("photo", (1, 5, 16, 26)), ("mild", (4, 7, 11, 12)), ("track1", (7, 9, 12, 13))]
)
def test_presets_have_the_noise_they_promise(preset, at_most):
    """Quartiles and 95 %, within a third."""
    found = noise_of(preset).quantile(torch.tensor((0.25, 0.5, 0.9, 0.99)))
    assert (found < torch.tensor(at_most) * 1.15).all()
    assert found[1] > {"photo": 1.5, "mild": 3, "track1": 7}[preset]


def test_track_1_is_bicubic_and_noise_alone():
    hr = textured(crops=40, px=64)
    made = replace(PRESETS["track1"], noise_sigma=(0.0, 0.0))
    assert torch.equal(degrade(hr, made, np.random.default_rng(0)), degraded(hr))
    assert 3.7 < noise_of("track1").min() < 5
    assert 0.02 < neighbors(degrade(flat(), PRESETS["track1"], np.random.default_rng(1)).float()) < 0.4


def test_images_differ_widely_and_many_are_mild():
    hr = textured(crops=1, px=96).expand(120, -1, -1, -1) * 0.3 + 0.3
    hr = torch.nn.functional.avg_pool2d(hr, 5, stride=1, padding=2)
    made, plain = degrade(hr, PRESETS["photo"], np.random.default_rng(0)).float(), degraded(hr[:1]).float()
    error = (made - plain).abs().mean(dim=(1, 2, 3))
    assert (error < 3).float().mean() > 0.2
    assert (error > 8).float().mean() > 0.1


@pytest.mark.parametrize(
    "nonsense",
    [
        {"scale": 0},
        {"blur_chance": 1.1},
        {"jpeg_chance": -0.1},
        {"noise_sigma": (5.0, 4.0)},
        {"noise_sigma": (-1.0, 4.0)},
        {"blur_sigma": (0.0, 1.0)},
        {"shot_share": (0.0, 1.5)},
        {"gray_share": (0.5, 1.01)},
        {"jpeg_quality": (40, 101)},
        {"coarse_chance": float("nan")},
        {"chroma_width": (0.0, 2.0)},
        {"twice_chance": 1.5},
        {"size": (0.0, 2.0)},
        {"strength": (0.0, 1.2)},
        {"ring_cutoff": (0.5, 1.1)},
        {"sharpen_radius": (0.0, 1.0)},
        {"plateau_chance": 0.6, "generalized_chance": 0.6},
    ],
)
def test_draws_that_mean_nothing_are_refused(nonsense):
    with pytest.raises(ConfigError, match=next(iter(nonsense)) if len(nonsense) == 1 else "plateau_chance"):
        DegradationConfig(**nonsense)


@pytest.mark.parametrize(("side", "sigma"), [(32, 2.0), (40, 3.6), (8, 0.8)])
def test_coarse_noise_is_as_strong_at_the_border_as_in_the_middle(side, sigma):
    rng = np.random.default_rng(0)
    drawn = [coarsened(rng.standard_normal((3, side, side)).astype(np.float32), sigma) for _ in range(400)]
    variance = np.square(np.stack(drawn)).mean(axis=(0, 1))
    assert variance.mean() == pytest.approx(1, abs=0.03)
    frame = np.concatenate([variance[0], variance[-1], variance[:, 0], variance[:, -1]])
    assert frame.mean() == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("name", ["noise_sigma", "blur_sigma", "size"])
def test_a_range_without_an_end_is_refused(name):
    with pytest.raises(ConfigError, match="is finite"):
        DegradationConfig(**{name: (0.6, float("inf"))})
