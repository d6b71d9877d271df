"""From what `-m` says to a file on this machine: a released name, a path, or a file on the Hugging Face Hub."""

import re
from dataclasses import dataclass
from pathlib import Path

from ddnsr_cli.errors import HubError, WeightsError
from ddnsr_cli.files import sha256_of
from ddnsr_cli.weights.hub.download import HubAccess, HubFile, Progress, fetch, list_files
from ddnsr_cli.weights.registry import SUFFIXES, Network, Registry, WeightsEntry

RUN_WEIGHTS: dict[Network, str] = {"rrdb": "sr.safetensors", "degrader": "degrader.safetensors"}
"""What a training run leaves in its folder for use."""

_WHAT_IT_IS: dict[Network, str] = {
    "rrdb": "a network that enlarges, for ddnsr upscale",
    "degrader": "a degrader, for ddnsr degrade",
}
BY_SETTINGS = HubAccess()
NCNN = ".param"
HERE = (*SUFFIXES, NCNN)
"""Suffixes of files on this machine; on the Hub the two files of an ncnn pair would not come together."""

_NCNN_SCALE = f"-x4{NCNN}"
"""What realesrgan-ncnn-vulkan itself puts behind a name, by its -s; only files of that scale load."""

_MOST_LISTED = 8

_ON_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^:@\s]+))?(?::(?P<file>.+))?")


@dataclass(frozen=True, kw_only=True)
class FoundWeights:
    """A weights file on this machine."""

    path: Path

    name: str
    """How to call it: the released name, the path, or the Hub id with the file."""

    entry: WeightsEntry | None = None
    """What the registry says of it; None for a path, unless it is a file for research only, and for a Hub id."""

    @property
    def sha256(self) -> str:
        """As of `weights_sha256`."""
        return weights_sha256(self.path)

    @property
    def terms(self) -> str | None:
        """What whoever uses it has to know; None: nothing. Files that were made of such weights say it themselves."""
        if self.entry is None:
            from ddnsr_cli.weights.arrays import stated_terms  # which loads NumPy

            return stated_terms(self.path)
        if not self.entry.research_only:
            return None
        return f"{self.name} is for research only, as are images that it learned from: {self.entry.trained_on}."


def weights_sha256(path: Path) -> str:
    """Of a weights file; of an ncnn pair, of both files, the text first, which alone tells nothing of the weights."""
    pair = (path.with_suffix(".bin"),) if path.suffix.lower() == NCNN else ()
    return sha256_of(path, *pair)


def find_weights(
    name: str | None,
    *,
    registry: Registry,
    network: Network | None = "rrdb",
    on_gpu: bool = False,
    offline: bool = False,
    on_progress: Progress | None = None,
    hub: HubAccess = BY_SETTINGS,
) -> FoundWeights:
    """The weights that `name` means: a released name first, then a path, then a Hub id. None means the default.

    An alias of a released name is one, with the suffix of a file or without, where no file is called so. A path is a
    file, with or without its suffix, or the folder of a training run, of which the file of the network's kind is taken;
    of an ncnn pair either file may be named. A Hub id is `owner/name`, with `@revision` and `:file` when wanted;
    without a file, the repository must hold that of a run, or exactly one `.safetensors`.
    network: the kind wanted; None takes a released name of any kind, else as `rrdb`. on_gpu: whether it will run on
    one, which decides the default. offline: only what is here, or in the cache. on_progress: bytes done and in all,
    while a file is fetched.
    Raises WeightsError when nothing is meant by the name, a released name is of another kind, or a file is not the
    released one; HubError as `hub.fetch`.
    """
    kind: Network = network or "rrdb"
    entry = registry.default_of(kind, on_gpu=on_gpu) if name is None else released_entry(name, registry)
    if entry is not None:
        if network not in (None, entry.network):
            raise WeightsError(f"{entry.name} is {_WHAT_IT_IS[entry.network]}. Name another: ddnsr weights list.")
        path = _released(entry, registry, offline=offline, on_progress=on_progress, hub=hub)
        return FoundWeights(path=path, name=entry.name, entry=entry)
    assert name is not None  # the default is an entry
    if (local := _local(name, RUN_WEIGHTS[kind])) is not None:
        return FoundWeights(path=local, name=name, entry=registry.research_entry(local))
    meant = _ON_HUB.fullmatch(name)
    if meant is None or _is_meant_as_path(name) or _beside(name) is not None:
        raise WeightsError(unknown_name(name, registry))
    return _on_hub(meant, RUN_WEIGHTS[kind], offline=offline, on_progress=on_progress, hub=hub)


def entry_of(name: str, registry: Registry) -> WeightsEntry | None:
    """The entry of a name, an alias, or either as the name of a file, as people have it from other programs."""
    stem, dot, suffix = name.rpartition(".")
    return registry.get(name) or (registry.get(stem) if dot + suffix.lower() in HERE else None)


def released_entry(name: str, registry: Registry) -> WeightsEntry | None:
    """The entry that a name means as `-m`: that of this very name, or of an alias where no file is called so."""
    entry = entry_of(name, registry)
    return entry if entry is not None and (name == entry.name or _file(Path(name)) is None) else None


def _released(
    entry: WeightsEntry, registry: Registry, *, offline: bool, on_progress: Progress | None, hub: HubAccess
) -> Path:
    if entry.bundled is not None:
        return _checked(entry, registry.folder / entry.bundled)
    if entry.beside is not None:
        if registry.lacks(entry):
            raise WeightsError(_how_to_get(entry.name, entry.beside, entry.license))
        return _checked(entry, registry.root / entry.beside)
    assert entry.repo is not None  # the entry has checked itself
    assert entry.revision is not None
    assert entry.file is not None
    file = HubFile(
        repo=entry.repo,
        name=entry.file,
        revision=entry.revision,
        sha256=entry.sha256,
        size_bytes=entry.size_bytes,
    )
    return fetch(file, offline=offline, on_progress=on_progress, hub=hub)


