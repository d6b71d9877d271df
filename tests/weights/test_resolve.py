import hashlib
import random
from dataclasses import replace
from pathlib import Path

import pytest

from ddnsr_cli.errors import HubError, WeightsError
from ddnsr_cli.weights.hub.download import HubAccess
from ddnsr_cli.weights.registry import Registry, WeightsEntry
from ddnsr_cli.weights.resolve import find_weights
from tests.helpers.fake_hub import COMMIT, Faults

DATA = bytes(range(256)) * 40
REPO = "some-one/nets"


def entry(name, data, **place):
    return WeightsEntry(
        name=name,
        title=name,
        description="",
        network="rrdb",
        features=8,
        blocks=2,
        growth=4,
        scale=4,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        license="MIT",
        by="The tests",
        own=True,
        trained_on="",
        **place,
    )


@pytest.fixture
def registry(tmp_path):
    (tmp_path / "package" / "pretrained").mkdir(parents=True)
    (tmp_path / "package" / "pretrained" / "lite.safetensors").write_bytes(DATA)
    entries = (
        entry("ddnsr-lite", DATA, bundled="pretrained/lite.safetensors", default=True),
        entry("realesrgan-x4plus", DATA[::-1], repo=REPO, revision=COMMIT, file="x4.safetensors"),
    )
    return Registry(entries=entries, folder=tmp_path / "package")


@pytest.fixture
def access(fake_hub, tmp_path):
    return HubAccess(endpoint=fake_hub.endpoint, cache_dir=tmp_path / "cache", token=False, timeout_s=0.3)


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def refused(kind, name, registry, *words, **how):
    with pytest.raises(kind) as caught:
        find_weights(name, registry=registry, **how)
    message = str(caught.value)
    assert message.isprintable()
    for word in words:
        assert word in message
    return message


@pytest.mark.parametrize("name", [None, "ddnsr-lite"])
def test_bundled_weights_need_no_hub(registry, name, access, fake_hub):
    found = find_weights(name, registry=registry, hub=access)
    assert found.path == registry.folder / "pretrained" / "lite.safetensors"
    assert found.name == "ddnsr-lite"
    assert found.entry is registry.entries[0]
    assert fake_hub.requests == []


def test_bundled_weights_that_were_changed_are_refused(registry):
    path = registry.folder / "pretrained" / "lite.safetensors"
    damaged = bytearray(DATA)
    damaged[random.Random(0).randrange(len(DATA))] ^= 4
    for content in (bytes(damaged), DATA[:-1], b""):
        path.write_bytes(content)
        refused(WeightsError, None, registry, "ddnsr-lite", "damaged or was replaced", str(path), "Install ddnsr again")
    path.unlink()
    refused(WeightsError, None, registry, "ddnsr-lite", "missing from the installation", str(path))


def test_weights_for_research_only_say_so(registry):
    assert find_weights(None, registry=registry).terms is None
    images = replace(registry.entries[0], research_only=True, trained_on="images of DPED")
    found = find_weights(None, registry=Registry(entries=(images,), folder=registry.folder))
    assert found.terms == "ddnsr-lite is for research only, as are images that it learned from: images of DPED."


@pytest.fixture
def for_research(tmp_path, registry):
    """A registry as a clone has it, beside the folder research/, which is not there yet."""
    images = replace(
        registry.entries[0],
        name="ddnsr-photos",
        default=False,
        bundled=None,
        beside="research/ddnsr-photos.safetensors",
        license="research use only",
        research_only=True,
        trained_on="images of DPED",
    )
    return Registry(entries=(*registry.entries, images), folder=registry.folder, root=tmp_path / "clone")


def with_research(registry, content=DATA):
    path = registry.root / "research" / "ddnsr-photos.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_weights_for_research_are_found_in_a_clone(for_research):
    path = with_research(for_research)
    found = find_weights("ddnsr-photos", registry=for_research)
    assert (found.path, found.name, found.entry) == (path, "ddnsr-photos", for_research.entries[-1])
    path.write_bytes(DATA[:-1])
    refused(WeightsError, "ddnsr-photos", for_research, "damaged or was replaced", "Check out the project again")


def test_weights_for_research_are_refused_without_a_clone_and_told_how_to_get(for_research):
    message = refused(WeightsError, "ddnsr-photos", for_research)
    assert message == (
        "ddnsr-photos (research use only) does not come with the program. Get ddnsr-photos.safetensors from the "
        "project's repository, folder research/, and name the file: -m ddnsr-photos.safetensors."
    )


