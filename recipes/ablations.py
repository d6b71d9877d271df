"""The paper's table 2 at a size of one's own: ablations A to E, trained alike from several seeds, judged alike.

    python recipes/ablations.py --out runs/ablations --seeds 3 --noise sets/source_track1 --val-lr LR --val-hr HR \\
        --lpips lpips_alex.safetensors --show image.png -- --track 1 --lite --hr sets/target --lr sets/source_track1

What stands after `--` goes to each `ddnsr train`. A run that is finished is not trained again, and one that was stopped
goes on. All degraders of a seed begin with the same weights, which only shrink: none carries noise before it has
learned to. What is found of a run is kept in --figures at once, and a run that stands there is neither trained nor
judged: so seeds may be spread over machines and days. Writes `table.md`, figures and what they say of each of the
paper's claims, and with --show `sheet.png`: the middle of that image, up-scaled by each run of the first seed. PSNR,
SSIM, LPIPS and NIQE are of `ddnsr eval` on the validation pairs; noise is what each degrader puts on the clean
validation images, beside that of its source, as `docs/realism.md` measures it, and what it carries and leaks of crops
as they are.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from image_files import run_script
from trials import (
    COLUMNS,
    OF_NOISE,
    Found,
    Run,
    Validation,
    gains,
    is_done,
    keep,
    known_figures,
    neutral_degrader,
    noise_figures,
    once,
    runs_and_others,
    scores,
    sheet,
    table,
)
from trials import ddnsr as run_ddnsr

from ddnsr_cli.commands.degrade.methods import Learned, NoisyImages, noise_source, start_degrader
from ddnsr_cli.commands.degrade.worker import transfer_of
from ddnsr_cli.data.config import NoiseInput
from ddnsr_cli.data.images import list_images
from ddnsr_cli.files import atomic_path
from ddnsr_cli.io.discovery import find_images

WITHOUT = {
    "A": "no content loss",
    "B": "no adversarial loss",
    "C": "no cycle loss",
    "D": "single input",
    "E": "the whole method",
}
WHOLE = "E"
BICUBIC, SOURCE = "bicubic", "the source"
TITLES = {letter: f"{letter}: {without}" for letter, without in WITHOUT.items()}

OF_DEGRADER = {**OF_NOISE, "carried": ("carried", 2), "leaked": ("leaked", 2)}
"""Figures of a run's degrader: title, and how many digits are told."""


def train(out: Path, run: Run, words: Sequence[str]) -> None:
    """Train it if it is not finished yet; its folder is `out / name`."""
    if is_done(out / run.name):
        return  # to judge it alone, other words will do, and the start is that of runs which go on
    start = neutral_degrader(out / f"neutral_{run.seed}.safetensors", run.seed, lite="--lite" in words)
    own = ("--ablation", run.kind, "--seed", str(run.seed), "--start-degrader", str(start))
    once(out / run.name, "train", *own, *words)


def judge(out: Path, run: Run, validation: Validation, clean: Path, noisy: Path) -> Found:
    """Figures of a trained run, of bicubic and of the noisy images."""
    means = scores(out / f"scores_{run.name}.json", {run.name: str(out / run.name)}, validation)
    noise = noise_of(out / run.name, clean, noisy, out / f"pairs_{run.name}")
    source = noise_figures(noisy)
    return {run.name: {**means[run.name], **noise}, BICUBIC: {**means[BICUBIC]}, SOURCE: source}


def told(found: Found) -> str:
    """Markdown: the table and the claims, by all runs that are known."""
    runs, others = runs_and_others(found, TITLES)
    return f"{table(TITLES, runs, others, {**COLUMNS, **OF_DEGRADER})}\n{gains(TITLES, runs, WHOLE)}"


def noise_of(run: Path, hr: Path, source: Path, pairs: Path) -> dict[str, float | None]:
    """What the run's degrader puts on the clean validation images, and what it carries and leaks."""
    noise = ["--noise-source", str(source), "--noise-input", "crop", "-m", str(run)]
    run_ddnsr("degrade", str(hr), *noise, "-o", str(pairs), "--overwrite", "--quiet")
    engine = start_degrader(str(run), device="auto", offline=True, download=lambda _done, _of: None)
    images = NoisyImages(list(find_images([source])), max_pixels=1 << 28)
    method = Learned(engine.tiled, noise_source(images, NoiseInput.CROP) if engine.takes_noise else None)
    transfer = transfer_of(method, list_images(hr), seed=0, max_pixels=1 << 28)
    carried, leaked = (0.0, 0.0) if transfer is None else (transfer.carried_flat, transfer.leaked)
    return {**noise_figures(pairs / "lr"), "carried": carried, "leaked": leaked}


def main(given: list[str]) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description="Train and judge the paper's ablations A to E.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and what they show")
    parser.add_argument("--seeds", type=int, default=3, help="how often each is trained, from 1 to 10 (default: 3)")
    parser.add_argument("--first-seed", type=int, default=0, help="the seeds are those from this one on (default: 0)")
    parser.add_argument("--letters", default="".join(WITHOUT), help="which, in what order (default: ABCDE)")
    parser.add_argument("--figures", type=Path, help="file for what is found (default: figures.json in --out)")
    parser.add_argument("--noise", type=Path, required=True, help="the noisy images, to compare the made noise with")
    parser.add_argument("--val-lr", type=Path, required=True, help="LR images of the validation pairs")
    parser.add_argument("--val-hr", type=Path, required=True, help="their HR partners")
    parser.add_argument("--lpips", type=Path, required=True, help="LPIPS (AlexNet) weights")
    parser.add_argument("--show", type=Path, help="image whose middle is shown")
    parser.add_argument("words", nargs="+", metavar="-- WORDS", help="options of ddnsr train, without -o and --seed")
    options = parser.parse_args(given)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    validation = Validation(lr=options.val_lr, hr=options.val_hr, lpips=options.lpips)
    figures: Path = options.figures or out / "figures.json"
    first, last = options.first_seed, options.first_seed + options.seeds
    runs = [Run(letter, seed) for seed in range(first, last) for letter in options.letters]
    for run in runs:
        if run.name not in known_figures(figures):
            train(out, run, options.words)
            keep(figures, judge(out, run, validation, options.val_hr, options.noise))
    with atomic_path(out / "table.md") as temporary:
        temporary.write_text(told(known_figures(figures)), encoding="utf-8")
    if options.show is not None:
        folders = {title: out / Run(letter, first).name for letter, title in TITLES.items()}
        models = {title: folder for title, folder in folders.items() if is_done(folder)}
        with atomic_path(out / "sheet.png") as temporary:
            sheet(options.show, out / "shown", models).save(temporary, "PNG")


if __name__ == "__main__":
    run_script(main)
