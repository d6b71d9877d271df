"""The released weights as data: `weights.toml`, read strictly. An entry without hash or full revision is refused."""

import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Literal

from ddnsr_cli.errors import WeightsError
from ddnsr_cli.files import sha256_of

FILE = "weights.toml"
PACKAGE = Path(__file__).parents[1]
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_HEX40 = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_ALIAS = re.compile(r"[A-Za-z0-9][\w.-]*")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_TEXTS = ("name", "title", "description", "network", "sha256", "license", "by", "trained_on")
_NUMBERS = ("features", "blocks", "scale", "bytes")
_REQUIRED: dict[str, type] = dict.fromkeys(_TEXTS, str) | dict.fromkeys(_NUMBERS, int) | {"own": bool}
_SIZES: dict[str, dict[str, type]] = {"rrdb": {"growth": int}, "degrader": {}}  # what a kind of network has beyond all
_OPTIONAL: dict[str, type] = dict.fromkeys(("bundled", "beside", "repo", "revision", "file"), str) | {
    "default": bool,
    "default_on_gpu": bool,
    "scores": dict,
    "steps": int,
    "seed": int,
    "command": str,
    "research_only": bool,
    "aliases": list,
}

Network = Literal["rrdb", "degrader"]
"""Kinds of network: `rrdb` enlarges, `degrader` makes LR partners of HR images."""


