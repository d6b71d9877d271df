"""The four networks that learn together."""

import torch
from torch import nn

from ddnsr_cli.nets.degrader import Degrader, start_as_area, start_with_noise
from ddnsr_cli.nets.discriminators import Features, VGGStyleConfig, VGGStyleDiscriminator
from ddnsr_cli.nets.rrdb import RRDBNet, start_as_nearest
from ddnsr_cli.training.joint_options import JointOptions
from ddnsr_cli.training.reconstruction import hr_discriminator


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

    def learners(self) -> dict[str, nn.Module]:
        """The networks there are, by name."""
        return dict(self.named_children())


def fresh_nets(options: JointOptions, see: Features | None = None) -> JointNets:
    """Networks drawn from the seed alone, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.stream.seed)
        nets = JointNets(options, see)
    start_as_nearest(nets.sr_net, torch.Generator().manual_seed(options.stream.seed))
    start_as_area(nets.degrader, torch.Generator().manual_seed(options.stream.seed))
    start_with_noise(nets.degrader)
    return nets


def _lr_discriminator(options: JointOptions) -> nn.Module | None:
    if not options.losses.lr_adversarial:
        return None
    side = options.stream.crop_px // options.sr_net.scale
    return VGGStyleDiscriminator(VGGStyleConfig(input_px=side, features=options.lr_discriminator_features, stages=3))
