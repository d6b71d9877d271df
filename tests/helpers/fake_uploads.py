"""The half of the fake Hub that takes uploads: repositories, large files, commits. Standard library only."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from urllib.parse import unquote

CONFLICT = "Cannot create repo: another conflicting operation is in progress"
STAGES = {
    "POST": {
        "create": re.compile(r"/api/repos/create"),
        "card": re.compile(r"/api/validate-yaml"),
        "preupload": re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/main"),
        "batch": re.compile(r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch"),
        "commit": re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/main"),
    },
    "PUT": {"content": re.compile(r"/lfs/(?P<oid>[0-9a-f]{64})")},
}


@dataclass
class Uploads:
    repos: dict[str, bool] = field(default_factory=dict)
    """Repositories made here, and whether they are private."""

    objects: dict[str, bytes] = field(default_factory=dict)
    """Large files received, by their SHA-256."""

    commits: list[list[dict]] = field(default_factory=list)
    """The lines of every commit."""

    stages: list[str] = field(default_factory=list)
    """What was asked for, in order."""

    tokens: dict[str, str | None] = field(default_factory=dict)
    """The last Authorization of each stage."""

    answers: dict[str, tuple[int, dict, bytes]] = field(default_factory=dict)
    """Stages that are answered by (status, headers, body) instead."""

    silent: str | None = None
    """A stage that is never answered."""

    deaf: bool = False
    """Content is not even read."""

    drops: int = 0
    """So many transfers of content are cut."""

    ignored: tuple[str, ...] = ()
    """Files that the repository's `.gitignore` names."""

    spoils: bool = False
    """One byte of what is committed changes."""


def take_upload(handler):
    hub, uploads = handler.hub, handler.hub.uploads
    path = unquote(handler.path.split("?")[0])
    found = {stage: match for stage, form in STAGES[handler.command].items() if (match := form.fullmatch(path))}
    if not found:
        handler.answer(404, {})
        return
    ((stage, match),) = found.items()
    uploads.stages.append(stage)
    uploads.tokens[stage] = handler.headers.get("Authorization")
    if stage == "content" and uploads.deaf:
        hub.released.wait(60)
        return
    if stage == "content" and uploads.drops:
        uploads.drops -= 1
        handler.close_connection = True
        return
    body = handler.rfile.read(int(handler.headers["Content-Length"]))
    if stage == uploads.silent:
        hub.released.wait(60)
    elif stage in uploads.answers:
        handler.answer(*uploads.answers[stage])
    else:
        status, answer = REPLIES[stage](hub, body, **match.groupdict())
        handler.answer(status, {"Content-Type": "application/json"}, json.dumps(answer).encode())


def _create(hub, body):
    asked = json.loads(body)
    repo = f"{asked['organization']}/{asked['name']}"
    answer = {"url": f"{hub.endpoint}/{repo}", "name": repo}
    if repo in hub.uploads.repos:
        return 409, answer | {"error": "You already created this model repo"}
    hub.uploads.repos[repo] = bool(asked.get("private")) or asked.get("visibility") == "private"
    return 200, answer


def _card(hub, body):
    assert json.loads(body)["content"].startswith("---\n")
    return 200, {"warnings": [], "errors": []}


def _preupload(hub, body, repo):
    told = []
    for file in json.loads(body)["files"]:
        stored = hub.files.get((repo, file["path"]))
        lfs = file["path"].endswith(".safetensors")
        blob = stored.blob() if stored else {}
        oid = blob.get("lfs", {}).get("sha256") if lfs else blob.get("blobId")
        ignored = file["path"] in hub.uploads.ignored
        mode = {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": ignored}
        told.append(mode | ({"oid": oid} if oid else {}))
    return 200, {"files": told}


def _batch(hub, body, repo):
    objects = []
    for asked in json.loads(body)["objects"]:
        action = {"actions": {"upload": {"href": f"{hub.blobs}/lfs/{asked['oid']}"}}}
        objects.append(asked | ({} if asked["oid"] in hub.uploads.objects else action))
    return 200, {"transfer": "basic", "objects": objects}


def _content(hub, body, oid):
    if hashlib.sha256(body).hexdigest() != oid:
        return 400, {"error": "another hash"}
    hub.uploads.objects[oid] = body
    return 200, {}


def _commit(hub, body, repo):
    lines = [json.loads(line) for line in body.splitlines()]
    hub.uploads.commits.append(lines)
    for line in lines[1:]:
        value = line["value"]
        lfs = line["key"] == "lfsFile"
        content = hub.uploads.objects[value["oid"]] if lfs else base64.b64decode(value["content"])
        hub.add(repo, value["path"], content[:-1] + b"!" if hub.uploads.spoils else content, lfs=lfs)
    hub.commit = hashlib.sha1(body).hexdigest()
    return 200, {"success": True, "commitOid": hub.commit, "commitUrl": f"{hub.endpoint}/{repo}/commit/{hub.commit}"}


REPLIES = {
    "create": _create,
    "card": _card,
    "preupload": _preupload,
    "batch": _batch,
    "content": _content,
    "commit": _commit,
}
