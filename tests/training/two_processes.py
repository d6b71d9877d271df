"""One of several processes that train together for three steps; prints the figures as JSON. See test_training_world."""

import json
import sys
from dataclasses import replace

import torch
import torch.distributed as dist
from random_vgg import random_vgg19

from ddnsr_cli.nets.degrader import DegraderConfig
from ddnsr_cli.nets.rrdb import RRDBConfig
from ddnsr_cli.nets.vgg19 import Tap, VGG19Features
from ddnsr_cli.training.eyes import Eyes, VggDifference
from ddnsr_cli.training.joint import JointTrainer
from ddnsr_cli.training.joint_options import track_options
from ddnsr_cli.training.world import World


def eyes():
    state = random_vgg19("conv2_2")
    tap = Tap(layer="conv2_2")
    return Eyes(lr=VGG19Features(state, (tap,)), hr=VggDifference(VGG19Features(state, (tap,))))


def main():
    setting, count, meeting, rank = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    if count > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
    options = track_options(int(setting[-1]))
    options = replace(
        options,
        sr_net=RRDBConfig(features=4, blocks=1, growth=2),
        degrader=DegraderConfig(features=4, blocks=1),
        discriminator_features=4,
        lr_discriminator_features=4,
        layers=replace(options.layers, content="conv2_2", perceptual="conv2_2"),
        stream=replace(options.stream, batch=4, crop_px=32),
    )
    trainer = JointTrainer(options, eyes(), torch.device("cpu"), World(rank=rank, size=count))
    generator = torch.Generator().manual_seed(0)
    steps = []
    for _ in range(3):
        lr = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=generator)
        hr = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=generator)
        steps.append({name: round(value, 9) for name, value in trainer.train_step(lr, hr).items()})
    print(json.dumps(steps))
    if count > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
