"""A pretraining of some seconds: its options, its images, and a process that runs until it is stopped."""

import sys
from contextlib import closing

import numpy as np
import torch
from PIL import Image

from ddnsr_cli.data.config import DegradationConfig, StreamConfig
from ddnsr_cli.data.crop_stream import RulePairs, batches
from ddnsr_cli.data.images import list_images
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.training.loop import LoopHooks, Rhythm, run_loop, stop_on_signals
from ddnsr_cli.training.options import ScheduleConfig
from ddnsr_cli.training.paired import PairedTrainer
from ddnsr_cli.training.paired_options import PairedOptions, PairSource
from ddnsr_cli.training.reconstruction import NO_FEATURE_NETS
from ddnsr_cli.training.train_state import save_train_state

GENTLE = DegradationConfig(noise_sigma=(0.0, 4.0), jpeg_chance=0.2)


def tiny_options(*, workers=0, seed=0, steps=20, learning_rate=1e-3, degradation=GENTLE, **changes):
    return PairedOptions(
        network=RRDBConfig(features=8, blocks=1, growth=4),
        stream=StreamConfig(batch=4, crop_px=16, crops_per_image=4, images_per_round=3, seed=seed, workers=workers),
        sources=(PairSource(degradation=degradation),),
        schedule=ScheduleConfig(steps=steps, learning_rate=learning_rate, warmup_steps=3),
        **changes,
    )


def write_images(folder, count=4):
    """Soft slopes and hard edges, another in each image."""
    folder.mkdir()
    rows, columns = np.mgrid[:48, :56]
    for number in range(count):
        stripes = ((rows + number * columns) // (12 + 12 * number) % 2) * 90
        pixels = np.stack([stripes + rows, stripes + columns, stripes + 20 * number], axis=2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")


def tiny_batches(folder, options, *, start=0):
    visits = RulePairs(list_images(folder), options.stream, options.sources[0].degradation)
    return batches(visits, start=start, on_refused=lambda _refusal: None)


def run_until_stopped(folder):
    """Train without end, telling each step; `state.safetensors` is the save at the stop."""
    options = tiny_options(workers=1, steps=1_000_000)
    trainer = PairedTrainer(options, NO_FEATURE_NETS, torch.device("cpu"))
    hooks = LoopHooks(
        validate=lambda _step: None,
        save=lambda _step: save_train_state(folder / "state.safetensors", trainer.train_state({})),
        report=lambda _report: None,
        tick=lambda step: print(step, flush=True),
    )
    rhythm = Rhythm(save_steps=1_000_000)
    with stop_on_signals() as stop, closing(tiny_batches(folder / "images", options)) as stream:
        run_loop(trainer, stream, steps=options.schedule.steps, rhythm=rhythm, hooks=hooks, stop=stop)
    return stop.exit_code


def be_tiny_run(folder):
    """What a process is, as `start` of helpers/processes.py has it: with `images` in the folder."""
    sys.exit(run_until_stopped(folder))
