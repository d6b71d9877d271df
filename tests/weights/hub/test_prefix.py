import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from ddnsr_cli.errors import HubError, WeightsError
from ddnsr_cli.weights.hub.download import HubFile
from ddnsr_cli.weights.hub.prefix import fetch_tensors
from tests.helpers.fake_hub import COMMIT, Faults

REPO, NAME = "some-one/nets", "model.safetensors"
SHAPES = {"features.0.weight": (4, 3, 3, 3), "features.0.bias": (4,), "features.2.bias": (5,)}
DRAWN = np.random.default_rng(0)
TENSORS = {name: DRAWN.standard_normal(shape, dtype=np.float32) for name, shape in SHAPES.items()}
OTHERS = {"features.10.bias": np.ones(6, np.float32), "head.fc.weight": np.ones((1000, 500), np.float32)}
WHOLE = save({**TENSORS, **OTHERS})  # in the order of the names: features.10 lies between features.0 and features.2
DATA_START = 8 + int.from_bytes(WHOLE[:8], "little")


@pytest.fixture
def whole(fake_hub):
    return HubFile(repo=REPO, name=NAME, revision=COMMIT, sha256=fake_hub.add(REPO, NAME, WHOLE))


@pytest.fixture
def altered(fake_hub, whole):
    """Serve other content than is declared."""

    def alter(content):
        fake_hub.add(REPO, NAME, content)
        fake_hub.faults = Faults(etag=whole.sha256)

    return alter


def refused(kind, file, access, *words, **how):
    with pytest.raises(kind) as caught:
        fetch_tensors(file, how.pop("shapes", SHAPES), hub=access, **how)
    message = str(caught.value)
    assert type(caught.value) is kind
    assert message.isprintable()
    assert len(message) < 420
    for word in (NAME, *words):
        assert word in message
    assert not [path for path in access.cache_dir.rglob("*") if path.is_file()]
    return message


def test_only_the_wanted_bytes_are_fetched_and_then_nothing(fake_hub, whole, access, capfd):
    told = []
    path = fetch_tensors(whole, SHAPES, hub=access, on_progress=lambda done, total: told.append((done, total)))
    held = load_file(path)
    assert held.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(held[name], tensor)
    first, second = 4 * (4 * 27 + 4), 4 * 5  # bytes before and after those of features.10
    assert fake_hub.count("HEAD") == 1
    assert fake_hub.ranges == [
        "bytes=0-7",
        f"bytes=8-{DATA_START - 1}",
        f"bytes={DATA_START}-{DATA_START + first - 1}",
        f"bytes={DATA_START + first + 24}-{DATA_START + first + 24 + second - 1}",
    ]
    assert told[0] == (0, first + second)
    assert told[-1] == (first + second, first + second)
    fake_hub.requests.clear()
    assert fetch_tensors(whole, SHAPES, hub=access) == path
    assert fetch_tensors(whole, SHAPES, hub=access, offline=True) == path
    assert fake_hub.requests == []
    assert capfd.readouterr() == ("", "")


def test_neighbors_come_by_one_request(fake_hub, whole, access):
    wanted = {**SHAPES, "features.10.bias": (6,)}
    assert load_file(fetch_tensors(whole, wanted, hub=access)).keys() == wanted.keys()
    assert len(fake_hub.ranges) == 3


def test_half_precision_stays_as_it_is(fake_hub, access):
    halves = {name: tensor.astype(np.float16) for name, tensor in TENSORS.items()}
    file = HubFile(repo=REPO, name=NAME, revision=COMMIT, sha256=fake_hub.add(REPO, NAME, save(halves)))
    held = load_file(fetch_tensors(file, SHAPES, hub=access))
    for name, tensor in halves.items():
        np.testing.assert_array_equal(held[name], tensor, strict=True)


def test_the_copy_tells_where_it_is_from_and_is_the_same_everywhere(whole, access, tmp_path):
    path = fetch_tensors(whole, SHAPES, hub=access)
    content = path.read_bytes()
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    assert metadata["source"] == f"{REPO}@{COMMIT}:{NAME}"
    assert metadata["source_sha256"] == whole.sha256
    again = fetch_tensors(whole, dict(reversed(SHAPES.items())), hub=replace(access, cache_dir=tmp_path / "other"))
    assert again.name == path.name
    assert again.read_bytes() == content


