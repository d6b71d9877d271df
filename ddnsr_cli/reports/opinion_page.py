"""The blind pages: without knowing whose they are, a person ranks the results of each image, or scores every result."""

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import cycle
from pathlib import Path

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.reports.page import PageKind, Rgb8, compressed, most_different, page_html, write_page
from ddnsr_cli.reports.results import BICUBIC, Evaluation, Sample, View, read_views

PAGE = PageKind(
    package="ddnsr_cli.reports",
    body="opinion_page.html",
    styles=("opinion_page.css",),
    script="opinion_page.js",
)

MOST_SCENES = 30
"""Images to rank: half an hour's work. Of more, these are drawn, the same ones for every seed."""

MOST_SCORED = 120
"""Results to score, as much work: of many models there are fewer images."""

MOST_MODELS = 9
"""A rank is one digit."""

SCORE_WORDS = ("perfect", "almost perfect", "slightly worse", "worse", "much worse", "terrible")
"""What the scores from 0 on mean, beside the truth: the scale of the NTIRE 2020 challenge on real-world SR."""

MOST_SIDE_PX = 512
"""Of larger images the part is shown where the models differ most: never a reduced image."""

QUALITY = 95

RANKS, SCORES = "ranks", "scores"
"""What is asked for; the script and the exported file call it so."""

INPUT, REFERENCE = "Input (bicubic)", "Reference"


@dataclass(frozen=True, kw_only=True)
class Wording:
    """What a page asks, in words; HTML."""

    kind: str
    """RANKS or SCORES."""

    title: str
    question: str
    what: str
    """What to do."""

    keys: str
    """The digits."""

    one: str
    """What is given: a rank, a score."""

    finished: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """What is shown of one image; parts (H, W, 3) of one size."""

    name: str
    results: dict[str, Rgb8]
    """By the model, in the order of the evaluation."""

    hints: dict[str, Rgb8]
    """What the results are compared with, by what it is called on the page."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is seen at once."""

    image: int
    """Which scene."""

    models: list[int]
    """Whose results, in the order in which they are shown."""


def write_ranking_page(evaluation: Evaluation, page: Path, *, seed: int) -> None:
    """Write the page for mean opinion ranks, whole or not at all. The same evaluation and seed give the same bytes.

    Bicubic is not ranked: it shows what the input was, beside the reference where there is one. The seed gives the
    order of the images, and for each image that of the models; whose result is whose is in the page in a form
    that cannot be read by chance. It exports a JSON file for `mean_opinions`.
    Raises ConfigError unless there are 2 to 9 models beside bicubic; ImageReadError and DataError for images that
    cannot be read or do not fit each other; ImageWriteError when the page cannot be written.
    """
    models = judged_models(evaluation.models)
    refuse_unranked(models)
    scenes = [_scene(evaluation, sample, called=(BICUBIC, None)) for sample in _drawn(evaluation.samples, MOST_SCENES)]
    order = shuffled_indices([scene.name for scene in scenes], f"{seed}")
    steps = [Step(image=image, models=shuffled_indices(models, f"{seed}/{scenes[image].name}")) for image in order]
    last = len(models)
    wording = Wording(
        kind=RANKS,
        title="Blind ranking",
        question="Which result is the best?",
        what=f"Give every result a rank from 1, the best, to {last}. No two may have the same: of two that look alike, "
        f"take either first. Names are hidden, and the order is another for every image.",
        keys=f"<li><kbd>1</kbd> to <kbd>{last}</kbd> rank</li>\n<li><kbd>0</kbd> no rank</li>\n"
        "<li><kbd>&larr;</kbd> <kbd>&rarr;</kbd> other result</li>",
        one="rank",
        finished="All images are ranked.",
    )
    _write(page, wording, models, scenes, steps, seed)