@dataclass(frozen=True, kw_only=True)
class WeightsEntry:
    """One released set of weights: in the package (`bundled`), in the repository (`beside`) or on the Hub (`repo`)."""

    name: str
    """What `-m` takes: lower-case letters, digits, dots, hyphens."""

    title: str
    description: str

    network: Network
    """Kind of network, of the sizes `features`, `blocks`, `scale` and, `rrdb` only, `growth`."""

    features: int
    blocks: int
    scale: int

    sha256: str
    """Of the file: 64 lower-case hexadecimal digits."""

    size_bytes: int

    license: str
    by: str
    """Who trained it."""

    own: bool
    """False for the work of others."""

    trained_on: str

    growth: int | None = None

    bundled: str | None = None
    """Path inside the package folder."""

    beside: str | None = None
    """Path from the folder of `weights.toml`, of a file that is in the project's repository only, in no package."""

    repo: str | None = None
    """Hub repository, `owner/name`, with the full `revision` (40 digits) and the `file` in it."""

    revision: str | None = None
    file: str | None = None

    aliases: tuple[str, ...] = ()
    """Other names that the field has for it: those of its files, without a suffix. Capitals and `_` do not matter."""

    scores: Mapping[str, float] = field(default_factory=dict)
    """Measured figures by name; what they are measured on is reported in the description."""

    steps: int | None = None
    """Batches that it learned from, with `seed` and `command`: how it was made, as far as that is known."""

    seed: int | None = None
    command: str | None = None

    research_only: bool = False
    """It learned from images that may be used for research only; whoever uses it gets a note."""

    default: bool = False
    """Used when no weights are named; one for each kind of network."""

    default_on_gpu: bool = False
    """Used instead of it where the network runs on a GPU."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise WeightsError(f"a name has lower-case letters, digits, dots and hyphens, got {self.name!r}")
        if odd := [alias for alias in self.aliases if not _ALIAS.fullmatch(alias)]:
            raise WeightsError(f"an alias has letters, digits, dots, hyphens and underscores, got {odd[0]!r}")
        if self.scale not in {"rrdb": (1, 2, 4), "degrader": (4,)}.get(self.network, ()):
            known = "'rrdb' at scale 1, 2 or 4, or 'degrader' at scale 4"
            raise WeightsError(f"network must be {known}, got {self.network!r} at {self.scale}")
        if (self.growth is not None) != (self.network == "rrdb"):
            raise WeightsError("growth belongs to 'rrdb', and to no other network")
        counts = (self.features, self.blocks, self.growth, self.size_bytes, self.steps)
        if min(count for count in counts if count is not None) < 1:
            raise WeightsError("features, blocks, growth, bytes and steps must be at least 1")
        if not _HEX64.fullmatch(self.sha256):
            raise WeightsError(f"sha256 must be 64 lower-case hexadecimal digits, got {self.sha256!r}")
        if not all(math.isfinite(value) for value in self.scores.values()):
            raise WeightsError("scores must be finite numbers")
        self._check_place()

    def _check_place(self) -> None:
        on_hub = [part for part in (self.repo, self.revision, self.file) if part is not None]
        places = (self.bundled is not None, self.beside is not None, bool(on_hub))
        if sum(places) != 1 or len(on_hub) not in (0, 3):
            raise WeightsError("give either 'bundled', or 'beside', or 'repo', 'revision' and 'file'")
        if self.repo is not None and not _REPO.fullmatch(self.repo):
            raise WeightsError(f"repo must be 'owner/name', got {self.repo!r}")
        if self.revision is not None and not _HEX40.fullmatch(self.revision):
            raise WeightsError(f"revision must be a full commit of 40 hexadecimal digits, got {self.revision!r}")
        for path in (self.bundled, self.beside, self.file):
            if path is not None and not is_inner_path(path):
                raise WeightsError(f"{path!r} must be a path inside its folder that ends in {', '.join(SUFFIXES)}")


@dataclass(frozen=True, kw_only=True)
class Registry:
    """All released weights, and the folders that those on this machine lie in."""

    entries: tuple[WeightsEntry, ...]

    folder: Path = PACKAGE
    """What `bundled` paths start from."""

    root: Path = PACKAGE.parent
    """What `beside` paths start from: the folder of `weights.toml`, in a clone that of the repository."""

    def __post_init__(self) -> None:
        names = [name for entry in self.entries for name in {_plain(one) for one in (entry.name, *entry.aliases)}]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise WeightsError(f"{FILE} names {', '.join(twice)} more than once.")
        for kind in _SIZES:
            ours = [entry for entry in self.entries if entry.network == kind]
            for mark in ("default", "default_on_gpu"):
                marked = [entry.name for entry in ours if getattr(entry, mark)]
                if len(marked) > 1:
                    raise WeightsError(f"{FILE} has more than one {mark}: {', '.join(marked)}.")

    @property
    def names(self) -> tuple[str, ...]:
        """The names that `-m` takes, in the order of the file."""
        return tuple(entry.name for entry in self.entries)

    @property
    def default(self) -> WeightsEntry:
        """The network that enlarges when none is named. Raises WeightsError when there is none."""
        return self.default_of("rrdb")

    def default_of(self, network: Network, *, on_gpu: bool = False) -> WeightsEntry:
        """The weights of a kind used when none are named. Raises WeightsError when there are none."""
        ours = [entry for entry in self.entries if entry.network == network]
        large = [entry for entry in ours if on_gpu and entry.default_on_gpu]
        if chosen := [*large, *(entry for entry in ours if entry.default)]:
            return chosen[0]
        names = ", ".join(entry.name for entry in ours)
        if network == "degrader":
            there = f"{names}, " if names else ""
            raise WeightsError(f"No degrader comes with ddnsr. Name one with -m: {there}a run folder of ddnsr train.")
        raise WeightsError(f"No default weights are set. Name some with -m: {names or 'a file'}.")

    def get(self, name: str) -> WeightsEntry | None:
        """The entry of that name or alias, or None."""
        wanted = _plain(name)
        return next((entry for entry in self.entries if wanted in map(_plain, (entry.name, *entry.aliases))), None)

    def lacks(self, entry: WeightsEntry) -> bool:
        """Whether the weights are only in the project's repository, and this is an installation without them."""
        return entry.beside is not None and not (self.root / entry.beside).is_file()

    def research_entry(self, path: Path) -> WeightsEntry | None:
        """The entry for research only whose very file lies at a path, wherever that is; None: it is no such file.

        Raises WeightsError when the file cannot be read.
        """
        try:
            size = path.stat().st_size
            alike = [entry for entry in self.entries if entry.research_only and entry.size_bytes == size]
            return next((entry for entry in alike if entry.sha256 == sha256_of(path)), None)
        except OSError as cause:
            raise WeightsError(f"{path} cannot be read: {cause.strerror or cause}.") from cause

    def near(self, name: str) -> tuple[str, ...]:
        """Names like a mistyped one, the closest first; three at most."""
        known = {_plain(alias): entry.name for entry in self.entries for alias in (*entry.aliases, entry.name)}
        close = difflib.get_close_matches(_plain(name), known, n=6, cutoff=0.6)
        return tuple(dict.fromkeys(known[one] for one in close))[:3]


