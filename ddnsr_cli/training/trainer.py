"""One step of DDNSR: degrader and reconstruction network learn from each other's images, not gradients.

    lr_fake  = degrader(hr, noise)                          content loss, adversarial loss
    lr_cycle = degrader(sr_net(lr_real).detach(), lr_real)  cycle loss
    sr_fake  = sr_net(lr_fake.detach())                     perceptual, adversarial and pixel loss

Li et al. 2023, section 3. There `noise` is `lr_real`; here it is the noise that its image has, unless asked for
otherwise (`NoiseInput`): of a photo as it is, the subject shows through. All losses of a step are computed from the
same weights; then each network takes its step. Before that, where asked for: the degrader is pretrained, then it
learns alone, with its discriminator.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddnsr_cli.data.degradations import NoiseTransfer, draw_noise_transfer
from ddnsr_cli.losses import (
    color_loss,
    content_loss,
    content_reference,
    cycle_loss,
    gan_disc_loss,
    gan_gen_loss,
    noise_transfer_loss,
)
from ddnsr_cli.nets.config import DISC_LR, VGGStyleConfig
from ddnsr_cli.nets.degrader import BicubicShrink, Degrader, start_as_area, start_with_noise
from ddnsr_cli.nets.discriminators import Features, VGGStyleDiscriminator
from ddnsr_cli.nets.rrdb import RRDBNet, start_as_nearest
from ddnsr_cli.nets.vgg19 import Tap
from ddnsr_cli.training.distributed import ALONE, World
from ddnsr_cli.training.loop import refuse_not_finite, to_floats
from ddnsr_cli.training.options import JointOptions
from ddnsr_cli.training.reconstruction import BaseTrainer, FeatureNets, belief, frozen, hr_discriminator

bicubic = BicubicShrink()


class JointNets(nn.Module):
    """The networks that learn. A discriminator is None when nothing would learn from it."""

    def __init__(self, options: JointOptions, see: Features | None = None) -> None:
        super().__init__()
        self.sr_net = RRDBNet(options.sr_net)
        self.degrader = Degrader(options.degrader)
        self.disc_hr = hr_discriminator(
            options.discriminator, features=options.discriminator_features, crop_px=options.stream.crop_px, see=see
        )
        self.disc_lr = _lr_discriminator(options)
        self.cleaner = Degrader(options.degrader) if options.losses.lr_cycle else None
        self.disc_clean = _lr_discriminator(options) if options.losses.lr_cycle else None


def fresh_nets(options: JointOptions, see: Features | None = None) -> JointNets:
    """Networks drawn from the seed alone, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.stream.seed)
        nets = JointNets(options, see)
    if options.plain_start:
        return nets
    start_as_nearest(nets.sr_net, torch.Generator().manual_seed(options.stream.seed))
    start_as_area(nets.degrader, torch.Generator().manual_seed(options.stream.seed))
    start_with_noise(nets.degrader)
    if nets.cleaner is not None:
        start_as_area(nets.cleaner, torch.Generator().manual_seed(options.stream.seed + 1))
    return nets


def _lr_discriminator(options: JointOptions) -> nn.Module | None:
    if not options.losses.lr_adversarial:
        return None
    side, width = options.stream.crop_px // options.sr_net.scale, options.lr_discriminator_features
    return VGGStyleDiscriminator(VGGStyleConfig(input_px=side, features=width, stages=DISC_LR.stages))


@dataclass(frozen=True, kw_only=True)
class Made:
    """What the networks make of one batch. Names as in the module's text."""

    lr_fake: Tensor
    sr_fake: Tensor | None
    """None while the degrader leads."""

    lr_cycle: Tensor | None
    """None when the cycle loss has no weight."""

    translations: "Translations | None"
    """None when the LR cycle loss has no weight."""

    hr_logits: Tensor | None
    """What the discriminator of HR images says of the real ones: both sides of its game need it. None without one."""


