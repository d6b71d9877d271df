"""`ddnsr degrade` as a user runs it, by the files that it leaves."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from ddnsr_cli.commands.degrade import methods
from ddnsr_cli.data.images import match_pairs, shrunk
from ddnsr_cli.errors import TrainingError
from ddnsr_cli.files import sha256_of
from ddnsr_cli.inference import degrader as inference_degrader
from ddnsr_cli.inference import memory
from ddnsr_cli.io.read import read_rgb
from ddnsr_cli.nets.degrader import Degrader, DegraderConfig, start_as_area, start_with_noise
from ddnsr_cli.weights.checkpoint import save_degrader
from ddnsr_cli.weights.registry import Registry, WeightsEntry
from tests.helpers.pair_folders import degrader, pixels, records, refused, tree
from tests.helpers.terminal import on_a_terminal


def test_pairs_lie_in_two_folders_under_the_same_names(make, scene):
    done = make("pairs")
    assert (done.code, done.err) == (0, "")
    names = ["a.png", "b.png", "deep/c.png"]
    assert sorted(tree(scene / "pairs")) == sorted(
        [f"hr/{name}" for name in names] + [f"lr/{name}" for name in names] + ["manifest.jsonl"]
    )
    assert done.out.split() == [str(scene / "pairs/lr" / name) for name in names]
    pairs = match_pairs(scene / "pairs/lr", scene / "pairs/hr", scale=4)
    assert [read_rgb(pair.lr).shape for pair in pairs] == [(12, 16, 3), (10, 12, 3), (9, 30, 3)]


def test_hr_is_the_image_cut_to_a_multiple_of_4_and_lr_is_it_made_small(make, scene):
    make("pairs")
    assert np.array_equal(pixels(scene / "pairs/hr/a.png"), pixels(scene / "hr/a.png")[:48, :64])
    shrunk = pixels(scene / "pairs/hr/a.png").reshape(12, 4, 16, 4, 3).mean((1, 3))
    difference = pixels(scene / "pairs/lr/a.png") - shrunk
    assert 1 < difference.std() < 40


@pytest.mark.parametrize("noise_input", ["smooth", "crop"])
def test_the_manifest_says_where_all_comes_from(make, scene, small_degrader, noise_input):
    make("pairs", "--seed", 5, "--noise-input", noise_input)
    text = (scene / "pairs/manifest.jsonl").read_text()
    assert str(scene) not in text
    rows = {row["name"]: row for row in records(scene / "pairs")}
    assert list(rows) == sorted(rows)
    sources = {"a.png": "a.png", "b.png": "b.jpg", "deep/c.png": "deep/c.png"}
    for name, source in sources.items():
        row = rows[name]
        assert (row["hr_source"], row["hr_source_sha256"]) == (source, sha256_of(scene / "hr" / source))
        assert row["noise_sha256"] == sha256_of(scene / "noisy" / row["noise_source"])
        assert row["noise_input"] == noise_input
        size = list(pixels(scene / "pairs/lr" / name).shape[:2])
        assert row["noise_crop"] is None if noise_input == "smooth" else row["noise_crop"][2:] == size
        assert (row["seed"], row["variant"], row["method"]) == (5, 1, "learned")
        assert (row["model"], row["model_sha256"]) == (small_degrader.name, sha256_of(small_degrader))
        assert (row["hr_sha256"], row["lr_sha256"]) == tuple(
            sha256_of(scene / "pairs" / side / name) for side in ("hr", "lr")
        )


@pytest.fixture(scope="module")
def all_of_it(tmp_path_factory):
    """A degrader that carries whatever is finer than 3 x 3 pixels of its noise input."""
    net = Degrader(DegraderConfig(features=8, blocks=1))
    start_as_area(net, torch.Generator().manual_seed(0))
    start_with_noise(net)
    path = tmp_path_factory.mktemp("carries") / "all.safetensors"
    save_degrader(path, net, metadata={}, half=False)
    return path


def test_the_subject_of_a_noisy_image_shows_in_crops_only(make, scene, all_of_it):
    """A noisy image of fine stripes, with a smooth part below them."""
    image = np.full((96, 96, 3), 120.0)
    image[:48, ::2] = 160
    image += np.random.default_rng(1).normal(0, 3, image.shape)
    (scene / "striped").mkdir()
    Image.fromarray(image.round().astype(np.uint8)).save(scene / "striped/s.png")
    for folder, words in (("smooth", ()), ("crop", ("--noise-input", "crop"))):
        assert make(folder, *words, "--per-image", 6, noise="striped", model=all_of_it).code == 0
    clean = pixels(scene / "hr/a.png")[:48, :64].reshape(12, 4, 16, 4, 3).mean((1, 3))
    stripes = {
        folder: max(striped(pixels(path) - clean) for path in (scene / folder / "lr").glob("a_*.png"))
        for folder in ("smooth", "crop")
    }
    assert stripes["crop"] > 20
    assert stripes["smooth"] < 2


def striped(levels):
    """How much the even columns of an image differ from the odd ones."""
    return abs(levels[:, ::2].mean() - levels[:, 1::2].mean())


def test_noisy_images_without_smooth_parts_are_told_with_the_way_out(make, scene):
    (scene / "rough").mkdir()
    rough = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(rough).save(scene / "rough/r.png")
    done = make("pairs", noise="rough")
    assert done.code != 0
    assert "no smooth part; try a larger --patch-variance, with --method learned --noise-input crop" in done.err
    assert make("pairs", "--noise-input", "crop", noise="rough").code == 0


def test_noisy_images_without_noise_are_told_once(make, scene):
    (scene / "flat").mkdir()
    Image.new("RGB", (64, 64), (120, 90, 60)).save(scene / "flat/f.png")
    done = make("pairs", noise="flat")
    assert done.code == 9
    assert done.err.count("None of 1 noisy images is of use: 1 has no noise. Give images that have some.") == 1
    rough = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(rough).save(scene / "flat/r.png")
    assert "1 has no noise, 1 have no smooth part; try a larger" in make("pairs", noise="flat").err


def test_another_noise_input_makes_pairs_anew_only_when_asked(make, scene):
    make("pairs")
    done = make("pairs", "--noise-input", "crop")
    assert done.code != 0
    assert "noise_input" in done.err


@pytest.mark.parametrize("method", ["learned", "gaussian", "patches", "classical"])
def test_workers_free_memory_and_time_change_no_byte(make, scene, monkeypatch, method):
    words = ("--per-image", 2, *(() if method == "learned" else ("--method", method)))
    assert make("first", *words, "--workers", 1).code == 0
    expected = tree(scene / "first")
    assert len(expected) == 13
    for folder, workers, free in (("second", 3, 1), ("third", 0, 1 << 50)):
        monkeypatch.setattr(inference_degrader, "free_host_bytes", lambda free=free: free)
        monkeypatch.setattr(memory, "free_host_bytes", lambda free=free: free)
        assert make(folder, *words, "--workers", workers).code == 0
        assert tree(scene / folder) == expected


def test_other_images_and_their_order_change_no_byte(make, scene):
    make("all")
    expected = tree(scene / "all")
    (scene / "hr/a.png").rename(scene / "hr/0_earlier.png")
    (scene / "hr/b.jpg").rename(scene / "hr/zz.jpg")
    make("some")
    assert tree(scene / "some")["lr/deep/c.png"] == expected["lr/deep/c.png"]
    (scene / "hr/zz.jpg").rename(scene / "hr/b.jpg")
    make("others")
    assert tree(scene / "others")["lr/b.png"] == expected["lr/b.png"]
    assert tree(scene / "some")["hr/zz.png"] == expected["hr/b.png"]
    assert tree(scene / "some")["lr/zz.png"] != expected["lr/b.png"]  # the path is what draws


def test_where_the_folders_lie_changes_no_byte(make, scene):
    make("here")
    (scene / "far").mkdir()
    for name in ("hr", "noisy"):
        (scene / name).rename(scene / "far" / name)
    assert make("far/there", hr="far/hr", noise="far/noisy").code == 0
    assert tree(scene / "far/there") == tree(scene / "here")


def test_the_seed_draws_the_noise(make, scene):
    make("zero"), make("one", "--seed", 1)
    zero, one = tree(scene / "zero"), tree(scene / "one")
    assert zero["hr/a.png"] == one["hr/a.png"]
    assert zero["lr/a.png"] != one["lr/a.png"]


def test_variants_have_the_same_hr_once_on_the_disk_and_other_noise(make, scene):
    make("pairs", "--per-image", 3)
    found = tree(scene / "pairs")
    assert len({found[f"lr/a_{variant}.png"] for variant in (1, 2, 3)}) == 3
    assert len({found[f"hr/a_{variant}.png"] for variant in (1, 2, 3)}) == 1
    assert len({(scene / "pairs/hr" / f"a_{variant}.png").stat().st_ino for variant in (1, 2, 3)}) == 1
    assert len(match_pairs(scene / "pairs/lr", scene / "pairs/hr", scale=4)) == 9
    again = make("pairs", "--per-image", 4)
    assert (again.code, len(again.out.split())) == (0, 3)
    assert {name: text for name, text in tree(scene / "pairs").items() if name in found and "manifest" not in name} == {
        name: text for name, text in found.items() if "manifest" not in name
    }


def test_bicubic_has_no_noise_and_gaussian_as_much_as_asked(make, scene):
    rng = np.random.default_rng(0)
    large = rng.integers(90, 160, (10, 10, 3)).astype(np.uint8).repeat(40, axis=0).repeat(40, axis=1)
    Image.fromarray(large).save(scene / "hr/large.png")
    make("plain", "--method", "bicubic"), make("eight", "--method", "gaussian")
    make("three", "--method", "gaussian", "--sigma", 3, noise=None)
    size = (100, 100)
    planes = [
        Image.fromarray(large[..., c].astype(np.float32)).resize(size, Image.Resampling.BICUBIC) for c in range(3)
    ]
    bicubic = np.stack([np.asarray(plane) for plane in planes], axis=2)
    plain, three, eight = (pixels(scene / name / "lr/large.png") - bicubic for name in ("plain", "three", "eight"))
    assert np.abs(plain).max() <= 0.51
    assert [three.std(), eight.std()] == pytest.approx([3, 8], rel=0.03)
    assert records(scene / "three")[0]["noise_source"] is None


def test_the_classical_method_draws_each_pair_by_its_preset(make, scene):
    Image.fromarray(np.full((400, 400, 3), 128, np.uint8)).save(scene / "hr/flat.png")
    exact = ("--degradation", "noise_sigma=6,6", "--degradation", "coarse_chance=0")
    words = ("--method", "classical", "--degradation-preset", "track1", *exact)
    assert make("pairs", *words, "--per-image", 2, noise=None).code == 0
    one, two = (pixels(scene / f"pairs/lr/flat_{variant}.png") for variant in (1, 2))
    assert one.shape == (100, 100, 3)
    assert [one.std(), two.std()] == pytest.approx([6, 6], rel=0.05)
    assert not np.array_equal(one, two)
    row = records(scene / "pairs")[0]
    assert (row["method"], row["degradation"]["noise_sigma"], row["degradation"]["jpeg_chance"]) == (
        "classical",
        [6.0, 6.0],
        0.0,
    )
    again = make("pairs", *words, "--per-image", 2, noise=None)
    assert (again.code, again.out) == (0, "")
    assert "8 pairs were there already" in again.err
    other = make("pairs", *words, "--degradation", "noise_sigma=5,6", "--per-image", 2, noise=None)
    refused(other, 2, "--degradation noise_sigma [6.0, 6.0] -> [5.0, 6.0]")
    refused(make("pairs", "--method", "bicubic", "--per-image", 2, noise=None), 2, "settings -> none")


def test_an_image_of_any_shape_goes_through_two_passes(make, scene):
    words = ("--degradation-preset", "photo", "--degradation", "twice_chance=1")
    assert make("pairs", "--method", "classical", *words, noise=None).code == 0
    assert {row["name"]: pixels(scene / "pairs/lr" / row["name"]).shape for row in records(scene / "pairs")} == {
        "a.png": (12, 16, 3),
        "b.png": (10, 12, 3),
        "deep/c.png": (9, 30, 3),
    }


def test_patches_bring_the_noise_of_the_image(make, scene):
    Image.fromarray(np.full((400, 400, 3), 128, np.uint8)).save(scene / "hr/flat.png")
    done = make("pairs", "--method", "patches")
    assert done.code == 0, done.err
    assert pixels(scene / "pairs/lr/flat.png").std() == pytest.approx(9, rel=0.1)
    row = next(row for row in records(scene / "pairs") if row["name"] == "flat.png")
    assert row["noise_source"] in {"x.png", "y.png", "in/z.png"}
    refused(make("none", "--method", "patches", "--patch-variance", 2), 9, "4 of 4 images failed")


@pytest.fixture
def impressionism(make):
    """`impressionism("pairs", "--seed", 1)`: the scene's pairs by kernels of few steps, of two noisy images."""
    words = ("--method", "impressionism", "--kernels", 2, "--kernel-steps", 2)
    return lambda folder, *more: make(folder, *words, *more)


