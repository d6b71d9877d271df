"""The unsharp mask that is baked into a network."""

import pytest
import torch
from PIL import Image
from sharpen_network import main, mask_of

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.weights.checkpoint import load_rrdb_net, save_sr_net
from tests.helpers.drawn_images import drawn_image


def test_the_last_three_convolutions_learn_and_the_folder_of_the_file_is_made(tmp_path):
    torch.manual_seed(0)
    net = RRDBNet(RRDBConfig(features=4, blocks=1, growth=4))
    save_sr_net(tmp_path / "net.safetensors", net, metadata={}, half=True)
    (tmp_path / "lr").mkdir()
    Image.fromarray(drawn_image(0, 60)).save(tmp_path / "lr/a.png")
    place = tmp_path / "new/sharp.safetensors"
    main([str(tmp_path / "net.safetensors"), "--lr", str(tmp_path / "lr"), "--steps", "2", "-o", str(place)])
    before, after = net.half().state_dict(), load_rrdb_net(place)[0].half().state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"conv_up2", "conv_hr", "conv_last"}


def test_a_mask_is_three_numbers():
    assert mask_of("0.35,1.5,0").sigma_px == 1.5
    for text in ("0.35,1.5", "a,b,c", ""):
        with pytest.raises(ConfigError, match="--mask takes amount,sigma,threshold"):
            mask_of(text)