@pytest.mark.parametrize("where", [0, 3, 60, -1, None])
def test_a_damaged_copy_is_fetched_again_and_never_used_offline(fake_hub, whole, access, where):
    path = fetch_tensors(whole, SHAPES, hub=access)
    good = path.read_bytes()
    bad = bytearray(good)
    if where is None:
        del bad[-10:]
    else:
        bad[where] ^= 1
    path.write_bytes(bad)
    with pytest.raises(HubError, match="damaged"):
        fetch_tensors(whole, SHAPES, hub=access, offline=True)
    assert fetch_tensors(whole, SHAPES, hub=access).read_bytes() == good
    assert fake_hub.count("HEAD") == 2


def test_offline_without_a_copy_asks_nobody(fake_hub, whole, access):
    refused(HubError, whole, access, REPO, "is not in the cache", str(access.cache_dir), "--offline", offline=True)
    assert fake_hub.requests == []


def test_a_file_that_is_not_pinned_is_refused(whole, access):
    for file in (replace(whole, revision="main"), replace(whole, sha256=None)):
        with pytest.raises(ValueError, match="full commit"):
            fetch_tensors(file, SHAPES, hub=access)


@pytest.mark.parametrize(("etag", "words"), [("a" * 64, "a" * 64), ("b" * 40, "no SHA-256")])
def test_a_file_that_the_hub_declares_otherwise_is_not_fetched(fake_hub, whole, access, etag, words):
    fake_hub.faults = Faults(etag=etag)
    refused(WeightsError, whole, access, "not the released file", words, whole.sha256)
    assert fake_hub.ranges == []


def test_a_server_without_ranges_is_left_before_it_sends_the_whole(fake_hub, whole, access):
    fake_hub.faults = Faults(ignores_ranges=True, silent_after=1)  # to read on would be to wait
    refused(HubError, whole, access, "does not serve parts", "status 200", "2 MB was not fetched")
    assert fake_hub.ranges == ["bytes=0-7"]


@pytest.mark.parametrize(
    "told",
    ["", "bytes 0-6/{size}", "bytes 1-8/{size}", "bytes 0-7/9", "items 0-7/{size}", "bytes 0-7", "\tx" * 200],
)
def test_another_range_than_asked_for_is_refused(fake_hub, whole, access, told):
    fake_hub.faults = Faults(content_range=told.format(size=len(WHOLE)))
    refused(HubError, whole, access, "another part", "0-7")


def test_a_range_of_a_file_of_unknown_size_is_taken(fake_hub, whole, access):
    fake_hub.faults = Faults(content_range="bytes 0-7/*")
    refused(HubError, whole, access, f"8-{DATA_START - 1}")  # the first was taken, the second is asked for


@pytest.mark.parametrize(("part", "word"), [((1, 0), "few"), ((0, -1), "few"), ((0, 1), "many")])
def test_a_part_of_another_length_than_its_range_is_refused(fake_hub, whole, access, part, word):
    fake_hub.faults = Faults(part=part)
    refused(HubError, whole, access, f"too {word} bytes")


def test_a_transfer_that_drops_is_taken_up_where_it_stopped(fake_hub, whole, access):
    fake_hub.faults = Faults(drops=2)  # after 4 of 8 bytes, and after 2 of the other 4
    path = fetch_tensors(whole, SHAPES, hub=access)
    np.testing.assert_array_equal(load_file(path)["features.2.bias"], TENSORS["features.2.bias"])
    assert fake_hub.ranges[:3] == ["bytes=0-7", "bytes=4-7", "bytes=6-7"]


def test_a_server_that_falls_silent_is_given_up(fake_hub, whole, access):
    fake_hub.faults = Faults(silent_after=0)
    refused(HubError, whole, access, "silent")


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        (Faults(portal=True), ["does not answer as a Hub"]),
        (Faults(no_commit=True), ["does not answer as a Hub"]),
        (Faults(head=(404, {"X-Error-Code": "EntryNotFound"})), ["no such file"]),
        (Faults(head=(503, {})), ["503", "Try again later"]),
        (Faults(blob=(429, {})), ["429", "Try again"]),
        (Faults(blob=(403, {})), ["access is refused"]),
        (Faults(blob=(416, {})), ["416"]),
        (Faults(blob=(204, {})), ["does not serve parts", "204"]),
    ],
)
def test_a_refusal_is_reported_at_once(fake_hub, whole, access, faults, words):
    fake_hub.faults = faults
    refused(HubError, whole, access, *words)
    assert len(fake_hub.requests) <= 2


