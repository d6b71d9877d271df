"""The yardstick: models on made and real test images, in figures.

    python recipes/quality.py --data data --out runs/quality --lpips alex.safetensors \\
        --models ours=runs/mine x4plus=realesrgan_x4plus.safetensors ddnsr-lite bicubic

Images are up-scaled as `ddnsr upscale` does by default, colors fixed to the input's, on the CPU in bfloat16 where the
processor multiplies in it. All that is made stays under --out (`lr`, `sr/HASH` and `figures/HASH`, HASH being that of
the weights), so another model costs only what is its own. Writes `quality.md` and `quality.json`; prints the former.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from image_files import run_script
from PIL import Image
from quality_figures import against_truth, by_itself
from quality_sets import SCALE, SEED, SETS, Case, Rgb8, Shown, find_cases

from ddnsr_cli import __version__
from ddnsr_cli.commands.evaluate.measures import Fidelity, LpipsMetric, NoiseAndDetail, Shot
from ddnsr_cli.commands.evaluate.models import labeled, short_name
from ddnsr_cli.commands.upscale.options import UpscaleListener, UpscaleOptions
from ddnsr_cli.commands.upscale.worker import Engine, start_engine
from ddnsr_cli.errors import ConfigError, DataError
from ddnsr_cli.files import atomic_path, sha256_of
from ddnsr_cli.inference.pipeline import LookOptions, enlarge_image
from ddnsr_cli.io.image import RasterImage
from ddnsr_cli.io.read import read_rgb
from ddnsr_cli.metrics.niqe import niqe
from ddnsr_cli.nets.lpips import LPIPS
from ddnsr_cli.reports.results import BICUBIC
from ddnsr_cli.weights.feature_weights import load_lpips, load_niqe_model
from ddnsr_cli.weights.registry import read_registry
from ddnsr_cli.weights.resolve import find_weights

BORDER_PX = 4
VERSION = 5
"""Of the figures: those of another version are measured again, from the images that are there."""

DIGITS = {"psnr": 2, "lpips": 3, "niqe": 2, "noise_left": 3, "detail": 3}
LISTENER = UpscaleListener(
    image=lambda _path: None,
    tile=lambda _done, _total: None,
    note=lambda text: _write(f"note: {text}\n"),
    detail=lambda _text: None,
    failed=lambda _error: None,
    download=lambda _done, _total: None,
)

Figures = dict[str, float]


@dataclass(frozen=True)
class Model:
    """Weights to judge, or bicubic."""

    label: str
    name: str
    """As `ddnsr upscale -m` takes."""

    @cached_property
    def digest(self) -> str:
        """The first digits of the weights' SHA-256."""
        if self.name == BICUBIC:
            return BICUBIC
        return sha256_of(find_weights(self.name, registry=read_registry(), offline=True).path)[:12]

    @cached_property
    def _engine(self) -> Engine:
        return start_engine(UpscaleOptions(model=self.name, device="cpu", offline=True), LISTENER)

    def enlarged(self, lr: Rgb8) -> Rgb8:
        """The image four times as large, its colors fixed. Raises ConfigError for a network of another scale."""
        if self.name == BICUBIC:
            return bicubic(lr)
        larger, _ = enlarge_image(RasterImage(pixels=lr), self._engine.upscaler, LookOptions(), LISTENER)
        if larger.height != SCALE * len(lr):
            raise ConfigError(f"{self.label} enlarges {larger.height // len(lr)} times, not {SCALE}. Leave it out.")
        return larger.pixels.astype(np.uint8)


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def models_of(texts: Sequence[str]) -> list[Model]:
    """`NAME=MODEL` or `MODEL` each. Raises ConfigError when two have one name."""
    named = [labeled(text) for text in texts]
    models = [Model(label or short_name(name), name) for label, name in named]
    if len({model.label for model in models}) < len(models):
        raise ConfigError("Two of the models have one name. Name one: NAME=MODEL.")
    return models


def bicubic(lr: Rgb8) -> Rgb8:
    """Pillow's enlargement."""
    return np.array(Image.fromarray(lr).resize((SCALE * lr.shape[1], SCALE * len(lr)), Image.Resampling.BICUBIC))