@dataclass(frozen=True, kw_only=True)
class Translations:
    """LR images there and back, by the degrader and the network that undoes it; all (N, 3, H, W)."""

    lr_clean: Tensor
    """Real LR images made clean."""

    lr_noisy_again: Tensor
    """The same made noisy again."""

    lr_clean_again: Tensor
    """The degrader's LR images made clean."""


class JointTrainer(BaseTrainer[JointOptions, JointNets]):
    """One step of a joint run; the state between steps is that of `BaseTrainer`."""

    def __init__(
        self, options: JointOptions, feature_nets: FeatureNets, device: torch.device, world: World = ALONE
    ) -> None:
        nets = fresh_nets(options, feature_nets.disc)
        averaged: dict[str, RRDBNet | Degrader] = {"sr_net": nets.sr_net, "degrader": nets.degrader}
        super().__init__(options, nets, averaged, feature_nets, device, world)
        self.feature_nets = feature_nets
        compiled = options.compiled
        self.degrade = partial(self.world.in_parts, _forward_of(self.nets.degrader, compiled=compiled))
        self.reconstruct = partial(self.world.in_parts, _forward_of(self.nets.sr_net, compiled=compiled))

    @property
    def pretraining(self) -> bool:
        """Whether the degrader learns alone in this step, from simulated noise."""
        return self.step < self.options.degrader_pretrain_steps

    @property
    def degrader_only(self) -> bool:
        """Whether the reconstruction network waits in this step."""
        return self.step < self._first_step("sr_net")

    def train_step(self, lr_real: Tensor, hr: Tensor, noise: Tensor | None = None) -> dict[str, float]:
        """One step of every network on uint8 crops: lr_real (N, 3, h, w), hr (N, 3, 4h, 4w), not of one scene, and
        noise (N, 3, h, w), the noise inputs beside hr; None: they are lr_real. It is the global batch, of which each
        process takes its share.

        Returns the figures of the step by name. Raises NotFiniteError, with all weights unmoved, when a loss or a
        gradient is not finite.
        """
        batch = (lr_real, hr, lr_real if noise is None else noise)
        real, truth, given = (to_floats(self.world.share(levels), self.device) for levels in batch)
        known = self._noise_transfer(hr)
        self.nets.zero_grad(set_to_none=True)
        if self.pretraining and known is not None:
            figures = self._backward({"noise_transfer": self.noise_transfer_loss(truth, known)})
        else:
            figures = self._learn(real, truth, given, known)
        figures = self.world.mean_of(figures, self.device) | self._clipped_norms()
        figures["rate"] = self._rate("degrader")
        refuse_not_finite(figures, self.step)
        self._move()
        return figures

    def make(self, lr_real: Tensor, hr: Tensor, noise: Tensor) -> Made:
        """The forward passes. Images of the other network enter detached, but for joint gradients."""
        sr_fake = lr_cycle = hr_logits = None
        with self._mixed_precision():
            lr_fake = self.degrade(hr, self._second_input(noise))
            if not self.degrader_only:
                sr_fake = self.reconstruct(lr_fake if self.options.joint_gradients else lr_fake.detach())
                hr_logits = self.nets.disc_hr(hr) if self.nets.disc_hr is not None else None
            if self.options.losses.cycle:
                with torch.no_grad():
                    sr_real = self.reconstruct(lr_real)
                lr_cycle = self.degrade(sr_real, self._second_input(lr_real))
            translations = self._translations(lr_real, lr_fake)
        return Made(
            lr_fake=lr_fake.float(),
            sr_fake=_float_or_none(sr_fake),
            lr_cycle=_float_or_none(lr_cycle),
            translations=translations,
            hr_logits=hr_logits,
        )

    def degrader_losses(self, lr_real: Tensor, hr: Tensor, made: Made) -> dict[str, Tensor]:
        """Weighted terms of eq. 3, those with weight 0 left out."""
        weights, layers, feature_nets = self.options.losses, self.options.layers, self.feature_nets.lr
        terms: dict[str, Tensor] = {}
        if weights.content and feature_nets is not None:
            tap = Tap(layer=layers.content)
            with torch.no_grad():
                reference = feature_nets(content_reference(hr))[tap]
            terms["content"] = weights.content * content_loss(feature_nets(made.lr_fake)[tap], reference)
        if weights.color:
            terms["color"] = weights.color * color_loss(made.lr_fake, content_reference(hr))
        if made.lr_cycle is not None and feature_nets is not None:
            tap = Tap(layer=layers.cycle)
            with torch.no_grad():
                seen = feature_nets(lr_real)[tap]
            terms["cycle"] = weights.cycle * cycle_loss(feature_nets(made.lr_cycle)[tap], seen)
        if self.nets.disc_lr is not None:
            with frozen(self.nets.disc_lr), self._mixed_precision():
                logits = self.nets.disc_lr(made.lr_fake)
            terms["lr_adversarial"] = weights.lr_adversarial * gan_gen_loss(logits)
        return terms | self._translation_losses(lr_real, hr, made)

    def noise_transfer_loss(self, hr: Tensor, known: NoiseTransfer) -> Tensor:
        """How far the degrader is from carrying known noise, weighted."""
        with self._mixed_precision():
            carried = self.degrade(hr, known.lr_noisy)
        loss = noise_transfer_loss(carried.float(), known.lr_wanted, content_reference(hr))
        return (self.options.losses.noise_transfer or 1.0) * loss

    def sr_losses(self, hr: Tensor, made: Made) -> dict[str, Tensor]:
        """Weighted terms of eq. 2, or of the L2 mode, those with weight 0 left out."""
        if made.sr_fake is None:
            return {}
        with self._mixed_precision():
            terms = self.reconstruction.terms(made.sr_fake, hr)
        if self.nets.disc_hr is not None and made.hr_logits is not None:
            with frozen(self.nets.disc_hr), self._mixed_precision():
                terms["hr_adversarial"] = self.reconstruction.adversarial(
                    self.nets.disc_hr, made.sr_fake, made.hr_logits
                )
        return terms

    def discriminator_losses(
        self, lr_real: Tensor, hr: Tensor, made: Made
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(losses, mean belief in [0, 1] that an image is real) of the discriminators; made images enter detached."""
        losses: dict[str, Tensor] = {}
        beliefs: dict[str, Tensor] = {}
        if self.nets.disc_lr is not None:
            with self._mixed_precision():
                real, fake = self.nets.disc_lr(lr_real), self.nets.disc_lr(made.lr_fake.detach())
            losses["disc_lr"] = gan_disc_loss(real, fake)
            beliefs |= {"disc_lr_real": belief(real), "disc_lr_fake": belief(fake)}
        if self.nets.disc_clean is not None and made.translations is not None:
            with self._mixed_precision():
                real = self.nets.disc_clean(bicubic(hr))
                fake = self.nets.disc_clean(made.translations.lr_clean.detach())
            losses["disc_clean"] = gan_disc_loss(real, fake)
            beliefs |= {"disc_clean_real": belief(real), "disc_clean_fake": belief(fake)}
        if self.nets.disc_hr is not None and made.sr_fake is not None and made.hr_logits is not None:
            with self._mixed_precision():
                fake = self.nets.disc_hr(made.sr_fake.detach())
            scores = self.reconstruction.scores(made.hr_logits, fake)
            losses["disc_hr"] = scores.loss
            beliefs |= {"disc_hr_real": scores.real_belief, "disc_hr_fake": scores.fake_belief}
        return losses, beliefs

    @torch.inference_mode()
    def sample(self, lr_real: Tensor, hr: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """What the averaged networks make of crops in [0, 1], as titled columns of a sheet. noise: beside `hr`."""
        sr_net, degrader = self.emas["sr_net"].average, self.emas["degrader"].average
        lr_fake = degrader(hr, self._second_input(noise))
        lr_fake = lr_fake.clamp(0, 1).mul(255).round() / 255  # as a file would hold it
        return {
            "real LR": lr_real,
            "SR of it": sr_net(lr_real),
            "HR": hr,
            "fake LR": lr_fake,
            "SR of fake LR": sr_net(lr_fake),
        }

    def _noise_transfer(self, hr: Tensor) -> NoiseTransfer | None:
        """This process's share of what there is to carry; None when nothing is asked of it."""
        if not (self.pretraining or self.options.losses.noise_transfer):
            return None
        stream = self.options.stream
        drawn = draw_noise_transfer(hr, seed=stream.seed, step=self.step, noise_input=stream.noise_input)
        noisy, wanted = (self.world.share(one).to(self.device) for one in (drawn.lr_noisy, drawn.lr_wanted))
        return NoiseTransfer(lr_noisy=noisy, lr_wanted=wanted)

    def _translations(self, lr_real: Tensor, lr_fake: Tensor) -> Translations | None:
        if self.nets.cleaner is None:
            return None
        noisy, clean = (partial(self.world.in_parts, net.translate) for net in (self.nets.degrader, self.nets.cleaner))
        nothing = torch.zeros_like(lr_real)
        lr_clean = clean(lr_real, nothing)
        again = noisy(lr_clean, nothing), clean(lr_fake, nothing)
        return Translations(lr_clean=lr_clean.float(), lr_noisy_again=again[0].float(), lr_clean_again=again[1].float())

    def _translation_losses(self, lr_real: Tensor, hr: Tensor, made: Made) -> dict[str, Tensor]:
        """Weighted terms of CycleGAN that are not of eq. 3, at LR size."""
        if made.translations is None:
            return {}
        weights, back = self.options.losses, made.translations
        cycles = F.l1_loss(back.lr_noisy_again, lr_real) + F.l1_loss(back.lr_clean_again, bicubic(hr))
        terms = {"lr_cycle": weights.lr_cycle * cycles}
        if self.nets.disc_clean is not None:
            with frozen(self.nets.disc_clean), self._mixed_precision():
                logits = self.nets.disc_clean(back.lr_clean)
            terms["clean_adversarial"] = weights.lr_adversarial * gan_gen_loss(logits)
        return terms

    def _second_input(self, noise: Tensor) -> Tensor:
        return noise if self.options.dual_input else torch.zeros_like(noise)

    def _learn(self, real: Tensor, truth: Tensor, noise: Tensor, known: NoiseTransfer | None) -> dict[str, float]:
        """Gradients of every network from its own loss, and the figures."""
        made = self.make(real, truth, noise)
        terms = self.degrader_losses(real, truth, made) | self.sr_losses(truth, made)
        if known is not None:
            terms["noise_transfer"] = self.noise_transfer_loss(truth, known)
        losses, beliefs = self.discriminator_losses(real, truth, made)
        figures = self._backward(terms | losses)
        drifts = {"lr_color_drift": self._drift(made.lr_fake, content_reference(truth))}
        if made.sr_fake is not None:
            drifts["color_drift"] = self._drift(made.sr_fake, truth)
        return figures | {name: value.item() for name, value in (beliefs | drifts).items()}

    def _backward(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """Gradients in one pass: what a network learns from ends at detached images, so no loss reaches another,
        unless that was asked for.
        """
        self.world.backward(losses)
        return {name: loss.item() for name, loss in losses.items()}

    def _drift(self, made: Tensor, truth: Tensor) -> Tensor:
        """How far the mean color of a batch is from the truth's: the largest of R, G and B."""
        return self.world.mean((made.detach() - truth).mean(dim=(0, 2, 3))).abs().max()

    def _first_step(self, name: str) -> int:
        if name == "degrader":
            return 0
        pretrained = self.options.degrader_pretrain_steps
        if name in ("disc_lr", "cleaner", "disc_clean"):
            return pretrained
        return pretrained + self.options.degrader_only_steps


def _forward_of(net: nn.Module, *, compiled: bool) -> Callable[..., Tensor]:
    """The network as a function, compiled when its first batch comes if that was asked for."""
    run: Callable[..., Tensor] = torch.compile(net) if compiled else net
    return run


def _float_or_none(image: Tensor | None) -> Tensor | None:
    return None if image is None else image.float()
