"""Teach a small RRDB network what a large one makes, against a discriminator that sees both results and the LR image.

    python recipes/distill.py small.safetensors --mix taught/web=0.5 --mix taught/photo=0.5 -o crisp.safetensors
    torchrun --nproc-per-node 2 recipes/distill.py ...    # as many processes, a batch each

Each folder of --mix has `lr/` and `hr/`: crops of one size, and what the large network makes of them. Regression alone
gives the mean of all that it might have drawn, which is soft. A discriminator that is shown what it did draw, beside
the same LR image, knows the soft from the crisp, and cannot be won over by texture that does not belong there. Its
gradient at the image is held to a fixed share of the regression's, so it needs no weight and cannot take over. What is
learned is averaged over steps; the averaged weights are written every --save-every steps, with all that is needed to go
on beside them, and after a stop the same command goes on.
"""

import argparse
import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from image_files import Rgb8, run_script
from torch import Tensor, nn

from ddnsr_cli.data.images import list_images
from ddnsr_cli.errors import ConfigError, DataError
from ddnsr_cli.files import atomic_path
from ddnsr_cli.io.read import read_rgb
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.training.distributed import ALONE, World, joined_world
from ddnsr_cli.training.reconstruction import gradient_loss
from ddnsr_cli.weights.checkpoint import load_rrdb_net, save_sr_net

REPORT_EVERY = 50
WARM_STEPS = 200
"""Over these the network's rate rises, once the discriminator has learned alone."""

LEAST_RATE = 0.02  # of the first, at the end
CLIP_DISC, CLIP_NET = 10.0, 1.0  # norms of gradients
SHARE_MEMORY = 0.98  # of the averaged ratio of gradients, a step
MOST_OF_RATIO = 3.0  # times the ratio of this step: where the averaged one is far off, this one bounds it

Pair = tuple[Rgb8, Rgb8]
"""An LR crop, and what the large network makes of it."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How it is trained."""

    steps: int = 4000
    disc_only_steps: int = 150
    rate: float = 3e-4
    disc_rate: float = 4e-4
    falls_over: float = 0.4
    """The last share of the steps, over which both rates fall."""

    gradient: float = 0.3
    """Weight of the differences of neighbors, beside that of 1 of the differences of pixels."""

    adversarial_share: float = 0.7
    """Norm of the adversarial gradient at the image, over that of the rest."""

    calm_weight: float = 0.05
    calm_sigma: float = 0.008
    """The discriminator is to judge an image and the same with noise of this deviation alike: a gradient penalty."""

    decay: float = 0.998
    batch: int = 8
    seed: int = 0