def test_impressionism_draws_a_kernel_and_noise_for_each_pair(impressionism, make, scene, image_file):
    Image.fromarray(np.full((400, 400, 3), 128, np.uint8)).save(scene / "hr/flat.png")
    image_file("hr/large.png", 400, 300)
    done = impressionism("pairs", "--per-image", 4, "--realism-report", scene / "report.html")
    assert done.code == 0, done.err
    assert done.err.count("its blur kernel is estimated in 2 steps") == 2
    assert pixels(scene / "pairs/lr/flat_1.png").std() == pytest.approx(9, rel=0.1)
    rows = records(scene / "pairs")
    used = {row["kernel_source"] for row in rows}
    assert used == {json.loads(line)["source"] for line in (scene / "pairs/kernels.jsonl").read_text().splitlines()}
    assert len(used) == 2
    assert {row["noise_source"] for row in rows} == {"x.png", "y.png", "in/z.png"}
    assert {(row["kernels"], row["kernel_steps"]) for row in rows} == {(2, 2)}
    assert make("plain", "--method", "bicubic").code == 0
    blurred, plain = (
        pixels(scene / folder / name) for folder, name in (("pairs", "lr/a_1.png"), ("plain", "lr/a.png"))
    )
    assert 3 < np.abs(blurred - plain).mean() < 30


