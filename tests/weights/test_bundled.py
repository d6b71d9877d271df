"""Our models, those that come along and those for research: sizes, seams, and that each does what it is for."""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

from ddnsr_cli.commands.train.joint import RECORDED
from ddnsr_cli.config import options_to_json, unlike_names
from ddnsr_cli.inference.net_upscaler import NetUpscaler
from ddnsr_cli.inference.tiling import TileConfig
from ddnsr_cli.metrics.fidelity import psnr_db, ssim
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.training.options import JointOptions
from ddnsr_cli.weights.checkpoint import load_degrader, load_sr_net
from ddnsr_cli.weights.registry import read_registry
from ddnsr_cli.weights.resolve import find_weights

COFFEE = Path(__file__).parents[2] / "examples" / "coffee.png"
CARDS = Path(__file__).parents[2] / "docs" / "models"
CPU = torch.device("cpu")


REGISTRY = read_registry()
OURS = [entry for entry in REGISTRY.entries if entry.own]
HERE = [entry for entry in OURS if not REGISTRY.lacks(entry)]
ENLARGERS = [entry.name for entry in HERE if entry.network == "rrdb"]
DEGRADERS = [entry.name for entry in HERE if entry.network == "degrader"]
FREE = {"ddnsr-lite", "ddnsr-lite-fidelity", "ddnsr-photo", "ddnsr-track1", "degrader-lite", "degrader-track1"}
"""Learned from freely licensed photos only."""

LEAST_GAIN_DB = {"ddnsr-track1": 0.7, "ddnsr-photo": 0.45, "ddnsr-lite": 1.0, "ddnsr-track2": 0.9}
"""Of the crispest over bicubic; their cards have the price."""

MOST_SHIFT = {"ddnsr-photo": (5.0, 9.0), "ddnsr-track1": (3.0, 4.5), "ddnsr-track2": (3.0, 6.0)}
"""Levels by which dark grays (5 to 15) and all others may move; Real-ESRGAN x4plus, their teacher: by 7 and 11."""


@cache
def network(name):
    return load_sr_net(find_weights(name, registry=read_registry(), offline=True).path)[0]


@pytest.fixture(scope="module")
def net():
    return network(None)


@pytest.fixture(scope="module")
def image():
    with Image.open(COFFEE) as image:
        return image.convert("RGB")


def as_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def test_the_default_is_small(net):
    assert sum(parameter.numel() for parameter in net.parameters()) <= 1_500_000
    assert read_registry().default.size_bytes <= 3_000_000


