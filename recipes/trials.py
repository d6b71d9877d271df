"""Runs of `ddnsr train` from several seeds, judged alike and told in one table; shared by the scripts beside it."""

import fcntl
import json
import math
import statistics
import string
import subprocess
import sys
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from scipy.stats import t

from ddnsr_cli.data.images import list_images
from ddnsr_cli.errors import TrainingError
from ddnsr_cli.files import atomic_path
from ddnsr_cli.nets.degrader import Degrader, start_as_area
from ddnsr_cli.reports.realism import measure_realism
from ddnsr_cli.training.options import small_helpers, track_options
from ddnsr_cli.weights.checkpoint import save_degrader

COLUMNS = {
    "psnr_rgb": ("PSNR, dB", 2),
    "ssim_rgb": ("SSIM", 3),
    "lpips_alex": ("LPIPS", 3),
    "niqe": ("NIQE", 2),
    "noise_left": ("noise left", 2),
    "detail_kept": ("detail kept", 2),
    "self_consistency_db": ("self-consistency, dB", 2),
}
"""Figures of the reconstruction network, by `ddnsr eval`: title, and how many digits are told."""

OF_NOISE = {"noise": ("noise, levels", 1), "neighbors": ("neighbors", 2), "channels": ("channels", 2)}
"""Figures of LR images, likewise."""

LESS_IS_BETTER = ("lpips_alex", "niqe")
CLAIMED = ("psnr_rgb", "lpips_alex")
"""The figures by which a claim is judged; where there is no truth, NIQE."""

SHOWN_PX = 96  # side of the part of an image that is shown, LR pixels

Figures = Mapping[str, float | None]
"""Of one run; None where there is none, as of the noise of a degrader that makes none."""

Found = dict[str, dict[str, float | None]]
"""Figures by name: of runs, and of what they are compared with."""

Columns = Mapping[str, tuple[str, int]]
"""Name of a figure -> its title, and how many digits are told."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What the runs are judged on."""

    lr: Path
    hr: Path | None = None
    """None: there is no truth."""

    lpips: Path | None = None
    reference: str = "hr"
    """What the HR images are, as for --reference of `ddnsr eval`."""

    def words(self) -> list[str]:
        """As options of `ddnsr eval`."""
        told = ["--lr", str(self.lr), "--niqe"]
        if self.hr is not None:
            told += ["--hr", str(self.hr), "--reference", self.reference]
            told += ["--lpips-weights", str(self.lpips)] if self.lpips else []
        return told


@dataclass(frozen=True, order=True)
class Run:
    """One training."""

    kind: str
    seed: int

    @property
    def name(self) -> str:
        """Its folder's."""
        return f"{self.kind}{self.seed}"


def ddnsr(*words: str) -> None:
    """Run the command. Raises TrainingError when it fails; its own message stands on stderr."""
    if subprocess.run([sys.executable, "-m", "ddnsr_cli", *words], check=False).returncode:
        raise TrainingError(f"ddnsr {' '.join(words)} failed; see its message above.")


def once(out: Path, *words: str) -> None:
    """Run the command, which makes `out`, unless an earlier call has done it."""
    if not is_done(out):
        ddnsr(*words, "-o", str(out))
        _done(out).touch()


def is_done(out: Path) -> bool:
    """Whether `once` has made it."""
    return _done(out).exists()


def _done(out: Path) -> Path:
    return out.with_name(f"{out.name}.done")