def test_a_hub_that_is_not_there_is_reported(whole, access):
    refused(HubError, whole, replace(access, endpoint="http://127.0.0.1:9"), "cannot be reached")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'"features.0.bias"', b'"features.0.bia_"', "no features.0.bias"),
        (b"[5]", b"[6]", "features.2.bias not of the shape"),
        (WHOLE[:8], b"\0" * 8, "a header of 0 bytes"),
        (WHOLE[:8], b"\xff" * 8, f"a header of {2**64 - 1} bytes"),
        (b'{"', b"{[", "no JSON"),
    ],
)
def test_a_header_that_lies_ends_it_before_any_data(fake_hub, whole, access, altered, old, new, words):
    altered(WHOLE.replace(old, new, 1))
    refused(WeightsError, whole, access, words, "not the released file", "try another network")
    assert len(fake_hub.ranges) <= 2


def test_values_that_are_not_finite_are_refused(whole, access, altered):
    altered(save({**TENSORS, "features.2.bias": np.array([1, 2, np.nan, 4, 5], np.float32)}))
    refused(WeightsError, whole, access, "not finite in features.2.bias")


def test_a_token_goes_to_the_hub_and_not_to_its_store(fake_hub, whole, access):
    fetch_tensors(whole, SHAPES, hub=replace(access, token="hf_secret"))
    assert fake_hub.tokens == ["Bearer hf_secret"] + [None] * 4


def test_a_mirror_that_serves_the_file_itself_gets_the_token(fake_hub, whole, access):
    fake_hub.add(REPO, NAME, WHOLE, lfs=False)
    fake_hub.faults = Faults(etag=whole.sha256)
    fetch_tensors(whole, SHAPES, hub=replace(access, token="hf_secret"))
    assert fake_hub.tokens == ["Bearer hf_secret"] * 5


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_cache_that_is_read_only_is_reported(whole, access):
    access.cache_dir.mkdir()
    access.cache_dir.chmod(0o500)
    with pytest.raises(HubError, match="cannot be written"):
        fetch_tensors(whole, SHAPES, hub=access)


def test_a_cache_that_is_a_file_is_reported(whole, access):
    access.cache_dir.write_bytes(b"")
    with pytest.raises(HubError, match=r"cannot be written.*HF_HOME"):
        fetch_tensors(whole, SHAPES, hub=access)


def test_two_processes_at_once_leave_one_whole_copy(fake_hub, whole, tmp_path):
    program = (
        f"from ddnsr_cli.weights.hub.prefix import *\n"
        f"print(fetch_tensors(HubFile(repo={REPO!r}, name={NAME!r}, revision={COMMIT!r}, sha256={whole.sha256!r}), "
        f"{SHAPES!r}))"
    )
    environment = {
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "PATH": os.environ["PATH"],
        "NO_PROXY": "127.0.0.1,localhost",
        "HF_ENDPOINT": fake_hub.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-W", "error", "-c", program]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate(timeout=60)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(said) == 1
    path = Path(said.pop())
    assert path.is_relative_to(tmp_path / "home" / "assets" / "ddnsr")
    assert [found for found in (tmp_path / "home" / "assets").rglob("*") if found.is_file()] == [path]
    np.testing.assert_array_equal(load_file(path)["features.0.bias"], TENSORS["features.0.bias"])


def test_an_interrupted_fetch_leaves_nothing(whole, access):
    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_tensors(whole, SHAPES, hub=access, on_progress=interrupt)
    assert not access.cache_dir.exists()


def test_the_settings_of_the_client_decide_where_the_copy_lies(whole, access, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(access.cache_dir))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="not in the cache " + str(access.cache_dir)):
        fetch_tensors(whole, SHAPES)
