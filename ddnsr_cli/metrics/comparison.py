"""The usual figures of a result against the truth, all over the same inner part."""

from collections.abc import Callable

from torch import Tensor

from ddnsr_cli.metrics.fidelity import psnr_db, ssim

Distance = Callable[[Tensor, Tensor], Tensor]
"""(N, 3, H, W), and the same or (1, 3, H, W), in [0, 1] -> (N,); smaller is more alike: LPIPS, say."""


def compare(sr: Tensor, hr: Tensor, *, crop_px: int, lpips: Distance | None = None) -> dict[str, Tensor]:
    """`psnr` in dB and `ssim`, as `metrics.fidelity` has them, and `lpips` where given; (N,) each.

    sr: (N, C, H, W), floats in [0, 1]. hr: the same, or (1, C, H, W) for all. crop_px: border left
    out of all of them, pixels of these pictures.
    """
    scores = {"psnr": psnr_db(sr, hr, crop_px=crop_px), "ssim": ssim(sr, hr, crop_px=crop_px)}
    if lpips is not None:
        inner = (..., slice(crop_px, -crop_px or None), slice(crop_px, -crop_px or None))
        scores["lpips"] = lpips(sr[inner].float(), hr[inner].float())
    return scores