def read_registry(path: Path | None = None, *, folder: Path = PACKAGE) -> Registry:
    """Read `weights.toml`: the given one, else that in the package (installed), else beside the package (a clone).

    folder: what `bundled` paths start from; `beside` paths start from the folder of the file. Raises WeightsError,
    naming the entry and the key, for anything unknown, missing, of a wrong type or unsafe.
    """
    path = path or next((place for place in (PACKAGE / FILE, PACKAGE.parent / FILE) if place.is_file()), PACKAGE / FILE)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as cause:
        raise WeightsError(f"{path} cannot be read ({cause.strerror or cause}). Install ddnsr again.") from cause
    except UnicodeDecodeError as cause:
        raise _no_toml(path, cause) from cause
    return _registry(text, path, folder)


@lru_cache(maxsize=8)  # a command may ask for it several times
def _registry(text: str, path: Path, folder: Path) -> Registry:
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as cause:
        raise _no_toml(path, cause) from cause
    tables = raw.pop("weights", [])
    if raw or not isinstance(tables, list):
        raise WeightsError(f"{path} must hold [[weights]] tables only, got {', '.join(map(repr, raw)) or 'one table'}.")
    entries = tuple(_entry(table, number) for number, table in enumerate(tables, 1))
    return Registry(entries=entries, folder=folder, root=path.parent)


def _no_toml(path: Path, cause: Exception) -> WeightsError:
    return WeightsError(f"{path} is not valid TOML: {' '.join(str(cause).split())[:100]}.")


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def is_inner_path(path: str) -> bool:
    """Whether a path of a weights file stays inside the folder that it starts from, on every system."""
    parts = path.split("/")
    plain = all(part not in ("", ".", "..") and part.isprintable() for part in parts)
    return plain and not set(path) & set('\\:*?"<>|') and PurePosixPath(path).suffix in SUFFIXES


def _entry(table: object, number: int) -> WeightsEntry:
    name = table.get("name") if isinstance(table, dict) else None
    try:
        return _parsed(table)
    except WeightsError as cause:
        raise WeightsError(f"{FILE}, entry {name if isinstance(name, str) else number}: {cause}.") from cause


def _parsed(table: object) -> WeightsEntry:
    if not isinstance(table, dict):
        raise WeightsError("is no table")
    network = table.get("network")
    required = _REQUIRED | _SIZES.get(network if isinstance(network, str) else "", {"growth": int})
    kinds = required | _OPTIONAL
    if unknown := sorted(table.keys() - kinds.keys()):
        raise WeightsError(f"unknown key(s) {', '.join(unknown)}")
    if missing := sorted(required.keys() - table.keys()):
        raise WeightsError(f"missing key(s) {', '.join(missing)}")
    for key, value in table.items():
        if type(value) is not kinds[key]:  # bool is an int to isinstance
            raise WeightsError(f"{key} must be of type {kinds[key].__name__}, got {value!r}")
    aliases = table.get("aliases", [])
    if odd := [alias for alias in aliases if type(alias) is not str]:
        raise WeightsError(f"aliases must be texts, got {odd[0]!r}")
    scores = table.get("scores", {})
    if odd := [key for key, value in scores.items() if type(value) not in (int, float)]:
        raise WeightsError(f"scores must be numbers, got {', '.join(odd)}")
    values = {key: value for key, value in table.items() if key not in ("bytes", "aliases")}
    return WeightsEntry(**values, aliases=tuple(aliases), size_bytes=table["bytes"])