def write_scoring_page(evaluation: Evaluation, page: Path, *, seed: int) -> None:
    """Write the page for mean opinion scores: every result by itself beside the truth, in an order of the seed's.

    Bicubic is not scored. Everything else as `write_ranking_page`.
    Raises ConfigError when there is no model beside bicubic, or no truth; else as `write_ranking_page`.
    """
    models = judged_models(evaluation.models)
    refuse_unscored(models, has_truth=all(sample.hr is not None for sample in evaluation.samples))
    most = max(1, min(MOST_SCENES, MOST_SCORED // len(models)))
    scenes = [_scene(evaluation, sample, called=(None,)) for sample in _drawn(evaluation.samples, most)]
    pairs = [(image, model) for image in range(len(scenes)) for model in range(len(models))]
    order = shuffled_indices([f"{scenes[image].name}/{models[model]}" for image, model in pairs], f"{seed}")
    steps = [Step(image=pairs[index][0], models=[pairs[index][1]]) for index in order]
    meaning = ", ".join(f"{score} {word}" for score, word in enumerate(SCORE_WORDS))
    wording = Wording(
        kind=SCORES,
        title="Blind scoring",
        question="How close is the result to the truth?",
        what=f"Give every result a score: {meaning}. Names are hidden, and the order is drawn by chance.",
        keys=f"<li><kbd>0</kbd> to <kbd>{len(SCORE_WORDS) - 1}</kbd> score</li>",
        one="score",
        finished="All results are scored.",
    )
    _write(page, wording, models, scenes, steps, seed)


def judged_models(models: Iterable[str]) -> list[str]:
    """Those whose results people judge: all but bicubic."""
    return [model for model in models if model != BICUBIC]


def refuse_unranked(models: Sequence[str]) -> None:
    """Raises ConfigError when the models are too few or too many for ranks."""
    if not 2 <= len(models) <= MOST_MODELS:
        raise ConfigError(
            f"--ranking takes 2 to {MOST_MODELS} models or folders beside bicubic, got {len(models)}. Name them with "
            f"-m or --sr."
        )


def refuse_unscored(models: Sequence[str], *, has_truth: bool) -> None:
    """Raises ConfigError when there is nothing to score, or nothing to score it by."""
    if not has_truth:
        raise ConfigError("--scoring shows results beside the truth. Give it with --hr, or ask for ranks: --ranking.")
    if not models:
        raise ConfigError("--scoring takes models or folders beside bicubic, got none. Name some with -m or --sr.")


def shuffled_indices(names: list[str], draw: str) -> list[int]:
    """Indices of the names in an order that goes by hashes: another for every `draw`, the same on every machine."""
    return sorted(range(len(names)), key=lambda index: _hash(f"{draw}/{names[index]}"))


def _drawn(samples: Iterable[Sample], most: int) -> list[Sample]:
    """At most so many samples in an order that goes by their names' hashes: neither the first nor the worst."""
    return sorted(samples, key=lambda sample: _hash(sample.name))[:most]


def _scene(evaluation: Evaluation, sample: Sample, *, called: Sequence[str | None]) -> Scene:
    """called: what is shown beside the results: bicubic, None for the reference."""
    views = read_views(evaluation, sample)
    results = [view for view in views if view.model not in {None, BICUBIC}]
    hints = [view for view in views if view.model in called]
    shown = results if len(results) > 1 else [*results, *hints]  # one result differs from the truth alone
    window = most_different([view.pixels for view in shown], side_px=MOST_SIDE_PX)
    return Scene(
        name=sample.name,
        results={view.name: window.cut(view.pixels) for view in results},
        hints={_called(view): window.cut(view.pixels) for view in hints},
    )


def _called(view: View) -> str:
    return INPUT if view.model == BICUBIC else REFERENCE


def _write(
    page: Path, wording: Wording, models: Sequence[str], scenes: Sequence[Scene], steps: Sequence[Step], seed: int
) -> None:
    page_id = _page_id(wording.kind, models, scenes)
    salt = sha256(f"{page_id}/{seed}".encode()).digest()
    steps_table = [[step.image, step.models] for step in steps]
    table = {"models": list(models), "images": [scene.name for scene in scenes], "steps": steps_table}
    parts = {
        "kind": wording.kind,
        "title": wording.title,
        "question": wording.question,
        "what": wording.what,
        "keys": wording.keys,
        "one": wording.one,
        "finished": wording.finished,
        "page_id": page_id,
        "seed": str(seed),
        "salt": salt.hex(),
        "table": _veiled(json.dumps(table), salt),
        "steps": str(len(steps)),
        "scenes": "".join(_steps_html(wording, scenes, steps)),
    }
    write_page(page_html(PAGE, parts, title=wording.title), page)


def _page_id(kind: str, models: Sequence[str], scenes: Sequence[Scene]) -> str:
    """What is judged, and how, as 64 hexadecimal digits: names and pixels, whatever the seed."""
    seen = [[scene.name, *map(_pixels_hash, scene.results.values())] for scene in scenes]
    if kind == RANKS:
        return _hash(json.dumps([models, seen]))
    truths = [list(map(_pixels_hash, scene.hints.values())) for scene in scenes]
    return _hash(json.dumps([kind, models, seen, truths]))


def _pixels_hash(part: Rgb8) -> str:
    return sha256(part.tobytes()).hexdigest()


def _hash(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()


def _veiled(text: str, salt: bytes) -> str:
    """ASCII text, XOR the repeated salt, in base64."""
    return b64encode(bytes(a ^ b for a, b in zip(text.encode(), cycle(salt), strict=False))).decode()


def _steps_html(wording: Wording, scenes: Sequence[Scene], steps: Sequence[Step]) -> Iterable[str]:
    """What is seen beside the results of one image stands in the first step of that image alone."""
    first: dict[int, int] = {}
    for place, step in enumerate(steps):
        seen_in = first.setdefault(step.image, place)
        scene = scenes[step.image]
        sources = {
            name: _src(part) if seen_in == place else f'data-as="{seen_in}"' for name, part in scene.hints.items()
        }
        yield _step_html(wording, scene, step, sources)


def _step_html(wording: Wording, scene: Scene, step: Step, sources: Mapping[str, str]) -> str:
    hints = "".join(
        f'<figure class="hint">{_frame_html(name, scene.hints[name].shape, source)}'
        f"<figcaption>{name}</figcaption></figure>"
        for name, source in sources.items()
    )
    parts = list(scene.results.values())
    results = "".join(
        _result_html(wording, letter, parts[model], len(parts))
        for letter, model in zip(_letters(wording, step), step.models, strict=True)
    )
    return f'<section class="scene" hidden>{hints}{results}</section>\n'


def _letters(wording: Wording, step: Step) -> list[str]:
    """A result that stands alone has none."""
    return [chr(ord("A") + place) if wording.kind == RANKS else "" for place in range(len(step.models))]


def _result_html(wording: Wording, letter: str, part: Rgb8, models: int) -> str:
    name = f"Result {letter}".rstrip()
    buttons = _rank_buttons(letter, models) if wording.kind == RANKS else _score_buttons()
    return (
        f'<figure class="result" tabindex="0" role="group" data-name="{name}">'
        f"{_frame_html(name, part.shape, _src(part))}"
        f"<figcaption><b>{letter}</b><span>{buttons}</span></figcaption></figure>"
    )


def _src(part: Rgb8) -> str:
    return f'src="{compressed(part, quality=QUALITY)}"'


def _frame_html(name: str, shape: tuple[int, ...], source: str) -> str:
    height, width = shape[:2]
    return f'<div class="frame" style="--w:{width};--h:{height}"><img alt="{name}" {source}></div>'


def _rank_buttons(letter: str, count: int) -> str:
    return "".join(_button(rank, f"Rank {rank} to {letter}", str(rank)) for rank in range(1, count + 1))


def _score_buttons() -> str:
    return "".join(
        _button(score, f"Score {score}, {word}", f"{score} <small>{word}</small>")
        for score, word in enumerate(SCORE_WORDS)
    )


def _button(value: int, label: str, face: str) -> str:
    return f'<button type="button" aria-pressed="false" data-value="{value}" aria-label="{label}">{face}</button>'
