"""Small evaluations of images drawn by code, for the tests of the pages."""

import numpy as np
from PIL import Image, ImageFilter

from ddnsr_cli.reports.results import Evaluation, Metric, Sample

PSNR = Metric(key="psnr_rgb", title="PSNR RGB (dB)", higher_is_better=True, digits=2)
LPIPS = Metric(key="lpips_alex", title="LPIPS Alex", higher_is_better=False, digits=4)


def drawn(seed, height=96, width=128):
    """(height, width, 3) uint8: smooth ground and a few rectangles."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.stack([80 + 60 * np.sin((x * a + y * b) / 25) for a, b in rng.uniform(0.2, 1, (3, 2))], axis=2)
    for _ in range(12):
        top, left = rng.integers(0, (height - 8, width - 8))
        image[top : top + rng.integers(4, 30), left : left + rng.integers(4, 30)] = rng.integers(0, 256, 3)
    return image.clip(0, 255).round().astype(np.uint8)


def result(truth, seed, blur, noise):
    """The truth, blurred and noisy: what a model may give."""
    blurred = np.asarray(Image.fromarray(truth).filter(ImageFilter.GaussianBlur(blur)), np.float64)
    return (blurred + np.random.default_rng(seed).normal(0, noise, truth.shape)).clip(0, 255).round().astype(np.uint8)


def write_evaluation(folder, *, models=("bicubic", "alpha", "beta"), samples=4, names=None, hr=True, draw=drawn):
    """An evaluation, its images under `folder`. Model k blurs by 3 - 0.5 k pixels, and adds k levels of noise."""
    names = names or [f"scene_{index}" for index in range(samples)]
    values, images, listed = {}, {}, []
    for index, name in enumerate(names):
        truth = draw(index)
        path = save(folder / "hr" / f"{index}.png", truth)
        listed.append(Sample(name=name, lr=None, hr=path if hr else None))
        for place, model in enumerate(models):
            sr = result(truth, 100 * index + place, max(0, 3 - 0.5 * place), place)
            images[model, name] = save(folder / str(place) / f"{index}.png", sr)
            error = ((sr.astype(float) - truth) ** 2).mean()
            values[model, name] = {PSNR.key: 10 * np.log10(255**2 / error), LPIPS.key: float(np.sqrt(error) / 100)}
    return Evaluation(
        models=tuple(models),
        samples=tuple(listed),
        metrics=(PSNR, LPIPS),
        values=values,
        images=images,
        methodology="PSNR over RGB, border 4 px.",
    )


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path
