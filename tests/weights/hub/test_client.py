import socket
import sys
from pathlib import Path

import pytest

from ddnsr_cli.errors import HubError, WeightsError
from ddnsr_cli.weights.hub.client import explain
from ddnsr_cli.weights.hub.download import HubAccess, HubFile
from tests.helpers.fake_hub import COMMIT, Faults

REPO, NAME = "some-one/nets", "deep/RRDB x4.pth"
DATA = bytes(range(256)) * 500
ALWAYS = 1000


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
def test_a_refusal_is_reported_at_once(fake_hub, file, access, name, capfd, failing):
    answer, words = REFUSALS[name]
    fake_hub.faults = Faults(head=answer)
    failing(HubError, file, access, *words)
    assert fake_hub.count("HEAD") == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["too many", "too many, by rate", "unavailable", "error", "forbidden", "plain 404"])
@pytest.mark.parametrize("when", ["second head", "content"])
def test_a_refusal_in_the_middle_is_reported_at_once(fake_hub, file, access, name, when, capfd, failing):
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
def test_answers_that_are_no_hub_are_reported(fake_hub, file, access, faults, words, capfd, failing):
    fake_hub.faults = faults
    failing(HubError, file, access, *words)
    assert not [path for path in access.cache_dir.rglob("*.incomplete") if path.stat().st_size]
    assert capfd.readouterr() == ("", "")


def test_a_page_in_place_of_the_content_is_refused(fake_hub, file, access, failing):
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
def test_a_silent_hub_is_given_up(fake_hub, file, access, faults, brisk, capfd, failing):
    fake_hub.faults = faults
    message = failing(HubError, file, access, NAME, within_s=8)
    assert "silent" in message or "stopped answering" in message
    assert capfd.readouterr() == ("", "")


def test_a_silent_hub_is_given_up_within_a_minute_as_things_are_set(fake_hub, file, access, failing):
    """Three tries of ten seconds; here of 0.3 s, with the client's own pauses."""
    fake_hub.faults = Faults(silent_after=1000)
    failing(HubError, file, access, "stopped answering", within_s=60 - 3 * 10)


def test_a_connection_that_always_drops_is_given_up(fake_hub, file, access, brisk, capfd, failing):
    fake_hub.faults = Faults(drops=ALWAYS)
    failing(HubError, file, access, "stopped answering", within_s=8)
    assert fake_hub.count("GET") == 3
    assert capfd.readouterr() == ("", "")


def test_a_closed_port_is_reported(file, access, tmp_path, capfd, failing):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    access = HubAccess(endpoint=f"http://127.0.0.1:{port}", cache_dir=tmp_path, token=False, timeout_s=1)
    message = failing(HubError, file, access, "cannot be reached", str(port), "--offline")
    assert "proxy" not in message
    assert capfd.readouterr() == ("", "")


def test_an_unknown_address_is_reported(file, tmp_path, monkeypatch, failing):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    access = HubAccess(endpoint="http://hub.invalid", cache_dir=tmp_path, token=False, timeout_s=1)
    failing(HubError, file, access, "address of http://hub.invalid is not known here")


def test_a_dead_proxy_is_reported(file, access, monkeypatch, failing):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    failing(HubError, file, access, "proxy is set")


@pytest.mark.parametrize("endpoint", ["ftp://127.0.0.1", "http://[bad", "nonsense", "http://127.0.0.1:99999"])
def test_an_endpoint_that_is_none_is_reported(file, tmp_path, endpoint, failing):
    access = HubAccess(endpoint=endpoint, cache_dir=tmp_path, token=False, timeout_s=1)
    failing(HubError, file, access, endpoint)


@pytest.mark.parametrize("repo", ["a/b/c", "-a/b", "a..b/c", "a b/c", "a/" + "b" * 200])
def test_a_name_that_is_no_repository_is_reported(fake_hub, access, repo, failing):
    failing(HubError, HubFile(repo=repo, name="x"), access, "no name of a Hub repository")
    assert fake_hub.requests == []


@pytest.mark.parametrize(
    "name", ["../x.pth", "/etc/passwd", "a/../../x", "a//b", "", "..", "a\\..\\b", "a\nb", "\x1b[2J"]
)
def test_a_file_outside_the_repository_is_refused(fake_hub, access, name, failing):
    failing(HubError, HubFile(repo=REPO, name=name), access, "no path inside a repository")
    assert fake_hub.requests == []


def test_a_cache_that_cannot_be_written_is_reported(fake_hub, file, access, tmp_path, failing):
    (tmp_path / "plain").write_text("")
    access = HubAccess(endpoint=fake_hub.endpoint, cache_dir=tmp_path / "plain" / "cache", token=False)
    failing(HubError, file, access, "cannot be written", str(tmp_path / "plain"), "HF_HOME")


def test_a_full_disk_is_reported():
    error = explain(OSError(28, "No space left on device"), "f", "a/b", "http://hub", Path("/cache"))
    assert str(error) == (
        "The cache /cache cannot be written: No space left on device. Make room, or set HF_HOME to another folder."
    )


def test_what_a_server_says_cannot_reach_the_terminal_raw():
    error = explain(RuntimeError("\x1b[2J red\nsecond line {0} {file}"), "f", "a/b", "http://hub", Path("/cache"))
    assert str(error) == "f cannot be fetched from http://hub: [2J red."


def test_a_setting_that_the_client_cannot_read_is_reported(file, access, monkeypatch, failing):
    import huggingface_hub

    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "soon")
    monkeypatch.delitem(sys.modules, "huggingface_hub.constants", raising=False)
    monkeypatch.delattr(huggingface_hub, "constants", raising=False)
    failing(HubError, file, access, "'soon'", "HF_HUB_*")
