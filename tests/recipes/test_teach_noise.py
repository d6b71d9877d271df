"""Degraders that are taught to carry noise: what is drawn for them, and what they learn."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from teach_noise import draws, main, smooth_images, teach

from ddnsr_cli.data.noise_patches import slow_part
from ddnsr_cli.errors import ConfigError, DataError
from ddnsr_cli.losses import noise_transfer_loss
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig, start_as_area, start_with_noise
from ddnsr_cli.weights.checkpoint import load_degrader, save_degrader
from tests.helpers.drawn_images import drawn_image, noisy


def fresh():
    net = Degrader(DegraderConfig(features=8, blocks=1))
    start_as_area(net, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(net.merge[-1].weight, std=0.02, generator=torch.Generator().manual_seed(1))
    return net.requires_grad_(False)


def others(count=8):
    images = np.stack([drawn_image(seed, 32) for seed in range(count)])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize(("words", "every"), [((), 4), ((8,), 8)])
def test_noise_lies_on_slow_parts_and_one_input_of_so_many_is_an_image_as_it_is(words, every):
    images = others()
    drawn = draws(images, [], np.random.default_rng(0), *words)
    assert torch.equal(drawn.given * 255, (drawn.given * 255).round())
    for index, (image, slow) in enumerate(zip(images, slow_part(images), strict=True)):
        if index % every == every - 1:
            assert torch.equal(drawn.given[index], image)
            assert not drawn.noise[index].any()
        else:
            assert drawn.noise[index].std() > 0.2 / 255
            assert (drawn.given[index] - slow - drawn.noise[index]).abs().max() < 0.51 / 255


def test_real_noise_is_as_strong_as_in_the_photo(tmp_path):
    Image.fromarray(noisy(np.full((96, 96, 3), 120, np.uint8), 15)).save(tmp_path / "n.png")
    found = smooth_images(tmp_path)
    rng = np.random.default_rng(0)
    levels = [255 * draws(others(1), found, rng).noise.std().item() for _ in range(24)]
    assert sum(14 < level < 16 for level in levels) >= 8  # the others are simulated


def test_a_degrader_learns_to_carry_noise_as_strong_as_it_is():
    net = Degrader(DegraderConfig(features=8, blocks=1)).requires_grad_(False)
    start_as_area(net, torch.Generator().manual_seed(0))
    start_with_noise(net)
    net.merge[-1].weight /= 2  # half of the noise is carried at the start
    ramps = [np.arange(level, 96 + level, dtype=np.uint8) for level in (40, 100)]
    clean = [noisy(np.tile(ramp[:, None, None], (1, 96, 3)), 6) for ramp in ramps]
    taught = teach(copy.deepcopy(net), clean, [], steps=40, rate=1e-3, seed=0, crop_px=32)
    flat, hr = torch.full((4, 3, 32, 32), 0.5), torch.full((4, 3, 128, 128), 0.4)
    noise = torch.tensor([2.0, 4, 8, 16]).view(4, 1, 1, 1) / 255
    noise = noise * torch.randn(flat.shape, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        base = net(hr, flat)
        before, after = (noise_transfer_loss(one(hr, flat + noise), base + noise, base) for one in (net, taught))
    assert after < 0.95 * before


def test_the_same_seed_makes_the_same_file(tmp_path):
    for number in range(2):
        Image.fromarray(drawn_image(number, 140)).save(tmp_path / f"{number}.png")
    save_degrader(tmp_path / "d.safetensors", fresh(), metadata={"dual_input": "true"}, half=False)
    places = tmp_path / "a.safetensors", tmp_path / "new/folder/b.safetensors"
    for place in places:
        main([str(tmp_path / "d.safetensors"), "--hr", str(tmp_path), "-o", str(place), "--steps", "2"])
    one, other = (place.read_bytes() for place in places)
    assert one == other
    assert load_degrader(places[0])[1]["dual_input"] == "true"


def test_too_few_or_useless_images_are_told(tmp_path):
    Image.fromarray(drawn_image(0, 140)).save(tmp_path / "a.png")
    save_degrader(tmp_path / "d.safetensors", fresh(), metadata={}, half=False)
    words = [str(tmp_path / "d.safetensors"), "--hr", str(tmp_path), "-o", str(tmp_path / "o.safetensors")]
    with pytest.raises(DataError, match="1 images of 128"):
        main(words)
    rough = np.random.default_rng(0).integers(0, 256, (140, 140, 3)).astype(np.uint8)
    Image.fromarray(rough).save(tmp_path / "b.png")
    (tmp_path / "rough").mkdir()
    Image.fromarray(rough).save(tmp_path / "rough/r.png")
    with pytest.raises(DataError, match="smooth part"):
        main([*words, "--noise-source", str(tmp_path / "rough")])
    with pytest.raises(ConfigError, match="from 1 to 8, got 9"):
        main([*words, "--clean-every", "9"])
    assert not (tmp_path / "o.safetensors").exists()


def test_a_degrader_of_a_single_input_is_refused(tmp_path):
    save_degrader(tmp_path / "single.safetensors", fresh(), metadata={"options": '{"dual_input": false}'}, half=False)
    words = [str(tmp_path / "single.safetensors"), "--hr", str(tmp_path), "-o", str(tmp_path / "taught.safetensors")]
    with pytest.raises(ConfigError, match="single input"):
        main(words)
