"""`ddnsr weights push`: the weights of a training run and their card to the Hugging Face Hub.

Everything is checked before the first request, and nothing of the run's folder but these files is ever sent.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from ddnsr_cli.errors import ConfigError, WeightsError
from ddnsr_cli.files import atomic_path, sha256_of
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.reports.model_card import license_of, with_license
from ddnsr_cli.weights.arrays import TERMS_KEY
from ddnsr_cli.weights.checkpoint import load_degrader, load_rrdb_net
from ddnsr_cli.weights.hub.download import HubAccess, Progress
from ddnsr_cli.weights.hub.upload import Pushed, check_repo, upload

SR_NET, DEGRADER, CARD, OPTIONS = "sr.safetensors", "degrader.safetensors", "README.md", "options.json"
BY_SETTINGS = HubAccess()
_USE = re.compile(r"^(ddnsr upscale photo\.jpg -m ).*( -o out\.png)$", re.MULTILINE)
_STEPS = re.compile(r"^\| steps \| (\d+) \|$", re.MULTILINE)
Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class PushRequest:
    """What to upload, and where to."""

    run: Path
    """Folder of a training run."""

    repo: str
    """`owner/name` on the Hub; made when missing."""

    license: str | None = None
    """SPDX identifier or a line of text; None: the card has one already."""

    private: bool = False


@dataclass(frozen=True, kw_only=True)
class PushFile:
    """A file as it is sent."""

    name: str
    content: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """64 hexadecimal digits."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, kw_only=True)
class PushPlan:
    """A checked upload."""

    request: PushRequest
    files: tuple[PushFile, ...]
    """The reconstruction network, the degrader when there is one, the card."""

    card: str = field(repr=False)
    """The card as it stays in the run's folder: there it does not name the repository."""

    license: str
    network: RRDBConfig
    training: dict[str, Any]
    """What the weights say of their training: `phase`, `step`, `data`."""


def plan_push(request: PushRequest, note: Callable[[str], None]) -> PushPlan:
    """Read and check everything. Asks nobody and writes nothing. note: called with what the user should know.

    Raises WeightsError when it is no run's folder, weights are damaged or not of one save, or the card is missing or
    of another step; ConfigError when there is no license; HubError for a name that no repository can have.
    """
    check_repo(request.repo)
    if not ((request.run / SR_NET).is_file() and (request.run / OPTIONS).is_file()):
        raise WeightsError(
            f"{request.run} is not the folder of a training run that saved: it lacks {SR_NET} or {OPTIONS}. Give the "
            f"folder that ddnsr train had as -o."
        )
    sr_file, net, metadata = _loaded(request.run / SR_NET, load_rrdb_net)
    training, options = _record(metadata, "training"), _record(metadata, "options")
    files = [sr_file]
    if (request.run / DEGRADER).is_file():
        degrader, _, beside = _loaded(request.run / DEGRADER, load_degrader)
        _check_step(_record(beside, "training")["step"], training["step"], DEGRADER)
        files.append(degrader)
    card, license = _card(request, training["step"])
    if terms := metadata.get(TERMS_KEY):
        note(f"of what it learned with: {terms}")
    wanted = options.get("schedule", {}).get("steps", 0)
    if training["step"] < wanted:
        note(f"the run is at step {training['step']} of {wanted}; its weights are sent as they are")
    sent = _USE.sub(lambda line: f"{line[1]}{request.repo}{line[2]}", card)
    files.append(PushFile(name=CARD, content=sent.encode()))
    return PushPlan(
        request=request, files=tuple(files), card=card, license=license, network=net.config, training=training
    )


def push_run(plan: PushPlan, *, on_progress: Progress | None = None, hub: HubAccess = BY_SETTINGS) -> Pushed:
    """Keep the card, license included, in the run's folder, then upload. on_progress: bytes done and in all.

    Raises WeightsError when the card cannot be kept, HubError as `hub.upload`.
    """
    path = plan.request.run / CARD
    try:
        with atomic_path(path) as temporary:
            temporary.write_text(plan.card, encoding="utf-8", newline="\n")
    except OSError as cause:
        raise WeightsError(f"{path} cannot be written: {cause.strerror or cause}. Nothing was sent.") from cause
    name = plan.request.run.resolve().name
    return upload(
        plan.request.repo,
        {file.name: file.content for file in plan.files},
        message=f"{name}: {plan.training['phase']} run, step {plan.training['step']}",
        private=plan.request.private,
        on_progress=on_progress,
        hub=hub,
    )


