import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_hub import COMMIT, Faults

from ddnsr_cli.errors import HubError, WeightsError
from ddnsr_cli.hub import HubAccess, HubFile, fetch, list_files
from ddnsr_cli.hub.failures import explain

REPO, NAME = "some-one/nets", "deep/RRDB x4.pth"
DATA = bytes(range(256)) * 500
ALWAYS = 1000


@pytest.fixture
def access(fake_hub, tmp_path):
    return HubAccess(endpoint=fake_hub.endpoint, cache_dir=tmp_path / "cache", token=False, timeout_s=0.3)


@pytest.fixture
def file(fake_hub):
    return HubFile(repo=REPO, name=NAME, revision=COMMIT, sha256=fake_hub.add(REPO, NAME, DATA), size_bytes=len(DATA))


def failing(kind, file, access, *words, within_s=1.5, **how):
    start = time.monotonic()
    with pytest.raises(kind) as caught:
        fetch(file, hub=access, **how)
    assert time.monotonic() - start < within_s
    message = str(caught.value)
    assert type(caught.value) is kind
    assert message.isprintable()  # one line
    assert len(message) < 420
    for word in words:
        assert word in message
    return message


def test_a_file_is_fetched_once_and_then_costs_no_request(fake_hub, file, access, capfd):
    told = []
    path = fetch(file, hub=access, on_progress=lambda done, total: told.append((done, total)))
    assert path.read_bytes() == DATA
    assert path.is_relative_to(access.cache_dir)
    assert fake_hub.count("GET") == 1
    assert fake_hub.count("HEAD") == 2
    assert told[0] == (0, len(DATA))
    assert told[-1] == (len(DATA), len(DATA))
    fake_hub.requests.clear()
    assert fetch(file, hub=access) == path
    assert fetch(file, hub=access, offline=True) == path
    assert fake_hub.requests == []
    assert capfd.readouterr() == ("", "")


def test_a_small_file_outside_lfs_is_fetched(fake_hub, access):
    sha256 = fake_hub.add(REPO, "config.json", b"{}", lfs=False)
    for revision in (COMMIT, "main"):
        file = HubFile(repo=REPO, name="config.json", revision=revision, sha256=sha256)
        assert fetch(file, hub=access).read_bytes() == b"{}"


def test_a_branch_is_asked_for_each_time_and_fetched_when_it_moved(fake_hub, file, access):
    file = HubFile(repo=REPO, name=NAME)
    path = fetch(file, hub=access)
    assert fetch(file, hub=access) == path
    assert fake_hub.count("GET") == 1
    fake_hub.add(REPO, NAME, DATA + b"2")
    fake_hub.commit = "f" * 40
    assert fetch(file, hub=access).read_bytes() == DATA + b"2"


def test_a_branch_in_the_cache_serves_offline(fake_hub, file, access):
    file = HubFile(repo=REPO, name=NAME)
    path = fetch(file, hub=access)
    fake_hub.requests.clear()
    assert fetch(file, hub=access, offline=True) == path
    assert fake_hub.requests == []


def test_a_copy_in_the_cache_is_pointed_to_when_the_hub_fails(fake_hub, file, access):
    file = HubFile(repo=REPO, name=NAME)
    fetch(file, hub=access)
    fake_hub.faults = Faults(head=(503, {}))
    failing(HubError, file, access, "503", "--offline")


def test_offline_without_a_copy_says_where_was_looked_and_asks_nobody(fake_hub, file, access):
    failing(HubError, file, access, NAME, REPO, "not in the cache", str(access.cache_dir), "--offline", offline=True)
    assert fake_hub.requests == []


def test_a_damaged_copy_is_repaired(fake_hub, file, access):
    path = fetch(file, hub=access)
    path.write_bytes(b"x" * len(DATA))
    assert fetch(file, hub=access).read_bytes() == DATA
    assert fake_hub.count("GET") == 2


@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_a_damaged_copy_is_not_used_offline(fake_hub, file, access, revision):
    file = HubFile(repo=REPO, name=NAME, revision=revision)
    path = fetch(file, hub=access)
    path.write_bytes(b"x" * len(DATA))
    failing(HubError, file, access, "damaged", offline=True)


