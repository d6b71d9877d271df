"""Defaults that make a run of the command cheap: narrow networks beside the trained one, and crops of few images mixed,
measured and shown.

What a run does is the same; that it does so at full size is for the tests of the networks and of the stream.
"""

from ddnsr_cli.commands.train import joint, paired
from ddnsr_cli.data.config import StreamConfig
from ddnsr_cli.nets.degrader import DegraderConfig
from ddnsr_cli.nets.discriminators import PROJECTED_TAPS
from ddnsr_cli.nets.vgg19 import BLOCK_CHANNELS
from ddnsr_cli.training.options import JointOptions
from ddnsr_cli.training.paired_options import PairedOptions

NARROW_CHANNELS = {block: channels // 8 for block, channels in BLOCK_CHANNELS.items()}
NARROW_TAPS = {tap: channels // 8 for tap, channels in PROJECTED_TAPS.items()}
NARROW_JOINT = {
    "degrader": DegraderConfig(features=8, blocks=2),
    "discriminator_features": 8,
    "lr_discriminator_features": 8,
}


def small_training(set_item=dict.__setitem__):
    """For as long as the process lives, or as `set_item` has it undone. VGG19 is narrow then, and so must its file be.

    Crops are mixed in rounds of 16, so that images are read again every few steps.
    """
    for of, changes in (
        (StreamConfig.__init__.__kwdefaults__, {"crops_per_image": 4, "images_per_round": 4}),
        (JointOptions.__init__.__kwdefaults__, NARROW_JOINT),
        (PairedOptions.__init__.__kwdefaults__, {"discriminator_features": 4}),
        (vars(joint), {"MEASURED_IMAGES": 2, "SAMPLE_ROWS": 1}),
        (vars(paired), {"SAMPLE_ROWS": 1}),
    ):
        for name, value in changes.items():
            set_item(of, name, value)
    narrow_vgg19(set_item)


def narrow_vgg19(set_item):
    """VGG19 an eighth as wide, as `small_training` has it."""
    for of, changes in ((BLOCK_CHANNELS, NARROW_CHANNELS), (PROJECTED_TAPS, NARROW_TAPS)):
        for name, value in changes.items():
            set_item(of, name, value)
