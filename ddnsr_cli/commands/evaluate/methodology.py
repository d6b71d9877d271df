"""What the figures mean, in words: nothing that changes them is left unsaid."""

from collections.abc import Sequence

import torch

from ddnsr_cli import __version__
from ddnsr_cli.commands.evaluate.measures import BEST_DB, LpipsMetric
from ddnsr_cli.commands.evaluate.models import EvaluatedModel, LearnedDegrade
from ddnsr_cli.commands.evaluate.options import EvaluateOptions, Reference
from ddnsr_cli.metrics.statistics import DRAWS

TRUNK_NAMES = {"alex": "AlexNet", "squeeze": "SqueezeNet 1.1", "vgg": "VGG16"}


def describe_methodology(
    options: EvaluateOptions,
    models: Sequence[EvaluatedModel],
    lpips: LpipsMetric | None,
    degrade: LearnedDegrade | None,
) -> str:
    """One paragraph."""
    sentences = ["All pictures in 8-bit levels, as files hold them (16 bits are rounded)."]
    if options.hr is not None:
        sentences += _against_truth(options, lpips)
    if options.hr is None or degrade is not None:
        sentences.append(_self_consistency(options, degrade))
    if options.niqe:
        sentences.append(
            f"NIQE is that of Mittal, Soundararajan and Bovik (2013) with its authors' model, of the results by "
            f"themselves: rounded Y, {options.crop_px} HR pixels of border cut off, blocks of 96x96 pixels."
        )
    sentences.append(f"Means over the pictures, 95 % intervals by bootstrap over them ({DRAWS} draws).")
    sentences.append("; ".join(f"{one.label}: {one.origin}" for one in models) + ".")
    sentences.append(f"ddnsr {__version__}, PyTorch {torch.__version__}.")
    return " ".join(sentences)


def _against_truth(options: EvaluateOptions, lpips: LpipsMetric | None) -> list[str]:
    at_lr_size = options.reference is Reference.LR_SIZE
    border = f"{options.lr_crop_px} LR" if at_lr_size else f"{options.crop_px} HR"
    sentences = [
        f"{border} pixels of border are cut off before every metric.",
        f"PSNR is over all channels, {BEST_DB:.0f} dB at most.",
        "SSIM has an 11x11 Gaussian window of sigma 1.5, only where it lies inside, and is the mean over channels.",
        "Y is that of BT.601, from 16 to 235, not rounded.",
    ]
    if lpips is not None:
        sentences.append(f"LPIPS is v0.1 on {TRUNK_NAMES[lpips.trunk]} ({lpips.origin}).")
    if at_lr_size:
        sentences.append("Results are shrunk by 4 (antialiased bicubic, Pillow) to the size of the references.")
        sentences.append(
            "Noise left is the deviation from the reference in the flattest quarter of its 8x8 blocks, over bicubic's."
        )
        sentences.append(
            "Detail kept is the slope of luma gradients over the reference's, where these are steepest (a tenth of it)."
        )
    return sentences


def _self_consistency(options: EvaluateOptions, degrade: LearnedDegrade | None) -> str:
    way = "antialiased bicubic (Pillow)"
    if degrade is not None:
        way = f"a degrader with the LR as its noise input ({degrade.origin})"
    return (
        f"Self-consistency is the PSNR over RGB between the LR picture and the result brought back to its size by "
        f"{way}, in whole levels, {options.lr_crop_px} LR pixels of border cut off, {BEST_DB:.0f} dB at most."
    )
