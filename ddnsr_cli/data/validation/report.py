"""What the checks of training data found."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

GRAY_LEVELS = 2  # channels that differ no more are gray, rounding in a JPEG included


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Cannot be used."""

    WARNING = "warning"
    """Can be used; the result may suffer."""


class Role(StrEnum):
    """What images are for."""

    HR = "hr"
    """Clean targets."""

    LR = "lr"
    """The noisy source."""


class Trouble(StrEnum):
    """Kinds of findings."""

    FOLDERS = "same folder"
    UNREADABLE = "unreadable"
    DAMAGED = "damaged"
    SMALL = "too small"
    GRAY = "gray"
    ALPHA = "transparent"
    DEEP = "16 bits"
    NOISY = "noisy"
    BLOCKY = "JPEG blocks"
    UPSCALED = "up-scaled"
    REPEATED = "repeated"
    SWAPPED = "swapped"
    OWN = "made by ddnsr"
    SHIFTED = "shifted"
    OTHER = "another image"
    CHANNELS = "exchanged channels"
    COLOR = "gray against color"
    DEPTHS = "unlike depths"
    TWINS = "twins"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong."""

    severity: Severity
    trouble: Trouble
    role: Role
    path: Path
    """The image, or the folder when all of it is meant."""
    sentence: str
    """What is wrong, with the file's name and the number."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """How much of a set was looked at."""

    images: int
    """Images in the set; the header and size of each were read."""
    decoded: int
    """Of these, images whose pixels were measured."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that was found, in the order of the images: HR first."""

    findings: tuple[Finding, ...]
    checked: dict[Role, Checked]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What cannot be used."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What may do harm."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.WARNING)

    @property
    def unusable(self) -> frozenset[Path]:
        """Images, or folders, with an error."""
        return frozenset(finding.path for finding in self.errors)

    def summary(self) -> tuple[str, ...]:
        """One line a set: how many images, how many of them decoded, and how many findings of each kind."""
        return tuple(self._line(role, checked) for role, checked in self.checked.items())

    def _line(self, role: Role, checked: Checked) -> str:
        counts = Counter(finding.trouble for finding in self.findings if finding.role is role)
        listed = ", ".join(f"{count} {trouble}" for trouble, count in counts.most_common()) or "nothing found"
        return f"{role}: {checked.images} images, {checked.decoded} of them measured: {listed}"