class Store:
    """What is made, in a folder: LR images, results by model, figures by model and set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def lr(self, case: Case, shown: Shown) -> Path:
        """The LR image of a case as a file."""
        path = self.folder / "lr" / f"{case.key}.png"
        if not path.exists() or (read_rgb(path) != shown.lr).any():
            _save(shown.lr, path)
        return path

    def result(self, model: Model, case: Case, shown: Shown) -> Path:
        """A model's result as a file, made unless it is there for this very input."""
        path = self.folder / "sr" / model.digest / f"{case.key}.png"
        note = path.with_suffix(".lr")
        digest = sha256(shown.lr.tobytes()).hexdigest()
        if not path.exists() or not note.exists() or note.read_text() != digest:
            _save(model.enlarged(shown.lr), path)
            note.write_text(digest)
        return path

    def figures(self, model: Model, name: str) -> Path:
        """The file for a set's figures."""
        return self.folder / "figures" / model.digest / f"{name}.json"


def _save(image: Rgb8, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, "PNG", compress_level=1)


class Meter:
    """The figures of a result."""

    def __init__(self, lpips: Path | None) -> None:
        """lpips: LPIPS-Alex; None takes it from where `ddnsr eval` looks. Raises WeightsError."""
        weights = load_lpips("alex", lpips, option="--lpips")
        lpips_alex = LpipsMetric(trunk="alex", origin=weights.source, distance=LPIPS("alex", weights.state))
        device = torch.device("cpu")
        self._niqe = load_niqe_model()
        self._to_truth = Fidelity(crop_px=BORDER_PX, device=device, lpips=lpips_alex)
        self._to_clean = Fidelity(crop_px=BORDER_PX // SCALE, device=device, lpips=lpips_alex, at_lr_size=True)
        self._noise = NoiseAndDetail(crop_px=BORDER_PX // SCALE, device=device)

    def __call__(self, sr: Rgb8, shown: Shown) -> Figures:
        """By name; which ones there are depends on what the case has beside its LR image."""
        found = {"niqe": niqe(sr, self._niqe, crop_px=BORDER_PX), **by_itself(sr, crop_px=BORDER_PX)}
        if shown.truth is not None:
            usual = self._to_truth(Shot(name="", sr=(sr,), lr=shown.lr, reference=shown.truth))
            found |= _usual(usual) | against_truth(sr, shown.truth, crop_px=BORDER_PX)
        if shown.clean is not None:
            shot = Shot(name="", sr=(bicubic(shown.lr), sr), lr=shown.lr, reference=shown.clean)
            found |= _usual(self._to_clean(shot))
            noise = self._noise(shot)
            found |= {"noise_left": noise["noise_left"][-1], "detail": noise["detail_kept"][-1]}
        return found


def _usual(figures: Mapping[str, list[float]]) -> Figures:
    return {"psnr": figures["psnr_rgb"][-1], "lpips": figures["lpips_alex"][-1]}


def measure(
    models: Sequence[Model], cases: Sequence[Case], store: Store, meter: Meter
) -> dict[str, dict[str, Figures]]:
    """Model -> case -> figures; what was measured before is read."""
    found: dict[str, dict[str, Figures]] = {model.label: {} for model in models}
    for number, case in enumerate(cases):
        shown = case.make()
        store.lr(case, shown)
        for model in models:
            found[model.label][case.key] = _measured(model, case, shown, store, meter)
        _write(f"\r{number + 1} of {len(cases)} {case.key}\033[K")
    _write("\n")
    return found


def _measured(model: Model, case: Case, shown: Shown, store: Store, meter: Meter) -> Figures:
    path = store.figures(model, case.set)
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    parts = [part.tobytes() for part in (shown.lr, shown.truth, shown.clean) if part is not None]
    digest = sha256(b"".join(parts)).hexdigest()
    row = rows.get(case.name)
    if row is None or row["version"] != VERSION or row["input"] != digest:
        figures = meter(read_rgb(store.result(model, case, shown)), shown)
        row = rows[case.name] = {"version": VERSION, "input": digest, "figures": figures}
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(rows, indent=1, sort_keys=True), encoding="utf-8")
    return dict(row["figures"])


def means(found: Mapping[str, Mapping[str, Figures]]) -> dict[str, dict[str, Figures]]:
    """Set -> model -> mean figures."""
    sets = list(dict.fromkeys(key.split("/")[0] for rows in found.values() for key in rows))
    return {name: {model: _mean(rows, name) for model, rows in found.items()} for name in sets}


def _mean(rows: Mapping[str, Figures], name: str) -> Figures:
    chosen = [figures for key, figures in rows.items() if key.startswith(f"{name}/")]
    return {figure: float(np.mean([row[figure] for row in chosen])) for figure in chosen[0]}


def markdown(found: Mapping[str, Mapping[str, Figures]], closing: str) -> str:
    """A table of PSNR, LPIPS and NIQE with a column a set, then one of all figures for each set."""
    table = means(found)
    counts = {name: sum(key.startswith(f"{name}/") for key in next(iter(found.values()))) for name in table}
    head = ["| PSNR / LPIPS / NIQE | " + " | ".join(f"{name} ({counts[name]})" for name in table) + " |"]
    head.append("|---|" + "---|" * len(table))
    head += [f"| {model} | " + " | ".join(_short(table[name][model]) for name in table) + " |" for model in found]
    return "\n".join([*head, "", *(_long(name, rows) for name, rows in table.items()), closing, ""])


def _short(figures: Figures) -> str:
    shown = [f"{figures[name]:.{DIGITS[name]}f}" for name in ("psnr", "lpips", "niqe") if name in figures]
    return " / ".join(shown)


def _long(name: str, rows: Mapping[str, Figures]) -> str:
    figures = list(next(iter(rows.values())))
    lines = [f"| {name} | " + " | ".join(figures) + " |", "|---|" + "---|" * len(figures)]
    for model, row in rows.items():
        lines.append(f"| {model} | " + " | ".join(f"{row[key]:.{DIGITS.get(key, 3)}f}" for key in figures) + " |")
    return "\n".join([*lines, ""])


def chosen_cases(listed: Path | None, cases: Sequence[Case]) -> list[Case]:
    """Those that a JSON list names as `SET/NAME`, in its order; without a list all. Raises DataError."""
    if listed is None:
        return list(cases)
    by_key = {case.key: case for case in cases}
    names = json.loads(listed.read_text(encoding="utf-8"))
    if missing := [name for name in names if name not in by_key]:
        raise DataError(f"{listed} names {', '.join(missing[:3])}, which the data do not hold. Take them out.")
    return [by_key[name] for name in names]


def main(given: list[str]) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description="Models on made and real test images, in figures.")
    parser.add_argument("--data", type=Path, required=True, help="folder with track1_val, track2_val and bench")
    parser.add_argument("--out", type=Path, required=True, help="folder for all that is made; kept for the next time")
    parser.add_argument("--models", nargs="+", required=True, help="as -m of upscale, or NAME=MODEL; bicubic")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help=f"of {', '.join(SETS)}; all by default")
    parser.add_argument("--limit", type=int, help="most images of a set")
    parser.add_argument("--cases", type=Path, help="JSON list of SET/NAME: these and no others")
    parser.add_argument("--lpips", type=Path, help="weights of LPIPS on AlexNet; default: where ddnsr eval looks")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the noise")
    options = parser.parse_args(given)
    models = models_of(options.models)
    found_cases = find_cases(options.data, options.sets, limit=options.limit, seed=options.seed)
    cases = chosen_cases(options.cases, found_cases)
    found = measure(models, cases, Store(options.out), Meter(options.lpips))
    closing = (
        f"PSNR: RGB, dB. {BORDER_PX} pixels of border off. Colors fixed as by ddnsr upscale. ddnsr {__version__}, "
        f"PyTorch {torch.__version__}, seed {options.seed}. "
        + "; ".join(f"{model.label}: {model.digest}" for model in models)
        + "."
    )
    text = markdown(found, closing)
    with atomic_path(options.out / "quality.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    everything = {"closing": closing, "means": means(found), "figures": found}
    with atomic_path(options.out / "quality.json") as temporary:
        temporary.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    run_script(main)
