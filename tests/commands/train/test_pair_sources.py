"""The sources of pairs of a run: opened, told, and kept apart."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ddnsr_cli.commands.train.image_warnings import ImageWarnings
from ddnsr_cli.commands.train.pair_sources import LearnedDegradation, SourcePaths, open_pairs
from ddnsr_cli.data.config import StreamConfig
from ddnsr_cli.data.crop_stream import MixedPairs, RulePairs, batches
from ddnsr_cli.errors import DataError, WeightsError
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig
from ddnsr_cli.training.paired_options import PairedOptions, PairSource, SourceKind
from ddnsr_cli.weights.checkpoint import load_degrader, save_degrader

STREAM = StreamConfig(batch=8, crop_px=16, crops_per_image=2, images_per_round=12, workers=0)
IN_PROCESSES = [
    pytest.mark.filterwarnings("ignore:This process"),  # Python from 3.12 on warns of a fork beside threads
]
READY = PairSource(kind=SourceKind.READY, degradation=None)
LEARNED = PairSource(kind=SourceKind.LEARNED, degradation=None)


def write_noise(folder, count, side, seed=0):
    """Images of white noise: no two crops are alike."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (side, side, 3)).astype(np.uint8)).save(folder / f"{number}.png")


@pytest.fixture
def place(tmp_path):
    """Clean images in hr/, noisy ones in noisy/, ready pairs in pairs/, a degrader."""
    write_noise(tmp_path / "hr", 3, 64), write_noise(tmp_path / "noisy", 4, 20, seed=1)
    write_noise(tmp_path / "pairs/lr", 2, 16, seed=2), write_noise(tmp_path / "pairs/hr", 2, 64, seed=3)
    torch.manual_seed(0)
    save_degrader(tmp_path / "d.safetensors", Degrader(DegraderConfig(features=4, blocks=1)), metadata={}, half=False)
    return tmp_path


def options(*sources, **changes):
    return PairedOptions(stream=replace(STREAM, **changes), sources=sources)


def opened(place, chosen, *paths):
    notes = []
    return open_pairs(chosen, paths, ImageWarnings(notes.append)), notes


def rule(place):
    return SourcePaths(hr=place / "hr")


def ready(place):
    return SourcePaths(hr=place / "pairs/hr", lr=place / "pairs/lr")


def learned(place, weights="d.safetensors"):
    return SourcePaths(hr=place / "hr", lr=place / "noisy", degrader=place / weights)


def first(visits, count=3):
    stream = batches(visits, start=0, on_refused=lambda _refusal: None)
    return [tensor for _ in range(count) for tensor in next(stream)]


def test_one_source_is_the_plain_stream_of_it(place):
    found, notes = opened(place, options(PairSource()), rule(place))
    plain = RulePairs(sorted((place / "hr").iterdir()), STREAM, PairSource().degradation)
    assert all(map(torch.equal, first(found.dataset), first(plain)))
    assert notes == []
    assert found.record == [{"kind": "rule", "share": 1.0, "hr": "hr", "lr": None, "degrader": None, "images": 3}]


def test_all_kinds_are_opened_and_told(place):
    chosen = options(PairSource(share=0.5), replace(READY, share=0.3), replace(LEARNED, share=0.2))
    found, _ = opened(place, chosen, rule(place), ready(place), learned(place))
    assert isinstance(found.dataset, MixedPairs)
    assert found.dataset.turns == [50, 30, 20]
    assert [(one["kind"], one["images"], one["lr"]) for one in found.record] == [
        ("rule", 3, None),
        ("ready", 2, "lr"),
        ("learned", 3, "noisy"),
    ]
    assert found.record[2]["degrader"]["file"] == "d.safetensors"
    assert found.digests.keys() == {"hr", "lr", "hr_2", "lr_2", "hr_3", "lr_3"}
    assert found.digests["hr"] == found.digests["hr_3"] != found.digests["hr_2"]
    assert found.digests["lr"] == ""  # made on the way


@pytest.mark.parametrize("dual_input", [True, False])
def test_a_degrader_of_a_single_input_is_given_no_noise(place, dual_input):
    net = load_degrader(place / "d.safetensors")[0]
    save_degrader(
        place / "d.safetensors", net, metadata={"options": json.dumps({"dual_input": dual_input})}, half=False
    )
    hr, noise = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 16, 16)
    made = LearnedDegradation(place / "d.safetensors")(hr, noise)
    assert torch.equal(made, net(hr, noise)) == dual_input
    assert torch.equal(made, net(hr, torch.zeros_like(noise))) != dual_input


def test_sources_of_the_same_images_do_not_show_the_same_crops(place):
    found, _ = opened(place, options(PairSource(), PairSource()), rule(place), rule(place))
    one, other = (source[0].crops[1] for source in found.dataset.sources)
    assert not torch.equal(one, other)
    orders = [[source[visit].image for visit in range(9)] for source in found.dataset.sources]
    assert orders[0] != orders[1]


@pytest.mark.parametrize("workers", [pytest.param(1, marks=IN_PROCESSES)])
def test_a_degrader_gives_the_same_bytes_in_a_worker(place, workers):
    here, there = (opened(place, options(LEARNED, workers=n), learned(place))[0].dataset for n in (0, workers))
    ours, theirs = first(here, 2), first(there, 2)
    assert all(map(torch.equal, ours, theirs))
    assert ours[0].shape == (8, 3, 4, 4)
    assert len(ours[0].unique()) > 10


def test_images_of_no_use_are_reported_and_left_out(place):
    (place / "hr/9.png").write_bytes(b"no image")
    found, notes = opened(place, options(PairSource(), LEARNED), rule(place), learned(place))
    assert [one["images"] for one in found.record] == [3, 3]
    assert sum("9.png" in note for note in notes) == 1  # once, though two sources read the folder


def test_a_source_of_one_image_is_refused(place):
    for path in list((place / "pairs").rglob("1.png")):
        path.unlink()
    with pytest.raises(DataError, match=r"^Of 1 images only .*hr/0\.png can be used: it has 16 pixels.* give 2 such"):
        opened(place, options(READY), ready(place))


def test_files_and_folders_of_no_use_are_refused(place):
    with pytest.raises(WeightsError, match=r"gone\.safetensors"):
        opened(place, options(LEARNED), learned(place, "gone.safetensors"))
    (place / "pairs/lr/0.png").unlink()
    with pytest.raises(DataError, match=r"0\.png has no partner"):
        opened(place, options(READY), ready(place))