def _how_to_get(name: str, beside: str, license: str) -> str:
    folder, _, file = beside.rpartition("/")
    return (
        f"{name} ({license}) does not come with the program. Get {file} from the project's repository, folder "
        f"{folder}/, and name the file: -m {file}."
    )


def _checked(entry: WeightsEntry, path: Path) -> Path:
    again = "Install ddnsr" if entry.bundled else "Check out the project"
    advice = f"{again} again, or choose other weights with -m."
    try:
        found = sha256_of(path)
    except OSError as cause:
        raise WeightsError(f"{entry.name} is missing from the installation ({path}). {advice}") from cause
    if found != entry.sha256:
        raise WeightsError(f"{entry.name} is damaged or was replaced ({path}: its SHA-256 is {found}). {advice}")
    return path


def _local(name: str, of_run: str) -> Path | None:
    """The file meant by an existing path; None when nothing is there. of_run: the one taken of a run's folder."""
    try:
        path = Path(name).expanduser()
        if not name.strip() or not path.is_dir():
            return _file(path)
    except (OSError, RuntimeError):  # a name too long for a path; a home that nobody has
        return None
    inside = path / of_run
    if not inside.is_file():
        if models := _models_in(path):
            raise WeightsError(f"The folder {name} holds no {of_run} of a run. Name a model in it: {models}.")
        raise WeightsError(f"The folder {name} holds no {of_run}: it is not that of a run that saved. Name a file.")
    return inside


def _models_in(folder: Path) -> str:
    """What the models of a folder are called, as `-m` takes them, for a message; empty: there are none."""
    names = sorted({one.stem for one in folder.glob("*") if one.suffix.lower() in HERE})
    listed = [f"-m {folder / name}" for name in names[:1]] + names[1:_MOST_LISTED]
    return ", ".join(listed) + (", ..." if len(names) > _MOST_LISTED else "")


def _file(path: Path) -> Path | None:
    """The file at a path, of which the suffix may be missing; of an ncnn pair, its text."""
    if path.suffix.lower() == ".bin" and path.is_file() and path.with_suffix(NCNN).is_file():
        return path.with_suffix(NCNN)
    nearby = (path.with_name(path.name + suffix) for suffix in (*HERE, _NCNN_SCALE) if path.name)
    return next((file for file in (path, *nearby) if file.is_file()), None)


def _is_meant_as_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or (":" not in name and name.lower().endswith(HERE))


def unknown_name(name: str, registry: Registry) -> str:
    """What to tell a user whose name means nothing: released names that are close, and all that there are."""
    shown = repr(name if len(name) <= 80 else f"{name[:77]}...")
    if (models := _beside(name)) is not None:
        return f"There is no model {shown}. The folder has: {models}."
    if _is_meant_as_path(name):
        close = registry.near(Path(name).stem)
        hint = f"-m {close[0]}" if close else "see: ddnsr weights list"
        return f"There is no weights file {shown}. Check the path; for released weights, {hint}."
    close, every = registry.near(name), ", ".join(registry.names)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    return (
        f"{shown} is no released name, no file and no Hub id.{hint} For a file, give its path. "
        f"Released (ddnsr weights list): {every}."
    )


def _beside(name: str) -> str | None:
    """What models the folder has in which a path was looked for; None: no path, no such folder, or none in it."""
    try:
        folder = Path(name).expanduser().parent
        return _models_in(folder) or None if folder != Path() and folder.is_dir() else None
    except (OSError, RuntimeError, ValueError):
        return None


def _on_hub(
    meant: re.Match[str], of_run: str, *, offline: bool, on_progress: Progress | None, hub: HubAccess
) -> FoundWeights:
    repo, revision, name = meant["repo"], meant["revision"] or "main", meant["file"]
    if name is None:
        try:
            name = _only_file(repo, revision, of_run, offline=offline, hub=hub)
        except HubError as error:  # a mistyped path looks like a Hub id
            raise HubError(
                f"There is no file or folder {meant[0]} here: check the path. On the Hub: {error}"
            ) from error
    file = HubFile(repo=repo, name=name, revision=revision)
    path = fetch(file, offline=offline, on_progress=on_progress, hub=hub)
    return FoundWeights(path=path, name=f"{repo}:{name}")


def _only_file(repo: str, revision: str, of_run: str, *, offline: bool, hub: HubAccess) -> str:
    """The file of a published run, else the one safetensors file that there is."""
    names = list_files(repo, revision=revision, offline=offline, hub=hub)
    if of_run in names:
        return of_run
    usable = [name for name in names if name.endswith(SUFFIXES[0])]
    if len(usable) == 1:
        return usable[0]
    shown = usable or [name for name in names if name.endswith(SUFFIXES)]
    listed = ", ".join("".join(filter(str.isprintable, name)) for name in shown[:8]) + (
        ", ..." if len(shown) > 8 else ""
    )
    if not shown:
        raise WeightsError(f"{repo} holds no weights file ({', '.join(SUFFIXES)}).")
    what = f"{len(usable)} .safetensors files" if usable else "no .safetensors file, but"
    raise WeightsError(f"{repo} holds {what}: {listed}. Name one with -m {repo}:FILE.")