def neutral_degrader(path: Path, seed: int, *, lite: bool) -> Path:
    """Write a degrader that shrinks and adds nothing, of the sizes that `ddnsr train` takes. Returns the file."""
    options = track_options(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Degrader((small_helpers(options) if lite else options).degrader)
    start_as_area(net, torch.Generator().manual_seed(seed))
    save_degrader(path, net, metadata={}, half=False)
    return path


def scores(found: Path, models: Mapping[str, str], validation: Validation) -> dict[str, dict[str, float]]:
    """Mean figures of models and of bicubic, by name. models: name -> as for -m of `ddnsr upscale`.

    found: where the results of `ddnsr eval` are written.
    """
    listed = ",".join(f"{name}={model}" for name, model in models.items())
    ddnsr("eval", *validation.words(), "--models", listed, "--json", str(found), "--quiet")
    told = json.loads(found.read_text(encoding="utf-8"))
    means = {model: row["mean"] for model, row in told["models"].items()}
    return {model: {name: row[name]["mean"] for name in COLUMNS if name in row} for model, row in means.items()}


def noise_figures(images: Path) -> dict[str, float | None]:
    """Level, neighbors' and channels' correlation of the noise in a folder of images."""
    found = measure_realism(list_images(images))
    return {name: getattr(found, name) for name in OF_NOISE}


def known_figures(path: Path) -> Found:
    """What the file holds; nothing when there is none."""
    found: Found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def keep(figures: Path, found: Mapping[str, Figures]) -> None:
    """Add what was found to the file, to which other runs may add meanwhile."""
    with figures.with_name(f".{figures.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with atomic_path(figures) as temporary:
            temporary.write_text(json.dumps({**known_figures(figures), **found}, indent=1) + "\n", encoding="utf-8")


def runs_and_others(found: Found, kinds: Container[str]) -> tuple[dict[Run, Figures], dict[str, Figures]]:
    """Figures of runs, whose names are a kind and a seed, and of all else."""
    runs: dict[Run, Figures] = {}
    others: dict[str, Figures] = {}
    for name, figures in found.items():
        kind = name.rstrip(string.digits)
        if kind in kinds and kind != name:
            runs[Run(kind, int(name.removeprefix(kind)))] = figures
        else:
            others[name] = figures
    return runs, others


def table(
    titles: Mapping[str, str],
    runs: Mapping[Run, Figures],
    others: Mapping[str, Figures],
    columns: Columns = COLUMNS,
) -> str:
    """Markdown: a line a kind, means over the seeds with the half width of their 95 % intervals, then the others.

    titles: of the kinds, in their order. A column that nothing has a figure for is left out.
    """
    filled = {name for figures in (*runs.values(), *others.values()) for name in figures}
    shown = {name: column for name, column in columns.items() if name in filled}
    heads = [title for title, _ in shown.values()]
    lines = [f"| | {' | '.join(heads)} |", f"|---{'|---' * len(heads)}|"]
    for kind, title in titles.items():
        own = [figures for run, figures in runs.items() if run.kind == kind]
        lines.append(f"| {title} {''.join(_mean_cell(own, name, digits) for name, (_, digits) in shown.items())}|")
    lines += [f"| {title} {_cells(figures, shown)}" for title, figures in others.items()]
    return "\n".join(lines) + "\n"


def gains(titles: Mapping[str, str], runs: Mapping[Run, Figures], best: str) -> str:
    """Markdown: what the kind claimed to be best gains over each other, seed by seed, and if that holds.

    A seed counts where both were trained.
    """
    claimed = CLAIMED if any(CLAIMED[0] in figures for figures in runs.values()) else ("niqe",)
    heads = [COLUMNS[name][0] for name in claimed]
    lines = [f"| {titles[best]} against | {' | '.join(heads)} |", f"|---{'|---' * len(heads)}|"]
    for kind, title in titles.items():
        if kind != best:
            lines.append(f"| {title} | {' | '.join(_gain(runs, best, kind, name) for name in claimed)} |")
    return "\n".join(lines) + "\n"


def half_width(values: Sequence[float]) -> float:
    """Of the 95 % interval of their mean, by Student's t; infinite for one value."""
    if len(values) < 2:
        return math.inf
    return float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))


def verdict(gains: Sequence[float]) -> str:
    """What gains, positive where the claim is right, say of it: an interval that holds 0 decides nothing."""
    mean, half = statistics.fmean(gains), half_width(gains)
    if abs(mean) <= half:
        return "undecided"
    return "reproduced" if mean > 0 else "the other way round"


def sheet(image: Path, out: Path, models: Mapping[str, Path]) -> Image.Image:
    """The middle of an image, up-scaled by models, bicubic first.

    models: title -> run or file. out: folder for the results.
    """
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Image.Image] = {"bicubic": _enlarged(image)}
    for place, (title, model) in enumerate(models.items()):
        made = out / f"{place}.png"
        ddnsr("upscale", str(image), "-m", str(model), "-o", str(made), "--overwrite", "--quiet")
        results[title] = Image.open(made).convert("RGB")
    side, head = 4 * SHOWN_PX, 24
    drawn = Image.new("RGB", (3 * side, (len(results) + 2) // 3 * (side + head)), "white")
    pen = ImageDraw.Draw(drawn)
    for place, (title, result) in enumerate(results.items()):
        x, y = place % 3 * side, place // 3 * (side + head)
        left, top = (result.width - side) // 2, (result.height - side) // 2
        drawn.paste(result.crop((left, top, left + side, top + side)), (x, y + head))
        pen.text((x + 4, y + 4), title, fill="black", font_size=14)
    return drawn


def _gain(runs: Mapping[Run, Figures], best: str, other: str, name: str) -> str:
    sign = -1 if name in LESS_IS_BETTER else 1
    nothing: Figures = {}
    seeds = sorted({run.seed for run in runs})
    both = [[runs.get(Run(kind, seed), nothing).get(name) for kind in (best, other)] for seed in seeds]
    differences = [ours - theirs for ours, theirs in both if ours is not None and theirs is not None]
    if not differences:
        return "none"
    told = _with_interval(differences, COLUMNS[name][1], signed=True)
    return f"{told}: {verdict([sign * one for one in differences])}"


def _mean_cell(own: Sequence[Figures], name: str, digits: int) -> str:
    """Empty where no run of a kind has such a figure."""
    if not any(name in figures for figures in own):
        return "| "
    return f"| {_with_interval([figures.get(name) for figures in own], digits)} "


def _with_interval(values: Sequence[float | None], digits: int, *, signed: bool = False) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "none"
    half = half_width(known)
    told = f"{statistics.fmean(known):{'+' if signed else ''}.{digits}f}"
    return told if math.isinf(half) else f"{told} ± {half:.{digits}f}"


def _cells(figures: Figures, columns: Columns) -> str:
    values = ((figures.get(name), digits) for name, (_, digits) in columns.items())
    return "".join("| " if value is None else f"| {value:.{digits}f} " for value, digits in values) + "|"


def _enlarged(image: Path) -> Image.Image:
    small = Image.open(image).convert("RGB")
    return small.resize((4 * small.width, 4 * small.height), Image.Resampling.BICUBIC)
