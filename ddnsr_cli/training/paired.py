"""One step of paired training: the reconstruction network, with a discriminator where one is asked for.

    sr = sr_net(lr)    pixel, perceptual and adversarial loss against hr (equation 2), and against what a teacher makes

With the mean absolute error alone this is ESRGAN's pretraining. The truth of a pair may be made into something else
first: sharpened, by an unsharp mask that leaves flat parts, and the noise in them, alone; or the result of a network
that teaches. One that was trained against a discriminator draws detail where the input says little, and draws another
one when the input is turned. What its eight views agree on is in the input, the rest is chance. Each step shows the
learner one view, drawn from the seed: by absolute differences it learns their median, at the cost of one view a step.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddnsr_cli.nets.blocks import SrNet, as_view, undone_view
from ddnsr_cli.nets.config import VIEWS
from ddnsr_cli.nets.discriminators import Features
from ddnsr_cli.nets.rrdb import RRDBNet, start_as_nearest
from ddnsr_cli.training.distributed import ALONE, World
from ddnsr_cli.training.loop import refuse_not_finite, to_floats
from ddnsr_cli.training.paired_options import PairedOptions, SharpenConfig
from ddnsr_cli.training.reconstruction import BaseTrainer, FeatureNets, frozen, hr_discriminator


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


class PairedTrainer(BaseTrainer[PairedOptions, PairedNets]):
    """One step of a paired run; the state between steps is that of `BaseTrainer`."""

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
        nets = _fresh_nets(options, feature_nets.disc)
        super().__init__(options, nets, {"sr_net": nets.sr_net}, feature_nets, device, world)
        self.teacher = None if teacher is None else Teacher(teacher.to(device), seed=options.stream.seed)

    @property
    def waiting(self) -> bool:
        """Whether the discriminator learns alone in this step."""
        return self.step < self._first_step("sr_net")

    def _first_step(self, name: str) -> int:
        return self.options.discriminator_first_steps if name == "sr_net" and self.nets.disc_hr is not None else 0

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

    @torch.inference_mode()
    def sample(self, lr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        """What the averaged network makes of crops in [0, 1], as titled columns of a sheet."""
        return {"LR": lr, "SR": self.emas["sr_net"].average(lr), "HR": hr}

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
        targets = self._targets(lr, hr)
        with self._mixed_precision():
            for share, target in targets:
                for name, term in self.reconstruction.terms(sr, target).items():
                    total[name] = total[name] + share * term if name in total else share * term
        return total

    def _targets(self, lr: Tensor, hr: Tensor) -> list[tuple[float, Tensor]]:
        """(share, target), fp32: the truth, and what the teacher makes of LR, if there is one; sharpened if asked."""
        targets = [(1.0, hr)]
        if self.teacher is not None and self.options.teacher is not None:
            truth = self.options.teacher.truth_share
            with self._mixed_precision():
                taught = torch.cat([self.teacher(part, self.step) for part in self.world.micro_batches(lr)])
            targets = [(1 - truth, taught.float()), (truth, hr)]
        sharpen = self.options.sharpen
        return [(share, sharpened(image, sharpen) if sharpen else image) for share, image in targets if share]

    def _adversarial(self, sr: Tensor, real: Tensor) -> Tensor:
        assert self.nets.disc_hr is not None
        with frozen(self.nets.disc_hr), self._mixed_precision():
            return self.reconstruction.adversarial(self.nets.disc_hr, sr, real)

    def _rate(self, name: str) -> float:
        if name == "disc_hr":
            return self.rate_factor * self.options.discriminator_learning_rate
        return super()._rate(name)


def _fresh_nets(options: PairedOptions, see: Features | None) -> PairedNets:
    """Networks drawn from the seed alone, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.stream.seed)
        nets = PairedNets(options, see)
    start_as_nearest(nets.sr_net, torch.Generator().manual_seed(options.stream.seed))
    return nets
