"""The central comparison: one network that learns from pairs made in six ways, all else alike, from several seeds.

    python recipes/comparison.py --out runs/comparison --seeds 3 --lite --hr sets/target --noise sets/source_track1 \\
        --val-lr LR --val-hr HR --lpips lpips_alex.safetensors --show image.png --beside x4plus=realesrgan_x4plus.pth \\
        -- --start-from start.safetensors --steps 2000 --batch 4 --crop 96

Each network begins with the same weights and learns by equation 2 with the paper's weights for as many steps: beside a
degrader (the joint method), from the pairs that this degrader makes afterwards, from those of a degrader with a single
input, trained likewise, from those of Impressionism, and from those by bicubic with and without Gaussian noise as
strong as that of the noisy images. What stands after `--` goes to each `ddnsr train`. What is finished is not made
again, and what was stopped goes on; with --ablations, runs E and D of `ablations.py`, trained by the same words, are
taken for the joint ones of their seeds. What is found is kept in --figures at once, and what stands there is neither
trained nor judged: so seeds may be spread over machines and days. Writes `table.md`, figures by `ddnsr eval` and what
the joint method gains over each other, and with --show `sheet.png`. For blind votes on the results see `blind.py`.

Not alike: the joint method halves its rate after --lr-milestones and shortens gradients above 10, training on pairs
lets the rate fall over the last 0.3 of the steps and shortens gradients above 1.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from image_files import run_script
from trials import (
    COLUMNS,
    OF_NOISE,
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

from ddnsr_cli.data.images import list_images
from ddnsr_cli.errors import ConfigError
from ddnsr_cli.files import atomic_path
from ddnsr_cli.reports.realism import measure_realism
from ddnsr_cli.training.options import track_options
from ddnsr_cli.training.reconstruction_options import ReconstructionWeights

JOINT = "joint"
TITLES = {
    JOINT: "the joint method",
    "learned": "pairs by its degrader",
    "single": "pairs by one of a single input",
    "impressionism": "pairs by Impressionism",
    "gaussian": "bicubic and Gaussian noise",
    "bicubic": "bicubic pairs",
}
SOURCE = "the source"
DEGRADERS = {"learned": JOINT, "single": "alone"}
"""Way to make pairs -> the joint run whose degrader makes them; `alone` is that of a single input."""

ABLATIONS = {JOINT: "E", "alone": "D"}
"""Joint run -> the ablation that is the same."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared, and how each network is trained."""

    out: Path
    hr: Path
    noise: Path

    track: int
    """The paper's, for the discriminator."""

    lite: bool
    """Degrader and discriminators at half their width."""

    learning_rate: float

    lr_milestones: str | None
    """Of the joint runs."""

    ablations: Path | None
    """Folder of `ablations.py` whose runs are taken."""

    words: Sequence[str]
    """Options of `ddnsr train` for all."""

    def folder(self, run: Run) -> Path:
        """Where a run lies."""
        if self.ablations is not None and run.kind in ABLATIONS:
            return self.ablations / Run(ABLATIONS[run.kind], run.seed).name
        return self.out / run.name

    def pairs(self, run: Run) -> Path:
        """Where what a run learns from lies, but for joint runs."""
        return self.out / f"pairs_{run.name}"

    def train(self, run: Run) -> None:
        """Train one of `TITLES`, and before it what makes its pairs."""
        if run.kind == JOINT:
            self._train_joint(run)
            return
        if run.kind in DEGRADERS:
            self._train_joint(Run(DEGRADERS[run.kind], run.seed))
        pairs, seed = self.pairs(run), str(run.seed)
        once(pairs, "degrade", str(self.hr), "--seed", seed, "--quiet", *self._way(run))
        sides = ["--hr", str(pairs / "hr"), "--lr", str(pairs / "lr")]
        once(self.folder(run), "train", "--paired", "--seed", seed, *sides, *self._losses())

    def _train_joint(self, run: Run) -> None:
        if is_done(self.folder(run)):
            return
        start = neutral_degrader(self.out / f"neutral_{run.seed}.safetensors", run.seed, lite=self.lite)
        sides = ["--hr", str(self.hr), "--lr", str(self.noise)]
        own = ["--track", str(self.track), "--seed", str(run.seed), "--start-degrader", str(start)]
        own += ["--lite"] if self.lite else []
        own += ["--noise-input", "crop"] if run.kind == JOINT else ["--single-input"]
        own += ["--learning-rate", f"{self.learning_rate:g}"]
        own += ["--lr-milestones", self.lr_milestones] if self.lr_milestones else []
        once(self.folder(run), "train", *own, *sides, *self.words)

    def _way(self, run: Run) -> list[str]:
        """How pairs are made, as options of `ddnsr degrade`."""
        noise = ["--noise-source", str(self.noise)]
        if run.kind in DEGRADERS:
            degrader = self.folder(Run(DEGRADERS[run.kind], run.seed))
            given = [*noise, "--noise-input", "crop"] if run.kind == "learned" else []
            return [*given, "-m", str(degrader)]
        if run.kind == "gaussian":
            level = measure_realism(list_images(self.noise)).noise
            if level is None:
                raise ConfigError(f"{self.noise}: the images have no smooth parts to measure noise in. Take others.")
            return ["--method", run.kind, "--sigma", f"{level:.2f}"]
        return ["--method", run.kind, *(noise if run.kind == "impressionism" else [])]

    def _losses(self) -> list[str]:
        """What makes training on pairs learn by the losses of the joint method."""
        weights = ReconstructionWeights()
        losses = [f"{name}={getattr(weights, name):g}" for name in ("perceptual", "hr_adversarial", "pixel")]
        options = track_options(self.track)
        rate = f"{self.learning_rate:g}"
        rates = ["--learning-rate", rate, "--discriminator-learning-rate", rate]
        kinds = ["--discriminator", str(options.discriminator), "--gan", str(options.gan)]
        return [*(word for loss in losses for word in ("--loss", loss)), *kinds, *rates, *self.words]


