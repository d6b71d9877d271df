"""`ddnsr degrade`: from clean HR images and real noisy photos to a paired data set."""

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from ddnsr_cli.commands.degrade.manifest import HR, LR, MANIFEST, Manifest, PairSettings, PlannedPair, manifests_in
from ddnsr_cli.commands.degrade.methods import Learned, NoisyImages, PreparedMethod, prepare_method, size_of
from ddnsr_cli.commands.degrade.options import DegradeListener, DegradeOptions
from ddnsr_cli.commands.degrade.worker import Job, Outcome, PairMaker, RemotePairMaker, WrittenPair, transfer_of
from ddnsr_cli.commands.ray_workers import RayOptions, ray_workers
from ddnsr_cli.errors import BatchError, DdnsrError, ImageReadError, ImageWriteError, UnexpectedError, listed, shown
from ddnsr_cli.files import UNINTERRUPTED, is_disk_full, is_folder, is_there, no_empty_folder
from ddnsr_cli.inference.degrader import default_workers, one_thread_each
from ddnsr_cli.io.discovery import Found, OutputNames
from ddnsr_cli.io.selection import OwnResults, Selection
from ddnsr_cli.metrics.noise_transfer import NoiseTransfer
from ddnsr_cli.reports.page import results_at

Item = TypeVar("Item")
Result = TypeVar("Result")


def degrade_images(
    inputs: Sequence[Path], output: Path, options: DegradeOptions, listener: DegradeListener
) -> Iterator[WrittenPair]:
    """Make `output/hr`, `output/lr` and `output/manifest.jsonl` of the images in `inputs`.

    Pairs come in the order of the images; by workers on Ray, as they are finished. What depends on nothing but names,
    files and options: every byte. Pairs that the manifest holds and that are there are skipped. A failure is reported
    to the listener and the rest go on; at the end BatchError names the images, or UnexpectedError where nobody foresaw
    one. A full disk ends it at once.
    Raises ConfigError, before any work, when pairs that are wanted were made under other settings, or their names are
    those of other images' pairs, and ImageWriteError when files that we did not make are in their places.
    """
    read = [*inputs, *([options.noise_source] if options.noise_source else [])]
    _refuse_to_lose(read, output, options)
    pages = [options.report] if options.report else []
    with results_at(pages, read=read, overwrite=options.overwrite):
        yield from _all_pairs(inputs, output, options, listener)


def _all_pairs(
    inputs: Sequence[Path], output: Path, options: DegradeOptions, listener: DegradeListener
) -> Iterator[WrittenPair]:
    own = OwnResults(again=options.selection.again)
    found = _found(inputs, output, options, own)
    noisy = _noisy_images(output, options, own)
    for note in own.notes:
        listener.note(note)
    noisy_images = NoisyImages(noisy, max_pixels=options.max_pixels) if noisy else None
    ours = options if options.ray is None else replace(options, device="cpu")  # it only tells what workers will make
    prepared = prepare_method(noisy_images, ours, listener.download, listener.note)
    if prepared.terms:
        listener.note(prepared.terms)
    _note_unused(prepared, options, listener)
    wanted = [_planned(one, output, options) for one in found]
    pairs = [pair for job in wanted for pair in job.pairs]
    alone = options.selection.shard is None
    with no_empty_folder(output, alone=alone), _opened(output, pairs, prepared, options, listener) as manifest:
        todo, skipped = _unfinished(wanted, manifest, prepared.settings)
        if skipped:
            listener.note(
                f"{skipped} pairs were there already and were left as they are (--overwrite makes them again)"
            )
        if todo and prepared.prepare is not None:
            prepared.prepare(output, listener.note)
        manifest.begin(pair for job in todo for pair in job.pairs)
        failed: set[Path] = set()
        tell = _once(listener.failed)
        worst: type[DdnsrError] = BatchError
        outcomes = _outcomes if options.ray is None else partial(_ray_outcomes, options.ray, noisy)
        for outcome in outcomes(todo, prepared, output, options, listener):
            yield from _recorded(outcome, manifest, listener)
            if outcome.error is not None:
                if is_disk_full(outcome.error):
                    raise outcome.error
                failed.add(outcome.job.source)
                tell(outcome.error)
                worst = UnexpectedError if isinstance(outcome.error, UnexpectedError) else worst
        manifest.rewrite()
        bad = _note_bad_images(prepared.noisy_images, listener)
        fake = sorted(output / LR / record.name for record in manifest.records.values())
        if options.report is not None and fake:
            made_by = (_transfer(prepared, wanted, options), options.method)
            _report(options.report, _compared(noisy, manifest, prepared.settings, listener), fake, made_by, listener)
        if failed or bad:
            in_their_order = [job.source for job in wanted if job.source in failed]  # whichever was finished first
            raise worst(_failures(in_their_order, len(wanted), bad))


