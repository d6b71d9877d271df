"""`ddnsr degrade` on what it cannot use, and what it will not do."""

import sys
import tempfile
from functools import partial

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.cli.progress import degrade_view, upscale_view
from ddnsr_cli.commands.degrade import worker
from ddnsr_cli.errors import DataError
from ddnsr_cli.io.codecs.pillow import quiet_stderr
from tests.helpers.pair_folders import records, refused, tree


def test_bad_images_are_skipped_and_named_at_the_end(make, scene, image_file):
    (scene / "hr/hurt.png").write_bytes((scene / "hr/a.png").read_bytes()[:200])
    image_file("hr/tiny.png", 64, 31)
    done = make("pairs")
    refused(done, 9, "2 of 5 images failed", "hurt.png", "tiny.png")
    assert "64x31 pixels; a side needs 32" in done.err
    assert len(done.out.split()) == 3
    assert len(records(scene / "pairs")) == 3
    assert make("pairs").code == 9


def test_bad_noisy_images_are_drawn_around_and_named_at_the_end(make, scene):
    (scene / "noisy/x.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    Image.fromarray(np.zeros((31, 99, 3), np.uint8)).save(scene / "noisy/short.png")
    done = make("pairs", "--per-image", 8)
    assert len(done.out.split()) == 24
    refused(done, 9, "2 noisy images could not be used", "x.png", "short.png")
    assert {row["noise_source"] for row in records(scene / "pairs")} == {"y.png", "in/z.png"}
    make("again", "--per-image", 8, "--workers", 1)
    assert tree(scene / "again") == tree(scene / "pairs")


@pytest.mark.parametrize("view", [degrade_view, partial(upscale_view, verbose=False)], ids=["degrade", "upscale"])
def test_what_is_reported_while_an_image_is_read_is_not_lost(capfd, monkeypatch, view):
    """Decoders are kept quiet by turning standard error away; other threads read while failures are reported."""
    with open(2, "w", closefd=False) as stderr, monkeypatch.context() as context:  # as outside of pytest
        context.setattr(sys, "stderr", stderr)
        tell_while_decoding(view)
    assert capfd.readouterr().err == "error: a.png is bad.\nnote: b.png is odd\n"


def tell_while_decoding(shown):
    with shown(quiet=False) as view, quiet_stderr():
        view.listener.failed(DataError("a.png is bad."))
        view.listener.note("b.png is odd")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ZeroDivisionError("by zero"), 70, "unexpected ZeroDivisionError: by zero (details in "),
        (MemoryError(), 9, "needs more memory than there is"),
        (OSError(5, "Input/output error"), 9, "Input/output error"),
    ],
)
def test_an_error_that_nobody_foresaw_stops_no_other_image(make, scene, monkeypatch, tmp_path, error, code, said):
    shrink = worker.rgb8

    def broken(image):
        if image.width == 48:
            raise error
        return shrink(image)

    monkeypatch.setattr(worker, "rgb8", broken)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done = make("pairs", "--method", "bicubic", noise=None)
    assert (done.code, done.err.count("\n")) == (code, 2)
    assert f"b.jpg: {said}" in done.err.replace("b.jpg needs", "b.jpg: needs")
    assert len(records(scene / "pairs")) == 2


def test_a_full_disk_ends_it_and_keeps_what_is_done(make, scene, monkeypatch):
    shrink = worker.rgb8

    def full(image):
        if image.width == 48:
            raise OSError(28, "No space left on device")
        return shrink(image)

    monkeypatch.setattr(worker, "rgb8", full)
    refused(make("pairs", "--method", "bicubic", "--workers", 1, noise=None), 4, "b.jpg", "No space left on device")
    assert [record["hr_source"] for record in records(scene / "pairs")] == ["a.png"]
    monkeypatch.setattr(worker, "rgb8", shrink)
    assert make("pairs", "--method", "bicubic", noise=None).code == 0
    assert len(records(scene / "pairs")) == 3


def test_no_noisy_image_of_use_fails_every_image(make, scene):
    for path in (scene / "noisy").rglob("*.png"):
        path.write_bytes(b"")
    refused(make("pairs"), 9, "3 of 3 images failed", "3 noisy images")


@pytest.mark.parametrize("method", ["patches", "impressionism"])
def test_where_nothing_comes_nothing_is_left(make, scene, method):
    for path in (scene / "noisy").rglob("*.png"):
        path.write_bytes(b"")
    assert make("deep/pairs", "--method", method).code != 0
    assert not (scene / "deep").exists()
    (scene / "pairs").mkdir()
    assert make("pairs", "--method", method).code != 0
    assert tree(scene / "pairs") == {}