def test_weights_for_research_say_so_under_any_name_of_the_file(for_research, here):
    for_research = replace(for_research, entries=for_research.entries[1:])  # the first has the same bytes
    (here / "mine.safetensors").write_bytes(DATA)
    told = find_weights("mine.safetensors", registry=for_research).terms
    assert told == "mine.safetensors is for research only, as are images that it learned from: images of DPED."
    for content in (DATA[:-1], DATA[::-1]):  # another size, another content
        (here / "mine.safetensors").write_bytes(content)
        found = find_weights("mine.safetensors", registry=for_research)
        assert (found.entry, found.terms) == (None, None)


def test_no_default_is_reported(registry):
    bare = Registry(entries=(replace(registry.entries[0], default=False),), folder=registry.folder)
    refused(WeightsError, None, bare, "No default weights")


@pytest.fixture
def with_degrader(registry):
    """The registry with a degrader in it."""
    made = replace(registry.entries[0], name="ddnsr-degrader", network="degrader", growth=None)
    return Registry(entries=(*registry.entries, made), folder=registry.folder)


def test_a_kind_of_network_has_a_default_of_its_own(with_degrader):
    assert find_weights(None, registry=with_degrader).name == "ddnsr-lite"
    assert find_weights(None, registry=with_degrader, network="degrader").name == "ddnsr-degrader"


def test_a_released_name_of_another_kind_is_refused(with_degrader):
    refused(WeightsError, "ddnsr-degrader", with_degrader, "ddnsr-degrader is a degrader, for ddnsr degrade")
    refused(WeightsError, "ddnsr-lite", with_degrader, "ddnsr-lite", "for ddnsr upscale", network="degrader")
    for name in ("ddnsr-degrader", "ddnsr-lite"):
        assert find_weights(name, registry=with_degrader, network=None).name == name


def test_a_suffix_may_be_left_out(registry, here):
    (here / "nets").mkdir()
    (here / "nets/a.pth").write_bytes(b"x")
    (here / "nets/b.param").write_bytes(b"text")
    (here / "nets/b.bin").write_bytes(b"weights")
    for name, path in (("nets/a", "nets/a.pth"), ("nets/b", "nets/b.param"), ("nets/b.bin", "nets/b.param")):
        assert find_weights(name, registry=registry).path == Path(path)
    refused(WeightsError, "./nets/c", registry, "The folder has: -m nets/a, b.")
    refused(WeightsError, "c.param", registry, "no weights file")


def test_the_hash_of_an_ncnn_pair_covers_both_files(registry, here):
    (here / "b.param").write_bytes(b"text")
    (here / "b.bin").write_bytes(b"weights")
    assert find_weights("b.param", registry=registry).sha256 == hashlib.sha256(b"textweights").hexdigest()
    assert find_weights(None, registry=registry).sha256 == hashlib.sha256(DATA).hexdigest()


def test_of_a_run_the_file_of_its_kind_is_taken(registry, here):
    for name in ("sr", "degrader"):
        (here / f"{name}.safetensors").write_bytes(b"x")
    assert find_weights(".", registry=registry).path.name == "sr.safetensors"
    assert find_weights(".", registry=registry, network="degrader").path.name == "degrader.safetensors"
    (here / "degrader.safetensors").unlink()
    refused(WeightsError, ".", registry, "holds no degrader.safetensors", network="degrader")


@pytest.mark.parametrize("network", ["rrdb", "degrader"])
def test_of_a_published_run_the_file_of_its_kind_is_taken(registry, access, fake_hub, network):
    for name in ("sr", "degrader"):
        fake_hub.add(REPO, f"{name}.safetensors", name.encode())
    found = find_weights(REPO, registry=registry, hub=access, network=network)
    assert found.path.read_bytes() == {"rrdb": b"sr", "degrader": b"degrader"}[network]


def test_released_weights_come_from_the_hub_and_then_from_the_cache(registry, access, fake_hub):
    fake_hub.add(REPO, "x4.safetensors", DATA[::-1])
    told = []
    found = find_weights("realesrgan-x4plus", registry=registry, hub=access, on_progress=lambda *now: told.append(now))
    assert found.path.read_bytes() == DATA[::-1]
    assert found.entry is registry.entries[1]
    assert told[-1] == (len(DATA), len(DATA))
    fake_hub.requests.clear()
    assert find_weights("realesrgan-x4plus", registry=registry, hub=access, offline=True) == found
    assert fake_hub.requests == []


def test_released_weights_that_the_hub_swapped_are_refused(registry, access, fake_hub):
    fake_hub.add(REPO, "x4.safetensors", DATA)
    refused(WeightsError, "realesrgan-x4plus", registry, "not the released file", hub=access)
    fake_hub.add(REPO, "x4.safetensors", DATA[::-1])
    fake_hub.faults = Faults(wrong=1000)
    refused(WeightsError, "realesrgan-x4plus", registry, "wrong SHA-256", hub=access)


