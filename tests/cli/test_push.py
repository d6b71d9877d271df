"""`ddnsr weights push` as a user runs it, to a Hub on the loopback device."""

import hashlib
import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ddnsr_cli.commands.weights import push as weight_push
from ddnsr_cli.config import options_to_json
from ddnsr_cli.nets.config import RRDBConfig
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig
from ddnsr_cli.nets.rrdb import RRDBNet
from ddnsr_cli.reports.model_card import joint_card, license_of, paired_card, with_license
from ddnsr_cli.training.options import JointOptions, JointPreset, ScheduleConfig, with_preset
from ddnsr_cli.training.paired_options import PairedOptions, with_equation_2
from ddnsr_cli.weights.checkpoint import load_degrader, load_rrdb_net, save_degrader, save_sr_net
from ddnsr_cli.weights.hub.download import HubAccess, HubFile, fetch
from ddnsr_cli.weights.registry import read_registry

REPO = "some-one/my_nets"
RRDB, DEGRADER = RRDBConfig(features=4, blocks=1, growth=2), DegraderConfig(features=4, blocks=1)
RECORD = {
    "track": 2,
    "data": {"lr": "noisy", "hr": "clean", "target": "clean"},
    "vgg": {"source": "vgg19", "sha256": "0" * 64},
}


