"""`ddnsr eval`: models, or finished images, in figures."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import torch

from ddnsr_cli.commands.evaluate.dataset import find_samples, open_sample
from ddnsr_cli.commands.evaluate.measures import Measure, Shot
from ddnsr_cli.commands.evaluate.models import (
    EvaluatedModel,
    Finished,
    check_wishes,
    choose_measures,
    load_downscaler,
    load_lpips_metric,
    load_models,
    path_named,
)
from ddnsr_cli.commands.evaluate.options import EvaluateListener, EvaluateOptions
from ddnsr_cli.commands.evaluate.tables import describe_methodology
from ddnsr_cli.data.images import ImagePair
from ddnsr_cli.data.validation.comparisons import check_pairs
from ddnsr_cli.data.validation.report import Trouble
from ddnsr_cli.errors import ImageWriteError, shown
from ddnsr_cli.files import is_there, temporary_folder
from ddnsr_cli.inference.device import choose_device
from ddnsr_cli.io.image import RasterImage, rgb8
from ddnsr_cli.io.provenance import made_as, mark_as
from ddnsr_cli.io.write import WriteOptions, write_image
from ddnsr_cli.reports.evaluation_page import write_eval_page
from ddnsr_cli.reports.opinion_page import write_ranking_page, write_scoring_page
from ddnsr_cli.reports.page import Rgb8
from ddnsr_cli.reports.results import Evaluation, Sample, Summary, summarize

MOST_FINDINGS = 4  # of a kind and set
MOST_NAME_BYTES = 200  # of a folder: file systems bear 255
QUICK = WriteOptions(compression=1)  # images that are deleted again, or packed into a page


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an evaluation found."""

    evaluation: Evaluation
    """Its images are there only when they were to be kept."""

    summary: Summary


def evaluate(options: EvaluateOptions, listener: EvaluateListener) -> Outcome:
    """Make or read every image, measure it, and write the pages that are asked for.

    Raises DataError, naming the file, when the folders do not match or an image cannot be judged; ConfigError,
    WeightsError, HubError, DeviceError, ImageReadError, ImageWriteError.
    """
    device = choose_device(options.device, note=listener.note)
    samples = find_samples(options.lr, options.hr, hr_scale=options.hr_scale, rules=options.rules, note=listener.note)
    degrade = load_downscaler(options, device, listener)
    models = load_models(options, device, listener)
    check_wishes(options, models)
    _refuse_to_lose(options, models, samples)
    _look_at_pairs(samples, models, listener)
    judging_device = torch.device("cpu") if device.type == "mps" else device  # metrics are in float64
    lpips = load_lpips_metric(options, judging_device, listener)
    measures = choose_measures(options, judging_device, lpips, degrade)
    methodology = describe_methodology(options, models, lpips, degrade)
    with _image_store(options) as store:
        evaluation = Evaluation(
            models=tuple(one.label for one in models),
            samples=samples,
            metrics=tuple(metric for measure in measures for metric in measure.metrics),
            values=_measured(samples, models, measures, store, listener),
            images=store.paths,
            methodology=methodology,
        )
        summary = summarize(evaluation, against=options.against)
        _write_pages(evaluation, options)
    return Outcome(evaluation=evaluation, summary=summary)


def _look_at_pairs(samples: Sequence[Sample], models: Sequence[EvaluatedModel], listener: EvaluateListener) -> None:
    """Tell what is wrong with references and their LR images, and with references and finished images."""
    finished = [one.paths for one in models if isinstance(one, Finished)]
    whole = [sample for sample in samples if sample.hr is not None]
    sets = [[_pair(sample, sample.lr, sample.lr_px) for sample in whole if sample.lr is not None]]
    sets += [[_pair(sample, paths[sample.name], sample.hr_px) for sample in whole] for paths in finished]
    for pairs in sets:
        counts: Counter[str] = Counter()
        found = check_pairs(pairs)
        when_opened = {Trouble.DEPTHS, Trouble.UNREADABLE}
        refused = {finding.path for finding in found if finding.trouble in when_opened}
        for finding in found:
            if finding.path in refused:
                continue
            counts[finding.trouble] += 1
            if counts[finding.trouble] <= MOST_FINDINGS:
                listener.note(f"warning: {finding.sentence}")
        for trouble, count in counts.items():
            if count > MOST_FINDINGS:
                listener.note(f"{count - MOST_FINDINGS} more pairs with the same trouble ({trouble})")


