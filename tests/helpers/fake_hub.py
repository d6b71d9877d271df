"""A Hub on the loopback device that answers the real client, well or badly. Standard library only."""

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from tests.helpers.fake_uploads import STAGES, Uploads, take_upload

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
INFO = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?")


@dataclass
class Stored:
    data: bytes
    lfs: bool = True

    def blob(self):
        """What the Hub tells of a file when it is asked for hashes."""
        size = {"size": len(self.data)}
        if not self.lfs:
            return size | {"blobId": hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()}
        lfs = size | {"sha256": hashlib.sha256(self.data).hexdigest(), "pointerSize": 130}
        return size | {"blobId": "9" * 40, "lfs": lfs}


@dataclass
class Faults:
    """What goes wrong. Statuses are (status, headers)."""

    head: tuple[int, dict] | None = None
    """Answer of every request for a file's head."""

    heads_well: int = 0
    """So many heads are answered well first."""

    blob: tuple[int, dict] | None = None
    """Answer of every request for content."""

    api: tuple[int, dict, bytes] | None = None
    head_silent: bool = False
    silent_after: int | None = None
    """Content stops after so many bytes, the connection stays open."""

    drops: int = 0
    """So many transfers are cut after half of the content."""

    wrong: int = 0
    """So many transfers have one byte changed."""

    portal: bool = False
    """Every request is answered by a sign-in page."""

    no_commit: bool = False
    short_by: int = 0
    """Bytes that the content has less than its head says."""


@dataclass
class FakeHub:
    files: dict[tuple[str, str], Stored] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    requests: list[tuple[str, str]] = field(default_factory=list)
    """(method, path) of every request, in order."""

    commit: str = COMMIT
    """What `main` points to."""

    uploads: Uploads = field(default_factory=Uploads)
    """What was sent here, and what goes wrong with it."""

    tokens: list[str | None] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def add(self, repo, file, data, **how):
        self.files[repo, file] = Stored(data, **how)
        return hashlib.sha256(data).hexdigest()

    def __enter__(self):
        self.servers = [_Server(("127.0.0.1", 0), handler) for handler in (_Hub, _Blobs)]
        for server in self.servers:
            server.hub = self
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.released.set()
        for server in self.servers:
            server.shutdown()
            server.server_close()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.servers[0].server_address[1]}"

    @property
    def blobs(self):
        # Another name: to older clients another port alone is no other place.
        return f"http://localhost:{self.servers[1].server_address[1]}"

    def count(self, method):
        return sum(made == method for made, _ in self.requests)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, client_address):
        """The client hung up: part of the game."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> FakeHub:
        return self.server.hub

    def log_message(self, *_):
        pass

    def answer(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.handle_request()

    def do_GET(self):
        self.handle_request()

    def do_POST(self):
        self.handle_request()

    def do_PUT(self):
        self.handle_request()

    def handle_request(self):
        self.hub.requests.append((self.command, self.path))
        self.hub.tokens.append(self.headers.get("Authorization"))
        if self.hub.faults.portal:
            page = b"<html><body>Welcome to our wireless network. Please sign in.</body></html>"
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.answer(200, {"Content-Type": "text/html"}, page)
        elif self.command in STAGES:
            take_upload(self)
        else:
            self.reply()

    def send_content(self, stored):
        faults = self.hub.faults
        data = stored.data[: len(stored.data) - faults.short_by]
        if faults.wrong:
            faults.wrong -= 1
            data = data[:-1] + bytes([data[-1] ^ 1])
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        start = int(wanted[1]) if wanted else 0
        stop = min(int(wanted[2]) + 1, len(data)) if wanted and wanted[2] else len(data)
        part = data[start:stop]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(part)))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.end_headers()
        if faults.silent_after is not None:
            self.wfile.write(part[: faults.silent_after])
            self.wfile.flush()
            self.hub.released.wait(60)
        elif faults.drops:
            faults.drops -= 1
            self.wfile.write(part[: len(part) // 2])
            self.close_connection = True
        else:
            self.wfile.write(part)


class _Hub(_Handler):
    def reply(self):
        path = unquote(self.path.split("?")[0])
        if found := INFO.fullmatch(path):
            self.info(found["repo"], found["revision"] or "main")
        elif found := RESOLVE.fullmatch(path):
            self.resolve(found["repo"], found["revision"], found["file"])
        else:
            self.answer(404, {})

    def info(self, repo, revision):
        if self.hub.faults.api:
            status, headers, body = self.hub.faults.api
            self.answer(status, headers, body)
            return
        names = [file for owner, file in self.hub.files if owner == repo]
        if not names and repo not in self.hub.uploads.repos:
            self.answer(401, {"X-Error-Code": "RepoNotFound"})
            return
        told = {
            "id": repo,
            "modelId": repo,
            "sha": self.hub.commit,
            "private": self.hub.uploads.repos.get(repo, False),
            "siblings": [{"rfilename": name} for name in names],
        }
        if "blobs=" in self.path:
            told["siblings"] = [{"rfilename": name} | self.hub.files[repo, name].blob() for name in names]
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(told).encode())

    def resolve(self, repo, revision, file):
        faults = self.hub.faults
        if self.command == "HEAD":
            if faults.heads_well:
                faults.heads_well -= 1
            elif faults.head_silent:
                self.hub.released.wait(60)
                return
            elif faults.head:
                self.answer(*faults.head)
                return
        stored = self.hub.files.get((repo, file))
        if stored is None:
            known = any(owner == repo for owner, _ in self.hub.files)
            status, code = (404, "EntryNotFound") if known else (401, "RepoNotFound")
            self.answer(status, {"X-Error-Code": code, "X-Repo-Commit": self.hub.commit})
        elif revision not in ("main", self.hub.commit):
            self.answer(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            self.found(stored, repo, file)

    def found(self, stored, repo, file):
        commit = {} if self.hub.faults.no_commit else {"X-Repo-Commit": self.hub.commit}
        if stored.lfs:
            linked = {
                "X-Linked-Etag": f'"{hashlib.sha256(stored.data).hexdigest()}"',
                "X-Linked-Size": str(len(stored.data)),
                "ETag": '"' + "9" * 40 + '"',
                "Location": f"{self.hub.blobs}/{repo}/{file}",
            }
            self.answer(302, commit | linked)
        elif self.command == "HEAD":
            size = {"Content-Length": str(len(stored.data)), "Accept-Ranges": "bytes"}
            self.answer(200, commit | {"ETag": f'"{"8" * 40}"'} | size)
        else:
            self.send_content(stored)


class _Blobs(_Handler):
    def reply(self):
        if self.hub.faults.blob:
            self.answer(*self.hub.faults.blob)
            return
        owner, name, file = unquote(self.path).lstrip("/").split("/", 2)
        self.send_content(self.hub.files[f"{owner}/{name}", file])