def _refuse_to_lose(inputs: Sequence[Path], output: Path, options: DegradeOptions) -> None:
    """Nothing that is read is written over, and no folder that we did not make; single files the manifest knows."""
    place = output.resolve()
    for path in inputs:
        if place == path.resolve() or place in path.resolve().parents:
            raise ImageWriteError(f"{shown(output)} holds images to read ({shown(path)}). Give another -o.")
    if is_there(output) and not is_folder(output):
        raise ImageWriteError(f"{shown(output)} is a file. Give a folder with -o.")
    if options.report is not None and _is_for_pairs(options.report.resolve(), place):
        raise ImageWriteError(f"{shown(options.report)} is a place of the pairs. Give another --realism-report.")
    if options.overwrite or manifests_in(output):
        return
    for side in (HR, LR):
        if is_there(output / side):
            raise ImageWriteError(
                f"{shown(output)} holds {side} but no {MANIFEST}: it was not made by ddnsr degrade. Give another -o, "
                "or --overwrite."
            )


def _is_for_pairs(place: Path, output: Path) -> bool:
    """Whether a place is that of an image of a pair, or of a file of ours beside them."""
    return {output / HR, output / LR} & {place, *place.parents} != set() or (
        place.parent == output and place.suffix == ".jsonl"
    )


def _found(inputs: Sequence[Path], output: Path, options: DegradeOptions, own: OwnResults) -> list[Found]:
    """The HR images that are meant. Raises ImageReadError where there are none, but in a shard."""
    found = options.selection.find(inputs, results=OutputNames(folder=output), own=own)
    first: Found | None = next(own.without(found), None)
    if first is None:
        raise own.refusal(", ".join(map(shown, inputs)))
    return list(own.without(filter(options.selection.holds, itertools.chain([first], found))))


def _noisy_images(output: Path, options: DegradeOptions, own: OwnResults) -> list[Found]:
    if options.noise_source is None:
        return []
    selection = Selection(again=options.selection.again)
    noisy = list(own.without(selection.find([options.noise_source], results=OutputNames(folder=output), own=own)))
    if not noisy:
        raise ImageReadError(f"{shown(options.noise_source)} holds no image. Give a folder of real noisy photos.")
    return noisy


def _note_unused(prepared: PreparedMethod, options: DegradeOptions, listener: DegradeListener) -> None:
    """Say where noisy images are given and neither the method nor a report looks at them."""
    if options.noise_source is not None and prepared.noisy_images is None and options.report is None:
        what = "the degrader" if isinstance(prepared.method, Learned) else f"--method {options.method}"
        listener.note(f"--noise-source is left unused: {what} takes no noise from photos")


def _planned(found: Found, output: Path, options: DegradeOptions) -> Job:
    pairs = []
    for variant in range(1, options.per_image + 1):
        suffix = f"_{variant}" if options.per_image > 1 else ""
        target = OutputNames(folder=output, suffix=suffix).target(found)
        pairs.append(
            PlannedPair(
                source=found.source,
                name=target.relative_to(output).as_posix(),
                hr_source=found.relative.as_posix(),
                hr_source_bytes=size_of(found.source),
                variant=variant,
            )
        )
    return Job(source=found.source, pairs=tuple(pairs))