def _pair(sample: Sample, other: Path, px: tuple[int, int] | None) -> ImagePair:
    assert sample.hr is not None  # those without were left out
    return ImagePair(name=sample.name, lr=other, hr=sample.hr, lr_px=px, hr_px=sample.hr_px)


class _ImageStore:
    """A folder of SR images, a sub-folder a model; without a folder nothing is kept."""

    def __init__(self, folder: Path | None, options: WriteOptions) -> None:
        self.paths: dict[tuple[str, str], Path] = {}
        self._folder = folder
        self._options = options

    def keep(self, label: str, sample: Sample, pixels: Rgb8) -> None:
        """Write one image as PNG. Raises ImageWriteError."""
        if self._folder is None:
            return
        path = _kept_at(self._folder, label, sample)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageWriteError(f"{shown(path.parent)} cannot be made ({error.strerror}). Choose another.") from error
        write_image(RasterImage(pixels=pixels), path, self._options, finish=lambda file: mark_as(file, "evaluated"))
        self.paths[label, sample.name] = path


def _kept_at(folder: Path, label: str, sample: Sample) -> Path:
    """Where an image is kept. Raises ImageWriteError where a file is that another program has made."""
    path = folder / folder_name(label) / f"{sample.name}.png"
    if is_there(path) and made_as(path) != "evaluated":
        raise ImageWriteError(f"{shown(path)} exists and is no image of ddnsr eval. Give another --keep.")
    return path


def _refuse_to_lose(options: EvaluateOptions, models: Sequence[EvaluatedModel], samples: Sequence[Sample]) -> None:
    """No image that is read, or of another program, is written over, and none that is written is read the next time."""
    if options.keep is None:
        return
    read = [options.lr, options.hr, *map(path_named, options.sr)]
    for one in models:
        place = (options.keep / folder_name(one.label)).resolve()
        for folder in (path.resolve() for path in read if path is not None):
            if place == folder or place in folder.parents or folder in place.parents:
                raise ImageWriteError(f"--keep would write to {shown(place)}, where images are read. Give another.")
        for sample in samples:
            _kept_at(options.keep, one.label, sample)


@contextmanager
def _image_store(options: EvaluateOptions) -> Iterator[_ImageStore]:
    if options.keep is not None:
        yield _ImageStore(options.keep, WriteOptions())
    elif not options.pages:
        yield _ImageStore(None, QUICK)
    else:
        with temporary_folder("ddnsr-eval-") as folder:
            yield _ImageStore(folder, QUICK)


def folder_name(label: str) -> str:
    """A label as the name of one folder; unlike labels stay unlike. Of a long one the end is a hash."""
    name = quote(os.fsencode(label), safe=" @+,=()")
    name = name.replace(".", "%2E", 1) if name.startswith(".") else name
    if len(name) <= MOST_NAME_BYTES:
        return name
    return f"{name[: MOST_NAME_BYTES - 17]}~{sha256(os.fsencode(label)).hexdigest()[:16]}"


def _measured(
    samples: Sequence[Sample],
    models: Sequence[EvaluatedModel],
    measures: Sequence[Measure],
    store: _ImageStore,
    listener: EvaluateListener,
) -> dict[tuple[str, str], dict[str, float]]:
    """(label, sample name) -> figures. Of one sample the images of all models are in memory together."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    for done, sample in enumerate(samples):
        listener.tick(done, len(samples))
        shot = _shot(sample, models)
        figures = {key: row for measure in measures for key, row in measure(shot).items()}
        for index, one in enumerate(models):
            values[one.label, sample.name] = {key: row[index] for key, row in figures.items()}
            store.keep(one.label, sample, shot.sr[index])
    listener.tick(len(samples), len(samples))
    return values


def _shot(sample: Sample, models: Sequence[EvaluatedModel]) -> Shot:
    opened = open_sample(sample)
    return Shot(
        name=shown(sample.hr or sample.lr or Path(sample.name)),
        sr=tuple(one.image(opened) for one in models),
        lr=None if opened.lr is None else rgb8(opened.lr),
        reference=opened.hr,
    )


def _write_pages(evaluation: Evaluation, options: EvaluateOptions) -> None:
    if options.report is not None:
        write_eval_page(evaluation, options.report, against=options.against)
    if options.ranking is not None:
        write_ranking_page(evaluation, options.ranking, seed=options.seed)
    if options.scoring is not None:
        write_scoring_page(evaluation, options.scoring, seed=options.seed)