def test_a_transfer_with_a_wrong_byte_is_repeated(fake_hub, file, access):
    fake_hub.faults = Faults(wrong=1)
    assert fetch(file, hub=access).read_bytes() == DATA
    assert fake_hub.count("GET") == 2


@pytest.mark.parametrize("pinned", [True, False])
def test_a_wrong_content_of_the_right_size_is_refused_and_removed(fake_hub, file, access, pinned, capfd):
    file = file if pinned else HubFile(repo=REPO, name=NAME)
    fake_hub.faults = Faults(wrong=ALWAYS)
    failing(WeightsError, file, access, NAME, "wrong SHA-256", "removed")
    assert fake_hub.count("GET") == 2
    assert not any(path.stat().st_size == len(DATA) for path in access.cache_dir.rglob("*") if path.is_file())
    fake_hub.faults = Faults()
    assert fetch(file, hub=access).read_bytes() == DATA
    assert capfd.readouterr() == ("", "")


def test_a_file_that_the_hub_declares_otherwise_is_not_fetched(fake_hub, file, access):
    fake_hub.add(REPO, NAME, b"another")
    failing(WeightsError, file, access, "is not the released file", file.sha256)
    assert fake_hub.count("GET") == 0


REFUSALS = {
    "no entry": ((404, {"X-Error-Code": "EntryNotFound"}), ["no such file", NAME]),
    "no revision": ((404, {"X-Error-Code": "RevisionNotFound"}), ["no such revision", COMMIT[:12]]),
    "no repository": ((401, {"X-Error-Code": "RepoNotFound"}), ["no repository " + REPO, "log in"]),
    "bare 401": ((401, {}), ["token is not accepted", "HF_TOKEN"]),
    "bad token": ((401, {"X-Error-Message": "Invalid credentials in Authorization header"}), ["token", "HF_TOKEN"]),
    "gated": ((403, {"X-Error-Code": "GatedRepo"}), ["consent", REPO, "log in"]),
    "forbidden": ((403, {"X-Error-Message": "Not for\tyou"}), ["access is refused", "Not for"]),
    "disabled": ((403, {"X-Error-Message": "Access to this resource is disabled."}), ["disabled"]),
    "too many": ((429, {"Retry-After": "3600"}), ["429", "Try again"]),
    "too many, by rate": ((429, {"RateLimit": '"api";r=0;t=3000'}), ["429", "Try again"]),
    "bad gateway": ((502, {}), ["502", "Try again later"]),
    "unavailable": ((503, {}), ["503", "Try again later"]),
    "error": ((500, {}), ["500", "Try again later"]),
    "teapot": ((418, {}), ["status 418"]),
    "plain 404": ((404, {}), ["status 404"]),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_told_at_once(fake_hub, file, access, name, capfd):
    answer, words = REFUSALS[name]
    fake_hub.faults = Faults(head=answer)
    failing(HubError, file, access, *words)
    assert fake_hub.count("HEAD") == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["too many", "too many, by rate", "unavailable", "error", "forbidden", "plain 404"])
@pytest.mark.parametrize("when", ["second head", "content"])
def test_a_refusal_in_the_middle_is_told_at_once(fake_hub, file, access, name, when, capfd):
    answer, words = REFUSALS[name]
    fake_hub.faults = Faults(head=answer, heads_well=1) if when == "second head" else Faults(blob=answer)
    failing(HubError, file, access, *words)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        (Faults(portal=True), ["does not answer as a Hub", "sign-in page"]),
        (Faults(no_commit=True), ["does not answer as a Hub"]),
        (Faults(head=(302, {"Location": "http://localhost:9/login"})), ["does not answer as a Hub"]),
        (Faults(short_by=7), ["broke off"]),
    ],
)
def test_answers_that_are_no_hub_are_told(fake_hub, file, access, faults, words, capfd):
    fake_hub.faults = faults
    failing(HubError, file, access, *words)
    assert not [path for path in access.cache_dir.rglob("*.incomplete") if path.stat().st_size]
    assert capfd.readouterr() == ("", "")