class PairedDiscriminator(nn.Module):
    """Logits at 1/4 and at 1/8 of the size of an HR image that stands beside its LR image.

    Shape: (N, 3, 4 h, 4 w), (N, 3, h, w) -> (N, 1, h, w), (N, 1, h/2, w/2).
    """

    def __init__(self) -> None:
        super().__init__()
        self.fold = nn.Conv2d(12, 64, 3, 1, 1)
        self.to_quarter = nn.Conv2d(64, 64, 3, 2, 1)
        self.beside = nn.Conv2d(64 + 3, 96, 3, 1, 1)
        self.quarter = nn.Conv2d(96, 96, 3, 1, 1)
        self.to_eighth = nn.Conv2d(96, 128, 3, 2, 1)
        self.eighth = nn.Conv2d(128, 128, 3, 1, 1)
        self.fine, self.wide = nn.Conv2d(96, 1, 3, 1, 1), nn.Conv2d(128, 1, 3, 1, 1)

    def forward(self, hr: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Of images in [0, 1]; fp32."""
        x = _lrelu(self.to_quarter(_lrelu(self.fold(F.pixel_unshuffle(hr, 2) * 2 - 1))))
        x = _lrelu(self.quarter(_lrelu(self.beside(torch.cat([x, lr * 2 - 1], dim=1)))))
        fine = self.fine(x)
        x = _lrelu(self.eighth(_lrelu(self.to_eighth(x))))
        return fine.float(), self.wide(x).float()


def _lrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


class Mixture:
    """Pairs of several folders, drawn by their shares."""

    def __init__(self, shares: Mapping[Path, float]) -> None:
        """Raises DataError for a folder without pairs, or with one whose HR image is not four times as large."""
        self._pairs = [_pairs(folder) for folder in shares]
        weights = np.array(list(shares.values()))
        self._shares = weights / weights.sum()
        sizes = {lr.shape for pairs in self._pairs for lr, _ in pairs}
        if len(sizes) > 1:
            raise DataError(f"The LR crops have {len(sizes)} sizes. Cut all to one.")

    def batch(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """LR and HR images in [0, 1], turned and mirrored at random."""
        chosen = []
        for index in rng.choice(len(self._pairs), count, p=self._shares):
            pairs = self._pairs[index]
            chosen.append(_turned(pairs[int(rng.integers(len(pairs)))], int(rng.integers(8))))
        lr, hr = (torch.stack(images).float() / 255 for images in zip(*chosen, strict=True))
        last = torch.channels_last
        return lr.contiguous(memory_format=last), hr.contiguous(memory_format=last)


def _pairs(folder: Path) -> list[Pair]:
    files = list_images(folder / "lr")
    pairs = [(read_rgb(file), read_rgb(folder / "hr" / file.name)) for file in files]
    for file, (lr, hr) in zip(files, pairs, strict=True):
        if hr.shape[:2] != (4 * lr.shape[0], 4 * lr.shape[1]):
            raise DataError(f"{folder / 'hr' / file.name} is not four times as large as its LR crop. Make it again.")
    return pairs


def _turned(pair: Pair, turn: int) -> tuple[Tensor, Tensor]:
    images = []
    for image in pair:
        turned = image[:, ::-1] if turn & 1 else image
        turned = turned[::-1] if turn & 2 else turned
        turned = turned.transpose(1, 0, 2) if turn & 4 else turned
        images.append(torch.from_numpy(np.ascontiguousarray(turned.transpose(2, 0, 1))))
    return images[0], images[1]


class Distillation:
    """The two networks, their optimizers and the average, from step to step."""

    def __init__(self, net: RRDBNet, pairs: Mixture, plan: Plan, world: World = ALONE) -> None:
        """world: several processes may train one network, each with a batch of its own."""
        self.plan, self.pairs, self.world = plan, pairs, world
        last = torch.channels_last
        self.net = net.float().to(memory_format=last).requires_grad_(True).train()  # type: ignore[call-overload]
        torch.manual_seed(plan.seed)
        self.disc = PairedDiscriminator().to(memory_format=last)  # type: ignore[call-overload]
        self.optimizers = [
            torch.optim.Adam(part.parameters(), lr=rate, betas=(0.8, 0.99), fused=True)
            for part, rate in ((self.net, plan.rate), (self.disc, plan.disc_rate))
        ]
        self.average = copy.deepcopy(self.net).requires_grad_(False).eval()
        self.step = 0
        self.ratio: float | None = None

    def state(self) -> dict[str, object]:
        """All that the next step depends on."""
        parts = (self.net, self.disc, self.average, *self.optimizers)
        return {"step": self.step, "ratio": self.ratio, "parts": [part.state_dict() for part in parts]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state of the same plan."""
        parts = (self.net, self.disc, self.average, *self.optimizers)
        for part, content in zip(parts, state["parts"], strict=True):
            part.load_state_dict(content)
        self.step, self.ratio = state["step"], state["ratio"]

    def advance(self) -> dict[str, float]:
        """One step; gives the losses, and how often the discriminator is right."""
        plan, step = self.plan, self.step + 1
        self._set_rates(step)
        rng = np.random.default_rng([plan.seed, step, self.world.rank])
        lr, hr = self.pairs.batch(plan.batch, rng)
        learns = step > plan.disc_only_steps
        with _bf16(), torch.set_grad_enabled(learns):
            sr = self.net(lr)
        sr = sr.float()
        told = self._teach_discriminator(lr, hr, sr.detach().clamp(0, 1), rng if step % 2 == 0 else None)
        if learns:
            told |= self._teach_network(lr, hr, sr)
            share = 1 - min(plan.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_([*self.average.parameters()], [one.detach() for one in self.net.parameters()], share)
        self.step = step
        return told

    def _set_rates(self, step: int) -> None:
        plan = self.plan
        factor = min(1.0, max((plan.steps - step) / (plan.falls_over * plan.steps), LEAST_RATE))
        risen = min(1.0, max(0, step - plan.disc_only_steps) / WARM_STEPS)
        for optimizer, rate in zip(self.optimizers, (plan.rate * risen, plan.disc_rate), strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor

    def _teach_discriminator(
        self, lr: Tensor, hr: Tensor, sr: Tensor, calm: np.random.Generator | None
    ) -> dict[str, float]:
        """Relativistic by pairs: of one LR image the large network's result is to have the higher logits.

        calm: draws the noise of the penalty; None: a step without.
        """
        plan, count = self.plan, len(lr)
        images, beside = torch.cat([hr, sr]), torch.cat([lr, lr])
        with _bf16():
            logits = near = self.disc(images, beside)
            if calm is not None:
                noise = torch.from_numpy(calm.standard_normal(hr.shape, np.float32)) * plan.calm_sigma
                near = self.disc(images + torch.cat([noise, noise]), beside)
        loss = torch.zeros(())
        for own, noisy in zip(logits, near, strict=True):
            loss = loss + F.softplus(own[count:] - own[:count]).mean()
            loss = loss + 2 * plan.calm_weight * (own - noisy).square().mean()  # twice, as every other step has it
        self._move(self.disc, self.optimizers[1], loss, CLIP_DISC)
        right = np.mean([(own[:count] > own[count:]).float().mean().item() for own in logits])
        return {"discriminator": loss.item(), "right": float(right)}

    def _teach_network(self, lr: Tensor, hr: Tensor, sr: Tensor) -> dict[str, float]:
        self.disc.requires_grad_(False)
        with _bf16():
            made = self.disc(sr, lr)
            with torch.no_grad():
                wanted = self.disc(hr, lr)
        self.disc.requires_grad_(True)
        adversarial = torch.stack([F.softplus(w - m).mean() for w, m in zip(wanted, made, strict=True)]).sum()
        regression = F.l1_loss(sr, hr) + self.plan.gradient * gradient_loss(sr, hr)
        (by_disc,) = torch.autograd.grad(adversarial, sr)
        (by_truth,) = torch.autograd.grad(regression, sr)
        ratio = (by_truth.norm() / (by_disc.norm() + 1e-12)).item()
        self.ratio = ratio if self.ratio is None else SHARE_MEMORY * self.ratio + (1 - SHARE_MEMORY) * ratio
        weight = self.plan.adversarial_share * min(self.ratio, MOST_OF_RATIO * ratio)
        self._move(self.net, self.optimizers[0], (sr, by_truth + weight * by_disc), CLIP_NET)
        return {"regression": regression.item(), "adversarial": adversarial.item()}

    def _move(
        self, part: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor | tuple[Tensor, Tensor], clip: float
    ) -> None:
        """loss: a scalar, or an image and the gradient at it."""
        optimizer.zero_grad(set_to_none=True)
        if isinstance(loss, tuple):
            loss[0].backward(loss[1])  # type: ignore[no-untyped-call]
        else:
            loss.backward()  # type: ignore[no-untyped-call]
        self.world.average_gradients(part)
        nn.utils.clip_grad_norm_(part.parameters(), clip)
        optimizer.step()


def _bf16() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def shares_of(words: Sequence[str]) -> dict[Path, float]:
    """Folders and their shares, of `FOLDER=SHARE` each. Raises ConfigError for what is none."""
    shares = {}
    for word in words:
        folder, _, share = word.rpartition("=")
        try:
            shares[Path(folder)] = float(share)
        except ValueError:
            raise ConfigError(f"--mix takes FOLDER=SHARE, as in taught/web=0.5, got {word}.") from None
    if not folder or min(shares.values()) <= 0:
        raise ConfigError(f"--mix takes a folder and a share above 0, got {' '.join(words)}.")
    return shares


def main(words: list[str]) -> None:
    """Parse the command line, train, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="the small network, an RRDB one for four times")
    parser.add_argument("--mix", action="append", required=True, metavar="FOLDER=SHARE", help="pairs, and their share")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--batch", type=int, default=Plan.batch, help="of each process")
    parser.add_argument("--rate", type=float, default=Plan.rate)
    parser.add_argument("--adversarial-share", type=float, default=Plan.adversarial_share)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--save-every", type=int, default=250)
    given = parser.parse_args(words)
    names = ("steps", "batch", "rate", "adversarial_share", "seed")
    plan = Plan(**{name: getattr(given, name) for name in names})
    pairs = Mixture(shares_of(given.mix))
    net, metadata = load_rrdb_net(given.weights)
    with joined_world() as world:
        _run(Distillation(net, pairs, plan, world), given.output, given.save_every, metadata)


def _run(run: Distillation, output: Path, save_every: int, metadata: Mapping[str, str]) -> None:
    """Train to the end, from where an earlier call was stopped; the first process writes and tells."""
    state_file = output.with_suffix(".state.pt")
    if state_file.exists():
        run.restore(torch.load(state_file, weights_only=True))
    told: list[dict[str, float]] = []
    while run.step < run.plan.steps:
        told.append(run.advance())
        if not run.world.is_first:
            continue
        if run.step % REPORT_EVERY == 0:
            _report(run.step, told)
            told = []
        if run.step % save_every == 0 or run.step == run.plan.steps:
            save_sr_net(output, run.average, metadata=metadata, half=True)
            with atomic_path(state_file) as temporary:
                torch.save(run.state(), temporary)


def _report(step: int, told: Sequence[Mapping[str, float]]) -> None:
    names = told[-1]
    means = (f"{name} {np.mean([one[name] for one in told if name in one]):.4f}" for name in names)
    sys.stderr.write(f"step {step}  {'  '.join(means)}\n")


if __name__ == "__main__":
    run_script(main)
