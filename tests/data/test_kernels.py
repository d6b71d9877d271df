"""Blur kernels: what shrinking under one does, and that those of known blurs are found."""

import json

import numpy as np
import pytest
import torch

from ddnsr_cli.data.kernels import (
    ESTIMATOR,
    START_WIDTH,
    KernelFile,
    KernelGan,
    PhotoKernel,
    cleaned,
    estimate_kernel,
    gaussian_kernel,
    noise_kept,
    raggedness,
    shrink_under,
    twice,
)
from ddnsr_cli.errors import TrainingError
from ddnsr_cli.nets.degrader import shrunk_by_2


@pytest.mark.parametrize("kernel", [gaussian_kernel(1.2, 0.7, 0.5), np.roll(gaussian_kernel(0.8), (2, -1), (0, 1))])
def test_nothing_is_shifted(kernel):
    """A slope of an image is the same slope of the smaller one, which lies where the image lies."""
    rows, columns = np.mgrid[:240, :240]
    hr = np.stack([rows, columns, 255 - rows], axis=2).astype(np.uint8)
    lr = shrink_under(hr, twice(kernel))
    assert lr.shape == (60, 60, 3)
    middle = 4 * np.arange(60) + 1.5
    inside = slice(5, -5)
    assert np.allclose(lr[inside, inside, 0], middle[inside, None], atol=0.02)
    assert np.allclose(lr[inside, inside, 1], middle[None, inside], atol=0.02)
    assert np.allclose(lr[inside, inside, 2], 255 - middle[inside, None], atol=0.02)