def test_kernels_are_estimated_once_and_the_bytes_are_the_same(impressionism, scene):
    assert impressionism("first").code == 0
    expected = tree(scene / "first")
    (scene / "first/lr/a.png").unlink()
    again = impressionism("first")
    assert (again.code, again.out.split()) == (0, [str(scene / "first/lr/a.png")])
    assert "blur kernel" not in again.err
    assert tree(scene / "first") == expected
    assert impressionism("second", "--workers", 3).code == 0
    assert tree(scene / "second") == expected
    refused(impressionism("second", "--kernels", 1), 2, "--kernels 2 -> 1")


def test_impressionism_needs_photos_and_alone_knows_kernels(make):
    refused(make("pairs", "--method", "impressionism", noise=None), 2, "--noise-source")
    refused(make("pairs", "--method", "patches", "--kernels", 3), 2, "--kernels is for --method impressionism")


def test_cleanup_shrinks_hr_first(make, scene, image_file):
    image_file("big/a.png", 200, 100)
    assert make("pairs", "--cleanup", 2, hr="big").code == 0
    assert pixels(scene / "pairs/hr/a.png").shape == (48, 100, 3)
    whole = pixels(scene / "big/a.png").reshape(50, 2, 100, 2, 3).mean((1, 3))
    assert np.abs(pixels(scene / "pairs/hr/a.png") - whole[:48]).mean() < 1


