"""Uploads through the real client to a Hub on the loopback device."""

import hashlib
import json
import socket
import time

import pytest

from ddnsr_cli.errors import HubError
from ddnsr_cli.weights.hub.download import HubAccess, HubFile, fetch
from ddnsr_cli.weights.hub.upload import PATIENCE_S, upload
from tests.helpers.fake_uploads import CONFLICT

REPO = "some-one/nets"
SR, DEGRADER = bytes(range(256)) * 1000, b"degrader" * 9000
CARD = b"---\nlicense: mit\n---\n# A card\n"
FILES = {"sr.safetensors": SR, "degrader.safetensors": DEGRADER, "README.md": CARD}
ORDER = ["create", "card", "preupload", "batch", "content", "commit"]


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def hub(fake_hub, tmp_path):
    return HubAccess(endpoint=fake_hub.endpoint, cache_dir=tmp_path / "cache", token="hf_secret", timeout_s=0.3)


@pytest.fixture
def failing(hub, capfd):
    """Upload, and check the failure: quick, one line with these words, nothing on the terminal."""

    def fail(*words, within_s=4.0, hub=hub, repo=REPO, **how):
        start = time.monotonic()
        with pytest.raises(HubError) as caught:
            upload(repo, FILES, message="m", hub=hub, **how)
        assert time.monotonic() - start < within_s
        message = str(caught.value)
        assert type(caught.value) is HubError
        assert message.isprintable()
        assert len(message) < 420
        assert "hf_secret" not in message
        for word in words:
            assert word in message
        assert capfd.readouterr() == ("", "")
        return message

    return fail


def test_files_arrive_byte_for_byte_in_one_commit(fake_hub, hub, capfd):
    done = upload(REPO, FILES, message="mine: step 7", hub=hub)
    assert done.url == f"{fake_hub.endpoint}/{REPO}"
    assert done.revision == fake_hub.commit
    assert {name: stored.data for (_, name), stored in fake_hub.files.items()} == FILES
    (commit,) = fake_hub.uploads.commits
    assert commit[0]["value"]["summary"] == "mine: step 7"
    assert sorted(line["value"]["path"] for line in commit[1:]) == sorted(FILES)
    assert list(dict.fromkeys(fake_hub.uploads.stages)) == ORDER
    assert fake_hub.uploads.repos == {REPO: False}
    assert capfd.readouterr() == ("", "")


def test_the_token_goes_to_the_hub_and_not_to_its_store(fake_hub, hub):
    upload(REPO, FILES, message="m", hub=hub)
    told = fake_hub.uploads.tokens
    assert told.pop("content") is None
    assert set(told.values()) == {"Bearer hf_secret"}


def test_what_was_uploaded_can_be_fetched_by_its_pin(fake_hub, hub):
    done = upload(REPO, FILES, message="m", hub=hub)
    file = HubFile(repo=REPO, name="sr.safetensors", revision=done.revision, sha256=sha256(SR))
    assert fetch(file, hub=hub).read_bytes() == SR


def test_the_same_again_sends_nothing_and_gives_the_same_revision(fake_hub, hub):
    first = upload(REPO, FILES, message="m", hub=hub)
    fake_hub.uploads.stages.clear()
    assert upload(REPO, FILES, message="m", hub=hub) == first
    assert len(fake_hub.uploads.commits) == 1
    assert "content" not in fake_hub.uploads.stages


def test_only_what_changed_is_sent_and_other_files_stay(fake_hub, hub):
    fake_hub.uploads.repos[REPO] = False
    fake_hub.add(REPO, "figure.png", b"png")
    upload(REPO, FILES, message="m", hub=hub)
    upload(REPO, FILES | {"README.md": CARD + b"more\n"}, message="m", hub=hub)
    assert [line["value"].get("path") for line in fake_hub.uploads.commits[1][1:]] == ["README.md"]
    assert fake_hub.files[REPO, "figure.png"].data == b"png"
    assert fake_hub.files[REPO, "README.md"].data == CARD + b"more\n"


