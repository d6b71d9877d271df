"""One of several processes that train together for three steps. See test_distributed."""

import json
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from ddnsr_cli.errors import TrainingError
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.degrader import DegraderConfig
from ddnsr_cli.nets.vgg19 import Tap, VGG19Features
from ddnsr_cli.training.distributed import World, joined_world
from ddnsr_cli.training.options import track_options
from ddnsr_cli.training.paired import PairedTrainer
from ddnsr_cli.training.paired_options import PairedOptions, with_equation_2
from ddnsr_cli.training.reconstruction import FeatureNets, VggDifference
from ddnsr_cli.training.reconstruction_options import GanKind
from ddnsr_cli.training.trainer import JointTrainer
from tests.helpers.processes import as_one_of
from tests.helpers.random_vgg import random_vgg19

CPU = torch.device("cpu")
BATCH = 5  # two processes take three and two
SR_NET = RRDBConfig(features=4, blocks=1, growth=2)


def perceptual():
    return VggDifference(VGG19Features(random_vgg19("conv2_2"), (Tap(layer="conv2_2"),)))


def paired_trainer(gan, world):
    options = with_equation_2(PairedOptions(network=SR_NET, discriminator_features=4, gan=gan))
    options = replace(options, stream=replace(options.stream, batch=BATCH, crops_per_image=BATCH, crop_px=32))
    return PairedTrainer(options, FeatureNets(lr=None, hr=perceptual()), CPU, world)


def joint_trainer(track, world):
    options = track_options(track)
    options = replace(
        options,
        sr_net=SR_NET,
        degrader=DegraderConfig(features=4, blocks=1),
        discriminator_features=4,
        lr_discriminator_features=4,
        layers=replace(options.layers, content="conv2_2", perceptual="conv2_2"),
        stream=replace(options.stream, batch=BATCH, crops_per_image=BATCH, crop_px=32),
    )
    feature_nets = FeatureNets(lr=perceptual().vgg, hr=perceptual())
    return JointTrainer(options, feature_nets, CPU, world)


def figures_of(setting, world):
    """The figures of three steps in one setting: "track 1", "track 2" or "paired"."""
    if setting == "paired":
        trainers = [paired_trainer(gan, world) for gan in GanKind]
    else:
        trainers = [joint_trainer(int(setting[-1]), world)]
    generator = torch.Generator().manual_seed(0)
    steps = []
    for _ in range(3):
        lr = torch.randint(0, 256, (BATCH, 3, 8, 8), dtype=torch.uint8, generator=generator)
        hr = torch.randint(0, 256, (BATCH, 3, 32, 32), dtype=torch.uint8, generator=generator)
        figures = [trainer.train_step(lr, hr) for trainer in trainers]
        steps += [{name: round(value, 9) for name, value in row.items()} for row in figures]
    return steps


def train(rank, count, folder, settings, micro_batch):
    """Process `rank` of `count`, which meet in `folder` and leave the figures of each setting there, as JSON."""
    torch.set_num_threads(1)
    if count > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=count)
    world = World(rank=rank, size=count, micro_batch=micro_batch)
    figures = json.dumps({setting: figures_of(setting, world) for setting in settings})
    (folder / f"{rank}.json").write_text(figures)
    if count > 1:
        dist.destroy_process_group()


def go_on_from(rank, step, meet, told):
    """Process `rank` of two, which goes on from `step`; leaves in the file `told` why it does not."""
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=2)
    try:
        World(rank=rank, size=2).refuse_other_steps(step)
        told.write_text("")
    except TrainingError as error:
        told.write_text(str(error))
    dist.destroy_process_group()


def join_and_leave(rank, port, told):
    """Process `rank` of two that only meet; leaves the names of its threads after that in the file `told`."""
    as_one_of(2, rank, port)
    with joined_world() as world:
        assert world.agree(True, CPU)
    told.write_text(str(sorted({task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")})))