def test_gray_alpha_depth_and_orientation(make, scene):
    ramp = np.linspace(0, 255, 48 * 40).reshape(40, 48).astype(np.uint8)
    folder = scene / "odd"
    folder.mkdir()
    Image.fromarray(ramp).save(folder / "gray.png")
    Image.fromarray(ramp.astype(np.uint16) * 257).save(folder / "deep.png")
    Image.fromarray(np.dstack([ramp, ramp, ramp, ramp])).save(folder / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(ramp).convert("RGB").save(folder / "turned.png", exif=exif)
    done = make("pairs", hr="odd")
    assert done.code == 0, done.err
    assert "alpha.png: its transparency is left out" in done.err
    for name in ("gray", "deep", "alpha"):
        assert np.array_equal(pixels(scene / f"pairs/hr/{name}.png"), np.dstack([ramp] * 3).astype(int))
    assert np.array_equal(pixels(scene / "pairs/hr/turned.png")[..., 0], np.rot90(ramp, -1))
    with Image.open(scene / "pairs/hr/turned.png") as image:
        assert not image.getexif()


def test_a_run_folder_is_a_model_and_its_name_is_all_that_is_reported(make, scene):
    degrader(scene / "runs/mine/degrader.safetensors")
    assert make("pairs", model=scene / "runs/mine").code == 0
    assert {row["model"] for row in records(scene / "pairs")} == {"mine"}


def test_the_bundled_degrader_is_the_default(make, ddnsr, scene, small_degrader, monkeypatch):
    entry = WeightsEntry(
        name="ddnsr-camera",
        title="A camera",
        description="Of these tests.",
        network="degrader",
        features=4,
        blocks=1,
        scale=4,
        sha256=sha256_of(small_degrader),
        size_bytes=small_degrader.stat().st_size,
        license="MIT",
        by="ddnsr",
        own=True,
        trained_on="nothing",
        bundled=small_degrader.name,
        default=True,
        research_only=True,
    )
    monkeypatch.setattr(methods, "read_registry", lambda: Registry(entries=(entry,), folder=small_degrader.parent))
    done = ddnsr("degrade", scene / "hr", "--noise-source", scene / "noisy", "-o", scene / "default", "--offline")
    assert done.code == 0, done.err
    assert {row["model"] for row in records(scene / "default")} == {"ddnsr-camera"}
    assert done.err.startswith("note: ddnsr-camera is for research only")
    make("named")
    assert (scene / "default/lr/a.png").read_bytes() == (scene / "named/lr/a.png").read_bytes()


def test_without_a_default_the_user_is_told_what_to_name(ddnsr, scene, monkeypatch):
    monkeypatch.setattr(methods, "read_registry", lambda: Registry(entries=()))
    done = ddnsr("degrade", scene / "hr", "--noise-source", scene / "noisy", "-o", scene / "none")
    assert (done.code, done.out, done.err.count("\n")) == (5, "", 1)
    assert "Name one with -m" in done.err
    assert "--method patches" in done.err
    assert not (scene / "none").exists()


def test_a_single_input_degrader_is_fed_zeros(make, scene):
    options = json.dumps({"dual_input": False})
    single = degrader(scene / "single.safetensors", options=options)
    done, alone = make("with", model=single), make("without", model=single, noise=None)
    assert (done.code, alone.code) == (0, 0)
    assert "--noise-source is left unused: the degrader takes no noise" in done.err
    assert "--noise-source" not in alone.err
    assert tree(scene / "with") == tree(scene / "without")
    assert {row["noise_source"] for row in records(scene / "with")} == {None}
    dual = degrader(scene / "dual.safetensors", options=json.dumps({"dual_input": True}))
    refused(make("dual", model=dual, noise=None), 2, "--noise-source")


def test_noisy_photos_that_no_method_takes_noise_of_are_told(make, scene, image_file):
    image_file("hr/large.png", 400, 300)
    told = "--noise-source is left unused: --method gaussian takes no noise from photos"
    assert told in make("pairs", "--method", "gaussian").err
    done = make("pairs", "--method", "gaussian", "--realism-report", scene / "page.html")
    assert done.code == 0, done.err
    assert "unused" not in done.err


def test_a_report_compares_fake_with_real(make, scene, image_file):
    image_file("hr/large.png", 400, 300)
    done = make("pairs", "--method", "patches", "--realism-report", scene / "report.html")
    assert done.code == 0, done.err
    assert "<html" in (scene / "report.html").read_text()
    (verdict,) = [line for line in done.err.splitlines() if "report.html" in line]
    assert "levels" in verdict


def test_a_report_of_a_degrader_says_what_it_makes_of_its_noise_input(make, scene, image_file):
    """Windows of 64 LR pixels are tried: there is one only once an image is large enough."""
    image_file("hr/large.png", 240, 200)
    assert make("small", "--realism-report", scene / "small.html").code == 0
    assert "Structure leaked" not in (scene / "small.html").read_text()
    image_file("hr/large.png", 400, 300)
    assert make("pairs", "--realism-report", scene / "report.html").code == 0
    page = (scene / "report.html").read_text()
    assert all(name in page for name in ("Noise carried, flat parts", "Noise carried, textured", "Structure leaked"))
    assert make("again", "--realism-report", scene / "again.html").code == 0
    again = (scene / "again.html").read_text()
    assert again.replace("/again/", "/pairs/") == page


def test_a_report_of_a_degrader_tries_images_as_they_are_cleaned_up(make, scene):
    """Its figures are those of images that were shrunk before."""
    for folder in ("big", "shrunk"):
        (scene / folder).mkdir()
    rng = np.random.default_rng(3)
    image = np.clip(
        rng.integers(60, 200, (15, 15, 3)).repeat(40, 0).repeat(40, 1) + rng.normal(0, 9, (600, 600, 3)), 0, 255
    )
    image = image.round().astype(np.uint8)
    Image.fromarray(image).save(scene / "big/a.png")
    Image.fromarray(shrunk(image, 2)).save(scene / "shrunk/a.png")
    pages = []
    for hr, words in (("big", ("--cleanup", 2)), ("shrunk", ())):
        page = scene / f"{hr}.html"
        assert make(f"of_{hr}", *words, "--realism-report", page, hr=hr).code == 0
        pages.append(page.read_text().replace(f"of_{hr}", "pairs"))
    assert "Structure leaked" in pages[1]
    assert pages[0] == pages[1]


def test_a_photo_of_which_no_kernel_comes_is_named(impressionism, scene, monkeypatch):
    def none(*_image, **_options):
        raise TrainingError("No kernel came of the training. Give other photos.")

    monkeypatch.setattr(methods, "estimate_kernel", none)
    refused(impressionism("pairs"), 10, ".png: No kernel came of the training")
    assert not (scene / "pairs").exists()


def test_a_report_compares_with_the_noisy_images_whose_noise_was_taken(make, scene, image_file):
    """Bright images with less noise, which the method passes over, do not enter."""
    image_file("hr/large.png", 400, 300)
    rng = np.random.default_rng(1)
    for number in range(9):
        bright = np.rint(240 + rng.normal(0, 2, (64, 64, 3))).astype(np.uint8)
        Image.fromarray(bright).save(scene / f"noisy/bright{number}.png")
    words = ("--method", "patches", "--per-image", 5, "--realism-report")
    done = make("pairs", *words, scene / "report.html")
    assert done.code == 0, done.err
    assert len({row["noise_source"] for row in records(scene / "pairs")}) == 3
    assert "compares with 3 of 12 noisy images, whose noise was taken" in done.err
    (level,) = re.findall(r"against ([\d.]+) levels", done.err)
    assert float(level) == pytest.approx(9, abs=1.5)
    all_of_them = make("plain", "--method", "bicubic", *words[4:], scene / "all.html")
    assert "compares with" not in all_of_them.err
    (level,) = re.findall(r"against ([\d.]+) levels", all_of_them.err)
    assert float(level) < 3


def test_json_tells_each_pair(make, scene):
    rows = [json.loads(line) for line in make("pairs", "--json").out.splitlines()]
    assert [row["event"] for row in rows] == ["written"] * 3
    assert (rows[0]["input"], rows[0]["lr"]) == (str(scene / "hr/a.png"), str(scene / "pairs/lr/a.png"))
    assert (rows[0]["hr"], rows[0]["width"], rows[0]["height"]) == (str(scene / "pairs/hr/a.png"), 16, 12)


def test_single_files_and_names_that_collide_work(make, ddnsr, scene, image_file, small_degrader):
    image_file("hr/a.jpg", 40, 40)
    words = ("--noise-source", scene / "noisy/y.png", "-m", small_degrader, "-o", scene / "pairs")
    done = ddnsr("degrade", scene / "hr/a.png", "-i", scene / "hr/deep/c.png", *words)
    assert [line.removeprefix(f"{scene}/pairs/lr/") for line in done.out.split()] == ["a.png", "c.png"]
    done = make("tree")
    assert sorted(name for name in tree(scene / "tree") if name.startswith("lr/a")) == ["lr/a_jpg.png", "lr/a_png.png"]


def test_on_a_terminal_the_bar_makes_way_for_the_paths(scene, small_degrader):
    words = ["degrade", scene / "hr", "--noise-source", scene / "noisy", "-m", small_degrader, "-o", scene / "pairs"]
    seen = on_a_terminal(*words)
    assert "3/3" in seen
    for name in ("a.png", "b.png", "deep/c.png"):
        assert f"\x1b[2K{scene / 'pairs/lr' / name}\r\n" in seen


def test_where_no_pair_was_made_the_failures_are_told_and_no_report(make, scene):
    for path in (scene / "hr").rglob("*.*"):
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
    done = make("pairs", "--method", "patches", "--realism-report", scene / "report.html")
    assert done.code == 9
    assert "images failed" in done.err.splitlines()[-1]
    assert not (scene / "report.html").exists()


@pytest.mark.parametrize("method", ["bicubic", "gaussian", "patches", "classical"])
@pytest.mark.parametrize("scale", [1, 2])
def test_pairs_of_other_scales(make, scene, method, scale):
    done = make("pairs", "--scale", scale, "--method", method)
    assert done.code == 0, done.err
    (pair, *_) = match_pairs(scene / "pairs/lr", scene / "pairs/hr", scale=scale)
    lr, hr = read_rgb(pair.lr).astype(float), read_rgb(pair.hr).astype(float)
    height, width = lr.shape[:2]
    assert hr.shape == (scale * height, scale * width, 3)
    difference = lr - hr.reshape(height, scale, width, scale, 3).mean((1, 3))
    assert difference.std() < 60
    if (method, scale) == ("bicubic", 1):
        assert not difference.any()
    assert {row["scale"] for row in records(scene / "pairs")} == {scale}
    refused(make("pairs", "--method", method), 2, "scale", "--overwrite")


def test_scales_that_a_method_does_not_know_are_refused(make, scene):
    for method in ("learned", "impressionism"):
        refused(make("pairs", "--scale", 2, "--method", method), 2, f"--method {method} shrinks 4 times only")
    refused(make("pairs", "--scale", 3, "--method", "bicubic"), 2, "1, 2 or 4, got 3")
    assert not (scene / "pairs").exists()
