"""The paper's table 2 at a size of one's own: ablations A to E, trained alike from several seeds, judged alike.

    python recipes/ablations.py --out runs/ablations --seeds 3 --noise sets/source_track1 --val-lr LR --val-hr HR \\
        --lpips lpips_alex.safetensors --show image.png -- --track 1 --lite --hr sets/target --lr sets/source_track1

What stands after `--` goes to each `ddnsr train`. A run that is finished is not trained again, and one that was stopped
goes on. All degraders of a seed begin with the same weights, which only shrink: none carries noise before it has
learned to. Writes `table.md`, figures and what they say of each of the paper's claims, and with --show `sheet.png`: the
middle of that image, up-scaled by each run of the first seed. PSNR, SSIM and LPIPS are of `ddnsr eval` on the
validation pairs; noise is what each degrader puts on the clean validation images, beside that of its source, as
`docs/realism.md` measures it, and what it carries and leaks of crops as they are.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from image_files import run_script
from PIL import Image, ImageDraw

from ddnsr_cli.commands.degrade.methods import Learned, NoisyImages, noise_source, start_degrader
from ddnsr_cli.commands.degrade.worker import transfer_of
from ddnsr_cli.data.config import NoiseInput
from ddnsr_cli.data.images import list_images
from ddnsr_cli.errors import TrainingError
from ddnsr_cli.files import atomic_path
from ddnsr_cli.io.discovery import find_images
from ddnsr_cli.metrics.realism import Realism
from ddnsr_cli.nets.degrader import Degrader, start_as_area
from ddnsr_cli.reports.realism import measure_realism
from ddnsr_cli.training.options import small_helpers, track_options
from ddnsr_cli.weights.checkpoint import save_degrader

WITHOUT = {
    "A": "no content loss",
    "B": "no adversarial loss",
    "C": "no cycle loss",
    "D": "single input",
    "E": "the whole method",
}
WHOLE = "E"
COLUMNS = {
    "psnr_rgb": ("PSNR, dB", 2),
    "ssim_rgb": ("SSIM", 3),
    "lpips_alex": ("LPIPS", 3),
    "noise": ("noise, levels", 1),
    "neighbors": ("neighbors", 2),
    "channels": ("channels", 2),
    "carried": ("carried", 2),
    "leaked": ("leaked", 2),
}
"""The figures of a run: title, and how many digits are told."""

SCORES = ("psnr_rgb", "ssim_rgb", "lpips_alex")
"""Those of the reconstruction network; the others are of its degrader."""

LESS_IS_BETTER = ("lpips_alex",)
CLAIMED = ("psnr_rgb", "lpips_alex")
"""The figures by which a claim is judged."""

T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""Student's t: half the width of a mean's 95 % interval, in standard errors, by the number of runs."""

SHOWN_PX = 96  # side of the part of an image that is shown, LR pixels

Figures = Mapping[str, float | None]
"""Of one run; None where there is none, as of the noise of a degrader that makes none."""


@dataclass(frozen=True, kw_only=True)
class Judging:
    """What the runs are judged on."""

    lr: Path
    hr: Path
    noise: Path
    """The folder whose noise the degraders are to put on."""

    lpips: Path


@dataclass(frozen=True, order=True)
class Run:
    """One training."""

    letter: str
    seed: int

    @property
    def name(self) -> str:
        """Its folder's."""
        return f"{self.letter}{self.seed}"


