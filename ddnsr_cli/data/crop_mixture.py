"""Pairs from several sources in one stream, each with its share of the visits: exact, and without a state."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ddnsr_cli.data.crop_stream import CropVisits, PairVisit
from ddnsr_cli.errors import ConfigError

CYCLE = 100
"""Visits after which the order of turns repeats: shares are exact to a hundredth."""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """How often each source has its turn."""

    parts: tuple[float, ...] = (1.0,)
    """A number above 0 for each source; only their ratios count."""

    def __post_init__(self) -> None:
        if not self.parts or not all(0 < part < math.inf for part in self.parts):
            raise ConfigError(f"Each source of pairs has a share above 0, got {self.parts}.")
        if min(self.turns) < 1:
            raise ConfigError(f"A source needs at least a hundredth of all, got shares {self.parts}.")

    @property
    def turns(self) -> list[int]:
        """Turns of each source in a cycle of 100, by the largest remainders."""
        exact = [CYCLE * part / sum(self.parts) for part in self.parts]
        turns = [math.floor(value) for value in exact]
        by_remainder = sorted(range(len(exact)), key=lambda source: turns[source] - exact[source])
        for source in by_remainder[: CYCLE - sum(turns)]:
            turns[source] += 1
        return turns

    @property
    def order(self) -> list[int]:
        """The source of each visit of a cycle, spread evenly."""
        places = [((turn + 0.5) / turns, source) for source, turns in enumerate(self.turns) for turn in range(turns)]
        return [source for _, source in sorted(places)]


class MixedVisits(CropVisits):
    """Visit number -> crops of the source whose turn it is. Each goes through its own photos in its own order."""

    def __init__(self, sources: Sequence[CropVisits], shares: Shares) -> None:
        """sources: all of one `StreamConfig`, one for each share. Raises ConfigError when their numbers differ."""
        if len(sources) != len(shares.parts):
            raise ConfigError(f"There are {len(sources)} sources of pairs and {len(shares.parts)} shares.")
        super().__init__(sources[0].stream, sum(source.photos_in_all for source in sources))
        self.sources = list(sources)
        self.order = shares.order
        self.before = [self.order[:place].count(source) for place, source in enumerate(self.order)]
        self.turns = shares.turns

    def __getitem__(self, visit: int) -> PairVisit:
        """The crops of one visit. Raises DataError when no photo of its source can be used."""
        cycle, place = divmod(visit, CYCLE)
        source = self.order[place]
        found = self.sources[source][cycle * self.turns[source] + self.before[place]]
        first = sum(one.photos_in_all for one in self.sources[:source])
        return PairVisit(crops=found.crops, photo=first + found.photo, refused=found.refused)
