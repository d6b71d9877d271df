"""The paper's table 2 at a size of one's own: ablations A to E, trained alike, judged alike.

    python recipes/ablations.py --out runs/ablations --noise sets/source_track1 --val-lr LR --val-hr HR \\
        --lpips lpips_alex.safetensors --show image.png -- --track 1 --lite --hr sets/target --lr sets/source_track1

What stands after `--` goes to each `ddnsr train`. A run that is finished is not trained again. Writes `table.md`, and
with --show `sheet.png`: the middle of that image, up-scaled by each. Columns of the table: PSNR, SSIM and LPIPS of
`ddnsr eval` on the validation pairs, and the noise that each degrader puts on the clean validation images beside
that of its source, as `docs/realism.md` measures it.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from image_files import run_script
from PIL import Image, ImageDraw

from ddnsr_cli.data.images import list_images
from ddnsr_cli.errors import TrainingError
from ddnsr_cli.files import atomic_path
from ddnsr_cli.metrics.realism import Realism
from ddnsr_cli.reports.realism import measure_realism

WITHOUT = {
    "A": "no content loss",
    "B": "no adversarial loss",
    "C": "no cycle loss",
    "D": "single input",
    "E": "the whole method",
}
FIGURES = ("psnr_rgb", "ssim_rgb", "lpips_alex")
SHOWN_PX = 96  # side of the part of an image that is shown, LR pixels


@dataclass(frozen=True, kw_only=True)
class Judging:
    """What the runs are judged on."""

    lr: Path
    hr: Path
    noise: Path
    """The folder whose noise the degraders are to put on."""

    lpips: Path


def train_all(out: Path, words: Sequence[str]) -> dict[str, Path]:
    """Train what is not finished yet. Returns the run folder of each letter."""
    runs = {letter: out / letter for letter in WITHOUT}
    for letter, run in runs.items():
        if not (out / f"{letter}.done").exists():
            _ddnsr("train", "--ablation", letter, *words, "-o", str(run))
            (out / f"{letter}.done").touch()
    return runs


def scores(runs: dict[str, Path], judged: Judging, out: Path) -> dict[str, dict[str, float]]:
    """Mean figures of each run and of bicubic on the validation pairs."""
    found = out / "scores.json"
    models = ",".join(f"{letter}={run}" for letter, run in runs.items())
    pairs = ["--lr", str(judged.lr), "--hr", str(judged.hr)]
    _ddnsr("eval", *pairs, "--models", models, "--lpips-weights", str(judged.lpips), "--json", str(found), "--quiet")
    told = json.loads(found.read_text(encoding="utf-8"))
    return {model: {name: row["mean"][name]["mean"] for name in FIGURES} for model, row in told["models"].items()}


def realism(run: Path, judged: Judging, pairs: Path) -> Realism:
    """How the noise looks that the run's degrader puts on the clean validation images."""
    noise = ["--noise-source", str(judged.noise), "-m", str(run)]
    _ddnsr("degrade", str(judged.hr), *noise, "-o", str(pairs), "--overwrite", "--quiet")
    return measure_realism(list_images(pairs / "lr"))


def table(means: dict[str, dict[str, float]], fake: dict[str, Realism], real: Realism) -> str:
    """Markdown: a line a run."""
    lines = ["| | PSNR | SSIM | LPIPS | noise, levels | neighbors | channels |", "|---|---|---|---|---|---|---|"]
    for name, row in means.items():
        told = f"{name}: {WITHOUT[name]}" if name in WITHOUT else name
        noise = _noise(fake[name]) if name in fake else "| | | |"
        lines.append(f"| {told} | {row[FIGURES[0]]:.2f} dB | {row[FIGURES[1]]:.3f} | {row[FIGURES[2]]:.3f} {noise}")
    lines.append(f"| the source | | | {_noise(real)}")
    return "\n".join(lines) + "\n"


def sheet(image: Path, runs: dict[str, Path], out: Path) -> Image.Image:
    """The middle of an image, up-scaled by each run, bicubic first."""
    models: dict[str, Image.Image] = {"bicubic": _enlarged(image)}
    for letter, run in runs.items():
        made = out / f"shown_{letter}.png"
        _ddnsr("upscale", str(image), "-m", str(run), "-o", str(made), "--overwrite", "--quiet")
        models[f"{letter}: {WITHOUT[letter]}"] = Image.open(made).convert("RGB")
    side, head = 4 * SHOWN_PX, 24
    drawn = Image.new("RGB", (3 * side, (len(models) + 2) // 3 * (side + head)), "white")
    pen = ImageDraw.Draw(drawn)
    for place, (name, shown) in enumerate(models.items()):
        x, y = place % 3 * side, place // 3 * (side + head)
        left, top = (shown.width - side) // 2, (shown.height - side) // 2
        drawn.paste(shown.crop((left, top, left + side, top + side)), (x, y + head))
        pen.text((x + 4, y + 4), name, fill="black", font_size=14)
    return drawn


def _enlarged(image: Path) -> Image.Image:
    small = Image.open(image).convert("RGB")
    return small.resize((4 * small.width, 4 * small.height), Image.Resampling.BICUBIC)


def _noise(found: Realism) -> str:
    figures = ((found.noise, 1), (found.neighbors, 2), (found.channels, 2))
    return f"| {' | '.join('none' if value is None else f'{value:.{digits}f}' for value, digits in figures)} |"


def _ddnsr(*words: str) -> None:
    """Run the command. Raises TrainingError when it fails; its own message stands on stderr."""
    if subprocess.run([sys.executable, "-m", "ddnsr_cli", *words], check=False).returncode:
        raise TrainingError(f"ddnsr {' '.join(words)} failed; see its message above.")


def main(given: list[str]) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description="Train and judge the paper's ablations A to E.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and what they show")
    parser.add_argument("--noise", type=Path, required=True, help="the noisy images, to compare the made noise with")
    parser.add_argument("--val-lr", type=Path, required=True, help="LR images of the validation pairs")
    parser.add_argument("--val-hr", type=Path, required=True, help="their HR partners")
    parser.add_argument("--lpips", type=Path, required=True, help="LPIPS (AlexNet) weights")
    parser.add_argument("--show", type=Path, help="image whose middle is shown")
    parser.add_argument("words", nargs="+", metavar="-- WORDS", help="options of ddnsr train, without -o")
    options = parser.parse_args(given)
    options.out.mkdir(parents=True, exist_ok=True)
    judged = Judging(lr=options.val_lr, hr=options.val_hr, noise=options.noise, lpips=options.lpips)
    runs = train_all(options.out, options.words)
    means = scores(runs, judged, options.out)
    fake = {letter: realism(run, judged, options.out / f"pairs_{letter}") for letter, run in runs.items()}
    with atomic_path(options.out / "table.md") as temporary:
        temporary.write_text(table(means, fake, measure_realism(list_images(judged.noise))), encoding="utf-8")
    if options.show is not None:
        with atomic_path(options.out / "sheet.png") as temporary:
            sheet(options.show, runs, options.out).save(temporary, "PNG")


if __name__ == "__main__":
    run_script(main)
