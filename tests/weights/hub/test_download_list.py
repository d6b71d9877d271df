import pytest

from ddnsr_cli.errors import HubError
from ddnsr_cli.weights.hub.download import list_files
from tests.helpers.fake_hub import COMMIT, Faults

REPO, NAME = "some-one/nets", "deep/RRDB x4.pth"


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
def test_a_list_that_fails_is_reported(fake_hub, access, faults, words, capfd):
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