@pytest.mark.parametrize("drops", [0, 2])
def test_progress_counts_the_weights_from_nothing_to_all(fake_hub, hub, brisk, drops):
    fake_hub.uploads.drops = drops
    told = []
    upload(REPO, FILES, message="m", hub=hub, on_progress=lambda done, total: told.append((done, total)))
    done, totals = zip(*told, strict=True)
    assert set(totals) == {len(SR) + len(DEGRADER)}
    assert list(done) == sorted(done)
    assert done[0] < done[-1] == totals[0]


def test_a_private_repository_is_made(fake_hub, hub):
    upload(REPO, FILES, message="m", private=True, hub=hub)
    assert fake_hub.uploads.repos == {REPO: True}


def test_nothing_is_sent_privately_to_a_public_repository(fake_hub, failing):
    fake_hub.uploads.repos[REPO] = False
    failing("exists and is public", "Nothing was sent", private=True)
    assert fake_hub.uploads.stages == ["create"]


REFUSALS = {
    "bad token": (401, b'{"error": "Invalid username or password."}', ["token is not accepted", "hf auth login"]),
    "no rights": (403, b'{"error": "You have no rights here"}', ["access is refused", "no rights here", "/settings/"]),
    "no place": (404, b'{"error": "gone"}', ["no such place", "owner's name"]),
    "busy": (429, b"{}", ["429", "Try again"]),
    "broken": (500, b"{}", ["500", "Try again later"]),
    "away": (503, b"{}", ["503", "Try again later"]),
    "teapot": (418, b'{"error": "short"}', ["status 418", "short"]),
}


EVERYWHERE = [(name, stage) for name in ("no rights", "away") for stage in ("create", "preupload", "batch", "commit")]


@pytest.mark.parametrize(("name", "stage"), [*((name, "content") for name in REFUSALS), *EVERYWHERE])
def test_a_refusal_is_reported_at_once_wherever_it_comes(fake_hub, failing, name, stage):
    status, body, words = REFUSALS[name]
    fake_hub.uploads.answers[stage] = (status, {"Content-Type": "application/json"}, body)
    failing(f"upload to {REPO}", *words)
    assert list(dict.fromkeys(fake_hub.uploads.stages)) == ORDER[: ORDER.index(stage) + 1]
    files = 2 if stage == "content" else 1  # they go side by side: the refusal of one may keep the other back
    assert 1 <= fake_hub.uploads.stages.count(stage) <= files  # no second try
    assert fake_hub.uploads.commits == []


def test_a_commit_that_meets_another_is_reported(fake_hub, failing):
    fake_hub.uploads.answers["commit"] = (409, {}, b'{"error": "conflict"}')
    failing("changed at the same time", "409", "Run it again")


def test_a_conflict_that_never_ends_is_given_up(fake_hub, failing):
    """The client itself asks for ever, without a pause."""
    fake_hub.uploads.answers["create"] = (409, {}, json.dumps({"error": CONFLICT}).encode())
    failing("upload to", "try again")
    assert len(fake_hub.uploads.stages) == 3


def test_a_card_that_the_hub_does_not_take_is_reported_before_anything_is_sent(fake_hub, failing):
    answer = {"errors": [{"message": '"license" must be one of [mit]\x1b'}], "warnings": []}
    fake_hub.uploads.answers["card"] = (400, {}, json.dumps(answer).encode())
    failing("refuses the head of README.md", '"license" must be one of [mit]', "run's folder")
    assert fake_hub.uploads.stages == ["create", "card"]


@pytest.mark.parametrize("stage", ["create", "card", "preupload", "batch", "commit"])
def test_an_answer_of_another_kind_is_reported(fake_hub, failing, stage):
    for body in (b"{}", b"[1]", b"<html>"):
        fake_hub.uploads.repos.clear()
        fake_hub.uploads.answers[stage] = (200, {}, body)
        if not (stage == "card" and body == b"{}"):
            failing("upload to")


