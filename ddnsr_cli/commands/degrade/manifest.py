"""`manifest.jsonl` of a folder of pairs: where every pair comes from, and what need not be made again.

Each of several shards writes a manifest of its own beside it; the next run without shards makes one of them all.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from ddnsr_cli.config import SCALE, changed_options, in_words, option_of, options_to_json
from ddnsr_cli.errors import ConfigError, ImageWriteError, listed, printable
from ddnsr_cli.files import atomic_path, is_there, sha256_of
from ddnsr_cli.io.provenance import Source, is_unchanged
from ddnsr_cli.io.selection import Shard

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_WHOLE, _BEGUN = "manifest", "begun"
MANIFEST = f"{_WHOLE}.jsonl"
_OF_SHARDS = f"{_WHOLE}-*-of-*.jsonl"
_START = b'{"name": '
HR, LR = "hr", "lr"
"""The two folders of the pairs."""

Key = tuple[str, int]
"""(HR source, variant): what a pair is made of."""


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """What, beside the HR image, decides the bytes of a pair."""

    method: str

    scale: int
    """HR pixels per LR pixel along a side."""

    seed: int

    cleanup: int
    """How many times the HR image was shrunk first."""

    sigma: float | None
    """Of Gaussian noise, levels; None for other methods."""

    patch_variance: float | None
    """Limit given for noise patches, levels squared; None: found in each image, or another method."""

    noise_input: str | None
    """What the degrader was given of a noisy image, `smooth` or `crop`; None for other methods."""

    kernels: int | None
    """Number of noisy images whose blur kernels were estimated; None for other methods."""

    kernel_steps: int | None
    """Steps of training for each kernel; None for other methods."""

    degradation: dict[str, Any] | None
    """All settings of the classical method, as they are read from JSON; None for other methods."""

    model_sha256: str | None
    """Of the degrader's file; None for other methods."""

    noise_set_sha256: str | None
    """Of the names and sizes of the noisy images to draw from; None where none are used."""


@dataclass(frozen=True, kw_only=True)
class PairRecord(PairSettings):
    """One pair. Paths are relative, with slashes: below the folders given, and `name` below `hr` and `lr`."""

    name: str
    hr_source: str
    hr_source_sha256: str
    hr_source_bytes: int

    variant: int
    """From 1 on; another draw of noise for the same HR image."""

    model: str | None
    """What the degrader is called."""

    noise_source: str | None
    noise_sha256: str | None

    kernel_source: str | None
    """The noisy image whose blur kernel was used; None for other methods."""

    noise_crop: tuple[int, int, int, int] | None
    """Top, left, height, width in the noisy image; what goes beyond its border is mirrored. Of patches: None."""

    hr_sha256: str
    lr_sha256: str

    @property
    def key(self) -> Key:
        """Which pair it is."""
        return self.hr_source, self.variant

    @property
    def settings(self) -> PairSettings:
        """The part that decides the bytes."""
        return PairSettings(**{field.name: getattr(self, field.name) for field in fields(PairSettings)})


@dataclass(frozen=True, kw_only=True)
class PlannedPair:
    """A pair that is wanted."""

    source: Path
    """The HR image."""

    name: str
    hr_source: str
    hr_source_bytes: int
    variant: int

    @property
    def key(self) -> Key:
        """Which pair it is."""
        return self.hr_source, self.variant


