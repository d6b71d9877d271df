"""What a training run tells of photos that are of no use: each once, whoever finds it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ddnsr_cli.data.report import Report, Severity, Trouble
from ddnsr_cli.data.targets import Refusal

MOST_FINDINGS = 4  # of a kind, told when a run begins
HOPELESS = {Trouble.UNREADABLE, Trouble.SMALL}
TOLD_AS = {Severity.ERROR: "left out", Severity.WARNING: "warning"}


class Teller:
    """Tells of photos: of each that cannot be used once, whoever finds it."""

    def __init__(self, note: Callable[[str], None]) -> None:
        """note: takes one sentence for the user."""
        self._note = note
        self._told: set[Path] = set()
        self._replaced: dict[Path, None] = {}  # in the order in which they were met

    @property
    def replaced(self) -> tuple[Path, ...]:
        """The photos that training met and had to replace, each once, also those told before the first step."""
        return tuple(self._replaced)

    def findings(self, report: Report, *, most: int | None) -> None:
        """What the doctor found. most: tell so many of a kind, and count the rest. None: all."""
        for sentence in _sentences(report, most):
            self._note(sentence)
        self._told |= {finding.path for finding in report.findings if finding.trouble in HOPELESS}

    def refusals(self, refusals: Iterable[Refusal]) -> None:
        """Photos that were sorted out; no more than a few by name."""
        news = [refusal for refusal in refusals if refusal.path not in self._told]
        for refusal in news[:MOST_FINDINGS]:
            self.refusal(refusal)
        if len(news) > MOST_FINDINGS:
            self._note(f"{len(news) - MOST_FINDINGS} more photos cannot be used; --check lists them all.")
        self._told |= {refusal.path for refusal in news}

    def refusal(self, refusal: Refusal) -> None:
        """A photo that turned out to be of no use."""
        if refusal.path not in self._told:
            self._told.add(refusal.path)
            self._note(refusal.reason)

    def replacement(self, refusal: Refusal) -> None:
        """A photo that training met, could not use, and replaced by another."""
        self._replaced[refusal.path] = None
        self.refusal(refusal)


def _sentences(report: Report, most: int | None) -> Iterator[str]:
    counts: Counter[Trouble] = Counter()
    for finding in report.findings:
        counts[finding.trouble] += 1
        if most is None or counts[finding.trouble] <= most:
            yield f"{TOLD_AS[finding.severity]}: {finding.sentence}"
    for trouble, count in counts.items():
        if most is not None and count > most:
            yield f"{count - most} more photos with the same trouble ({trouble}); --check lists them all."