def registry_entry(plan: PushPlan, pushed: Pushed) -> str:
    """The uploaded reconstruction network as an entry of `weights.toml`; title and description are for the author."""
    sr_file, data, phase = plan.files[0], plan.training["data"], plan.training["phase"]
    owner, name = plan.request.repo.split("/")
    sources = data.get("sources", [data])
    folders = list(dict.fromkeys(str(source[key]) for source in sources for key in ("lr", "hr") if source.get(key)))
    values: dict[str, str | int | bool] = {
        "name": re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "model",
        "title": name,
        "description": f"{phase} run of ddnsr train, step {plan.training['step']}.",
        "network": "rrdb",
        "features": plan.network.features,
        "blocks": plan.network.blocks,
        "growth": plan.network.growth,
        "scale": plan.network.scale,
        "repo": plan.request.repo,
        "revision": pushed.revision,
        "file": sr_file.name,
        "sha256": sr_file.sha256,
        "bytes": len(sr_file.content),
        "license": plan.license,
        "by": owner,
        "own": True,
        "trained_on": f"images of {' and '.join(folders)}",
    }
    # Of these values JSON and TOML write the same, but for one character that JSON leaves as it is.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "") for key, value in values.items()]
    return "\n".join(["[[weights]]", *lines])


def _loaded(path: Path, load: Callable[[Path], tuple[Net, dict[str, str]]]) -> tuple[PushFile, Net, dict[str, str]]:
    """The file's bytes, and the network that they are: a run that goes on may replace the file at any time."""
    try:
        file = PushFile(name=path.name, content=path.read_bytes())
        net, metadata = load(path)
        same = sha256_of(path) == file.sha256
    except OSError as cause:
        raise WeightsError(f"{path} cannot be read: {cause.strerror or cause}.") from cause
    if not same:
        raise WeightsError(f"{path} was replaced while it was read: the run goes on. Stop it, or try again.")
    return file, net, metadata


def _record(metadata: dict[str, str], key: str) -> dict[str, Any]:
    """One of the two tables that training writes into its files."""
    try:
        table = json.loads(metadata[key])
        known = isinstance(table, dict) and (key != "training" or _is_training(table))
    except (KeyError, ValueError, RecursionError):
        known = False
    if not known:
        raise WeightsError(f"The weights do not say how they were trained ({key}): ddnsr train did not write them.")
    return dict(table)


def _is_training(table: dict[str, Any]) -> bool:
    data = table.get("data")
    keys = {"joint": {"lr", "hr"}, "paired": {"sources"}}.get(str(table.get("phase")))
    return keys is not None and type(table.get("step")) is int and isinstance(data, dict) and keys <= data.keys()


def _check_step(stated: int, step: int, name: str) -> None:
    if stated != step:
        raise WeightsError(
            f"{SR_NET} is of step {step} but {name} of step {stated}. Resume the run for a new save, or remove {name}."
        )


def _card(request: PushRequest, step: int) -> tuple[str, str]:
    """The card with its license, and the license."""
    path = request.run / CARD
    if path.is_file():
        try:
            card = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as cause:
            raise WeightsError(f"{path} cannot be read as text ({cause}). Write the card again.") from cause
        if stated := _STEPS.search(card):
            _check_step(int(stated[1]), step, CARD)
    else:
        raise WeightsError(f"{request.run} has no {CARD}, the model card. Resume the run for a new save, or write one.")
    if request.license is not None:
        card = with_license(card, request.license)
    license = license_of(card)
    if license is None:
        raise ConfigError(
            f"{path} names no license, and without one nobody may use the weights. Give --license, an SPDX identifier "
            f"(CC-BY-4.0, MIT ...) or a line of text; that of the images it was trained on decides."
        )
    return card, license