def test_a_sign_in_page_is_reported(fake_hub, failing):
    fake_hub.faults.portal = True
    failing("does not answer as a Hub", "sign-in page")


def test_a_commit_without_a_full_revision_is_reported(fake_hub, failing):
    answer = {"commitOid": "main", "commitUrl": f"{fake_hub.endpoint}/{REPO}/commit/main"}
    fake_hub.uploads.answers["commit"] = (200, {}, json.dumps(answer).encode())
    failing("does not answer as a Hub")


@pytest.mark.parametrize("stage", ["create", "card", "preupload", "batch", "content", "commit"])
def test_a_silent_hub_is_given_up(fake_hub, brisk, failing, stage):
    fake_hub.uploads.silent = stage
    message = failing("upload to", within_s=8)
    assert "silent" in message or "stopped answering" in message
    assert "--offline" not in message


def test_a_store_that_reads_nothing_is_given_up(fake_hub, hub, brisk):
    fake_hub.uploads.deaf = True
    with pytest.raises(HubError, match="stopped answering"):
        upload(REPO, {"sr.safetensors": bytes(20_000_000)}, message="m", hub=hub)


def test_patience_as_it_is_set_ends_within_a_minute():
    tries, pauses_s = 3, 1 + 2
    assert tries * PATIENCE_S + pauses_s < 60


def test_a_transfer_that_breaks_off_is_sent_again(fake_hub, hub, brisk):
    fake_hub.uploads.drops = 1  # of either file
    upload(REPO, FILES, message="m", hub=hub)
    assert fake_hub.files[REPO, "sr.safetensors"].data == SR
    assert fake_hub.uploads.stages.count("content") == 3


def test_transfers_that_always_break_off_are_given_up(fake_hub, brisk, failing):
    fake_hub.uploads.drops = 1000
    failing("upload to", "stopped answering", within_s=8)


def test_a_closed_port_is_reported(brisk, tmp_path, failing, fake_hub):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    away = HubAccess(endpoint=f"http://127.0.0.1:{port}", cache_dir=tmp_path, token="hf_secret", timeout_s=0.3)
    message = failing("cannot be reached", str(port), "not sent twice", hub=away)
    assert "--offline" not in message


@pytest.mark.parametrize("name", ["sr.safetensors", "README.md"])
def test_a_file_that_the_repository_ignores_is_reported(fake_hub, failing, name):
    fake_hub.uploads.ignored = (name,)
    failing(f"has no {name}", ".gitignore", "Do not use it")


def test_another_content_in_the_repository_is_reported(fake_hub, failing):
    fake_hub.uploads.spoils = True
    failing("holds another sr.safetensors")


@pytest.mark.parametrize("repo", ["nets", "a/b/c", "-a/b", "a b/c", "a/" + "b" * 200, "/b", "a/", ""])
def test_a_name_that_is_no_repository_costs_no_request(fake_hub, failing, repo):
    failing("no name of a Hub repository", repo=repo)
    assert fake_hub.requests == []


def test_without_a_token_nothing_is_asked(fake_hub, failing, monkeypatch):
    for token in (None, False):
        away = HubAccess(endpoint=fake_hub.endpoint, token=token)
        failing("no token", "hf auth login", "HF_TOKEN", hub=away)
    assert fake_hub.requests == []


def test_the_token_of_the_environment_is_used(fake_hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_environment")
    upload(REPO, FILES, message="m", hub=HubAccess(endpoint=fake_hub.endpoint))
    assert fake_hub.uploads.tokens["commit"] == "Bearer hf_of_the_environment"


def test_offline_nothing_is_asked(fake_hub, failing, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    failing("HF_HUB_OFFLINE is set")
    assert fake_hub.requests == []