def main(given: list[str]) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description="Train one network on pairs made in six ways, and judge it.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and what they show")
    parser.add_argument("--seeds", type=int, default=3, help="how often each is trained, from 1 to 10 (default: 3)")
    parser.add_argument("--first-seed", type=int, default=0, help="the seeds are those from this one on (default: 0)")
    parser.add_argument("--figures", type=Path, help="file for what is found (default: figures.json in --out)")
    parser.add_argument("--track", type=int, default=1, help="whose discriminator is taken (default: 1)")
    parser.add_argument("--lite", action="store_true", help="degraders and discriminators at half their width")
    parser.add_argument("--learning-rate", type=float, default=2e-4, help="of all networks (default: 0.0002)")
    parser.add_argument("--lr-milestones", help="steps after which the joint runs halve it, as in 1500")
    parser.add_argument("--hr", type=Path, required=True, help="clean images")
    parser.add_argument("--noise", type=Path, required=True, help="noisy images")
    parser.add_argument("--ablations", type=Path, help="folder of ablations.py whose runs E and D are taken")
    parser.add_argument("--val-lr", type=Path, required=True, help="LR images to judge on")
    parser.add_argument("--val-hr", type=Path, help="their HR partners; without, there is no truth")
    parser.add_argument("--reference", default="hr", help="what these are, as for ddnsr eval (default: hr)")
    parser.add_argument("--lpips", type=Path, help="LPIPS (AlexNet) weights")
    parser.add_argument("--beside", action="append", default=[], metavar="NAME=MODEL", help="a model to judge, too")
    parser.add_argument("--show", type=Path, help="image whose middle is shown")
    parser.add_argument("words", nargs="+", metavar="-- WORDS", help="options of ddnsr train for all")
    options = parser.parse_args(given)
    if odd := [pair for pair in options.beside if "=" not in pair]:
        raise ConfigError(f"--beside takes NAME=MODEL, got {odd[0]}.")
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    names = ("out", "hr", "noise", "track", "lite", "learning_rate", "lr_milestones", "ablations", "words")
    compared = Comparison(**{name: getattr(options, name) for name in names})
    validation = Validation(lr=options.val_lr, hr=options.val_hr, lpips=options.lpips, reference=options.reference)
    figures: Path = options.figures or out / "figures.json"
    first, last = options.first_seed, options.first_seed + options.seeds
    for run in [Run(kind, seed) for seed in range(first, last) for kind in TITLES]:
        if run.name not in known_figures(figures):
            compared.train(run)
            found = scores(out / f"scores_{run.name}.json", {run.name: str(compared.folder(run))}, validation)
            noise = {} if run.kind == JOINT else noise_figures(compared.pairs(run) / "lr")
            keep(figures, {**found, run.name: {**found[run.name], **noise}})
    beside = dict(pair.split("=", 1) for pair in options.beside)
    for name, model in beside.items():
        if name not in known_figures(figures):
            keep(figures, scores(out / f"scores_{name}.json", {name: model}, validation))
    if SOURCE not in known_figures(figures):
        keep(figures, {SOURCE: noise_figures(options.noise)})
    known, others = runs_and_others(known_figures(figures), TITLES)
    with atomic_path(out / "table.md") as temporary:
        told = table(TITLES, known, others, {**COLUMNS, **OF_NOISE})
        temporary.write_text(f"{told}\n{gains(TITLES, known, JOINT)}", encoding="utf-8")
    if options.show is not None:
        folders = {title: compared.folder(Run(kind, first)) for kind, title in TITLES.items()}
        shown = {title: folder for title, folder in folders.items() if is_done(folder)}
        with atomic_path(out / "sheet.png") as temporary:
            sheet(options.show, out / "shown", shown).save(temporary, "PNG")


if __name__ == "__main__":
    run_script(main)