def test_a_page_in_place_of_the_content_is_refused(fake_hub, file, access):
    fake_hub.faults = Faults(blob=(200, {"Content-Type": "text/html"}, b"<html>" + bytes(len(DATA) - 6)))
    failing(WeightsError, file, access, "wrong SHA-256")


@pytest.mark.parametrize(
    "faults",
    [
        Faults(head_silent=True),
        Faults(head_silent=True, heads_well=1),
        Faults(silent_after=0),
        Faults(silent_after=1000),
    ],
    ids=["first head", "second head", "content", "in the content"],
)
def test_a_silent_hub_is_given_up(fake_hub, file, access, faults, capfd):
    fake_hub.faults = faults
    message = failing(HubError, file, access, NAME, within_s=8)  # three tries of 0.3 s and the client's pauses
    assert "silent" in message or "stopped answering" in message
    assert capfd.readouterr() == ("", "")


def test_a_connection_that_drops_once_is_taken_up_again(fake_hub, file, access):
    fake_hub.faults = Faults(drops=1)
    assert fetch(file, hub=access).read_bytes() == DATA


def test_a_connection_that_always_drops_is_given_up(fake_hub, file, access, capfd):
    fake_hub.faults = Faults(drops=ALWAYS)
    failing(HubError, file, access, "stopped answering", within_s=6)
    assert fake_hub.count("GET") == 3
    assert capfd.readouterr() == ("", "")


def test_a_closed_port_is_told(file, access, tmp_path, capfd):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    access = HubAccess(endpoint=f"http://127.0.0.1:{port}", cache_dir=tmp_path, token=False, timeout_s=1)
    message = failing(HubError, file, access, "cannot be reached", str(port), "--offline")
    assert "proxy" not in message
    assert capfd.readouterr() == ("", "")


