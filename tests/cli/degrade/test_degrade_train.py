"""What `ddnsr degrade` makes is what `ddnsr train --pretrain` learns from."""

import json
import re

import pytest

from ddnsr_cli.weights.checkpoint import load_sr_net
from tests.helpers.pair_folders import refused

SIZES = {"--features": 4, "--blocks": 1, "--growth": 2, "--batch": 4, "--crop": 32, "--workers": 0, "--steps": 2}
SMALL = [word for option in SIZES.items() for word in option] + ["--device", "cpu"]


@pytest.fixture
def folders(make, scene):
    """Options that name the folders of pairs."""
    assert make("pairs").code == 0
    return ["--hr", scene / "pairs/hr", "--lr", scene / "pairs/lr"]


def test_pairs_train_a_network_that_works(ddnsr, folders, image_file, scene):
    done = ddnsr("train", "--pretrain", *folders, "-o", scene / "run", *SMALL)
    assert done.code == 0, done.err
    assert ddnsr("upscale", image_file(), "-o", scene / "o.png", "-m", scene / "run").code == 0
    again = ddnsr("train", "--pretrain", *folders, "-o", scene / "run", *SMALL, "--steps", 3)
    assert again.code == 0
    assert "resumed" in again.err


def test_several_lr_images_of_one_hr_image_are_no_fault(ddnsr, make, quick_model, scene):
    assert make("many", "--per-image", 2).code == 0
    folders = ["--hr", scene / "many/hr", "--lr", scene / "many/lr"]
    begun = ddnsr("train", "--pretrain", *folders, "-o", scene / "run", *SMALL)
    checked = ddnsr("train", "--pretrain", *folders, "-o", scene / "other", *SMALL, "--check")
    judged = ddnsr("eval", *folders, "-m", quick_model, "--crop-border", 0)
    assert (begun.code, checked.code, judged.code) == (0, 0, 0), judged.err
    for told in (begun.err, checked.err + checked.out, judged.err):
        assert not re.search("same bytes|repeated|twins|bytes of", told), told


def test_pairs_teach_other_things_than_pairs_made_on_the_way(ddnsr, folders, image_file, scene):
    for number in range(2):
        image_file(f"large/{number}.png", 100, 100)
    ddnsr("train", "--pretrain", *folders, "-o", scene / "ready", *SMALL)
    ddnsr("train", "--pretrain", "--hr", scene / "large", "-o", scene / "made", *SMALL)
    assert (scene / "ready/sr.safetensors").read_bytes() != (scene / "made/sr.safetensors").read_bytes()


def test_a_run_goes_on_with_its_own_pairs_only(ddnsr, folders, image_file, scene):
    words = ["train", "--pretrain", "-o", scene / "run", *SMALL]
    ddnsr(*words, *folders)
    for number in range(2):
        image_file(f"large/{number}.png", 100, 100)
    refused(ddnsr(*words, "--hr", scene / "large"), 10, "sources.1.kind ready -> rule", "another -o")
    image_file("pairs/hr/new.png", 64, 64), image_file("pairs/lr/new.png", 16, 16)
    refused(ddnsr(*words, *folders), 10, "--hr and --lr")


def test_the_card_of_the_run_says_what_it_learned_from(ddnsr, folders, scene):
    ddnsr("train", "--pretrain", *folders, "-o", scene / "run", *SMALL)
    _, metadata = load_sr_net(scene / "run/sr.safetensors")
    training = json.loads(metadata["training"])
    (source,) = training["data"]["sources"]
    assert (training["phase"], source["kind"], source["hr"], source["lr"]) == ("paired", "ready", "hr", "lr")
    card = (scene / "run/README.md").read_text()
    assert f"| pairs | {source['images']} images of hr, with ready partners in lr (share 1) |" in card
    assert "by the mean absolute error alone" in card


def test_pairs_that_do_not_match_are_refused(ddnsr, folders, scene):
    (scene / "pairs/lr/a.png").unlink()
    refused(ddnsr("train", "--pretrain", *folders, "-o", scene / "run", *SMALL), 8, "a")
    refused(ddnsr("train", "--pretrain", "--lr", scene / "pairs/lr", "-o", scene / "run", *SMALL), 2, "--hr")
