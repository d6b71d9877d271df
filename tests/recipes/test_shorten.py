"""A network of fewer blocks: it begins as the blocks it takes, and comes nearer to the large one group by group."""

import numpy as np
import pytest
import torch
from PIL import Image
from shorten_network import main, parsed_groups, shortened

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.weights.checkpoint import load_rrdb_net, save_sr_net
from tests.helpers.drawn_images import drawn_image


def large_net():
    torch.manual_seed(0)
    return RRDBNet(RRDBConfig(features=8, growth=4, blocks=5)).eval().requires_grad_(False)


def test_groups_hold_every_block_once_and_in_order():
    assert parsed_groups("0,1-3,4", blocks=5) == [range(1), range(1, 4), range(4, 5)]
    for text in ("0,1-3", "0,2-4", "0,1-3,3-4", "1-4,0", "0-4-2,5", ""):
        with pytest.raises(ConfigError, match="--groups"):
            parsed_groups(text, blocks=5)


def test_groups_of_one_block_are_the_network_itself():
    net, lr = large_net(), torch.rand(1, 3, 8, 8)
    same = shortened(net, [range(place, place + 1) for place in range(5)])
    assert torch.allclose(same(lr), net(lr), atol=1e-6)


def test_a_group_begins_as_its_last_block_and_learns_what_the_group_does(tmp_path, capsys):
    (tmp_path / "lr").mkdir()
    for seed in range(3):
        Image.fromarray(drawn_image(seed, 64)).save(tmp_path / "lr" / f"{seed}.png")
    net = large_net()
    save_sr_net(tmp_path / "large.safetensors", net, metadata={}, half=False)
    words = [str(tmp_path / "large.safetensors"), "--lr", str(tmp_path / "lr"), "--groups", "0,1-3,4"]
    main([*words, "-o", str(tmp_path / "short.safetensors"), "--steps", "40", "--rate", "5e-3"])
    short, begun = (
        load_rrdb_net(tmp_path / "short.safetensors")[0],
        shortened(net, [range(1), range(1, 4), range(4, 5)]),
    )
    assert short.config.blocks == 3
    assert torch.equal(begun.body[1].rdb1.conv1.weight, net.body[3].rdb1.conv1.weight)
    for same in ("body.0.rdb1.conv1.weight", "body.2.rdb3.conv5.bias", "conv_last.weight"):
        assert torch.equal(short.state_dict()[same], begun.state_dict()[same])
    lr = torch.from_numpy(drawn_image(9, 48)).permute(2, 0, 1)[None] / 255
    errors = [(one(lr) - net(lr)).abs().mean().item() for one in (begun, short)]
    assert errors[1] < 0.5 * errors[0]
    told = [float(line.rpartition(" ")[2]) for line in capsys.readouterr().err.splitlines() if "missed" in line]
    assert len(told) == 2
    assert told[-1] < 0.6 * told[0]
    assert np.isfinite(told).all()
