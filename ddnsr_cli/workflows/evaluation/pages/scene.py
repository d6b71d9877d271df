"""All pictures of one subject, read side by side."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ddnsr_cli.data.photos import decode_rgb
from ddnsr_cli.errors import DataError
from ddnsr_cli.workflows.evaluation.pages.detail import Rgb8
from ddnsr_cli.workflows.evaluation.scores import Evaluation, Subject

REFERENCE = "reference"
"""The name of the view that is the truth."""

SCALE = 4
_DECODERS = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """One picture of a subject."""

    name: str
    """The model's, or REFERENCE."""

    model: str | None
    """None for the reference."""

    pixels: Rgb8
    """(H, W, 3), of the same size in all views of a subject."""


def read_views(evaluation: Evaluation, subject: Subject) -> list[View]:
    """The pictures of all models, and the reference last where there is one.

    A reference of the LR's size is enlarged to the others', each pixel becoming a square.
    Raises ImageReadError for a picture that cannot be read, DataError when sizes do not fit: both name the file.
    """
    sources: list[tuple[str | None, Path]] = [
        (model, evaluation.pictures[model, subject.name]) for model in evaluation.models
    ]
    if subject.hr is not None:
        sources.append((None, subject.hr))
    with ThreadPoolExecutor(_DECODERS) as pool:
        pictures = list(pool.map(decode_rgb, (path for _, path in sources)))
    first = sources[0][1], pictures[0]
    return [
        View(name=model or REFERENCE, model=model, pixels=_fitted(path, picture, *first))
        for (model, path), picture in zip(sources, pictures, strict=True)
    ]


def _fitted(path: Path, picture: Rgb8, first_path: Path, first: Rgb8) -> Rgb8:
    height, width = first.shape[:2]
    if (SCALE * picture.shape[0], SCALE * picture.shape[1]) == (height, width):
        picture = picture.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    if picture.shape != first.shape:
        raise DataError(
            f"{path} has {picture.shape[1]} x {picture.shape[0]} pixels, but {first_path} has {width} x {height}. "
            "All pictures of a subject must have one size."
        )
    return picture
