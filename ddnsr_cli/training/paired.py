"""One step of paired training: the reconstruction network, with a discriminator where one is asked for.

    sr = sr_net(lr)    pixel, perceptual and adversarial loss against hr (equation 2), and against what a teacher makes

With the mean absolute error alone this is ESRGAN's pretraining. The truth of a pair may be made into something else
first: sharpened, by an unsharp mask that leaves flat parts, and the noise in them, alone; or the result of a network
that teaches. One that was trained against a discriminator draws detail where the input says little, and draws another
one when the input is turned. What its eight views agree on is in the input, the rest is chance. Each step shows the
learner one view, drawn from the seed: by absolute differences it learns their median, at the cost of one view a step.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddnsr_cli.config import options_to_json
from ddnsr_cli.nets.blocks import VIEWS, SrNet, as_view, undone_view
from ddnsr_cli.nets.discriminators import Features
from ddnsr_cli.nets.rrdb import RRDBNet, start_as_nearest
from ddnsr_cli.training.distributed import World, share_batch_statistics
from ddnsr_cli.training.loop import Ema, mixed_precision, refuse_not_finite, to_floats
from ddnsr_cli.training.paired_options import PairedOptions, SharpenConfig
from ddnsr_cli.training.reconstruction import FeatureNets, ReconstructionLoss, frozen, hr_discriminator
from ddnsr_cli.training.train_state import TrainState, learned_tensors, restore_learned

ALONE = World()


def sharpened(images: Tensor, config: SharpenConfig) -> Tensor:
    """Images with the differences from a blurred copy enlarged where they exceed the threshold, softly masked.

    Networks that learn from such targets make crisper edges.
    Shape: (N, C, H, W) in [0, 1] -> the same
    """
    detail = images - _blurred(images, config.sigma_px)
    mask = _blurred((detail.abs() > config.threshold / 255).to(images.dtype), config.sigma_px)
    return torch.lerp(images, (images + config.amount * detail).clamp(0, 1), mask)


def _blurred(images: Tensor, sigma_px: float) -> Tensor:
    """A Gaussian of three sigmas on either side, fewer where the image is smaller; mirrored at the border."""
    height, width = images.shape[-2:]
    channels = images.shape[1]
    column, row = _gaussian(images, height, sigma_px), _gaussian(images, width, sigma_px)
    reach = (len(row) // 2, len(row) // 2, len(column) // 2, len(column) // 2)
    padded = F.pad(images, reach, mode="reflect")
    columns = F.conv2d(padded, column.reshape(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
    return F.conv2d(columns, row.reshape(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)


def _gaussian(images: Tensor, side: int, sigma_px: float) -> Tensor:
    reach = min(round(3 * sigma_px), side - 1)
    places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    line = torch.exp(-0.5 * (places / sigma_px) ** 2)
    return line / line.sum()


VIEW_KEY = 11  # of the seed, so that views are not drawn as anything else is
WINDOW_PX = 9  # LR pixels over which the colors of the teacher's result are compared with those of the input


class Teacher:
    """Targets (N, 3, scale * h, scale * w) of LR images (N, 3, h, w), in [0, 1], without a graph."""

    def __init__(self, net: SrNet, *, seed: int) -> None:
        """net: on the device of the images to come."""
        self._net = net.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._seed = seed

    @torch.no_grad()
    def __call__(self, lr: Tensor, step: int) -> Tensor:
        """The result on the view of this step, turned back, with the colors of the input."""
        view = int(np.random.default_rng([self._seed, VIEW_KEY, step]).integers(VIEWS))
        turned = as_view(lr, view).contiguous(memory_format=torch.channels_last)
        sr = undone_view(self._net(turned).float(), view)
        return with_colors_of(lr, sr).clamp(0, 1)


def with_colors_of(lr: Tensor, sr: Tensor) -> Tensor:
    """SR images whose local means, over some nine LR pixels, are those of LR. lr: (N, 3, h, w); sr: a multiple."""
    scale = sr.shape[-1] // lr.shape[-1]
    reach = min(WINDOW_PX // 2, min(lr.shape[-2:]) - 1)
    error = F.pad(lr - F.avg_pool2d(sr, scale), (reach,) * 4, mode="reflect")
    slow = F.avg_pool2d(error, 2 * reach + 1, stride=1)
    return sr + F.interpolate(slow, scale_factor=scale, mode="bilinear", align_corners=False)


class PairedNets(nn.Module):
    """The networks that learn. The discriminator is None when there is no adversarial loss."""

    def __init__(self, options: PairedOptions, see: Features | None) -> None:
        super().__init__()
        self.sr_net = RRDBNet(options.network)
        self.disc_hr = hr_discriminator(
            options.discriminator, features=options.discriminator_features, crop_px=options.stream.crop_px, see=see
        )

    def learners(self) -> dict[str, nn.Module]:
        """The networks there are, by name."""
        return dict(self.named_children())


class PairedTrainer:
    """Networks, optimizers and average of a paired run, and how one step moves them.

    Everything that the next step depends on is in `train_state()`; batches follow from the seed and `step`.
    """

    def __init__(
        self,
        options: PairedOptions,
        feature_nets: FeatureNets,
        device: torch.device,
        world: World = ALONE,
        *,
        teacher: SrNet | None = None,
    ) -> None:
        """feature_nets: for losses and discriminator. teacher: with `options.teacher`, what teaches."""
        self.options = options
        self.device = device
        self.world = world = replace(world, batch=options.stream.batch)
        self.nets = _fresh_nets(options, feature_nets.disc).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        share_batch_statistics(self.nets, world)
        self.ema = Ema(self.nets.sr_net, options.ema_decay)
        self.reconstruction = ReconstructionLoss(
            weights=options.losses,
            perceptual=None if feature_nets.hr is None else world.mean_in_parts(feature_nets.hr),
            gan=options.gan,
            average=world.average,
        )
        self.teacher = None if teacher is None else Teacher(teacher.to(device), seed=options.stream.seed)
        self.optimizers = {
            name: torch.optim.Adam(net.parameters(), lr=options.schedule.learning_rate, fused=True)
            for name, net in self.nets.learners().items()
        }
        self.step = 0
        self.rate_factor = 1.0
        """Times the schedule's rate; lowered when a run has to roll back."""

    @property
    def waiting(self) -> bool:
        """Whether the discriminator learns alone in this step."""
        return self.step < self._first_step

    @property
    def _first_step(self) -> int:
        """The step from which on the reconstruction network learns."""
        return self.options.discriminator_first_steps if self.nets.disc_hr is not None else 0

    def train_step(self, lr: Tensor, hr: Tensor) -> dict[str, float]:
        """One step of every network on uint8 pairs, (N, 3, h, w) and (N, 3, scale * h, scale * w): the global batch,
        of which each process takes its share. Returns the figures of the step by name.

        Raises NotFiniteError, with all weights unmoved, when a loss or a gradient is not finite.
        """
        lr, hr = (to_floats(self.world.share(levels), self.device) for levels in (lr, hr))
        self.nets.zero_grad(set_to_none=True)
        figures = self._learn(lr, hr)
        figures = self.world.mean_of(figures, self.device) | self._clipped_norms()
        figures["rate"] = self._rate("sr_net")
        refuse_not_finite(figures, self.step)
        self._move()
        return figures

    def start_from(self, net: RRDBNet) -> None:
        """Begin with the weights of a network of the same sizes, in the average too."""
        self.nets.sr_net.load_state_dict(net.state_dict())
        self.ema.average.load_state_dict(net.state_dict())

    def train_state(self, numbers: dict[str, Any]) -> TrainState:
        """Everything needed to go on, with `numbers` of the caller's beside the options."""
        tensors = learned_tensors(self.nets, self.averages, self.optimizers)
        own = {"options": options_to_json(self.options), "rate_factor": self.rate_factor}
        return TrainState(step=self.step, numbers={**own, **numbers}, tensors=tensors)

    def restore(self, train_state: TrainState) -> None:
        """Take over a train_state of the same options."""
        restore_learned(train_state.tensors, self.nets, self.averages, self.optimizers)
        self.rate_factor = train_state.numbers["rate_factor"]
        self.step = train_state.step

    @property
    def averages(self) -> dict[str, RRDBNet]:
        """The averaged network, as `sr_net`."""
        return {"sr_net": self.ema.average}

    @torch.inference_mode()
    def sample(self, lr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        """What the averaged network makes of crops in [0, 1], as titled columns of a sheet."""
        return {"LR": lr, "SR": self.ema.average(lr), "HR": hr}

    def _learn(self, lr: Tensor, hr: Tensor) -> dict[str, float]:
        """Gradients of every network from its own loss, and the figures."""
        sr = self._reconstructed(lr)
        terms = {} if self.waiting else self._terms(lr, sr, hr)
        beliefs: dict[str, Tensor] = {}
        losses = dict(terms)
        if self.nets.disc_hr is not None:
            with self._mixed_precision():
                real, fake = self.nets.disc_hr(hr), self.nets.disc_hr(sr.detach())
            if not self.waiting:
                losses["hr_adversarial"] = self._adversarial(sr, real)
            scores = self.reconstruction.scores(real, fake)
            losses["disc_hr"] = scores.loss
            beliefs = {"disc_hr_real": scores.real_belief, "disc_hr_fake": scores.fake_belief}
        self.world.backward(losses)
        drift = self.world.mean((sr.detach() - hr).mean(dim=(0, 2, 3))).abs().max()
        return {name: value.item() for name, value in (losses | beliefs | {"color_drift": drift}).items()}

    def _reconstructed(self, lr: Tensor) -> Tensor:
        with torch.set_grad_enabled(not self.waiting), self._mixed_precision():
            return self.world.in_parts(self.nets.sr_net, lr).float()

    def _terms(self, lr: Tensor, sr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        """The terms against each target, weighted by its share and added by name."""
        total: dict[str, Tensor] = {}
        with self._mixed_precision():
            for share, target in self._targets(lr, hr):
                for name, term in self.reconstruction.terms(sr, target).items():
                    total[name] = total[name] + share * term if name in total else share * term
        return total

    def _targets(self, lr: Tensor, hr: Tensor) -> list[tuple[float, Tensor]]:
        """(share, target): the truth, and what the teacher makes of LR where there is one, each sharpened if asked."""
        targets = [(1.0, hr)]
        if self.teacher is not None and self.options.teacher is not None:
            truth = self.options.teacher.truth_share
            targets = [(1 - truth, self.teacher(lr, self.step)), (truth, hr)]
        sharpen = self.options.sharpen
        return [(share, sharpened(image, sharpen) if sharpen else image) for share, image in targets if share]

    def _adversarial(self, sr: Tensor, real: Tensor) -> Tensor:
        assert self.nets.disc_hr is not None
        with frozen(self.nets.disc_hr), self._mixed_precision():
            return self.reconstruction.adversarial(self.nets.disc_hr, sr, real)

    def _learning(self) -> dict[str, nn.Module]:
        """The networks that take a step now."""
        return {name: net for name, net in self.nets.learners().items() if name == "disc_hr" or not self.waiting}

    def _clipped_norms(self) -> dict[str, float]:
        norms = {}
        for name, net in self._learning().items():
            self.world.average_gradients(net)
            norms[f"norm_{name}"] = nn.utils.clip_grad_norm_(net.parameters(), self.options.clip_norm).item()
        return norms

    def _rate(self, name: str) -> float:
        if name == "disc_hr":
            return self.rate_factor * self.options.discriminator_learning_rate
        return self.rate_factor * self.options.schedule.rate_at(self.step, first=self._first_step)

    def _move(self) -> None:
        for name in self._learning():
            for group in self.optimizers[name].param_groups:
                group["lr"] = self._rate(name)
            self.optimizers[name].step()
        self.ema.update(self.nets.sr_net, self.step)
        self.step += 1

    def _mixed_precision(self) -> torch.autocast:
        return mixed_precision(self.device, self.options.precision)


def _fresh_nets(options: PairedOptions, see: Features | None) -> PairedNets:
    """Networks drawn from the seed alone, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.stream.seed)
        nets = PairedNets(options, see)
    start_as_nearest(nets.sr_net, torch.Generator().manual_seed(options.stream.seed))
    return nets
