"""The page of an evaluation: one file that shows the pictures and their numbers, and needs no network."""

from pathlib import Path

from ddnsr_cli.errors import ConfigError
from ddnsr_cli.workflows.evaluation.pages.cards import DETAIL_ZOOM, MOST_SLIDER_PX, SLIDER_QUALITY, card_html
from ddnsr_cli.workflows.evaluation.pages.shown import lead_model, worst_first, worst_median_best
from ddnsr_cli.workflows.evaluation.pages.tables import CLEAR_P, comparison_html, means_html, values_html
from ddnsr_cli.workflows.evaluation.scores import Evaluation
from ddnsr_cli.workflows.evaluation.summary import Summary, summarise
from ddnsr_cli.workflows.evaluation.tables import counted
from ddnsr_cli.workflows.webpage.shell import PageKind, page_html, words, write_page

PAGE = PageKind(
    package="ddnsr_cli.workflows.evaluation.pages",
    body="eval_page.html",
    styles=("eval_page.css",),
    script="eval_page.js",
)

MOST_SLIDERS = 12
"""Pictures that are there in full: half of them the worst, then median and best ones."""

MOST_CARDS = 150
"""Pictures of which the details are there. All have their row in the tables."""


def write_eval_page(evaluation: Evaluation, page: Path, *, against: str | None) -> None:
    """Write the page, whole or not at all. The same evaluation gives the same bytes.

    against: the model that the others are compared with, picture by picture; None for no comparison.
    Pictures are sorted from the worst, by LPIPS where there is one (else by the first metric) of the first model that
    is neither bicubic nor `against`.
    Raises ConfigError for an unknown `against`; ImageReadError and DataError for pictures that cannot be read or do
    not fit each other; ImageWriteError when the page cannot be written.
    """
    if against is not None and against not in evaluation.models:
        raise ConfigError(f"No model is called {against}. Compare with one of: {', '.join(evaluation.models)}.")
    summary, lead = summarise(evaluation, against=against), lead_model(evaluation, against)
    order = worst_first(evaluation, lead, summary.worst_by)
    cards, sliders = worst_median_best(order, MOST_CARDS), set(worst_median_best(order, MOST_SLIDERS))
    parts = {
        "heading": f"{counted(len(evaluation.models), 'model')} on {counted(len(order), 'picture')}",
        "means": means_html(evaluation, summary),
        "comparison": _comparison_section(evaluation, summary),
        "definition": words(evaluation.definition),
        "embedding": _embedding_note(len(cards), len(sliders), len(order)),
        "lead": str(evaluation.models.index(lead)),
        "order": f"At first sorted by {words(summary.worst_by.title)} of {words(lead)}, the worst first.",
        "values": values_html(evaluation, summary.worst_by, order, frozenset(cards)),
        "cards": "".join(card_html(evaluation, index, lead=lead, slider=index in sliders) for index in cards),
    }
    write_page(page_html(PAGE, parts, title=f"Evaluation: {parts['heading']}"), page)


def _comparison_section(evaluation: Evaluation, summary: Summary) -> str:
    if summary.against is None:
        return ""
    name = words(summary.against)
    return (
        f'<h2>Against {name}</h2><p class="note">Each model less {name} on the same picture: mean difference with its '
        "95% bootstrap interval, the share of pictures on which it wins, and Wilcoxon's p where SciPy is installed; "
        f"better or worse where the interval leaves out 0 and p is below {CLEAR_P}.</p>"
        f'<div class="card">{comparison_html(evaluation, summary)}</div>'
    )


def _embedding_note(cards: int, sliders: int, subjects: int) -> str:
    """What of the pictures is inside the page, and that no number was measured on it."""
    some = (
        "" if cards == subjects else f" Of {subjects:,} pictures, {cards} are shown: the worst, median and best ones."
    )
    full = "Every picture has" if sliders == subjects else f"{sliders} pictures, the worst, median and best ones, have"
    return (
        f"All numbers were measured on the PNG files. Here, details are exact, {DETAIL_ZOOM} times enlarged without "
        f"smoothing; they show the place where the models differ most. Whole pictures are compressed (JPEG, quality "
        f"{SLIDER_QUALITY}, at most {MOST_SLIDER_PX} pixels a side).{some} {full} a slider."
    )
