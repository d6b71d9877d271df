"""The summary as tables of text, and as Markdown, CSV and JSON."""

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import torch

from ddnsr_cli import __version__
from ddnsr_cli.commands.evaluate.mean_opinion import OpinionTable
from ddnsr_cli.commands.evaluate.measures import BEST_DB, LpipsMetric, pyiqa_version
from ddnsr_cli.commands.evaluate.models import EvaluatedModel, LearnedDegrade
from ddnsr_cli.commands.evaluate.options import EvaluateOptions, Reference
from ddnsr_cli.errors import ImageWriteError, shown
from ddnsr_cli.files import atomic_path, is_pipe
from ddnsr_cli.metrics.statistics import DRAWS, LEVEL, Interval, Paired
from ddnsr_cli.reports.opinion_page import RANKS, SCORE_WORDS, SCORES
from ddnsr_cli.reports.results import BICUBIC, Evaluation, Metric, Summary, counted

OPINIONS = {
    RANKS: Metric(key=RANKS, title="rank (1 is the best)", higher_is_better=False, digits=2),
    SCORES: Metric(key=SCORES, title="score (0 is perfect)", higher_is_better=False, digits=2),
}


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table for people."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """As many cells as the header; the first names the row."""


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, or to a pipe as it comes. Raises ImageWriteError."""
    content = text.encode("utf-8", "surrogateescape")
    try:
        if is_pipe(path):
            path.write_bytes(content)
            return
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise ImageWriteError(
            f"{shown(path)} could not be written ({error.strerror}). Choose another place."
        ) from error


def tables(evaluation: Evaluation, summary: Summary) -> list[Table]:
    """Means, then the comparison where one was asked for, then the worst images."""
    means = Table(
        title=f"{counted(len(evaluation.samples), 'image')}, mean [95 % interval]",
        header=("", *(metric.title for metric in evaluation.metrics)),
        rows=tuple(
            (
                shown(Path(model)),
                *(interval_text(summary.means[model][metric.key], metric) for metric in evaluation.metrics),
            )
            for model in evaluation.models
        ),
    )
    return [means, *_comparison(evaluation, summary), _worst(evaluation, summary)]


def interval_text(interval: Interval, metric: Metric, *, signed: bool = False) -> str:
    """`24.11 [23.02, 25.20]`; without the brackets where one image tells of no other."""
    form = f"{'+' if signed else ''}.{metric.digits}f"
    if math.isnan(interval.low):
        return format(interval.mean, form)
    return f"{interval.mean:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


def as_markdown(evaluation: Evaluation, summary: Summary) -> str:
    """All tables and the definition."""
    return markdown(tables(evaluation, summary), closing=evaluation.methodology)


def markdown(parts: Sequence[Table], *, closing: str) -> str:
    """Tables one below the other, then a paragraph."""
    return "\n".join([*map(_markdown_table, parts), _as_words(closing), ""])


def opinion_tables(opinions: OpinionTable) -> list[Table]:
    """Mean opinion ranks or scores, the best first, and who was placed before whom."""
    models = tuple(shown(Path(row.model)) for row in opinions.rows)
    metric = OPINIONS[opinions.kind]
    counts = tuple(f"{score} {word}" for score, word in enumerate(SCORE_WORDS)) if opinions.kind == SCORES else ()
    means = Table(
        title=f"Mean opinion {metric.key.removesuffix('s')} [95 % interval] by "
        f"{counted(len(opinions.raters), 'rater')} on {counted(opinions.images, 'image')}",
        header=("", metric.title, "votes", *counts),
        rows=tuple(
            (model, interval_text(row.mean, metric), str(row.votes), *map(str, row.counts))
            for model, row in zip(models, opinions.rows, strict=True)
        ),
    )
    wins = Table(
        title="Votes for the row before the column",
        header=("", *models),
        rows=tuple((model, *map(str, row)) for model, row in zip(models, opinions.wins, strict=True)),
    )
    return [means, wins]


def describe_opinions(opinions: OpinionTable) -> str:
    """What the figures of `opinion_tables` mean, in one paragraph."""
    raters = ", ".join(shown(Path(rater)) for rater in opinions.raters)
    others = " and raters" if len(opinions.raters) > 1 else ""
    return f"Intervals by bootstrap over images{others} ({DRAWS} draws). Raters: {raters}."


def opinions_as_json(opinions: OpinionTable) -> str:
    """Everything of the table."""
    return json.dumps(_finite(asdict(opinions)), indent=2) + "\n"


def as_csv(evaluation: Evaluation) -> str:
    """One line a model and image, all digits."""
    text = io.StringIO()
    keys = [metric.key for metric in evaluation.metrics]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "image", *keys])
    for model in evaluation.models:
        for sample in evaluation.samples:
            values = evaluation.values[model, sample.name]
            writer.writerow([model, sample.name, *(repr(float(values[key])) for key in keys)])
    return text.getvalue()


def as_json(evaluation: Evaluation, summary: Summary) -> str:
    """Everything: definition, means, comparisons, worst images, single values. The same run gives the same text."""
    result: dict[str, Any] = {
        "ddnsr": __version__,
        "methodology": evaluation.methodology,
        "images": [sample.name for sample in evaluation.samples],
        "metrics": {metric.key: _without_key(metric) for metric in evaluation.metrics},
        "interval": {"level": LEVEL, "bootstrap_draws": DRAWS},
        "models": {model: _model(evaluation, summary, model) for model in evaluation.models},
        "against": summary.against,
        "worst_by": summary.worst_by.key,
    }
    return json.dumps(_finite(result), indent=2) + "\n"