def test_an_unknown_address_is_told(file, tmp_path, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    access = HubAccess(endpoint="http://hub.invalid", cache_dir=tmp_path, token=False, timeout_s=1)
    failing(HubError, file, access, "address of http://hub.invalid is not known here")


def test_a_dead_proxy_is_told(file, access, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    failing(HubError, file, access, "proxy is set")


@pytest.mark.parametrize("endpoint", ["ftp://127.0.0.1", "http://[bad", "nonsense", "http://127.0.0.1:99999"])
def test_an_endpoint_that_is_none_is_told(file, tmp_path, endpoint):
    access = HubAccess(endpoint=endpoint, cache_dir=tmp_path, token=False, timeout_s=1)
    failing(HubError, file, access, endpoint)


@pytest.mark.parametrize("repo", ["a/b/c", "-a/b", "a..b/c", "a b/c", "a/" + "b" * 200])
def test_a_name_that_is_no_repository_is_told(fake_hub, access, repo):
    failing(HubError, HubFile(repo=repo, name="x"), access, "no name of a Hub repository")
    assert fake_hub.requests == []


@pytest.mark.parametrize(
    "name", ["../x.pth", "/etc/passwd", "a/../../x", "a//b", "", "..", "a\\..\\b", "a\nb", "\x1b[2J"]
)
def test_a_file_outside_the_repository_is_refused(fake_hub, access, name):
    failing(HubError, HubFile(repo=REPO, name=name), access, "no path inside a repository")
    assert fake_hub.requests == []


def test_a_cache_that_cannot_be_written_is_told(fake_hub, file, access, tmp_path):
    (tmp_path / "plain").write_text("")
    access = HubAccess(endpoint=fake_hub.endpoint, cache_dir=tmp_path / "plain" / "cache", token=False)
    failing(HubError, file, access, "cannot be written", str(tmp_path / "plain"), "HF_HOME")


def test_a_full_disk_is_told():
    error = explain(OSError(28, "No space left on device"), "f", "a/b", "http://hub", Path("/cache"))
    assert str(error) == (
        "The cache /cache cannot be written: No space left on device. Make room, or set HF_HOME to another folder."
    )


def test_what_a_server_says_cannot_reach_the_terminal_raw():
    error = explain(RuntimeError("\x1b[2J red\nsecond line {0} {file}"), "f", "a/b", "http://hub", Path("/cache"))
    assert str(error) == "f cannot be fetched from http://hub: [2J red."


def test_the_token_goes_to_the_hub_and_not_to_the_store(fake_hub, file, tmp_path):
    access = HubAccess(endpoint=fake_hub.endpoint, cache_dir=tmp_path, token="hf_secret")
    fetch(file, hub=access)
    assert fake_hub.tokens == ["Bearer hf_secret", "Bearer hf_secret", None]


def test_the_client_is_left_as_it_was_found(fake_hub, file, access):
    import logging

    from huggingface_hub.utils import _http

    level = logging.getLogger("huggingface_hub").level
    fetch(file, hub=access)
    fake_hub.faults = Faults(head=(500, {}))
    failing(HubError, HubFile(repo=REPO, name="y"), access)
    assert _http._GLOBAL_CLIENT_FACTORY is _http.default_client_factory
    assert logging.getLogger("huggingface_hub").level == level


def test_files_of_a_repository_are_listed(fake_hub, file, access):
    fake_hub.add(REPO, "README.md", b"", lfs=False)
    assert list_files(REPO, hub=access) == [NAME, "README.md"]
    assert list_files(REPO, revision=COMMIT, hub=access) == [NAME, "README.md"]
    assert fake_hub.requests == [
        ("GET", f"/api/models/{REPO}/revision/main"),
        ("GET", f"/api/models/{REPO}/revision/{COMMIT}"),
    ]


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        (Faults(api=(401, {"X-Error-Code": "RepoNotFound"}, b"")), "no repository"),
        (Faults(api=(503, {}, b"")), "503"),
        (Faults(api=(429, {"Retry-After": "3600"}, b"")), "429"),
        (Faults(api=(200, {}, b"[1, 2]")), "does not answer as a Hub"),
        (Faults(api=(200, {}, b'{"siblings": 3}')), "does not answer as a Hub"),
        (Faults(portal=True), "cannot be fetched"),
    ],
)
def test_a_list_that_fails_is_told(fake_hub, access, faults, words, capfd):
    fake_hub.faults = faults
    with pytest.raises(HubError, match=words) as caught:
        list_files(REPO, hub=access)
    assert str(caught.value).isprintable()
    assert len(fake_hub.requests) == 1
    assert capfd.readouterr() == ("", "")


def test_a_list_offline_asks_for_the_name(fake_hub, access):
    with pytest.raises(HubError, match="Name the file"):
        list_files(REPO, offline=True, hub=access)
    assert fake_hub.requests == []


def fetch_elsewhere(file, **environment):
    """Fetch in a process of its own, with nothing but the environment to go by."""
    program = (
        f"from ddnsr_cli.hub import *\nfrom ddnsr_cli.errors import *\n"
        f"try: print(fetch(HubFile(repo={file.repo!r}, name={file.name!r}, revision={file.revision!r})))\n"
        f"except DdnsrError as error: print(error)"
    )
    fixed = {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "NO_PROXY": "127.0.0.1,localhost",
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=fixed | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_the_clients_environment_is_honoured(fake_hub, file, tmp_path):
    here = {"HF_ENDPOINT": fake_hub.endpoint, "HF_HOME": str(tmp_path / "home")}
    assert "not in the cache" in fetch_elsewhere(file, **here, HF_HUB_OFFLINE="1")
    path = Path(fetch_elsewhere(file, **here, HF_TOKEN="hf_word"))
    assert path.read_bytes() == DATA
    assert path.is_relative_to(tmp_path / "home" / "hub")
    assert fake_hub.tokens[0] == "Bearer hf_word"
    assert {path for _, path in fake_hub.requests} <= {
        f"/{REPO}/resolve/{COMMIT}/deep/RRDB%20x4.pth",
        f"/{REPO}/deep/RRDB%20x4.pth",
    }
    assert fetch_elsewhere(file, **here, HF_HUB_OFFLINE="1") == str(path)