class Manifest:
    """The manifest of one folder. A line is added by one write; what a kill left of a line counts as none."""

    def __init__(
        self, folder: Path, shard: Shard | None = None, *, noisy_images: Mapping[str, Path] | None = None
    ) -> None:
        """Reads what is there, of all shards. Raises ImageWriteError when a file of such a name cannot be read.

        shard: whose manifest is written; None: that of all pairs. noisy_images: those to draw from, by the names that
        records have for them.
        """
        self.folder = folder
        self._noisy_images = noisy_images or {}
        self.path = folder / (MANIFEST if shard is None else f"manifest-{shard.index}-of-{shard.count}.jsonl")
        self._is_whole = shard is None
        self._others = [path for path in manifests_in(folder) if path != self.path]
        lines, of_others = self._lines(self.path), [line for path in self._others for line in self._lines(path)]
        own, others = _records(lines), _records(of_others)
        self.records = _by_key(own + others if self._is_whole else others + own)  # of two, that of the shard is newer
        self._own = set(self.records) if self._is_whole else {record.key for record in own}
        self.lost = len(lines) - len(own)
        """Lines that say nothing: cut short by a kill, or of another version."""
        self._begun_path = folder / self.path.name.replace(_WHOLE, _BEGUN, 1)
        self._begun_others = [path for path in folder.glob(f"{_BEGUN}*.jsonl") if path != self._begun_path]
        lines += self._lines(self._begun_path)
        of_others += [line for path in self._begun_others for line in self._lines(path)]
        self._ours = _names_in([*lines, *of_others])
        """Names of all that ddnsr has made or begun here: files of these names are of its making."""
        self._begun = set(self._ours) if self._is_whole else _names_in(lines)
        self._digests: dict[Path, str] = {}

    def is_finished(self, pair: PlannedPair, settings: PairSettings) -> bool:
        """Whether a pair is recorded as what is wanted, and both files are there, LR as it was made."""
        record = self.records.get(pair.key)
        return record is not None and not self._differences(record, pair, settings) and self._is_made(record)

    def refuse_others(self, pairs: Sequence[PlannedPair], settings: PairSettings) -> None:
        """Raises ConfigError when pairs that are wanted were made of another HR file, or under other settings."""
        by_name = {record.name: record for record in self.records.values()}
        taken = [pair for pair in pairs if pair.name in by_name and by_name[pair.name].key != pair.key]
        if taken:
            one = taken[0]
            example = printable(f"{one.name} of {by_name[one.name].hr_source}, not {one.hr_source}")
            raise ConfigError(
                f"{self.folder} holds {len(taken)} of these names as pairs of other images ({example}). "
                "Give another -o, or --overwrite to replace them."
            )
        known = ((pair, self.records[pair.key]) for pair in pairs if pair.key in self.records)
        others = [changed for pair, record in known if (changed := self._differences(record, pair, settings))]
        if not others:
            return
        changes = ", ".join(
            f"{option_of(name)} {_short(old)} -> {_short(new)}" for name, (old, new) in others[0].items()
        )
        raise ConfigError(
            f"{self.folder} holds {len(others)} of these pairs made otherwise ({changes}). Give another -o, or "
            "--overwrite to make them again."
        )

    def refuse_strangers(self, pairs: Sequence[PlannedPair]) -> None:
        """Raises ImageWriteError where files that ddnsr did not make lie in the places of pairs that are wanted."""
        unknown = [pair.name for pair in pairs if pair.name not in self._ours]
        places = (self.folder / side / name for name in unknown for side in (HR, LR))
        strangers = [path for path in places if is_there(path)]
        if strangers:
            raise ImageWriteError(
                f"Not made by ddnsr degrade, and in the place of a pair: {listed(strangers)}. Move what you need, then "
                "give --overwrite, or another -o."
            )

    def forget(self, pairs: Sequence[PlannedPair]) -> None:
        """Take pairs out, and those of other images under their names, and remove the files: what fails to be made
        again must not lie among the new ones.

        Raises ImageWriteError.
        """
        keys, names = {pair.key for pair in pairs}, {pair.name for pair in pairs}
        for old in [record for record in self.records.values() if record.key in keys or record.name in names]:
            del self.records[old.key]
            for side in (HR, LR):
                self._remove(self.folder / side / old.name)

    def begin(self, pairs: Iterable[PlannedPair]) -> None:
        """Keep on the disk what is about to be made: what a kill leaves of it is known as ours then.

        Raises ImageWriteError.
        """
        names = {pair.name for pair in pairs}
        self._begun |= names
        self._keep_begun(names)

    def remove_leftovers(self) -> None:
        """Remove the unfinished files that a kill left: other programs may take them for images."""
        for side in (HR, LR):
            for path in (self.folder / side).rglob(".*.part.png"):
                self._remove(path)
        for written in (self.path, self._begun_path):
            for path in self.folder.glob(f".{written.stem}-*.part{written.suffix}"):
                self._remove(path)

    def add(self, record: PairRecord) -> None:
        """Append one line. Raises ImageWriteError."""
        self.records[record.key] = record
        self._own.add(record.key)
        try:
            with self.path.open("ab", buffering=0) as file:
                file.write(_line(record))
        except OSError as error:
            raise self._unwritable(self.path, error) from error

    def rewrite(self) -> None:
        """All records, sorted by name, in a file written whole: the same pairs give the same bytes.

        Of a shard, those of the shard; else the manifests of shards are not needed any more, and removed.
        """
        self._keep_begun(set())
        self._write(self.path, (_line(record) for key, record in self.records.items() if key in self._own))
        if self._is_whole:
            for path in (*self._others, *self._begun_others):
                self._remove(path)

    def remove_if_empty(self) -> None:
        """Remove the file where it has no pair, and the folders of images where they are empty then.

        Where there is any image it stays: without it the folder is none of ours. Raises ImageWriteError.
        """
        if self.records or not self._is_whole:
            return
        sides = [self.folder / side for side in (HR, LR)]
        for side in sides:
            for place, _folders, _files in os.walk(side, topdown=False):
                with suppress(OSError):  # not empty
                    Path(place).rmdir()
        if not any(map(is_there, sides)):
            for path in (self._begun_path, self.path):
                self._remove(path)

    def _keep_begun(self, names: set[str]) -> None:
        """These, and those without a record whose files are there, in a file; without any there is none."""
        recorded = {record.name for record in self.records.values()}
        names = names | {name for name in self._begun - recorded if self._is_any_there(name)}
        if names:
            self._write(self._begun_path, (json.dumps({"name": name}).encode() + b"\n" for name in names))
        else:
            self._remove(self._begun_path)

    def _is_any_there(self, name: str) -> bool:
        return any(is_there(self.folder / side / name) for side in (HR, LR))

    def _write(self, path: Path, lines: Iterable[bytes]) -> None:
        """Lines in the order of their bytes, as a file written whole."""
        try:
            with atomic_path(path) as temporary:
                temporary.write_bytes(b"".join(sorted(lines)))
        except OSError as error:
            raise self._unwritable(path, error) from error

    def _differences(self, record: PairRecord, pair: PlannedPair, settings: PairSettings) -> dict[str, tuple[Any, Any]]:
        """Name -> (as it was made, as it is wanted) of all that differs."""
        names = ("name", "hr_source_bytes", "hr_source_sha256", "noise_sha256")
        before = {name: getattr(record, name) for name in names}
        now = {
            "name": pair.name,
            "hr_source_bytes": pair.hr_source_bytes,
            "hr_source_sha256": self._sha256_now(pair.source, record, record.hr_source_sha256, record.hr_source_bytes),
            "noise_sha256": self._noise_sha256(record),
        }
        if before == now and record.settings == settings:
            return {}
        return changed_options(before | options_to_json(record.settings), now | options_to_json(settings))

    def _is_made(self, record: PairRecord) -> bool:
        """Whether HR has any bytes, and LR those that it was given: the hash of HR takes ten times as long."""
        hr, lr = (self.folder / side / record.name for side in (HR, LR))
        try:
            return hr.stat().st_size > 0 and sha256_of(lr) == record.lr_sha256
        except OSError:
            return False

    def _noise_sha256(self, record: PairRecord) -> str | None:
        """Of the noisy image of a pair; as recorded where there is none of that name any more."""
        image = self._noisy_images.get(record.noise_source or "")
        if image is None or record.noise_sha256 is None:
            return record.noise_sha256
        return self._sha256_now(image, record, record.noise_sha256)  # its size is part of the settings

    def _sha256_now(self, source: Path, record: PairRecord, sha256: str, size: int | None = None) -> str:
        """Of an image that a pair was made of; as recorded where it is untouched since, of another size, or not there:
        reading it will tell.

        size: as recorded, bytes; None: it need not be compared.
        """
        try:
            now = source.stat().st_size
            recorded = Source(bytes=now if size is None else size, sha256=sha256)
            same = is_unchanged(source, recorded, self.folder / LR / record.name, digest=self._digest)
            return sha256 if same or now != recorded.bytes else self._digest(source)
        except OSError:
            return sha256

    def _digest(self, source: Path) -> str:
        """Once a file: several pairs may be of one."""
        if source not in self._digests:
            self._digests[source] = sha256_of(source)
        return self._digests[source]

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ImageWriteError(f"{path} cannot be removed ({error.strerror or error}). Give another -o.") from error

    def _lines(self, path: Path) -> list[bytes]:
        try:
            return path.read_bytes().splitlines() if is_there(path) else []
        except OSError as error:
            raise ImageWriteError(f"{path} cannot be read ({error.strerror or error}). Give another -o.") from error

    def _unwritable(self, path: Path, error: OSError) -> ImageWriteError:
        return ImageWriteError(f"{path} cannot be written ({error.strerror or error}). Free space, or another -o.")