def test_released_weights_offline_without_a_copy(registry, access, fake_hub):
    refused(HubError, "realesrgan-x4plus", registry, "not in the cache", hub=access, offline=True)
    assert fake_hub.requests == []


def test_a_released_name_comes_before_a_file_of_that_name(registry, here):
    (here / "ddnsr-lite").write_bytes(b"mine")
    assert find_weights("ddnsr-lite", registry=registry).entry is not None
    assert find_weights("./ddnsr-lite", registry=registry).path.read_bytes() == b"mine"


@pytest.fixture
def with_aliases(registry):
    far = replace(registry.entries[1], aliases=("RealESRGAN_x4plus", "RRDB_X4"))
    return Registry(entries=(registry.entries[0], far), folder=registry.folder)


@pytest.mark.parametrize("name", ["RealESRGAN_x4plus", "realesrgan_X4PLUS", "rrdb-x4", "RRDB_X4", "RRDB_X4.pth"])
def test_names_of_the_field_mean_released_weights(with_aliases, access, fake_hub, name):
    fake_hub.add(REPO, "x4.safetensors", DATA[::-1])
    found = find_weights(name, registry=with_aliases, hub=access)
    assert (found.name, found.path.read_bytes()) == ("realesrgan-x4plus", DATA[::-1])


@pytest.mark.parametrize("file", ["RRDB_X4", "RRDB_X4.pth"])
def test_a_file_comes_before_an_alias(with_aliases, here, file):
    (here / file).write_bytes(b"mine")
    found = find_weights("RRDB_X4", registry=with_aliases)
    assert (found.entry, found.path.read_bytes()) == (None, b"mine")


def test_a_folder_of_an_aliass_name_is_not_meant(with_aliases, here, access, fake_hub):
    (here / "RRDB_X4").mkdir()
    fake_hub.add(REPO, "x4.safetensors", DATA[::-1])
    assert find_weights("RRDB_X4", registry=with_aliases, hub=access).entry is not None


def test_an_unknown_name_is_reported_with_all_that_there_are(with_aliases, here):
    every = "Released (ddnsr weights list): ddnsr-lite, realesrgan-x4plus."
    words = ("'zebra' is no released name", "For a file, give its path", every)
    assert "Did you mean" not in refused(WeightsError, "zebra", with_aliases, *words)
    refused(WeightsError, "real-esrgan-x4", with_aliases, "Did you mean realesrgan-x4plus?", every)
    refused(WeightsError, "RRDBx4", with_aliases, "Did you mean realesrgan-x4plus?")
    refused(WeightsError, "models/RealESRGAN_x4plus.pth", with_aliases, "no weights file", "-m realesrgan-x4plus")
    refused(WeightsError, "zebra.pth", with_aliases, "no weights file", "ddnsr weights list")


def test_a_path_comes_before_the_hub(registry, here, access, fake_hub):
    fake_hub.add("some-one/nets", "x.safetensors", DATA)
    (here / "some-one").mkdir()
    (here / "some-one" / "nets").write_bytes(b"mine")
    found = find_weights("some-one/nets", registry=registry, hub=access)
    assert found.path.read_bytes() == b"mine"
    assert found.entry is None
    assert fake_hub.requests == []


def test_files_by_absolute_path_and_home(registry, here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("USERPROFILE", str(here))
    (here / "net.pth").write_bytes(b"mine")
    for name in ("net.pth", str(here / "net.pth"), "~/net.pth"):
        found = find_weights(name, registry=registry)
        assert found.path.read_bytes() == b"mine"
        assert found.name == name


def test_the_folder_of_a_run_gives_its_network(registry, here):
    (here / "runs" / "x").mkdir(parents=True)
    refused(WeightsError, "runs/x", registry, "runs/x", "sr.safetensors")
    (here / "runs" / "x" / "sr.safetensors").write_bytes(b"trained")
    for name in ("runs/x", "runs/x/", str(here / "runs" / "x")):
        assert find_weights(name, registry=registry).path.read_bytes() == b"trained"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (f"{REPO}:b.pth", b"b" * 99),
        (f"{REPO}:deep/c d.safetensors", b"c" * 99),
        (f"{REPO}@main:b.pth", b"b" * 99),
        (f"{REPO}@{COMMIT}:b.pth", b"b" * 99),
        (REPO, b"c" * 99),
        (f"{REPO}@{COMMIT}", b"c" * 99),
    ],
)
def test_files_of_the_hub_by_their_id(registry, access, fake_hub, here, name, content):
    fake_hub.add(REPO, "b.pth", b"b" * 99)
    fake_hub.add(REPO, "deep/c d.safetensors", b"c" * 99)
    found = find_weights(name, registry=registry, hub=access)
    assert found.path.read_bytes() == content
    assert found.entry is None
    assert found.name.startswith(f"{REPO}:")


