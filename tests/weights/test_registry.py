import subprocess
import sys
from pathlib import Path

import pytest

from ddnsr_cli.errors import WeightsError
from ddnsr_cli.weights import registry as module
from ddnsr_cli.weights.registry import Registry, is_inner_path, read_registry

ROOT = Path(__file__).parents[2]
SHA256, COMMIT = "ab" * 32, "0123456789" * 4
ENTRY = {
    "name": "tiny-net",
    "title": "Tiny",
    "description": "For tests.",
    "network": "rrdb",
    "features": 8,
    "blocks": 2,
    "growth": 4,
    "scale": 4,
    "sha256": SHA256,
    "bytes": 123,
    "license": "MIT",
    "by": "The tests",
    "own": True,
    "trained_on": "Nothing",
}
BUNDLED = {"bundled": "pretrained/tiny.safetensors"}
BESIDE = {"beside": "research/tiny.safetensors"}
ON_HUB = {"repo": "some-one/nets", "revision": COMMIT, "file": "tiny.pth"}


def toml(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {toml(inner)}' for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return repr(value) if isinstance(value, (int, float)) else "'''" + value + "'''"


def written(tmp_path, *tables, head=""):
    lines = [head]
    for table in tables:
        lines += ["[[weights]]", *(f"{key} = {toml(value)}" for key, value in table.items())]
    path = tmp_path / "weights.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_aliases_are_names_too_and_clash_as_names_do(tmp_path):
    first, second = ENTRY | BUNDLED, ENTRY | ON_HUB | {"name": "far", "aliases": ["Far_X4", "Far_away"]}
    registry = read_registry(written(tmp_path, first, second))
    assert registry.get("far-x4") is registry.get("FAR_AWAY") is registry.entries[1]
    assert registry.names == ("tiny-net", "far")
    assert registry.near("farx4") == ("far",)
    assert registry.near("zebra") == ()
    for alias in ("Tiny_Net", "tiny-net"):
        with pytest.raises(WeightsError, match="tiny-net more than once"):
            read_registry(written(tmp_path, first, second | {"aliases": [alias]}))
    for aliases, word in (([3], "texts"), (["a b"], "an alias has letters"), ([""], "an alias"), ("far", "type list")):
        with pytest.raises(WeightsError, match=word):
            read_registry(written(tmp_path, second | {"aliases": aliases}))


def test_file_names_of_the_field_are_aliases_of_the_released_weights():
    registry = read_registry()
    for file, name in (
        ("RealESRGAN_x4plus", "realesrgan-x4plus"),
        ("RRDB_ESRGAN_x4", "esrgan"),
        ("RRDB_PSNR_x4", "rrdb-psnr"),
        ("DF2K_JPEG", "realsr-df2k-jpeg"),
        ("DPED", "realsr-dped"),
        ("BSRGAN", "bsrgan"),
    ):
        assert registry.get(file) is registry.get(name)


def test_all_fields_are_read(tmp_path):
    scores = {"psnr-y": 25.5, "lpips": 0.21, "pairs": 100}
    making = {"steps": 300, "seed": 0, "command": "ddnsr train ...", "research_only": True}
    first = ENTRY | BUNDLED | making | {"scores": scores, "default": True}
    second = ENTRY | ON_HUB | {"name": "far", "own": False}
    registry = read_registry(written(tmp_path, first, second), folder=tmp_path)
    assert registry.names == ("tiny-net", "far")
    assert registry.folder == tmp_path
    tiny, far = registry.entries
    assert registry.default is tiny is registry.get("tiny-net")
    assert registry.get("other") is None
    assert (tiny.title, tiny.description, tiny.license, tiny.by) == ("Tiny", "For tests.", "MIT", "The tests")
    assert (tiny.features, tiny.blocks, tiny.growth, tiny.scale) == (8, 2, 4, 4)
    assert (tiny.sha256, tiny.size_bytes, tiny.bundled, tiny.repo) == (SHA256, 123, BUNDLED["bundled"], None)
    assert tiny.scores == scores
    assert {name: getattr(tiny, name) for name in making} == making
    assert not far.research_only
    assert tiny.trained_on == "Nothing"
    assert tiny.own
    assert (far.repo, far.revision, far.file, far.bundled) == ("some-one/nets", COMMIT, "tiny.pth", None)
    assert not far.own
    assert not far.default
    assert far.scores == {}


@pytest.mark.parametrize("key", sorted(ENTRY))
def test_a_missing_key_is_refused(tmp_path, key):
    table = {name: value for name, value in (ENTRY | BUNDLED).items() if name != key}
    entry = "1" if key == "name" else "tiny-net"
    with pytest.raises(WeightsError, match=rf"entry {entry}: missing key\(s\) {key}"):
        read_registry(written(tmp_path, table))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sha265": SHA256}, "unknown key.*sha265"),
        ({"sha256": ""}, "sha256"),
        ({"sha256": "ab" * 31}, "64 lower-case"),
        ({"sha256": "AB" * 32}, "64 lower-case"),
        ({"sha256": "gg" * 32}, "64 lower-case"),
        ({"sha256": SHA256 + "\n"}, "64 lower-case"),
        ({"bytes": 0}, "at least 1"),
        ({"bytes": "12"}, "bytes must be of type int"),
        ({"bytes": True}, "bytes must be of type int"),
        ({"features": 0}, "at least 1"),
        ({"blocks": 2.0}, "blocks must be of type int"),
        ({"steps": 0}, "at least 1"),
        ({"research_only": "yes"}, "research_only must be of type bool"),
        ({"own": 1}, "own must be of type bool"),
        ({"title": 3}, "title must be of type str"),
        ({"scale": 3}, "scale 1, 2 or 4"),
        ({"network": "srvgg"}, "must be 'rrdb'"),
        ({"name": "Tiny"}, "lower-case"),
        ({"name": "a/b"}, "lower-case"),
        ({"name": "../x"}, "lower-case"),
        ({"name": ""}, "lower-case"),
        ({"scores": {"psnr": "high"}}, "scores must be numbers, got psnr"),
        ({"scores": {"psnr": True}}, "scores must be numbers, got psnr"),
        ({"scores": {"psnr": float("nan")}}, "finite"),
        ({"scores": 3}, "scores must be of type dict"),
        ({"bundled": "../x.safetensors"}, "inside its folder"),
        ({"bundled": "/etc/x.safetensors"}, "inside its folder"),
        ({"bundled": "a\\..\\x.safetensors"}, "inside its folder"),
        ({"bundled": "C:x.safetensors"}, "inside its folder"),
        ({"bundled": "a//x.safetensors"}, "inside its folder"),
        ({"bundled": "./x.safetensors"}, "inside its folder"),
        ({"bundled": "x.py"}, "inside its folder"),
        ({"bundled": "x"}, "inside its folder"),
        ({"repo": "a/b"}, "either 'bundled'"),
        (ON_HUB, "either 'bundled'"),
        (BESIDE, "either 'bundled'"),
    ],
)
def test_what_is_wrong_is_refused_with_entry_and_reason(tmp_path, change, words):
    with pytest.raises(WeightsError, match=f"entry .*{words}") as caught:
        read_registry(written(tmp_path, ENTRY | BUNDLED | change))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"revision": COMMIT[:12]}, "full commit of 40"),
        ({"revision": "main"}, "full commit of 40"),
        ({"revision": COMMIT.upper().replace("0", "A")}, "full commit of 40"),
        ({"repo": "nets"}, "owner/name"),
        ({"repo": "a/b/c"}, "owner/name"),
        ({"repo": "../b"}, "owner/name"),
        ({"file": "../x.pth"}, "inside its folder"),
        ({"file": "x.exe"}, "inside its folder"),
        ({"file": None}, "either 'bundled'"),
        ({"revision": None}, "either 'bundled'"),
        ({"repo": None}, "either 'bundled'"),
        (BESIDE, "either 'bundled'"),
    ],
)
def test_a_place_on_the_hub_must_be_whole_and_pinned(tmp_path, change, words):
    table = {key: value for key, value in (ENTRY | ON_HUB | change).items() if value is not None}
    with pytest.raises(WeightsError, match=f"entry tiny-net: .*{words}"):
        read_registry(written(tmp_path, table))


def test_a_place_beside_the_file_must_be_inside_its_folder(tmp_path):
    with pytest.raises(WeightsError, match="inside its folder"):
        read_registry(written(tmp_path, ENTRY | {"beside": "../tiny.safetensors"}))


def test_a_file_beside_is_here_or_lacking(tmp_path):
    far = ENTRY | ON_HUB | {"name": "far"}
    inside = ENTRY | BUNDLED | {"name": "inside"}
    registry = read_registry(written(tmp_path, ENTRY | BESIDE, far, inside), folder=tmp_path / "package")
    assert [registry.lacks(entry) for entry in registry.entries] == [True, False, False]
    (tmp_path / "research").mkdir()
    (tmp_path / "research" / "tiny.safetensors").write_bytes(b"weights")
    assert not registry.lacks(registry.entries[0])


def test_no_place_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="either 'bundled'"):
        read_registry(written(tmp_path, ENTRY))


def test_names_and_the_default_are_unique(tmp_path):
    with pytest.raises(WeightsError, match="tiny-net more than once"):
        read_registry(written(tmp_path, ENTRY | BUNDLED, ENTRY | ON_HUB))
    default = ENTRY | BUNDLED | {"default": True}
    with pytest.raises(WeightsError, match="more than one default: tiny-net, b"):
        read_registry(written(tmp_path, default, default | {"name": "b"}))


def test_on_a_gpu_another_default_may_be_named(tmp_path):
    large = ENTRY | ON_HUB | {"name": "large", "default_on_gpu": True}
    registry = read_registry(written(tmp_path, large, ENTRY | BUNDLED | {"default": True}))
    assert registry.default_of("rrdb", on_gpu=True).name == "large"
    assert registry.default_of("rrdb").name == registry.default.name == "tiny-net"
    alone = read_registry(written(tmp_path, ENTRY | BUNDLED | {"default": True}))
    assert alone.default_of("rrdb", on_gpu=True).name == "tiny-net"
    with pytest.raises(WeightsError, match="more than one default_on_gpu: large, b"):
        read_registry(written(tmp_path, large, large | {"name": "b"}))


DEGRADER = {key: value for key, value in ENTRY.items() if key != "growth"} | {"network": "degrader", "name": "tiny-d"}


def test_each_kind_of_network_has_its_default(tmp_path):
    default = {"default": True}
    tables = (ENTRY | BUNDLED | default, DEGRADER | BUNDLED | default, DEGRADER | ON_HUB | {"name": "other-d"})
    registry = read_registry(written(tmp_path, *tables))
    assert registry.default.name == registry.default_of("rrdb").name == "tiny-net"
    assert registry.default_of("degrader").name == "tiny-d"
    assert registry.get("tiny-d").growth is None
    with pytest.raises(WeightsError, match="more than one default: tiny-d, other-d"):
        read_registry(written(tmp_path, *tables[:2], tables[2] | default))


@pytest.mark.parametrize(
    ("change", "words"), [({"growth": 4}, "unknown key.*growth"), ({"scale": 2}, "'degrader' at scale 4")]
)
def test_what_a_degrader_cannot_be_is_refused(tmp_path, change, words):
    with pytest.raises(WeightsError, match=f"entry tiny-d: .*{words}"):
        read_registry(written(tmp_path, DEGRADER | BUNDLED | change))


def test_no_default_degrader_is_reported_with_what_to_do(tmp_path):
    registry = read_registry(written(tmp_path, ENTRY | BUNDLED | {"default": True}))
    with pytest.raises(WeightsError, match=r"No degrader comes with ddnsr\. Name one with -m: a run folder"):
        registry.default_of("degrader")
    registry = read_registry(written(tmp_path, DEGRADER | BUNDLED))
    with pytest.raises(WeightsError, match="with -m: tiny-d, a run folder"):
        registry.default_of("degrader")


def test_no_default_is_reported_when_it_is_asked_for(tmp_path):
    registry = read_registry(written(tmp_path, ENTRY | BUNDLED))
    with pytest.raises(WeightsError, match=r"No default weights.*tiny-net"):
        _ = registry.default
    with pytest.raises(WeightsError, match="a file"):
        _ = Registry(entries=()).default


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[weights]\n", "not valid TOML"),
        ("\xff\xfe", "not valid TOML"),
        ("x = " + "[" * 5000, "not valid TOML"),
        ("[weights]\nname = 'a'", "tables only"),
        ("version = 2", "tables only, got 'version'"),
        ("weights = [1]", "entry 1: is no table"),
        ("weights = 'x'", "tables only"),
    ],
)
def test_files_that_are_no_registry_are_refused(tmp_path, text, words):
    path = tmp_path / "weights.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(WeightsError, match=words) as caught:
        read_registry(path)
    assert str(caught.value).isprintable()


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(WeightsError, match=r"weights\.toml cannot be read.*Install"):
        read_registry(tmp_path / "weights.toml")


def test_it_is_looked_for_in_the_package_then_beside_it(tmp_path, monkeypatch):
    package = tmp_path / "ddnsr_cli"
    package.mkdir()
    monkeypatch.setattr(module, "PACKAGE", package)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_registry()
    written(tmp_path, ENTRY | BUNDLED)
    assert read_registry().names == ("tiny-net",)
    written(package, ENTRY | BUNDLED | {"name": "inner"})
    assert read_registry().names == ("inner",)


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("a.safetensors", True),
        ("deep/er/a b.pth", True),
        ("a.safetensors/..", False),
        ("a/../../b.pth", False),
        ("a/\n.pth", False),
        ("https://x/a.pth", False),
        ("", False),
    ],
)
def test_paths_stay_inside(path, inside):
    assert is_inner_path(path) is inside


def test_the_released_registry_is_read():
    registry = read_registry()
    assert {"realesrgan-x4plus", "esrgan", "rrdb-psnr", "realsr-dped", "bsrgan"} <= set(registry.names)
    for entry in registry.entries:
        if not entry.own:
            assert (entry.features, entry.blocks, entry.growth, entry.scale) == (64, 23, 32, 4)
            # 16.7 million float32 values, and some per cent for names
            assert 66_791_948 <= entry.size_bytes < 1.01 * 66_791_948


def test_reading_loads_neither_torch_nor_the_hubs_client():
    program = (
        "import sys, ddnsr_cli.weights.resolve, ddnsr_cli.weights.registry; ddnsr_cli.weights.registry.read_registry();"
        "print(sorted({'torch', 'numpy', 'huggingface_hub', 'httpx2', 'httpx', 'PIL'} & sys.modules.keys()))"
    )
    env = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