def manifests_in(folder: Path) -> list[Path]:
    """The manifests of a folder of pairs: that of all, if there is one, and those of shards."""
    whole = folder / MANIFEST
    return [*([whole] if is_there(whole) else []), *sorted(folder.glob(_OF_SHARDS))]


def as_in_json(options: "DataclassInstance") -> dict[str, Any]:
    """Options with lists for tuples: what was read from a manifest is compared with it."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in options_to_json(options).items()
    }


def _line(record: PairRecord) -> bytes:
    values = options_to_json(record)
    return json.dumps({"name": values.pop("name"), **dict(sorted(values.items()))}).encode() + b"\n"


def _records(lines: Iterable[bytes]) -> list[PairRecord]:
    return [record for line in lines if (record := _parsed(line)) is not None]


def _by_key(records: Sequence[PairRecord]) -> dict[Key, PairRecord]:
    """Of several of one pair, or of one name, the last."""
    by_key: dict[Key, PairRecord] = {}
    names: set[str] = set()
    for record in reversed(records):
        if record.key not in by_key and record.name not in names:
            by_key[record.key] = record
            names.add(record.name)
    return dict(reversed(by_key.items()))


def _names_in(lines: Iterable[bytes]) -> set[str]:
    """The names that lines begin with, be they cut short or of another version."""
    return {name for line in lines if (name := _name_in(line)) is not None}


def _name_in(line: bytes) -> str | None:
    if not line.startswith(_START):
        return None
    try:
        name, _end = json.JSONDecoder().raw_decode(line.decode("ascii", "replace"), len(_START))
    except (ValueError, RecursionError):
        return None
    return name if isinstance(name, str) else None


def _parsed(line: bytes) -> PairRecord | None:
    """The record of a line; None for what a kill cut short, or another version wrote."""
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kinds = _kinds()
    if not isinstance(raw, dict):
        return None
    raw = {"scale": SCALE, **raw}  # earlier versions knew no other, and did not say it
    if raw.keys() != kinds.keys():
        return None
    if isinstance(raw["noise_crop"], list):
        raw["noise_crop"] = tuple(raw["noise_crop"])
    sound = all(isinstance(raw[name], kind) for name, kind in kinds.items()) and _is_inside(raw["name"])
    return PairRecord(**raw) if sound else None


@cache
def _kinds() -> dict[str, Any]:
    """What each field of a record is, for isinstance."""
    return get_type_hints(PairRecord) | {"noise_crop": tuple | None, "degradation": dict | None}


def _is_inside(name: str) -> bool:
    """Whether a name stays within the folder of the pairs: what is forgotten is removed."""
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name and path.suffix == ".png"


def _short(value: object) -> str:
    if isinstance(value, dict):
        return f"{len(value)} settings"
    return f"{value[:8]}..." if isinstance(value, str) and len(value) == 64 else in_words(value)
