"""A small network that learns a large one's results against a discriminator that sees the LR image, too."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from distill import Distillation, Mixture, PairedDiscriminator, Plan, main, shares_of
from PIL import Image

from ddnsr_cli.errors import ConfigError, DataError
from ddnsr_cli.nets.rrdb import RRDBConfig, RRDBNet
from ddnsr_cli.weights.checkpoint import load_rrdb_net, save_sr_net
from tests.helpers.drawn_images import drawn_image
from tests.recipes.conftest import RECIPES

PLAN = Plan(steps=6, disc_only_steps=2, batch=2)


def small():
    torch.manual_seed(0)
    return RRDBNet(RRDBConfig(features=8, blocks=1, growth=8))


def taught(folder, count=3, side=16):
    for name in ("lr", "hr"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        hr = Image.fromarray(drawn_image(number, 4 * side))
        hr.save(folder / "hr" / f"{number}.png")
        hr.resize((side, side), Image.Resampling.BICUBIC).save(folder / "lr" / f"{number}.png")
    return folder


def weights_of(run):
    return torch.cat([one.detach().flatten() for one in (*run.net.parameters(), *run.disc.parameters())])


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path):
    pairs = Mixture({taught(tmp_path / "a"): 1.0})
    whole, first = (Distillation(small(), pairs, PLAN) for _ in range(2))
    for _ in range(6):
        whole.advance()
    for _ in range(3):
        first.advance()
    second = Distillation(small(), pairs, PLAN)
    second.restore(first.state())
    for _ in range(3):
        second.advance()
    assert second.step == 6
    assert torch.equal(weights_of(second), weights_of(whole))
    assert torch.equal(second.average.conv_last.weight, whole.average.conv_last.weight)


def test_the_network_waits_for_the_discriminator_and_then_moves(tmp_path):
    run = Distillation(small(), Mixture({taught(tmp_path / "a"): 1.0}), PLAN)
    before = run.net.conv_last.weight.detach().clone()
    told = [run.advance() for _ in range(2)]
    assert torch.equal(run.net.conv_last.weight, before)
    assert all("adversarial" not in one for one in told)
    assert "adversarial" in run.advance()
    assert not torch.equal(run.net.conv_last.weight, before)


def test_the_discriminator_learns_which_result_belongs_to_an_lr_image(tmp_path):
    run = Distillation(small(), Mixture({taught(tmp_path / "a"): 1.0}), replace(PLAN, steps=60, disc_only_steps=60))
    told = [run.advance() for _ in range(60)]
    assert np.mean([one["right"] for one in told[-10:]]) > 0.85
    assert told[-1]["discriminator"] < 0.8 * told[0]["discriminator"]


def test_the_lr_image_beside_decides_too():
    torch.manual_seed(0)
    disc = PairedDiscriminator()
    hr, lr = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 8, 8)
    fine, wide = disc(hr, lr)
    assert fine.shape == (1, 1, 8, 8)
    assert wide.shape == (1, 1, 4, 4)
    assert not torch.allclose(fine, disc(hr, 1 - lr)[0])


def test_the_adversarial_gradient_has_its_share(tmp_path):
    """With no share nothing of it is left: the same steps as by regression alone."""
    pairs = Mixture({taught(tmp_path / "a"): 1.0})
    runs = [Distillation(small(), pairs, replace(PLAN, adversarial_share=share, seed=4)) for share in (0.0, 0.0, 0.7)]
    for run in runs:
        for _ in range(5):
            run.advance()
    alone, again, both = (run.net.conv_last.weight for run in runs)
    assert torch.equal(alone, again)
    assert not torch.equal(alone, both)


def test_turning_keeps_pairs_together(tmp_path):
    lr, hr = Mixture({taught(tmp_path / "a", side=8): 1.0}).batch(16, np.random.default_rng(0))
    small_again = torch.nn.functional.interpolate(hr, scale_factor=0.25, mode="bicubic", antialias=True)
    assert (small_again - lr).abs().max() < 3 / 255


def test_two_processes_train_one_network(tmp_path):
    save_sr_net(tmp_path / "s.safetensors", small(), metadata={}, half=False)
    taught(tmp_path / "a")
    words = ["--mix", f"{tmp_path / 'a'}=1", "--steps", "2", "--batch", "1", "--save-every", "2"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, str(RECIPES / "distill.py"), str(tmp_path / "s.safetensors"), *words]
    paths = os.pathsep.join([str(RECIPES.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "o.safetensors")],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert load_rrdb_net(tmp_path / "o.safetensors")[0].config.features == 8


def test_the_command_saves_and_goes_on(tmp_path, capsys):
    save_sr_net(tmp_path / "s.safetensors", small(), metadata={"by": "us"}, half=False)
    taught(tmp_path / "a")
    words = [str(tmp_path / "s.safetensors"), "--mix", f"{tmp_path / 'a'}=1", "--batch", "1", "-o"]
    main([*words, str(tmp_path / "o.safetensors"), "--steps", "50", "--save-every", "25"])
    assert "step 50  discriminator" in capsys.readouterr().err
    written = (tmp_path / "o.safetensors").read_bytes()
    assert load_rrdb_net(tmp_path / "o.safetensors")[1]["by"] == "us"
    main([*words, str(tmp_path / "o.safetensors"), "--steps", "50"])
    assert (tmp_path / "o.safetensors").read_bytes() == written


@pytest.mark.parametrize("words", [["taught"], ["taught=x"], ["taught=0"], ["=1"]])
def test_a_mixture_that_is_none_is_told(words):
    with pytest.raises(ConfigError, match="--mix takes"):
        shares_of(words)


def test_results_of_another_scale_are_told(tmp_path):
    folder = taught(tmp_path / "a", count=1)
    Image.fromarray(drawn_image(0, 32)).save(folder / "hr" / "0.png")
    with pytest.raises(DataError, match="not four times as large"):
        Mixture({folder: 1.0})


def test_crops_of_two_sizes_are_told(tmp_path):
    folders = {taught(tmp_path / "a", side=16): 1.0, taught(tmp_path / "b", side=8): 1.0}
    with pytest.raises(DataError, match="2 sizes"):
        Mixture(folders)