def _comparison(evaluation: Evaluation, summary: Summary) -> list[Table]:
    if summary.against is None or not summary.comparisons:
        return []
    rows = [
        (f"{model}, {metric.compared_as.title}", *_compared(compared[metric.key], metric))
        for model, compared in summary.comparisons.items()
        for metric in evaluation.metrics
    ]
    p_title = "Wilcoxon p, by Holm" if len(summary.comparisons) > 1 else "Wilcoxon p"
    header = ("", "difference [95 % interval]", "better on", p_title, "verdict")
    return [Table(title=f"Against {summary.against}, image by image", header=header, rows=tuple(rows))]


def _compared(paired: Paired, metric: Metric) -> tuple[str, str, str, str]:
    difference = interval_text(paired.difference, metric, signed=True)
    return difference, f"{paired.win_rate:.0%}", f"{paired.family_p:.2g}", paired.verdict


def _worst(evaluation: Evaluation, summary: Summary) -> Table:
    metric = summary.worst_by
    models = [model for model in evaluation.models if model != BICUBIC] or evaluation.models
    count = len(summary.worst[models[0]])
    cells = {
        model: [
            f"{shown(Path(name))} {evaluation.values[model, name][metric.key]:.{metric.digits}f}"
            for name in summary.worst[model]
        ]
        for model in models
    }
    return Table(
        title=f"Worst {count} by {metric.title}",
        header=("", *models),
        rows=tuple((str(rank + 1), *(cells[model][rank] for model in models)) for rank in range(count)),
    )


def _markdown_table(table: Table) -> str:
    lines = [table.header, tuple("---" for _ in table.header), *table.rows]
    body = "\n".join("| " + " | ".join(map(_as_words, line)) + " |" for line in lines)
    return f"**{_as_words(table.title)}**\n\n{body}\n"


def _as_words(text: str) -> str:
    """Text, a file's name too, that neither Markdown nor HTML takes for more than words."""
    return re.sub(r"[\\|`*]|\](?=\()|(?<!\w)_|_(?!\w)", r"\\\g<0>", escape(text, quote=False))


def _without_key(metric: Metric) -> dict[str, Any]:
    return {name: value for name, value in asdict(metric).items() if name != "key"}


def _model(evaluation: Evaluation, summary: Summary, model: str) -> dict[str, Any]:
    compared = summary.comparisons.get(model, {})
    return {
        "mean": {key: asdict(interval) for key, interval in summary.means[model].items()},
        "against": {key: asdict(paired) for key, paired in compared.items()},
        "worst": list(summary.worst[model]),
        "values": {sample.name: dict(evaluation.values[model, sample.name]) for sample in evaluation.samples},
    }


def _finite(value: object) -> object:
    """NaN as null: JSON has no other word for it."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


TRUNK_NAMES = {"alex": "AlexNet", "squeeze": "SqueezeNet 1.1", "vgg": "VGG16"}


def describe_methodology(
    options: EvaluateOptions,
    models: Sequence[EvaluatedModel],
    lpips: LpipsMetric | None,
    degrade: LearnedDegrade | None,
) -> str:
    """One paragraph."""
    sentences = ["All images in 8-bit levels, as files hold them (16 bits are rounded)."]
    if options.hr is not None:
        sentences += _against_truth(options, lpips)
    if options.hr is None or degrade is not None:
        sentences.append(_self_consistency(options, degrade))
    if options.niqe:
        sentences.append(
            f"NIQE is that of Mittal, Soundararajan and Bovik (2013) with its authors' model, of the results by "
            f"themselves: rounded Y, {options.crop_px} HR pixels of border cut off, blocks of 96x96 pixels."
        )
    if options.pyiqa:
        sentences.append(f"{', '.join(options.pyiqa)}: as pyiqa {pyiqa_version()} computes them, with its networks.")
        if options.reference is Reference.LR_SIZE:
            sentences.append(
                f"Those that need no reference are of the whole results, {options.crop_px} HR pixels of border cut off."
            )
    sentences.append(f"Means over the images, 95 % intervals by bootstrap over them ({DRAWS} draws).")
    if options.against is not None:
        others = len(models) - 1
        by_holm = f", corrected by Holm for {others} models" if others > 1 else ""
        sentences.append(f"Against {options.against}, p is that of Wilcoxon's signed-rank test, two-sided{by_holm}.")
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
            "Detail kept is the slope of luma gradients over the reference's, where these are steepest (a tenth of "
            "it); models are compared by its distance from 1."
        )
    return sentences


def _self_consistency(options: EvaluateOptions, degrade: LearnedDegrade | None) -> str:
    way = "antialiased bicubic (Pillow)"
    if degrade is not None:
        way = f"a degrader with the LR as its noise input ({degrade.origin})"
    return (
        f"Self-consistency is the PSNR over RGB between the LR image and the result brought back to its size by "
        f"{way}, in whole levels, {options.lr_crop_px} LR pixels of border cut off, {BEST_DB:.0f} dB at most."
    )
