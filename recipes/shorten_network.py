"""Make a network of fewer blocks out of a large one: each learns what a group of the large one's blocks does.

    python recipes/shorten_network.py large.safetensors --lr pairs/lr --groups 0,1-3,4-11,12-16,17-20,21-22 \\
        -o short.safetensors

A block begins as the last one of its group, and learns from the features that the large network has before and after
that group: all blocks at once, none through another, so some hundred steps bring them near. All other convolutions are
taken as they are. What the errors of one block do to the next ones is learned afterwards, of whole images: `ddnsr train
--paired --teacher large.safetensors --start-from short.safetensors`. Tells for each group which share of its effect is
missed.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from image_files import run_script
from sharpen_network import crops
from torch import Tensor, nn

from ddnsr_cli.data.images import list_images
from ddnsr_cli.errors import ConfigError
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.weights.checkpoint import load_rrdb_net, save_sr_net

REPORT_EVERY = 20


def main(words: Sequence[str]) -> None:
    """Parse the command line, train, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="an RRDB network")
    parser.add_argument("--lr", type=Path, required=True, help="folder of LR images of the kind that it is for")
    parser.add_argument("--groups", required=True, help="which of its blocks become one, as in 0,1-3,4-11")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(words)
    torch.manual_seed(given.seed)
    large = load_rrdb_net(given.weights)[0].float().to(memory_format=torch.channels_last)
    groups = parsed_groups(given.groups, blocks=large.config.blocks)
    batches = crops(list_images(given.lr), given.seed)
    short = shortened(large, groups)
    learn_groups(short, large, groups, batches, steps=given.steps, rate=given.rate)
    save_sr_net(given.output, short, metadata={}, half=False)


def parsed_groups(text: str, *, blocks: int) -> list[range]:
    """`0,1-3` as [range(0, 1), range(1, 4)]. Raises ConfigError unless every block is in one group, in order."""
    try:
        ends = [tuple(map(int, part.split("-"))) for part in text.split(",")]
        groups = [range(found[0], found[-1] + 1) for found in ends]
    except ValueError as error:
        raise ConfigError(f"--groups are as in 0,1-3,4-11, got {text!r}.") from error
    if [block for group in groups for block in group] != list(range(blocks)):
        raise ConfigError(f"--groups hold each of the blocks 0 to {blocks - 1} once, in order, got {text!r}.")
    return groups


def shortened(large: RRDBNet, groups: Sequence[range]) -> RRDBNet:
    """A network with a block a group, the last one of it, and everything else as in the large one."""
    short = RRDBNet(replace(large.config, blocks=len(groups))).to(memory_format=torch.channels_last)
    state = {name: value for name, value in large.state_dict().items() if not name.startswith("body.")}
    for place, group in enumerate(groups):
        state |= {f"body.{place}.{name}": value for name, value in large.body[group[-1]].state_dict().items()}
    short.load_state_dict(state)
    return short


def learn_groups(
    short: RRDBNet, large: RRDBNet, groups: Sequence[range], batches: Iterator[Tensor], *, steps: int, rate: float
) -> None:
    """Train the blocks of `short` in place; the rate falls to 0 along a cosine."""
    large.requires_grad_(requires_grad=False)
    learners = nn.ModuleList([short.body[place] for place, group in enumerate(groups) if len(group) > 1])
    optimizer = torch.optim.Adam(learners.parameters(), lr=rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    missed: list[list[float]] = []
    for step in range(1, steps + 1):
        with torch.autocast("cpu", torch.bfloat16):
            features = _features(large, groups, next(batches))
            shares = [
                _missed(short.body[place], before, after)
                for place, (group, before, after) in enumerate(zip(groups, features, features[1:], strict=False))
                if len(group) > 1
            ]
        optimizer.zero_grad(set_to_none=True)
        torch.stack(shares).sum().backward()
        optimizer.step()
        schedule.step()
        missed.append([share.item() for share in shares])
        if step % REPORT_EVERY == 0:
            sys.stderr.write(f"step {step}: missed {', '.join(f'{mean:.3f}' for mean in np.mean(missed, axis=0))}\n")
            missed.clear()


@torch.no_grad()
def _features(net: RRDBNet, groups: Sequence[range], lr: Tensor) -> list[Tensor]:
    """Those before the first group, and after each, float32."""
    found = [net.conv_first(lr).float()]
    for group in groups:
        x = found[-1]
        for block in group:
            x = net.body[block](x)
        found.append(x.float())
    return found


def _missed(block: nn.Module, before: Tensor, after: Tensor) -> Tensor:
    """The mean absolute error of a block, as a share of what its group changes."""
    return F.l1_loss(block(before).float(), after) / F.l1_loss(before, after)


if __name__ == "__main__":
    run_script(main)