@contextmanager
def _opened(
    output: Path,
    pairs: Sequence[PlannedPair],
    prepared: PreparedMethod,
    options: DegradeOptions,
    listener: DegradeListener,
) -> Iterator[Manifest]:
    """The manifest, without what a kill left of a line; where nothing came in the block, it is gone again.

    Raises as `Manifest.refuse_others` and `Manifest.refuse_strangers`, ImageWriteError.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageWriteError(
            f"{shown(output)} cannot be made ({error.strerror or error}). Give another -o."
        ) from error
    drawn_from = prepared.noisy_images.found if prepared.noisy_images else []
    by_name = {one.relative.as_posix(): one.source for one in drawn_from}
    manifest = Manifest(output, options.selection.shard, noisy_images=by_name)
    if manifest.lost:
        listener.note(f"{manifest.lost} lines of {manifest.path.name} cannot be used: their pairs are made again")
    if options.overwrite:
        manifest.forget(pairs)
    else:
        manifest.refuse_others(pairs, prepared.settings)
        manifest.refuse_strangers(pairs)
    if options.selection.shard is None:  # what looks like a leftover may be another shard's work
        manifest.remove_leftovers()
    manifest.rewrite()
    try:
        yield manifest
    finally:
        manifest.remove_if_empty()


def _unfinished(jobs: Sequence[Job], manifest: Manifest, settings: PairSettings) -> tuple[list[Job], int]:
    """(jobs with the pairs that are to be made, number of finished pairs)."""
    todo, skipped = [], 0
    for job in jobs:
        left = tuple(pair for pair in job.pairs if not manifest.is_finished(pair, settings))
        skipped += len(job.pairs) - len(left)
        if left:
            todo.append(Job(source=job.source, pairs=left))
    return todo, skipped


def _outcomes(
    jobs: Sequence[Job], prepared: PreparedMethod, output: Path, options: DegradeOptions, listener: DegradeListener
) -> Iterator[Outcome]:
    maker = PairMaker(
        prepared.method, prepared.settings, folder=output, model=prepared.model, max_pixels=options.max_pixels
    )
    counter = ProgressCounter(len(jobs), listener.progress)
    workers = min(options.workers or default_workers(prepared.bytes_each), max(1, len(jobs)))
    with one_thread_each():
        yield from in_order(lambda job, check: maker.make(job, check, counter.add), jobs, workers=workers)


def _ray_outcomes(
    ray: RayOptions,
    noisy: Sequence[Found],
    jobs: Sequence[Job],
    prepared: PreparedMethod,
    output: Path,
    options: DegradeOptions,
    listener: DegradeListener,
) -> Iterator[Outcome]:
    """The same by workers on Ray, in the order in which they are finished."""
    if not jobs:
        return
    counter = ProgressCounter(len(jobs), listener.progress)

    def notify(to: str, text: str) -> None:
        if to == "note":
            listener.note(text)

    with ray_workers(ray, options, partial(RemotePairMaker, noisy=noisy, folder=output), notify) as workers:
        for job, made in workers.outcomes(jobs):
            counter.add(1.0)
            if isinstance(made, DdnsrError):
                yield Outcome(job=job, error=made)
                continue
            if prepared.noisy_images is not None:
                prepared.noisy_images.bad.update((path, failure.restored()) for path, failure in made.bad)
            yield made.restored(job)


def _once(failed: Callable[[DdnsrError], None]) -> Callable[[DdnsrError], None]:
    """Tells each sentence once: what is wrong with the noisy images stops every clean one."""
    told: set[str] = set()

    def tell(error: DdnsrError) -> None:
        if str(error) not in told:
            told.add(str(error))
            failed(error)

    return tell


def _recorded(outcome: Outcome, manifest: Manifest, listener: DegradeListener) -> Iterator[WrittenPair]:
    for note in outcome.notes:
        listener.note(f"{shown(outcome.job.source)}: {note}")
    for written in outcome.written:
        manifest.add(written.record)
        yield written


def _note_bad_images(noisy_images: NoisyImages | None, listener: DegradeListener) -> list[Path]:
    """The noisy images that could not be used, each reported."""
    bad = dict(sorted(noisy_images.bad.items())) if noisy_images else {}
    for error in bad.values():
        listener.failed(error)
    return list(bad)


def _compared(
    noisy: Sequence[Found], manifest: Manifest, settings: PairSettings, listener: DegradeListener
) -> list[Path]:
    """The noisy images whose noise the pairs of these settings have; all of them where the method takes none."""
    taken = {record.noise_source for record in manifest.records.values() if record.settings == settings}
    real = [one.source for one in noisy if one.relative.as_posix() in taken]
    if not real or len(real) == len(noisy):
        return [one.source for one in noisy]
    listener.note(f"the report compares with {len(real)} of {len(noisy)} noisy images, whose noise was taken")
    return real


def _report(
    page: Path,
    real: Sequence[Path],
    fake: Sequence[Path],
    made_by: tuple[NoiseTransfer | None, str],
    listener: DegradeListener,
) -> None:
    """made_by: what its degrader makes of a noise input, and the method."""
    from ddnsr_cli.reports.realism import realism_report

    verdict = realism_report(real, fake, page, transfer=made_by[0], method=made_by[1])
    listener.note(f"{shown(page)}: {verdict}")


def _transfer(prepared: PreparedMethod, wanted: Sequence[Job], options: DegradeOptions) -> NoiseTransfer | None:
    """What the degrader of a run makes of its noise input; None for the other methods."""
    if not isinstance(prepared.method, Learned):
        return None
    with one_thread_each():
        sources = (job.source for job in wanted)
        return transfer_of(
            prepared.method, sources, seed=options.seed, max_pixels=options.max_pixels, cleanup=options.cleanup
        )


def _failures(failed: Sequence[Path], total: int, bad: Sequence[Path]) -> str:
    parts = [f"{len(failed)} of {total} images failed: {listed(failed)}"] if failed else []
    parts += [f"{len(bad)} noisy images could not be used: {listed(bad)}"] if bad else []
    return "; ".join(parts) + "."


class Stopped(BaseException):
    """The work in hand is given up: whoever wanted it has gone."""


def in_order(
    work: Callable[[Item, Callable[[], None]], Result], items: Iterable[Item], *, workers: int
) -> Iterator[Result]:
    """`work` done on every item by `workers` threads; no more are begun than are soon to be taken.

    work: is given an item and a check to call now and then, which raises `Stopped` once the iterator is closed.
    """
    closed = threading.Event()

    def check() -> None:
        if closed.is_set():
            raise Stopped

    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                with UNINTERRUPTED:  # or a thread is begun that the pool does not know, and does not wait for
                    waiting.append(pool.submit(work, item, check))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            closed.set()
            pool.shutdown(wait=False, cancel_futures=True)


class ProgressCounter:
    """Progress of images in work by several threads, in images: tiles count as parts of one."""

    def __init__(self, total: int, on_share: Callable[[float, int], None]) -> None:
        self._total = total
        self._on_share = on_share
        self._lock = threading.Lock()
        self._done = 0.0

    def add(self, share: float) -> None:
        """So much of an image is done."""
        with self._lock:
            self._done += share
            self._on_share(min(self._done, self._total), self._total)