def test_a_repository_with_several_files_lists_them(registry, access, fake_hub, here):
    for name in ("a.safetensors", "b.safetensors", "c.pth", "README.md"):
        fake_hub.add(REPO, name, DATA)
    message = refused(
        WeightsError, REPO, registry, "2 .safetensors", "a.safetensors, b.safetensors", ":FILE", hub=access
    )
    assert "README" not in message
    assert fake_hub.count("HEAD") == 0


def test_a_repository_without_safetensors_lists_its_pickles(registry, access, fake_hub, here):
    fake_hub.add(REPO, "c.pth", DATA)
    refused(WeightsError, REPO, registry, "no .safetensors", "c.pth", hub=access)


def test_a_repository_without_weights_is_reported(registry, access, fake_hub, here):
    fake_hub.add(REPO, "README.md", DATA)
    refused(WeightsError, REPO, registry, REPO, "no weights file", hub=access)


def test_a_hostile_list_of_files_stays_one_line(registry, access, fake_hub, here):
    for number in range(40):
        fake_hub.add(REPO, f"\x1b[2J{number}\n.safetensors", DATA)
    assert len(refused(WeightsError, REPO, registry, "40 .safetensors", hub=access)) < 400


def test_a_hostile_only_file_is_not_fetched(registry, access, fake_hub, here):
    fake_hub.add(REPO, "../../x.safetensors", DATA)
    refused(HubError, REPO, registry, "no path inside", hub=access)
    assert fake_hub.count("HEAD") == 0


def test_a_mistyped_path_that_looks_like_a_hub_id_is_reported_as_both(registry, access, fake_hub, here):
    refused(
        HubError,
        "runs/typo",
        registry,
        "no file or folder runs/typo here: check the path",
        "no repository runs/typo",
        hub=access,
    )
    refused(HubError, "runs/typo", registry, "no file or folder runs/typo here", hub=access, offline=True)


@pytest.mark.parametrize(
    "name", ["no.pth", "a/no.safetensors", "./no", "/no/where", "~/no", "~nobody-here/no", "a/b.CKPT", "./a\nb"]
)
def test_a_missing_path_is_reported_and_nobody_is_asked(registry, access, fake_hub, here, name):
    refused(WeightsError, name, registry, f"no weights file {name!r}", "ddnsr weights list", hub=access)
    assert fake_hub.requests == []


@pytest.mark.parametrize(
    ("name", "close"),
    [("realesrgan", "realesrgan-x4plus"), ("RealESRGANx4plus", "realesrgan-x4plus"), ("ddnsr-light", "ddnsr-lite")],
)
def test_a_mistyped_name_brings_the_close_ones(registry, here, name, close):
    refused(WeightsError, name, registry, repr(name), f"Did you mean {close}", "ddnsr weights list")


@pytest.mark.parametrize("name", ["zzz", "", " ", "a/b/c", "a b/c", "\x1b[2J", "a/b:", "x\ny", "x" * 9000, "a\0b"])
def test_a_name_of_nothing_is_refused(registry, access, fake_hub, here, name):
    message = refused(WeightsError, name, registry, "ddnsr weights list", hub=access)
    assert "Did you mean" not in message
    assert fake_hub.requests == []


@pytest.mark.parametrize(
    ("inside", "told"),
    [
        ("", r"The folder .*models holds no sr\.safetensors of a run\. Name a model in it: -m .*models/a, b-4x\.$"),
        ("/c", r"There is no model '.*mode(ls/c|\.\.\.)'\. The folder has: -m .*models/a, b-4x\.$"),
    ],
)
def test_a_folder_of_models_is_told_by_what_is_in_it(registry, tmp_path, inside, told, monkeypatch):
    (tmp_path / "models").mkdir()
    for name in ("b-4x.param", "b-4x.bin", "a.pth", "notes.txt"):
        (tmp_path / "models" / name).touch()
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / "models", "models"):
        with pytest.raises(WeightsError, match=told):
            find_weights(f"{folder}{inside}", registry=registry, network=None, offline=True)


def test_a_name_of_the_ncnn_programs_is_the_file_of_four_times(registry, tmp_path):
    for name in ("anime-x2.param", "anime-x4.param", "anime-x4.bin"):
        (tmp_path / name).touch()
    found = find_weights(str(tmp_path / "anime"), registry=registry, network=None, offline=True)
    assert found.path.name == "anime-x4.param"


def test_a_folder_that_is_no_runs_and_has_no_model_is_reported(registry, tmp_path):
    (tmp_path / "models").mkdir()
    with pytest.raises(WeightsError, match=r"Name a file\.$"):
        find_weights(str(tmp_path / "models"), registry=registry, network=None, offline=True)
