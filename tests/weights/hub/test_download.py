import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddnsr_cli.errors import HubError, WeightsError
from ddnsr_cli.weights.hub.download import HubAccess, HubFile, fetch
from tests.helpers.fake_hub import COMMIT, Faults

REPO, NAME = "some-one/nets", "deep/RRDB x4.pth"
DATA = bytes(range(256)) * 500
ALWAYS = 1000


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


def test_a_copy_in_the_cache_is_pointed_to_when_the_hub_fails(fake_hub, file, access, failing):
    file = HubFile(repo=REPO, name=NAME)
    fetch(file, hub=access)
    fake_hub.faults = Faults(head=(503, {}))
    failing(HubError, file, access, "503", "--offline")


def test_offline_without_a_copy_says_where_was_looked_and_asks_nobody(fake_hub, file, access, failing):
    failing(HubError, file, access, NAME, REPO, "not in the cache", str(access.cache_dir), "--offline", offline=True)
    assert fake_hub.requests == []


def test_a_damaged_copy_is_repaired(fake_hub, file, access):
    path = fetch(file, hub=access)
    path.write_bytes(b"x" * len(DATA))
    assert fetch(file, hub=access).read_bytes() == DATA
    assert fake_hub.count("GET") == 2


@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_a_damaged_copy_is_not_used_offline(fake_hub, file, access, revision, failing):
    file = HubFile(repo=REPO, name=NAME, revision=revision)
    path = fetch(file, hub=access)
    path.write_bytes(b"x" * len(DATA))
    failing(HubError, file, access, "damaged", offline=True)


def test_a_transfer_with_a_wrong_byte_is_repeated(fake_hub, file, access):
    fake_hub.faults = Faults(wrong=1)
    assert fetch(file, hub=access).read_bytes() == DATA
    assert fake_hub.count("GET") == 2


@pytest.mark.parametrize("pinned", [True, False])
def test_a_wrong_content_of_the_right_size_is_refused_and_removed(fake_hub, file, access, pinned, capfd, failing):
    file = file if pinned else HubFile(repo=REPO, name=NAME)
    fake_hub.faults = Faults(wrong=ALWAYS)
    failing(WeightsError, file, access, NAME, "wrong SHA-256", "removed")
    assert fake_hub.count("GET") == 2
    assert not any(path.stat().st_size == len(DATA) for path in access.cache_dir.rglob("*") if path.is_file())
    fake_hub.faults = Faults()
    assert fetch(file, hub=access).read_bytes() == DATA
    assert capfd.readouterr() == ("", "")


def test_a_file_that_the_hub_declares_otherwise_is_not_fetched(fake_hub, file, access, failing):
    fake_hub.add(REPO, NAME, b"another")
    failing(WeightsError, file, access, "is not the released file", file.sha256)
    assert fake_hub.count("GET") == 0


def test_a_connection_that_drops_once_is_taken_up_again(fake_hub, file, access):
    fake_hub.faults = Faults(drops=1)
    assert fetch(file, hub=access).read_bytes() == DATA


def test_the_token_goes_to_the_hub_and_not_to_the_store(fake_hub, file, tmp_path):
    access = HubAccess(endpoint=fake_hub.endpoint, cache_dir=tmp_path, token="hf_secret")
    fetch(file, hub=access)
    assert fake_hub.tokens == ["Bearer hf_secret", "Bearer hf_secret", None]


def test_the_client_is_left_as_it_was_found(fake_hub, file, access, failing):
    import logging

    from huggingface_hub.utils import _http

    level = logging.getLogger("huggingface_hub").level
    fetch(file, hub=access)
    fake_hub.faults = Faults(head=(500, {}))
    failing(HubError, HubFile(repo=REPO, name="y"), access)
    assert _http._GLOBAL_CLIENT_FACTORY is _http.default_client_factory
    assert logging.getLogger("huggingface_hub").level == level


def fetch_elsewhere(file, **environment):
    """Fetch in a process of its own, with nothing but the environment to go by."""
    program = (
        f"from ddnsr_cli.weights.hub.download import *\nfrom ddnsr_cli.errors import *\n"
        f"try: print(fetch(HubFile(repo={file.repo!r}, name={file.name!r}, revision={file.revision!r})))\n"
        f"except DdnsrError as error: print(error)"
    )
    fixed = {
        "PYTHONPATH": str(Path(__file__).parents[3]),
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


def test_the_clients_environment_is_honored(fake_hub, file, tmp_path):
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
