"""`ddnsr` with networks that are not RRDB, by its effects."""

import numpy as np
import pytest
import torch
from PIL import Image

from ddnsr_cli.checkpoint import load_sr_net


@pytest.fixture
def compact_file(tmp_path, small_compact):
    """A Compact network that adds some texture to the input repeated, as other projects save it."""

    def make(**sizes):
        net = small_compact(**sizes)
        net.body[-1].weight.mul_(0.02)
        path = tmp_path / "realesr-x.pth"
        averaged = net.state_dict()
        torch.save({"params": {key: value + 1 for key, value in averaged.items()}, "params_ema": averaged}, path)
        return net, path

    return make


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image, float)


def expected(net, source):
    lr = torch.from_numpy(pixels(source) / 255).permute(2, 0, 1)[None].float()
    return 255 * net(lr)[0].clamp(0, 1).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("tile", ["none", "32", "auto"])
def test_a_compact_network_enlarges_in_tiles_as_at_once(ddnsr, photo, compact_file, tmp_path, scale, tile):
    net, weights = compact_file(scale=scale, convs=5)
    source = photo(width=93, height=71)
    words = ("-m", weights, "-o", tmp_path / "out.png", "--tile", tile, "--no-color-fix", "--fp32")
    done = ddnsr("upscale", source, *words)
    assert done.code == 0, done.err
    sr = pixels(tmp_path / "out.png")
    assert sr.shape == (71 * scale, 93 * scale, 3)
    seams = 0.1 if tile == "32" else 0.01  # a fade reaches past the halo's end by a few pixels
    assert np.abs(sr - expected(net, source)).max() < 0.5 + seams  # the half is of rounding
    assert np.abs(sr - pixels(source).repeat(scale, 0).repeat(scale, 1)).max() > 3  # the network matters


def test_color_fix_takes_the_shift_of_a_compact_network_away(ddnsr, photo, compact_file, tmp_path):
    net, _ = compact_file()
    net.body[-1].bias.fill_(0.05)
    torch.save(net.state_dict(), tmp_path / "shifts.pth")
    source, shift = photo(width=64, height=48), {}
    for word in ("--color-fix", "--no-color-fix"):
        target = tmp_path / f"{word}.png"
        assert ddnsr("upscale", source, "-m", tmp_path / "shifts.pth", "-o", target, word).code == 0
        shift[word] = abs(pixels(target).mean() - pixels(source).mean())
    assert shift["--no-color-fix"] > 8
    assert shift["--color-fix"] < 0.5


def test_a_compact_network_is_converted(ddnsr, compact_file, tmp_path):
    net, weights = compact_file(scale=2)
    assert ddnsr("weights", "convert", weights, "-o", tmp_path / "c.safetensors").code == 0
    converted, metadata = load_sr_net(tmp_path / "c.safetensors")
    assert (converted.config, metadata["ddnsr_network"]) == (net.config, '{"convs": 3, "features": 8, "scale": 2}')
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in converted.state_dict().items())


def test_a_compact_network_is_compared_with_others(ddnsr, photo, compact_file, quick_model, tmp_path):
    photo("lr/a.png", width=24, height=20), photo("hr/a.png", width=96, height=80)
    _, weights = compact_file()
    folders = ("--lr", tmp_path / "lr", "--hr", tmp_path / "hr")
    done = ddnsr("eval", *folders, "--models", f"{weights},{quick_model}")
    assert done.code == 0, done.err
    assert "realesr-x" in done.out


def test_training_with_a_compact_network_is_refused_in_one_line(ddnsr, photo, compact_file, tmp_path):
    _, weights = compact_file()
    photo("hr/a.png", width=200, height=180), photo("hr/b.png", width=180, height=200)
    words = ("--hr", tmp_path / "hr", "-o", tmp_path / "run", "--steps", 1, "--start-from", weights)
    done = ddnsr("train", "--fidelity", *words)
    assert done.code == 5
    assert "realesr-x.pth is a Compact network; training is for RRDB networks only" in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "run").exists()
