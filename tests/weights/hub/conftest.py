import time

import pytest

from ddnsr_cli.weights.hub.download import HubAccess, HubFile, fetch
from tests.helpers.fake_hub import COMMIT

REPO, NAME = "some-one/nets", "deep/RRDB x4.pth"
DATA = bytes(range(256)) * 500


@pytest.fixture
def access(fake_hub, tmp_path):
    return HubAccess(endpoint=fake_hub.endpoint, cache_dir=tmp_path / "cache", token=False, timeout_s=0.3)


@pytest.fixture
def file(fake_hub):
    return HubFile(repo=REPO, name=NAME, revision=COMMIT, sha256=fake_hub.add(REPO, NAME, DATA), size_bytes=len(DATA))


@pytest.fixture
def brisk(monkeypatch):
    """The client's pauses between tries (1 to 8 s), cut short."""
    pause = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: pause(min(seconds, 0.05)))


@pytest.fixture
def failing():
    """Fetch, and check the failure: its class, how long it took, and that it is one line with these words."""

    def fail(kind, file, access, *words, within_s=4.0, **how):
        start = time.monotonic()
        with pytest.raises(kind) as caught:
            fetch(file, hub=access, **how)
        assert time.monotonic() - start < within_s
        message = str(caught.value)
        assert type(caught.value) is kind
        assert message.isprintable()
        assert len(message) < 420
        for word in words:
            assert word in message
        return message

    return fail