@pytest.mark.parametrize("off", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("width", [0.5, 0.8, 1.0])
def test_no_weight_is_negative_and_nothing_is_shifted_or_much_wider(width, off):
    """Of a narrow kernel beside the middle: moved by its spectrum alone it rings."""
    places = np.arange(13) - 6.5
    down, across = (np.exp(-0.5 * ((places - by) / width) ** 2) for by in (-off / 2, off))
    kernel = np.outer(down, across) / (down.sum() * across.sum())
    made = twice(kernel)
    assert made.min() >= 0
    assert made.sum() == pytest.approx(1)
    for lines, one in ((made.sum(1), down), (made.sum(0), across)):
        at = np.arange(37)
        assert lines @ at == pytest.approx(19.5, abs=1e-6)
        variance = 5 * (one @ places**2 / one.sum() - (one @ places / one.sum()) ** 2)
        assert lines @ (at - 19.5) ** 2 == pytest.approx(variance + 0.125, abs=0.126)


def test_a_kernel_for_4_is_that_for_2_used_twice():
    image = np.random.default_rng(0).integers(0, 256, (96, 104, 3)).astype(np.uint8)
    kernel = gaussian_kernel(0.9, 1.3)
    padded = np.pad(image, ((18, 18), (18, 18), (0, 0)), mode="reflect").transpose(2, 0, 1)
    planes, weights = torch.from_numpy(padded.astype(float))[None], torch.from_numpy(kernel)
    expected = shrunk_by_2(shrunk_by_2(planes, weights), weights)[0].permute(1, 2, 0).numpy()
    assert np.abs(shrink_under(image, twice(kernel)) - expected).max() < 1e-2


def test_rows_are_computed_in_bands_without_a_seam():
    image = np.random.default_rng(1).integers(0, 256, (4 * 70, 64, 3)).astype(np.uint8)
    kernel = twice(gaussian_kernel(1.0))
    whole, part = shrink_under(image, kernel), shrink_under(image[4 * 50 :], kernel)
    assert np.abs(whole[56:] - part[6:]).max() < 1e-3
    flat = np.full((400, 48, 3), 77, np.uint8)
    assert np.abs(shrink_under(flat, kernel) - 77).max() < 1e-3


def test_the_training_begins_at_a_gaussian_and_the_generator_is_its_kernel():
    image = np.random.default_rng(0).integers(0, 256, (40, 70, 3)).astype(np.uint8)
    gan = KernelGan(image, seed=1)
    start = gaussian_kernel(START_WIDTH)
    assert np.abs(gan.step() - start).max() < 0.05 * start.max()
    planes = torch.rand(2, 3, 20, 31, generator=torch.Generator().manual_seed(0))
    by_layers = planes.flatten(0, 1)[:, None]
    for filters in list(gan.generator.filters)[:-1]:
        by_layers = torch.nn.functional.conv2d(by_layers, filters)
    by_layers = torch.nn.functional.conv2d(by_layers, gan.generator.filters[-1], stride=2)
    assert torch.allclose(gan.generator(planes).flatten(0, 1), by_layers[:, 0], atol=1e-5)


def test_the_same_seed_gives_the_same_kernel():
    image = np.random.default_rng(0).integers(0, 256, (40, 70, 3)).astype(np.uint8)
    first, same, other = (estimate_kernel(image, steps=3, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    assert first.shape == (13, 13)
    assert first.sum() == pytest.approx(1)


def test_small_weights_are_taken_for_noise():
    kernel = gaussian_kernel(0.8)
    noise = np.random.default_rng(0).normal(0, 2e-3, kernel.shape)
    assert np.abs(cleaned(kernel + noise) - kernel).sum() < 0.5 * np.abs(noise).sum()
    assert np.count_nonzero(cleaned(kernel + noise)) < 80
    with pytest.raises(TrainingError, match="--kernel-steps"):
        cleaned(np.full((13, 13), np.nan))


def test_kernels_are_kept_by_photo_and_steps(tmp_path):
    path = tmp_path / "kernels.jsonl"
    kernel = gaussian_kernel(1.1)
    file = KernelFile(path, steps=7)
    assert file.find("ab") is None
    file.add(PhotoKernel(source="b.png", sha256="ab", kernel=kernel))
    KernelFile(path, steps=8).add(PhotoKernel(source="a.png", sha256="ab", kernel=kernel.T))
    assert np.array_equal(KernelFile(path, steps=7).find("ab"), kernel)
    assert np.array_equal(KernelFile(path, steps=8).find("ab"), kernel.T)
    assert KernelFile(path, steps=7).find("cd") is None
    assert [json.loads(line)["source"] for line in path.read_text().splitlines()] == ["a.png", "b.png"]
    earlier = {**json.loads(path.read_text().splitlines()[1]), "sha256": "cd", "estimator": ESTIMATOR - 1}
    with path.open("ab") as lines:
        lines.write(json.dumps(earlier).encode() + b'\n{"source": "c.png", "kernel": [[1')
    assert KernelFile(path, steps=7).find("cd") is None
    assert np.array_equal(KernelFile(path, steps=7).find("ab"), kernel)


def leaves(side):
    """Disks over disks, of all sizes and colors (H, W, 3): small parts of it look like large ones."""
    rng = np.random.default_rng(0)
    image = np.zeros((side, side, 3))
    for _ in range(side * side // 110):
        radius = (2.0**-2 - rng.random() * (2.0**-2 - (side / 4) ** -2)) ** -0.5
        row, column = rng.uniform(0, side, 2)
        top, left = (max(0, int(middle - radius)) for middle in (row, column))
        part = image[top : int(row + radius) + 2, left : int(column + radius) + 2]
        rows, columns = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]]
        part[np.hypot(rows - row, columns - column) < radius] = rng.uniform(20, 235, 3)
    return image.round().astype(np.uint8)


def deviations(kernel):
    """Along x and y, and how the two go together: -1 to 1."""
    rows, columns = np.mgrid[: len(kernel), : len(kernel)]
    weights = kernel.clip(0).ravel()
    (across, both), (_, down) = np.cov(np.stack([columns.ravel(), rows.ravel()]), aweights=weights, ddof=0)
    return np.sqrt(across), np.sqrt(down), both / np.sqrt(across * down)


def test_a_blur_is_found_below_noise():
    """Of 8 levels over faint detail: were it missing from what is shrunk, no blur at all would be found."""
    known = twice(gaussian_kernel(2.5 / np.sqrt(5)))
    shrunk = shrink_under((90 + 0.2 * leaves(512).astype(float)).round().astype(np.uint8), known)
    noisy = (shrunk + np.random.default_rng(0).normal(0, 8, shrunk.shape)).round().clip(0, 255).astype(np.uint8)
    found, expected = deviations(twice(estimate_kernel(noisy, steps=150))), deviations(known)
    assert found[:2] == pytest.approx(expected[:2], rel=0.45)


def test_noise_that_a_kernel_leaves_is_what_it_leaves():
    rng, kernel = np.random.default_rng(0), gaussian_kernel(1.1, 0.8, 0.4)
    white = rng.normal(0, 1, (1, 1, 400, 400))
    for neighbors, steps in ((0.0, 0), (0.5, 60)):
        line = neighbors ** np.arange(steps + 1)
        smooth = white
        for axis in (2, 3):
            smooth = np.apply_along_axis(np.convolve, axis, smooth, line, "valid")
        left = shrunk_by_2(torch.from_numpy(smooth / smooth.std()), torch.from_numpy(kernel)).var()
        assert noise_kept(kernel, neighbors) == pytest.approx(float(left), rel=0.1)


@pytest.mark.parametrize(
    ("along", "across", "error"), [(1.5, 1.5, 0.5), (3, 3, 0.2), (3, 1.5, 0.3)], ids=["narrow", "wide", "directed"]
)
def test_the_kernel_of_a_known_blur_is_found(along, across, error):
    """Gaussians of so many pixels, shrunk by 4. Narrow ones are found too wide: docs/degrade.md has figures."""
    known = twice(gaussian_kernel(along / np.sqrt(5), across / np.sqrt(5), np.pi / 4))
    photo = shrink_under(leaves(512), known).round().astype(np.uint8)
    found, expected = deviations(twice(estimate_kernel(photo, steps=150))), deviations(known)
    assert found[:2] == pytest.approx(expected[:2], rel=error)
    assert found[2] == pytest.approx(expected[2], abs=0.3)


def test_a_kernel_in_one_piece_is_as_good_narrow_as_wide():
    gaussians = [gaussian_kernel(0.7), gaussian_kernel(1.4), gaussian_kernel(1.4, 0.7, 0.5)]
    assert [float(raggedness(torch.from_numpy(kernel))) for kernel in gaussians] == pytest.approx([1, 1, 1], abs=0.07)
    veiled = 0.6 * gaussian_kernel(0.8) + 0.4 * gaussian_kernel(3.0)
    assert float(raggedness(torch.from_numpy(veiled))) > 1.5
