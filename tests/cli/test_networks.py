"""`ddnsr` with networks that are not RRDB, by its effects."""

import numpy as np
import pytest
import torch
from PIL import Image

from ddnsr_cli.weights.checkpoint import load_sr_net
from ddnsr_cli.weights.ncnn import param_text, weight_bytes


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
def test_a_compact_network_enlarges_in_tiles_as_at_once(ddnsr, image_file, compact_file, tmp_path, scale, tile):
    net, weights = compact_file(scale=scale, convs=5)
    source = image_file(width=93, height=71)
    words = ("-m", weights, "-o", tmp_path / "out.png", "--tile", tile, "--no-color-fix", "--fp32")
    done = ddnsr("upscale", source, *words)
    assert done.code == 0, done.err
    sr = pixels(tmp_path / "out.png")
    assert sr.shape == (71 * scale, 93 * scale, 3)
    seams = 0.1 if tile == "32" else 0.01  # a fade reaches past the halo's end by a few pixels
    assert np.abs(sr - expected(net, source)).max() < 0.5 + seams  # the half is of rounding
    assert np.abs(sr - pixels(source).repeat(scale, 0).repeat(scale, 1)).max() > 3  # the network matters


def test_color_fix_takes_the_shift_of_a_compact_network_away(ddnsr, image_file, compact_file, tmp_path):
    net, _ = compact_file()
    net.body[-1].bias.fill_(0.05)
    torch.save(net.state_dict(), tmp_path / "shifts.pth")
    source, shift = image_file(width=64, height=48), {}
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


def test_a_compact_network_is_compared_with_others(ddnsr, image_file, compact_file, quick_model, tmp_path):
    image_file("lr/a.png", width=24, height=20), image_file("hr/a.png", width=96, height=80)
    _, weights = compact_file()
    folders = ("--lr", tmp_path / "lr", "--hr", tmp_path / "hr")
    done = ddnsr("eval", *folders, "--models", f"{weights},{quick_model}")
    assert done.code == 0, done.err
    assert "realesr-x" in done.out


@pytest.fixture
def ncnn_pair(tmp_path, small_net, small_compact):
    """A network, and the text of its pair in a folder as other programs keep them."""

    def make(make_net=small_compact):
        net = make_net()
        text = tmp_path / "models" / "x-4x.param"
        text.parent.mkdir(exist_ok=True)
        text.write_text(param_text(net.config))
        text.with_suffix(".bin").write_bytes(b"".join(weight_bytes(net.state_dict(), half=False)))
        return net, text

    return make


@pytest.mark.parametrize("named", ["x-4x.param", "x-4x.bin", "x-4x"])
def test_an_ncnn_pair_enlarges_by_any_of_its_names(ddnsr, image_file, ncnn_pair, small_net, tmp_path, named):
    source = image_file()
    for make_net in (small_net, None):
        net, text = ncnn_pair(make_net) if make_net else ncnn_pair()
        words = ("-m", text.with_name(named), "-o", tmp_path / "out.png", "--no-color-fix", "--fp32", "--overwrite")
        done = ddnsr("upscale", source, *words)
        assert done.code == 0, done.err
        assert np.abs(pixels(tmp_path / "out.png") - expected(net, source)).max() < 0.51


def test_other_weights_under_the_same_text_are_another_model(ddnsr, image_file, ncnn_pair, tmp_path):
    _, text = ncnn_pair()
    image_file("in/a.png")
    words = ("upscale", tmp_path / "in", "-o", tmp_path / "out", "-m", text)
    assert ddnsr(*words).out
    assert not ddnsr(*words).out  # finished
    content = bytearray(text.with_suffix(".bin").read_bytes())
    content[-1] ^= 1
    text.with_suffix(".bin").write_bytes(content)
    assert ddnsr(*words).out


def test_half_an_ncnn_pair_is_reported(ddnsr, image_file, ncnn_pair):
    source, (_, text) = image_file(), ncnn_pair()
    weights = text.with_suffix(".bin")
    content = weights.read_bytes()
    weights.write_bytes(content[:100])
    done = ddnsr("upscale", source, "-m", text)
    assert (done.code, done.err.count("\n")) == (5, 1)
    assert "x-4x.param: its .bin is shorter than the layers tell" in done.err
    weights.unlink()
    assert "belongs to x-4x.bin, which is not beside it" in ddnsr("upscale", source, "-m", text).err
    weights.write_bytes(content)
    text.unlink()
    done = ddnsr("upscale", source, "-m", weights)
    assert (done.code, done.err.count("\n")) == (5, 1)


def test_training_with_a_compact_network_is_refused_in_one_line(ddnsr, image_file, compact_file, tmp_path):
    _, weights = compact_file()
    image_file("hr/a.png", width=200, height=180), image_file("hr/b.png", width=180, height=200)
    words = ("--hr", tmp_path / "hr", "-o", tmp_path / "run", "--steps", 1, "--start-from", weights)
    done = ddnsr("train", "--pretrain", *words)
    assert done.code == 5
    assert "realesr-x.pth is a Compact network; training is for RRDB networks only" in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "run").exists()