def test_the_wrong_kind_of_network_is_refused(make, ddnsr, image_file, quick_model, small_degrader, tmp_path):
    refused(make("pairs", model=quick_model), 5, "quick.safetensors", "no degrader")
    refused(make("pairs", model="ddnsr-lite"), 5, "ddnsr-lite", "ddnsr upscale")
    done = ddnsr("upscale", image_file(), "-o", tmp_path / "o.png", "-m", small_degrader)
    refused(done, 5, "small.safetensors", "ddnsr degrade")


def test_what_cannot_be_made_is_reported_before_any_work(make, ddnsr, scene, small_degrader):
    refused(make("pairs", noise=None), 2, "--noise-source")
    refused(make("pairs", "--method", "patches", noise=None), 2, "--noise-source")
    refused(make("pairs", "--method", "bicubic", "--realism-report", scene / "r.html", noise=None), 2, "--noise-source")
    refused(make("pairs", "--method", "bicubic", "-m", small_degrader), 2, "--model")
    refused(make("pairs", "--sigma", 3), 2, "--sigma is for --method gaussian")
    refused(make("pairs", "--method", "gaussian", "--sigma", "nan"), 2, "--sigma")
    refused(make("pairs", "--degradation-preset", "photo"), 2, "--degradation-preset", "--method classical")
    refused(make("pairs", "--method", "classical", "--degradation", "noise=3"), 2, "--degradation knows", "noise_sigma")
    for variance in (0, "nan", "inf"):
        refused(make("pairs", "--method", "patches", "--patch-variance", variance), 2, "above 0 and finite")
    refused(make("pairs", "--noise-input", "crop", "--patch-variance", 5), 2, "--patch-variance", "--noise-input crop")
    refused(make("pairs", noise="gone"), 3, "gone")
    refused(make("pairs", hr="gone"), 3, "gone")
    refused(make("hr"), 4, "Give another -o")
    refused(make("hr/deep/..", hr="hr/deep"), 4, "Give another -o")
    (scene / "empty").mkdir()
    refused(make("pairs", noise="empty"), 3, "empty")
    refused(make("pairs", hr="empty"), 3, "empty")
    (scene / "file").write_text("")
    refused(make("file"), 4, "is a file")
    refused(ddnsr("degrade", "-o", scene / "pairs"), 2, "No image")
    assert not (scene / "pairs").exists()


def test_folders_that_we_did_not_make_are_left_alone(make, scene, image_file):
    image_file("mine/hr/a.png", 40, 40)
    refused(make("mine"), 4, "no manifest.jsonl")
    assert len(tree(scene / "mine")) == 1


class TestTheRealismReport:
    @pytest.fixture
    def report(self, make):
        """`report(place, ...)`: what comes of a report there, of pairs by bicubic shrinking."""
        return lambda place, *words, **given: make(
            "pairs", "--method", "bicubic", "--realism-report", place, *words, **given
        )

    @pytest.mark.parametrize("more", [[], ["--overwrite"]])
    def test_it_replaces_nothing_that_is_read(self, report, ddnsr, scene, more):
        before = tree(scene)
        for name in ("hr/a.png", "hr/deep/c.png", "noisy/in/z.png"):
            refused(report(scene / name, *more), 4, name, "is read by this command")
        names = scene / "names.txt"
        names.write_text(f"{scene / 'hr/a.png'}\n")
        words = ("--noise-source", scene / "noisy", "-o", scene / "pairs", "--method", "bicubic", *more)
        done = ddnsr("degrade", "--list", names, *words, "--realism-report", names)
        refused(done, 4, "names.txt is read by this command")
        names.unlink()
        assert tree(scene) == before

    @pytest.mark.parametrize("name", ["pairs/manifest.jsonl", "pairs/lr/a.html", "pairs/kernels.jsonl", "pairs/hr"])
    def test_it_takes_no_place_of_the_pairs(self, report, scene, name):
        refused(report(scene / name, "--overwrite"), 4, name, "is a place of the pairs")
        assert not (scene / "pairs").exists()

    def test_it_replaces_a_page_of_another_only_when_told(self, report, scene):
        notes = scene / "notes.html"
        notes.write_text("my notes")
        refused(report(notes), 4, "notes.html exists and is no page of ddnsr. Give another name, or --overwrite")
        assert notes.read_text() == "my notes"
        refused(report(scene / "unrelated.jpg", "--overwrite"), 4, "under the name of an image")
        image = scene / "hr/deep/c.png"
        Image.fromarray(np.zeros((160, 160, 3), np.uint8)).save(image)
        assert report(notes, "--overwrite", hr="hr/deep").code in (0, 8)

    def test_its_folder_is_made_and_goes_where_nothing_comes(self, report, scene):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)).save(
            scene / "hr/deep/c.png"
        )
        place = scene / "sub/dir/real.html"
        refused(report(place, noise="gone"), 3, "gone")
        assert not (scene / "sub").exists()
        done = report(place, hr="hr/deep")
        assert done.code == 0, done.err
        assert place.is_file()
        again = report(place, hr="hr/deep")
        assert again.code == 0, again.err