@pytest.mark.parametrize("name", ENLARGERS)
def test_bfloat16_costs_about_as_much_as_rounding(name, image):
    """On any CPU; whole levels have a deviation of 0.29."""
    lr = as_tensor(image.crop((206, 126, 234, 154)))
    wide, narrow = (
        255 * NetUpscaler(network(name), device=CPU, dtype=dtype, tiles=TileConfig()).whole(lr)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert 0 < (narrow - wide).square().mean().sqrt() < 0.45
    assert (narrow - wide).abs().quantile(0.9999) < 2.5


def test_what_comes_along_may_be_used_by_everyone():
    bundled = [entry for entry in REGISTRY.entries if entry.bundled]
    assert {entry.name for entry in bundled} == FREE
    begun = {"ddnsr-photo", "ddnsr-track1"}  # from Real-ESRGAN
    assert {entry.license for entry in bundled if entry.name not in begun} == {"MIT"}
    assert {REGISTRY.get(name).license for name in begun} == {"BSD-3-Clause"}
    assert all(entry.research_only == (entry.name not in FREE) for entry in OURS)
    assert sum(entry.size_bytes for entry in bundled) <= 90_000_000


def test_all_of_ours_is_reported_how_made():
    for entry in OURS:
        assert all((entry.steps, entry.command, entry.scores)), entry.name
        card = Path(__file__).parents[2] / re.search(r"docs/models/[\w-]+\.md", entry.description).group()
        assert entry.name in card.read_text(encoding="utf-8")


@pytest.mark.parametrize("card", sorted(CARDS.glob("*.md")), ids=lambda path: path.stem)
def test_cards_can_be_pushed_to_the_hub_as_they_are(card):
    text, entry = card.read_text(encoding="utf-8"), REGISTRY.get(card.stem)
    facts = ModelCard(text).data
    named = facts.license_name if facts.license == "other" else facts.license
    assert named == entry.license.lower().replace(" ", "-")
    assert (facts.library_name, facts.pipeline_tag) == ("ddnsr", "image-to-image")
    assert "ddnsr" in facts.tags
    assert re.findall(r"\]\((?!https://|#)", text) == []  # the Hub has none of our other files


@pytest.mark.parametrize("name", ENLARGERS)
def test_a_reconstruction_network_is_what_the_registry_says(name):
    entry = read_registry().get(name)
    config = RRDBConfig(features=entry.features, blocks=entry.blocks, growth=entry.growth, scale=entry.scale)
    assert network(name).config == config


@pytest.mark.parametrize("name", DEGRADERS)
def test_a_degrader_is_what_the_registry_says(name):
    found = find_weights(name, registry=read_registry(), network="degrader", offline=True)
    degrader, metadata = load_degrader(found.path)
    assert (degrader.config.features, degrader.config.blocks) == (found.entry.features, found.entry.blocks)
    assert json.loads(metadata["options"])["dual_input"]


@pytest.mark.parametrize("name", DEGRADERS)
def test_the_record_in_a_degrader_has_the_names_of_a_run_of_today(name):
    found = find_weights(name, registry=read_registry(), network="degrader", offline=True)
    metadata = load_degrader(found.path)[1]
    options, training = json.loads(metadata["options"]), json.loads(metadata["training"])
    assert not unlike_names(options, options_to_json(JointOptions()))
    assert training.keys() <= {*RECORDED, "phase", "step"}
    assert training["data"].keys() == {"hr", "lr", "target", "hr_images", "lr_images"}
    assert training["images"].keys() == {"hr", "lr"}


def test_the_default_degrader_is_small():
    found = find_weights(None, registry=read_registry(), network="degrader", offline=True)
    assert found.entry.name == "degrader-lite"
    assert found.entry.size_bytes <= 3_000_000


@pytest.fixture(scope="module")
def largest_seam(net, image):
    lr = as_tensor(image.crop((100, 60, 190, 150)))

    @cache
    def whole(dtype):
        return NetUpscaler(net, device=CPU, dtype=dtype, tiles=TileConfig(tile_px=None)).whole(lr)

    def largest(tiles, dtype=torch.float32):
        tiled = NetUpscaler(net, device=CPU, dtype=dtype, tiles=tiles)
        assert tiled.plan(*lr.shape[-2:]).tiles > 3
        return (tiled.whole(lr).clamp(0, 1) - whole(dtype).clamp(0, 1)).abs().max().item()

    return largest


@pytest.mark.parametrize(("dtype", "most_levels"), [(torch.float32, 1), (torch.bfloat16, 2.5)])
def test_tiled_equals_untiled_up_to_what_cannot_be_seen(largest_seam, dtype, most_levels):
    """In bfloat16 the least difference may let a value round the other way."""
    assert largest_seam(TileConfig(tile_px=40), dtype) <= most_levels / 255


def test_without_a_halo_the_seams_would_show(largest_seam):
    assert largest_seam(TileConfig(tile_px=40, halo_px=0, blend_px=0)) > 1 / 255


@pytest.mark.parametrize("name", ENLARGERS)
def test_it_beats_bicubic_on_a_noisy_image(name, image):
    """A part of the image shrunk four times, with noise of 8 levels: the way the validation pairs are made."""
    image = image.crop((100, 0, 300, 280))
    hr = as_tensor(image)
    small = np.array(image.resize((image.width // 4, image.height // 4), Image.Resampling.BICUBIC), float)
    noisy = small + np.random.default_rng(0).normal(0, 8, small.shape)
    lr = Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8))
    bicubic = as_tensor(lr.resize(image.size, Image.Resampling.BICUBIC))
    with torch.inference_mode():
        sr = network(name)(as_tensor(lr)).clamp(0, 1)
    assert psnr_db(sr, hr, crop_px=4) > psnr_db(bicubic, hr, crop_px=4) + LEAST_GAIN_DB.get(name, 1.3)
    assert ssim(sr, hr, crop_px=4) > ssim(bicubic, hr, crop_px=4) + 0.07


@pytest.mark.parametrize("name", ENLARGERS)
def test_flat_gray_keeps_its_color(name):
    """Levels by which the mean color of flat patches moves, from black to white, before the colors are mended."""
    grays = sorted({*range(0, 256, 5), 32, 64, 128, 192, 224})
    patches = (torch.tensor(grays) / 255).reshape(-1, 1, 1, 1).expand(-1, 3, 14, 14)
    with torch.inference_mode():
        sr = network(name)(patches).clamp(0, 1)
    dark, other = MOST_SHIFT.get(name, (3.0, 1.3))
    for level, color in zip(grays, sr[..., 16:-16, 16:-16].mean(dim=(2, 3)) * 255, strict=True):
        assert (color - level).abs().max() < (dark if 0 < level <= 15 else other), level


@pytest.mark.parametrize("name", DEGRADERS)
def test_a_degrader_carries_noise(name, image):
    """Twice the noise beside an image is twice the noise in its partner, to a third."""
    degrader = load_degrader(find_weights(name, registry=read_registry(), network="degrader").path)[0].float()
    hr = as_tensor(image.crop((100, 60, 356, 316)))
    rng = torch.Generator().manual_seed(0)
    field = torch.randn(1, 3, 64, 64, generator=rng) / 255
    with torch.inference_mode():
        quiet, *noisy = (degrader(hr, (0.5 + sigma * field).clamp(0, 1)) for sigma in (0, 6, 12))
    levels = [((made - quiet) * 255).std().item() for made in noisy]
    assert levels == pytest.approx([6, 12], rel=1 / 3)