def write_state(run):
    """What a run holds besides, and nobody else may get."""
    for name in ("state/last.safetensors", "log.jsonl", "samples/step_0000007.png", "report.html", "notes.txt"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("private")


def write_sr(run, training, options):
    metadata = {"training": json.dumps(training), "options": json.dumps(options_to_json(options))}
    torch.manual_seed(training["step"])
    save_sr_net(run / "sr.safetensors", RRDBNet(RRDB), metadata=metadata, half=False)
    (run / "options.json").write_text(json.dumps(options_to_json(options)))
    return metadata


@pytest.fixture
def joint(tmp_path):
    run = tmp_path / "my run"
    write_state(run)
    options = JointOptions(sr_net=RRDB, degrader=DEGRADER)
    metadata = write_sr(run, {"phase": "joint", "step": options.schedule.steps, **RECORD}, options)
    save_degrader(run / "degrader.safetensors", Degrader(DEGRADER), metadata=metadata, half=False)
    (run / "README.md").write_text(joint_card(run, options, options.schedule.steps, RECORD))
    return run


@pytest.fixture
def pretraining(tmp_path):
    run = tmp_path / "pretraining"
    write_state(run)
    source = {"kind": "rule", "share": 1.0, "hr": "clean", "lr": None, "degrader": None, "images": 9}
    record = {"data": {"sources": [source, {**source, "kind": "ready", "lr": "noisy"}]}}
    options = PairedOptions(network=RRDB, schedule=ScheduleConfig(steps=20))
    write_sr(run, {"phase": "paired", "step": 7, **record}, options)
    (run / "README.md").write_text(paired_card(run, options, 7, record))
    return run


@pytest.fixture
def push(ddnsr, fake_hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    def run(folder, *words, repo=REPO):
        with monkeypatch.context() as here:
            here.setattr(constants, "ENDPOINT", fake_hub.endpoint)
            return ddnsr("weights", "push", folder, repo, *words)

    return run


def refused(done, code, *parts):
    assert done.code == code, done.err
    assert done.out == ""
    (line,) = done.err.splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert str(part) in line


def sent(fake_hub):
    return {name: stored.data for (repo, name), stored in fake_hub.files.items() if repo == REPO}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_joint_run_is_published_whole_and_nothing_else_of_it(push, fake_hub, joint):
    done = push(joint, "--license", "CC-BY-4.0")
    assert (done.code, done.err) == (0, "")
    received = sent(fake_hub)
    assert sorted(received) == ["README.md", "degrader.safetensors", "sr.safetensors"]
    for name in ("sr.safetensors", "degrader.safetensors"):
        assert received[name] == (joint / name).read_bytes()
    url, revision, *files = done.out.splitlines()
    assert url == f"{fake_hub.endpoint}/{REPO}"
    assert revision == f"revision {fake_hub.commit}"
    told = {line.split()[0]: line.split()[-1] for line in files}
    assert told == {name: hashlib.sha256(data).hexdigest() for name, data in received.items()}
    (commit,) = fake_hub.uploads.commits
    steps = JointOptions().schedule.steps
    assert commit[0]["value"]["summary"] == f"my run: joint run, step {steps}"


def test_the_card_has_the_license_and_says_how_strangers_get_the_weights(push, fake_hub, joint):
    before = (joint / "README.md").read_text()
    push(joint, "--license", "CC-BY-4.0")
    card = sent(fake_hub)["README.md"].decode()
    assert license_of(card) == "cc-by-4.0"
    assert "\nLicense: CC-BY-4.0\n" in card
    assert f"ddnsr upscale photo.jpg -m {REPO} -o out.png" in card
    changed = [line for line in before.splitlines() if line not in card.splitlines()]
    assert len(changed) == 2  # the open license, and the run's own name in the command


def test_the_license_is_asked_for_once(push, fake_hub, joint):
    refused(push(joint), 2, "names no license", "--license")
    assert fake_hub.requests == []
    assert push(joint, "--license", "mit").code == 0
    kept = (joint / "README.md").read_text()
    assert license_of(kept) == "mit"
    assert REPO not in kept
    assert push(joint, repo="some-one/other").code == 0
    assert "-m some-one/other -o" in fake_hub.files["some-one/other", "README.md"].data.decode()


def test_a_pretraining_is_published_with_its_honest_card(push, fake_hub, pretraining):
    done = push(pretraining, "--license", "CC0-1.0")
    assert done.code == 0
    assert done.err == "note: the run is at step 7 of 20; its weights are sent as they are\n"
    received = sent(fake_hub)
    assert sorted(received) == ["README.md", "sr.safetensors"]
    card = received["README.md"].decode()
    for fact in (
        "license: cc0-1.0",
        "| steps | 7 |",
        "9 images of clean, degraded by rule (share 1); 9 images of clean, with ready partners in noisy (share 1)",
        "4 features, 1 blocks, growth 2",
        "baseline",
    ):
        assert fact in card
    assert '"learning_rate": 0.0005' in card
    assert "\nLicense: CC0-1.0\n" in card
    assert "fill it in" not in card
    assert license_of((pretraining / "README.md").read_text()) == "cc0-1.0"


def test_a_run_is_published_as_training_leaves_it(push, ddnsr, fake_hub, image_file, tmp_path):
    for number in range(2):
        image_file(f"images/{number}.png", width=96, height=96)
    sizes = {"--features": 4, "--blocks": 1, "--growth": 2, "--batch": 2, "--crop": 32, "--workers": 0, "--steps": 1}
    words = [word for option in sizes.items() for word in option]
    hr, run = tmp_path / "images", tmp_path / "run"
    assert ddnsr("train", "--pretrain", "--hr", hr, "-o", run, "--device", "cpu", *words).code == 0
    done = push(run, "--license", "mit")
    assert (done.code, done.err) == (0, "")
    assert sent(fake_hub)["sr.safetensors"] == (run / "sr.safetensors").read_bytes()
    assert "| pairs | 2 images of images, degraded by rule (share 1) |" in sent(fake_hub)["README.md"].decode()


def test_a_card_of_the_users_own_is_sent_as_it_is(push, fake_hub, pretraining):
    own = "---\nlicense: apache-2.0\ntags: [mine]\n---\n\n# Grüße\nMy words.\n"
    (pretraining / "README.md").write_text(own, encoding="utf-8")
    assert push(pretraining).code == 0
    assert sent(fake_hub)["README.md"] == own.encode()


def test_a_pushed_run_can_be_fetched_by_its_revision_and_loaded(push, fake_hub, joint, tmp_path):
    revision = push(joint, "--license", "mit").out.split()[2]
    access = HubAccess(endpoint=fake_hub.endpoint, cache_dir=tmp_path / "cache")
    for name, load in (("sr.safetensors", load_rrdb_net), ("degrader.safetensors", load_degrader)):
        path = fetch(HubFile(repo=REPO, name=name, revision=revision), hub=access)
        found, wanted = load(path)[0].state_dict(), load(joint / name)[0].state_dict()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_the_entry_for_the_registry_is_one(push, fake_hub, joint, tmp_path):
    text = 'My own "terms", see \\ below'
    done = push(joint, "--toml", "--license", text, "-q")
    (tmp_path / "weights.toml").write_text(done.out)
    (entry,) = read_registry(tmp_path / "weights.toml").entries
    assert (entry.name, entry.repo, entry.revision) == ("my-nets", REPO, fake_hub.commit)
    assert entry.sha256 == hashlib.sha256((joint / "sr.safetensors").read_bytes()).hexdigest()
    assert (entry.features, entry.blocks, entry.growth, entry.scale) == (4, 1, 2, 4)
    assert entry.license == "my-own-terms-see-below"
    assert tomllib.loads(done.out)["weights"][0]["trained_on"] == "images of noisy and clean"


def test_the_entry_of_a_run_on_pairs_names_the_images_of_all_sources(push, pretraining):
    done = push(pretraining, "--toml", "--license", "mit", "-q")
    assert done.code == 0, done.err
    (entry,) = tomllib.loads(done.out)["weights"]
    assert entry["trained_on"] == "images of clean and noisy"
    assert entry["description"] == "paired run of ddnsr train, step 7."


def test_a_dry_run_tells_the_same_files_and_sends_and_writes_nothing(push, fake_hub, joint):
    before = contents(joint)
    done = push(joint, "--license", "mit", "--dry-run")
    assert done.code == 0
    assert fake_hub.requests == []
    assert contents(joint) == before
    assert done.out.splitlines() == push(joint, "--license", "mit").out.splitlines()[2:]
    assert re.fullmatch(r"sr.safetensors +\d+ bytes  sha256 [0-9a-f]{64}", done.out.splitlines()[0])


def test_a_dry_run_needs_no_token(push, monkeypatch, joint):
    monkeypatch.delenv("HF_TOKEN")
    assert push(joint, "--license", "mit", "--dry-run").code == 0
    refused(push(joint, "--license", "mit"), 6, "no token", "hf auth login", "HF_TOKEN")


def test_private_makes_a_private_repository(push, fake_hub, joint):
    assert push(joint, "--license", "mit", "--private").code == 0
    assert fake_hub.uploads.repos == {REPO: True}


def test_what_the_hub_refuses_is_one_line(push, fake_hub, joint):
    fake_hub.uploads.answers["create"] = (403, {}, b'{"error": "You have no rights here"}')
    refused(push(joint, "--license", "mit"), 6, "access is refused", "no rights here")


def damage_not_finite(run):
    raw = bytearray((run / "sr.safetensors").read_bytes())
    raw[-4:] = b"\x00\x00\xc0\x7f"
    (run / "sr.safetensors").write_bytes(raw)


def older_degrader(run):
    net, metadata = load_degrader(run / "degrader.safetensors")
    training = json.loads(metadata["training"]) | {"step": 3}
    metadata["training"] = json.dumps(training)
    save_degrader(run / "degrader.safetensors", net, metadata=metadata, half=False)


def strange_metadata(run):
    save_sr_net(run / "sr.safetensors", load_rrdb_net(run / "sr.safetensors")[0], metadata={}, half=False)


def older_card(run):
    card = run / "README.md"
    card.write_text(re.sub(r"steps \| \d+", "steps | 5", card.read_text()))


TROUBLES = {
    "no weights": (lambda run: (run / "sr.safetensors").unlink(), ["not the folder of a training run", "my run"]),
    "no options": (lambda run: (run / "options.json").unlink(), ["not the folder of a training run"]),
    "no card": (lambda run: (run / "README.md").unlink(), ["no README.md", "model card"]),
    "card not text": (lambda run: (run / "README.md").write_bytes(b"\xff\xfe"), ["README.md cannot be read as text"]),
    "open front matter": (lambda run: (run / "README.md").write_text("---\na: b\n"), ["front matter", "does not end"]),
    "not finite": (damage_not_finite, ["sr.safetensors", "not finite"]),
    "no degrader": (lambda run: (run / "degrader.safetensors").write_bytes(b"x" * 99), ["degrader", "not a weights"]),
    "pickle": (lambda run: (run / "sr.safetensors").write_bytes(b"PK\x03\x04" + bytes(99)), ["is a pickle"]),
    "two saves": (older_degrader, ["degrader.safetensors of step 3", "Resume"]),
    "older card": (older_card, ["README.md of step 5"]),
    "others' weights": (strange_metadata, ["do not say how they were trained"]),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_what_is_wrong_with_a_run_is_reported_before_any_request(push, fake_hub, joint, name):
    damage, words = TROUBLES[name]
    damage(joint)
    before = contents(joint)
    refused(push(joint, "--license", "mit"), 5, *words)
    assert fake_hub.requests == []
    assert contents(joint) == before


def test_weights_that_change_while_they_are_read_are_not_sent(push, fake_hub, joint, monkeypatch):
    def load(path):
        found = load_rrdb_net(path)
        path.write_bytes(path.read_bytes() + b" ")
        return found

    monkeypatch.setattr(weight_push, "load_rrdb_net", load)
    refused(push(joint, "--license", "mit"), 5, "was replaced while it was read")
    assert fake_hub.requests == []


@pytest.mark.parametrize("license", ["", " ", "none", "Unknown", "other", "a\nb", "x" * 201])
def test_what_is_no_license_is_reported(push, fake_hub, joint, license):
    refused(push(joint, "--license", license), 2, "is no license", "SPDX")
    assert fake_hub.requests == []


def test_other_mistakes_cost_no_request(push, fake_hub, joint, tmp_path):
    refused(push(tmp_path / "nowhere", "--license", "mit"), 5, "not the folder of a training run", "nowhere")
    refused(push(joint / "sr.safetensors", "--license", "mit"), 5, "not the folder of a training run")
    refused(push(joint, "--license", "mit", "--dry-run", repo="nets"), 6, "no name of a Hub repository")
    refused(push(joint, "--license", "mit", "--toml", "--dry-run"), 2, "--toml", "--dry-run")
    assert fake_hub.requests == []


@pytest.mark.parametrize(
    ("card", "license", "head"),
    [
        ("# A\n", "MIT", ["license: mit"]),
        ("---\na: b\n---\n# A\n", "cc-by-4.0", ["a: b", "license: cc-by-4.0"]),
        ("---\nlicense: mit\na: b\n---\n# A\n", "ISC", ["a: b", "license: isc"]),
        ("---\nlicense:\n- mit\n- isc\nlicense_link: x\na: b\n---\n# A\n", "ISC", ["a: b", "license: isc"]),
        ("---\na: b\n---\n# A\n", "No use by: me!", ["a: b", "license: other", "license_name: no-use-by-me"]),
    ],
)
def test_the_license_replaces_any_other_and_leaves_the_rest(card, license, head):
    first, *lines = with_license(card, license).splitlines()
    assert first == "---"
    assert lines[: len(head) + 1] == [*head, "---"]
    assert "# A" in lines
    again = with_license("\n".join(["---", *lines, ""]), license)
    assert again == with_license(card, license)
    assert license_of(again) == head[-1].split(": ")[1]


@pytest.mark.parametrize("head", ["", "license:", "license: unknown", "license: other", "tags: [license]"])
def test_a_card_without_a_license_is_known(head):
    assert license_of(f"---\n{head}\n---\n# A\nlicense: mit\n") is None


def test_the_command_of_a_run_card_names_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = {"data": {"sources": []}, "start_from": None}
    card = paired_card(Path("runs/my own"), PairedOptions(network=RRDB), 7, record)
    assert "# my own\n" in card
    assert "\nddnsr upscale photo.jpg -m 'runs/my own' -o out.png\n" in card


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"perceptual": 0, "hr_adversarial": 0, "gradient": 0.5},
            "by the losses pixel (weight 1), gradient (weight 0.5).",
        ),
        ({"perceptual": 0.2, "hr_adversarial": 0.1}, "by pixel, perceptual and adversarial losses (equation 2 of"),
        ({"perceptual": 0, "hr_adversarial": 0}, "by the mean absolute error alone"),
    ],
)
def test_a_card_of_pairs_names_the_losses_there_were(changes, told):
    options = PairedOptions(network=RRDB)
    options = with_equation_2(options) if changes["hr_adversarial"] else options
    options = replace(options, losses=replace(options.losses, **changes))
    assert told in paired_card(Path("run"), options, 7, {"data": {"sources": []}})


@pytest.mark.parametrize(
    ("preset", "method", "beginning"),
    [
        (
            None,
            "\nwith the dual-input degradation method (Li",
            "nearest-neighbor start; degrader: averages of squares, and",
        ),
        ("paper", "\nwith the dual-input degradation method (Li", "random start; degrader: random start |"),
        (
            "dnsr",
            "\nwith a degrader of a single input, unlike",
            "nearest-neighbor start; degrader: averages of squares |",
        ),
        ("cyclegan-lr", "as CycleGAN does.\n", "nearest-neighbor start; degrader: bicubic shrinking |"),
    ],
)
def test_a_card_of_a_track_names_the_method_and_the_beginning(preset, method, beginning):
    options = JointOptions(sr_net=RRDB, degrader=DEGRADER)
    options = with_preset(options, JointPreset(preset)) if preset else options
    card = joint_card(Path("run"), options, 7, RECORD)
    assert method in card
    assert f"| begun with | reconstruction: {beginning}" in card