def neutral_degrader(path: Path, seed: int, *, lite: bool) -> Path:
    """Write a degrader that shrinks and adds nothing, of the sizes that `ddnsr train` takes. Returns the file."""
    options = track_options(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Degrader((small_helpers(options) if lite else options).degrader)
    start_as_area(net, torch.Generator().manual_seed(seed))
    save_degrader(path, net, metadata={}, half=False)
    return path


def train_all(out: Path, seeds: int, words: Sequence[str]) -> list[Run]:
    """Train what is not finished yet, a seed after the other. Returns the runs; their folders are `out / name`."""
    runs = [Run(letter, seed) for seed in range(seeds) for letter in WITHOUT]
    for run in runs:
        if not (out / f"{run.name}.done").exists():
            start = neutral_degrader(out / f"neutral_{run.seed}.safetensors", run.seed, lite="--lite" in words)
            own = ("--ablation", run.letter, "--seed", str(run.seed), "--start-degrader", str(start))
            _ddnsr("train", *own, *words, "-o", str(out / run.name))
            (out / f"{run.name}.done").touch()
    return runs


def scores(out: Path, runs: Sequence[Run], judged: Judging) -> dict[str, dict[str, float]]:
    """Mean figures of each run and of bicubic on the validation pairs, by name."""
    found = out / "scores.json"
    models = ",".join(f"{run.name}={out / run.name}" for run in runs)
    pairs = ["--lr", str(judged.lr), "--hr", str(judged.hr)]
    _ddnsr("eval", *pairs, "--models", models, "--lpips-weights", str(judged.lpips), "--json", str(found), "--quiet")
    told = json.loads(found.read_text(encoding="utf-8"))
    return {model: {name: row["mean"][name]["mean"] for name in SCORES} for model, row in told["models"].items()}


def noise_of(run: Path, judged: Judging, pairs: Path) -> dict[str, float | None]:
    """What the run's degrader puts on the clean validation images, and what it carries and leaks."""
    noise = ["--noise-source", str(judged.noise), "--noise-input", "crop", "-m", str(run)]
    _ddnsr("degrade", str(judged.hr), *noise, "-o", str(pairs), "--overwrite", "--quiet")
    engine = start_degrader(str(run), device="auto", offline=True, download=lambda _done, _of: None)
    images = NoisyImages(list(find_images([judged.noise])), max_pixels=1 << 28)
    method = Learned(engine.tiled, noise_source(images, NoiseInput.CROP) if engine.takes_noise else None)
    transfer = transfer_of(method, list_images(judged.hr), seed=0, max_pixels=1 << 28)
    carried, leaked = (0.0, 0.0) if transfer is None else (transfer.carried_flat, transfer.leaked)
    return {**_levels(measure_realism(list_images(pairs / "lr"))), "carried": carried, "leaked": leaked}


def table(runs: Mapping[Run, Figures], bicubic: Figures, source: Figures) -> str:
    """Markdown: a line an ablation, means over the seeds with the half width of their 95 % intervals."""
    titles = [title for title, _ in COLUMNS.values()]
    lines = [f"| | {' | '.join(titles)} |", f"|---{'|---' * len(titles)}|", f"| bicubic {_cells(bicubic)}"]
    for letter, without in WITHOUT.items():
        own = [figures for run, figures in runs.items() if run.letter == letter]
        cells = " | ".join(_with_interval([one[name] for one in own], digits) for name, (_, digits) in COLUMNS.items())
        lines.append(f"| {letter}: {without} | {cells} |")
    return "\n".join([*lines, f"| the source {_cells(source)}"]) + "\n"


def claims(runs: Mapping[Run, Figures]) -> str:
    """Markdown: what the whole method gains over each ablation, seed by seed, and whether the paper's claim holds."""
    titles = [COLUMNS[name][0] for name in CLAIMED]
    lines = [f"| E against | {' | '.join(titles)} |", "|---|---|---|"]
    for letter, without in WITHOUT.items():
        if letter != WHOLE:
            lines.append(f"| {letter}: {without} | {' | '.join(_gain(runs, letter, name) for name in CLAIMED)} |")
    return "\n".join(lines) + "\n"


def half_width(values: Sequence[float]) -> float:
    """Of the 95 % interval of their mean, by Student's t; infinite for one value, or more than T95 knows."""
    if len(values) not in T95:
        return math.inf
    return T95[len(values)] * statistics.stdev(values) / math.sqrt(len(values))


def verdict(gains: Sequence[float]) -> str:
    """What gains, positive where the claim is right, say of it: an interval that holds 0 decides nothing."""
    mean, half = statistics.fmean(gains), half_width(gains)
    if abs(mean) <= half:
        return "undecided"
    return "reproduced" if mean > 0 else "the other way round"


def sheet(image: Path, out: Path, runs: Sequence[Run]) -> Image.Image:
    """The middle of an image, up-scaled by the runs of the first seed, bicubic first."""
    models: dict[str, Image.Image] = {"bicubic": _enlarged(image)}
    for run in (run for run in runs if run.seed == 0):
        made = out / f"shown_{run.letter}.png"
        _ddnsr("upscale", str(image), "-m", str(out / run.name), "-o", str(made), "--overwrite", "--quiet")
        models[f"{run.letter}: {WITHOUT[run.letter]}"] = Image.open(made).convert("RGB")
    side, head = 4 * SHOWN_PX, 24
    drawn = Image.new("RGB", (3 * side, (len(models) + 2) // 3 * (side + head)), "white")
    pen = ImageDraw.Draw(drawn)
    for place, (name, shown) in enumerate(models.items()):
        x, y = place % 3 * side, place // 3 * (side + head)
        left, top = (shown.width - side) // 2, (shown.height - side) // 2
        drawn.paste(shown.crop((left, top, left + side, top + side)), (x, y + head))
        pen.text((x + 4, y + 4), name, fill="black", font_size=14)
    return drawn


def _gain(runs: Mapping[Run, Figures], letter: str, name: str) -> str:
    sign = -1 if name in LESS_IS_BETTER else 1
    seeds = sorted({run.seed for run in runs})
    pairs = [(runs[Run(WHOLE, seed)][name], runs[Run(letter, seed)][name]) for seed in seeds]
    differences = [ours - theirs for ours, theirs in pairs if ours is not None and theirs is not None]
    told = _with_interval(differences, COLUMNS[name][1], signed=True)
    return f"{told}: {verdict([sign * one for one in differences])}"


def _with_interval(values: Sequence[float | None], digits: int, *, signed: bool = False) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "none"
    half = half_width(known)
    told = f"{statistics.fmean(known):{'+' if signed else ''}.{digits}f}"
    return told if math.isinf(half) else f"{told} ± {half:.{digits}f}"


def _cells(figures: Figures) -> str:
    values = ((figures.get(name), digits) for name, (_, digits) in COLUMNS.items())
    return "".join("| " if value is None else f"| {value:.{digits}f} " for value, digits in values) + "|"


def _levels(found: Realism) -> dict[str, float | None]:
    return {"noise": found.noise, "neighbors": found.neighbors, "channels": found.channels}


def _enlarged(image: Path) -> Image.Image:
    small = Image.open(image).convert("RGB")
    return small.resize((4 * small.width, 4 * small.height), Image.Resampling.BICUBIC)


def _ddnsr(*words: str) -> None:
    """Run the command. Raises TrainingError when it fails; its own message stands on stderr."""
    if subprocess.run([sys.executable, "-m", "ddnsr_cli", *words], check=False).returncode:
        raise TrainingError(f"ddnsr {' '.join(words)} failed; see its message above.")


def main(given: list[str]) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description="Train and judge the paper's ablations A to E.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and what they show")
    parser.add_argument("--seeds", type=int, default=3, help="how often each is trained, from 1 to 10 (default: 3)")
    parser.add_argument("--noise", type=Path, required=True, help="the noisy images, to compare the made noise with")
    parser.add_argument("--val-lr", type=Path, required=True, help="LR images of the validation pairs")
    parser.add_argument("--val-hr", type=Path, required=True, help="their HR partners")
    parser.add_argument("--lpips", type=Path, required=True, help="LPIPS (AlexNet) weights")
    parser.add_argument("--show", type=Path, help="image whose middle is shown")
    parser.add_argument("words", nargs="+", metavar="-- WORDS", help="options of ddnsr train, without -o and --seed")
    options = parser.parse_args(given)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    judged = Judging(lr=options.val_lr, hr=options.val_hr, noise=options.noise, lpips=options.lpips)
    runs = train_all(out, options.seeds, options.words)
    means = scores(out, runs, judged)
    figures = {run: {**means[run.name], **noise_of(out / run.name, judged, out / f"pairs_{run.name}")} for run in runs}
    source = _levels(measure_realism(list_images(judged.noise)))
    with atomic_path(out / "table.md") as temporary:
        temporary.write_text(f"{table(figures, means['bicubic'], source)}\n{claims(figures)}", encoding="utf-8")
    if options.show is not None:
        with atomic_path(out / "sheet.png") as temporary:
            sheet(options.show, out, runs).save(temporary, "PNG")


if __name__ == "__main__":
    run_script(main)
