"""The blind ranking page: a person ranks the models' results of each image without knowing whose they are."""

import json
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from itertools import cycle
from pathlib import Path

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.reports.page import PageKind, Rgb8, compressed, most_different, page_html, write_page
from ddnsr_cli.reports.results import BICUBIC, Evaluation, Sample, read_views

PAGE = PageKind(
    package="ddnsr_cli.reports",
    body="ranking_page.html",
    styles=("ranking_page.css",),
    script="ranking_page.js",
)

MOST_SCENES = 30
"""Images to rank: half an hour's work. Of more, these are drawn, the same ones for every seed."""

MOST_MODELS = 9
"""A rank is one digit."""

MOST_SIDE_PX = 512
"""Of larger images the part is shown where the models differ most: never a reduced image."""

QUALITY = 95


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """What is shown of one image; parts (H, W, 3) of one size."""

    name: str
    results: dict[str, Rgb8]
    """By the model, in the order of the evaluation."""

    hints: dict[str, Rgb8]
    """What the results are compared with, by what it is called on the page."""


def write_ranking_page(evaluation: Evaluation, page: Path, *, seed: int) -> None:
    """Write the page, whole or not at all. The same evaluation and seed give the same bytes.

    Bicubic is not ranked: it shows what the input was, beside the reference where there is one. The seed gives the
    order of the images, and for each image that of the models; whose result is whose is in the page in a form
    that cannot be read by chance. It exports a JSON file for `mean_opinion_ranks`.
    Raises ConfigError unless there are 2 to 9 models beside bicubic; ImageReadError and DataError for images that
    cannot be read or do not fit each other; ImageWriteError when the page cannot be written.
    """
    models = [model for model in evaluation.models if model != BICUBIC]
    if not 2 <= len(models) <= MOST_MODELS:
        raise ConfigError(f"A ranking takes 2 to {MOST_MODELS} models beside bicubic, got {len(models)}.")
    scenes = [_scene(evaluation, sample) for sample in _drawn(evaluation.samples)]
    page_id = _page_id(models, scenes)
    shuffled = [scenes[index] for index in shuffled_indices([scene.name for scene in scenes], f"{seed}")]
    orders = [shuffled_indices(models, f"{seed}/{scene.name}") for scene in shuffled]
    salt = sha256(f"{page_id}/{seed}".encode()).digest()
    table = {"models": models, "images": [scene.name for scene in shuffled], "orders": orders}
    parts = {
        "page_id": page_id,
        "seed": str(seed),
        "salt": salt.hex(),
        "table": _veiled(json.dumps(table), salt),
        "images": str(len(scenes)),
        "last": str(len(models)),
        "scenes": "".join(_scene_html(scene, order) for scene, order in zip(shuffled, orders, strict=True)),
    }
    write_page(page_html(PAGE, parts, title="Blind ranking"), page)


def _drawn(samples: Iterable[Sample]) -> list[Sample]:
    """At most MOST_SCENES samples in an order that goes by their names' hashes: neither the first nor the worst."""
    return sorted(samples, key=lambda sample: _hash(sample.name))[:MOST_SCENES]


def _scene(evaluation: Evaluation, sample: Sample) -> Scene:
    views = read_views(evaluation, sample)
    results = [view for view in views if view.model not in {None, BICUBIC}]
    window = most_different([view.pixels for view in results], side_px=MOST_SIDE_PX)
    called = {BICUBIC: "Input (bicubic)", None: "Reference"}
    return Scene(
        name=sample.name,
        results={view.name: window.cut(view.pixels) for view in results},
        hints={called[view.model]: window.cut(view.pixels) for view in views if view.model in called},
    )


def _page_id(models: list[str], scenes: list[Scene]) -> str:
    """What is ranked, as 64 hexadecimal digits: names and pixels, whatever the seed."""
    seen = [[scene.name, *(sha256(part.tobytes()).hexdigest() for part in scene.results.values())] for scene in scenes]
    return _hash(json.dumps([models, seen]))


def shuffled_indices(names: list[str], draw: str) -> list[int]:
    """Indices of the names in an order that goes by hashes: another for every `draw`, the same on every machine."""
    return sorted(range(len(names)), key=lambda index: _hash(f"{draw}/{names[index]}"))


def _hash(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()


def _veiled(text: str, salt: bytes) -> str:
    """ASCII text, XOR the repeated salt, in base64."""
    return b64encode(bytes(a ^ b for a, b in zip(text.encode(), cycle(salt), strict=False))).decode()


def _scene_html(scene: Scene, order: list[int]) -> str:
    parts = list(scene.results.values())
    hints = "".join(
        f'<figure class="hint">{_frame_html(name, part)}<figcaption>{name}</figcaption></figure>'
        for name, part in scene.hints.items()
    )
    letters = [chr(ord("A") + place) for place in range(len(order))]
    results = "".join(
        f'<figure class="result" tabindex="0" role="group" data-letter="{letter}">'
        f"{_frame_html(f'Result {letter}', parts[index])}"
        f"<figcaption><b>{letter}</b><span>{_buttons_html(letter, len(order))}</span></figcaption></figure>"
        for letter, index in zip(letters, order, strict=True)
    )
    return f'<section class="scene" hidden>{hints}{results}</section>\n'


def _frame_html(name: str, part: Rgb8) -> str:
    height, width = part.shape[:2]
    return (
        f'<div class="frame" style="--w:{width};--h:{height}"><img alt="{name}" '
        f'src="{compressed(part, quality=QUALITY)}"></div>'
    )


def _buttons_html(letter: str, count: int) -> str:
    return "".join(
        f'<button type="button" aria-pressed="false" aria-label="Rank {rank} to {letter}">{rank}</button>'
        for rank in range(1, count + 1)
    )
