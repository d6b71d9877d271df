"""The paper's comparison (appendix C, table 3), as far as the weights are here."""

from collections.abc import Iterable
from dataclasses import dataclass

from ddnsr_cli.errors import HubError
from ddnsr_cli.registry import Registry
from ddnsr_cli.weights import FoundWeights, find_weights


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table."""

    label: str
    """Its name in the paper. `--models LABEL=...` fills the row, too."""

    weights: tuple[str, ...]
    """Released weights of that method, by their names in the registry."""

    how: str
    """How to get them."""


ROWS = (
    Row(label="ESRGAN", weights=("esrgan",), how="ddnsr weights pull esrgan"),
    Row(
        label="Impressionism",
        weights=("realsr-df2k-jpeg", "realsr-dped"),
        how="ddnsr weights pull realsr-dped; the paper's own is --models Impressionism=DF2K.pth",
    ),
    Row(label="DDNSR GAN", weights=("ddnsr-track1",), how="ddnsr train --track 1, then --models 'DDNSR GAN=RUN'"),
    Row(label="DDNSR L2", weights=(), how="ddnsr train --track 1 --l2, then --models 'DDNSR L2=RUN'"),
)


def rows_at_hand(registry: Registry, given: Iterable[str]) -> tuple[list[FoundWeights], list[Row]]:
    """(weights that are bundled or in the cache, rows for which there are none). Nothing is fetched.

    given: labels of the models that the user named; they fill the rows of these names. Our own released weights are
    always among the first. Raises WeightsError for a damaged file.
    """
    labels = {label.casefold() for label in given}
    own = [entry.name for entry in registry.entries if entry.own and entry.network == "rrdb"]
    found = [weights for name in own if (weights := _at_hand(name, registry))]
    missing: list[Row] = []
    for row in ROWS:
        if row.label.casefold() in labels:
            continue
        here = [weights for name in row.weights if (weights := _at_hand(name, registry))]
        found += [weights for weights in here if weights.name not in own]
        if not here:
            missing.append(row)
    return found, missing


def _at_hand(name: str, registry: Registry) -> FoundWeights | None:
    if registry.get(name) is None:
        return None
    try:
        return find_weights(name, registry=registry, offline=True)
    except HubError:  # not in the cache
        return None
