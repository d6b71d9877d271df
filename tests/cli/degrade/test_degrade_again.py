"""`ddnsr degrade` run again: after a stop, a kill, a change."""

import re
import signal
import time

import pytest
from PIL import Image

from ddnsr_cli.commands.degrade import manifest
from ddnsr_cli.data.images import match_pairs
from ddnsr_cli.files import sha256_of
from tests.helpers.pair_folders import pixels, records, refused, tree


def test_a_second_run_skips_what_is_there(make, scene):
    make("pairs")
    before = tree(scene / "pairs")
    times = {path: path.stat().st_mtime_ns for path in (scene / "pairs").rglob("*.png")}
    again = make("pairs")
    assert (again.code, again.out) == (0, "")
    assert "3 pairs were there already" in again.err
    (scene / "pairs/lr/b.png").unlink()
    assert make("pairs").out.split() == [str(scene / "pairs/lr/b.png")]
    assert tree(scene / "pairs") == before
    kept = [path for path in times if path.stat().st_mtime_ns == times[path]]
    assert len(kept) == 4


def test_what_a_kill_left_of_files_is_removed(make, scene):
    make("pairs")
    before = tree(scene / "pairs")
    for name in ("hr/.a-abcd1234.part.png", "lr/deep/.c-x_y1.part.png", ".manifest-q1.part.jsonl"):
        (scene / "pairs" / name).write_bytes(b"half")
    assert make("pairs").code == 0
    assert tree(scene / "pairs") == before


def test_half_a_line_and_a_stray_file_are_made_again(make, scene):
    make("pairs")
    before = tree(scene / "pairs")
    manifest = scene / "pairs/manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-100] + b"\0\0")
    (scene / "pairs/lr/deep/c.png").write_bytes(b"half")
    again = make("pairs")
    assert (again.code, again.out.split()) == (0, [str(scene / "pairs/lr/deep/c.png")])
    assert "1 lines of manifest.jsonl" in again.err
    assert tree(scene / "pairs") == before


def test_an_image_that_changed_is_not_mixed_up_with_what_it_was(make, scene, image_file):
    make("pairs")
    image_file("hr/a.png", 80, 50)
    refused(make("pairs"), 2, "1 of these pairs", "bytes of the HR image", "--overwrite")
    assert make("pairs", "--overwrite").code == 0
    assert pixels(scene / "pairs/lr/a.png").shape == (12, 20, 3)
    assert len(match_pairs(scene / "pairs/lr", scene / "pairs/hr", scale=4)) == 3


def test_an_image_that_changed_and_kept_its_length_is_found_out(make, scene, monkeypatch):
    path = scene / "hr/plain.bmp"
    Image.new("RGB", (48, 40), (10, 20, 30)).save(path)
    make("pairs", "--per-image", 2)
    path.touch()
    read = []
    monkeypatch.setattr(manifest, "sha256_of", lambda path: read.append(path) or sha256_of(path))
    assert "8 pairs were there already" in make("pairs", "--per-image", 2).err  # touched, and still the same
    assert [one for one in read if scene / "pairs" not in one.parents] == [path]  # the one that was touched, once
    Image.new("RGB", (48, 40), (200, 20, 30)).save(path)
    refused(make("pairs", "--per-image", 2), 2, "2 of these pairs", "SHA-256 of the HR image", "--overwrite")
    assert make("pairs", "--per-image", 2, "--overwrite").code == 0
    assert tuple(pixels(scene / "pairs/hr/plain_2.png")[0, 0]) == (200, 20, 30)


def test_a_kill_at_any_time_costs_only_the_pairs_in_hand(make, processes, scene, image_file, small_degrader):
    for number in range(30):
        image_file(f"hr/more/{number:02}.png", 400, 300)
    words = ("degrade", scene / "hr", "--noise-source", scene / "noisy", "-m", small_degrader, "--workers", "2")
    for lines in (2, 11):
        running = processes.start(*words, "-o", scene / "killed")
        running.until_lines(lines)
        running.kill()
        assert not (scene / "killed/lr/more/29.png").exists()
    finished = len(records(scene / "killed"))
    done = make("killed")
    assert done.code == 0, done.err
    assert 13 <= finished == 33 - len(done.out.split())
    assert make("whole").code == 0
    assert tree(scene / "killed") == tree(scene / "whole")


def test_an_interrupt_stops_at_the_next_tile_and_a_rerun_goes_on(make, processes, scene, image_file, small_degrader):
    for number in range(20):
        image_file(f"hr/more/{number:02}.png", 400, 300)
    words = ("degrade", scene / "hr", "--noise-source", scene / "noisy", "-m", small_degrader, "--workers", "2")
    running = processes.start(*words, "-o", scene / "pairs")
    running.until_lines(1)
    start = time.monotonic()
    running.send(signal.SIGINT)
    assert running.ended() == 130
    told = re.search(
        r"^error: interrupted; (\d+) of 23 images are done, and the same command goes on.$", running.err, re.M
    )
    assert told, running.err
    assert 1 <= int(told[1]) == len(running.out.split()) < 23
    assert "Traceback" not in running.err
    assert time.monotonic() - start < 60
    assert make("pairs").code == 0
    assert len(match_pairs(scene / "pairs/lr", scene / "pairs/hr", scale=4)) == 23


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", 7], "(--seed 0 -> 7)"),
        (["--method", "bicubic"], "--method learned -> bicubic, -m "),
        (["--per-image", 2], "name a.png -> a_1.png"),
        (["--cleanup", 2], "(--cleanup 1 -> 2"),
    ],
)
def test_other_settings_are_refused_until_overwriting_is_asked_for(make, scene, words, said):
    make("pairs")
    before = tree(scene / "pairs")
    refused(make("pairs", *words), 2, said, "--overwrite", "3 of these pairs")
    assert tree(scene / "pairs") == before
    done = make("pairs", *words, "--overwrite")
    make("fresh", *words)
    assert tree(scene / "pairs") == tree(scene / "fresh")
    assert done.code == (9 if "--cleanup" in words else 0)


def test_other_noisy_images_are_other_settings(make, scene):
    make("pairs")
    (scene / "noisy/y.png").unlink()
    refused(make("pairs"), 2, "--noise-source")


@pytest.mark.parametrize("again", [False, True])
def test_a_noisy_image_that_kept_its_length_is_found_out(make, scene, monkeypatch, again):
    """Replaced by another, or put there again."""
    for path in (scene / "noisy").rglob("*.png"):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    make("pairs", "--method", "patches", "--per-image", 3)
    used = [scene / "noisy" / row["noise_source"] for row in records(scene / "pairs")]
    if again:
        used[0].touch()
    else:
        with Image.open(used[0]) as image:
            image.transpose(Image.Transpose.ROTATE_180).save(used[0])
    read = []
    monkeypatch.setattr(manifest, "sha256_of", lambda path: read.append(path) or sha256_of(path))
    done = make("pairs", "--method", "patches", "--per-image", 3)
    assert [path for path in read if path in used] == [used[0]]  # once
    if again:
        assert "9 pairs were there already" in done.err
    else:
        refused(done, 2, f"{used.count(used[0])} of these pairs", "SHA-256 of the noisy image", "--overwrite")
        assert make("pairs", "--method", "patches", "--per-image", 3, "--overwrite").code == 0
        assert {row["noise_sha256"] for row in records(scene / "pairs")} == {sha256_of(path) for path in used}


def test_results_inside_the_folder_of_images_are_not_read_again(make, scene):
    make("hr/pairs")
    again = make("hr/pairs")
    assert (again.code, again.out) == (0, "")
    assert len(records(scene / "hr/pairs")) == 3


def test_another_image_takes_no_name_of_a_pair(make, scene, image_file):
    image_file("x/im0.png", 48, 40), image_file("y/im0_1.png", 64, 40)
    make("pairs", "--method", "gaussian", "--per-image", 2, hr="x", noise=None)
    before = tree(scene / "pairs")
    done = make("pairs", "--method", "gaussian", hr="y", noise=None)
    refused(done, 2, "im0_1.png of im0.png, not im0_1.png", "--overwrite")
    assert tree(scene / "pairs") == before
    assert make("pairs", "--method", "gaussian", "--overwrite", hr="y", noise=None).code == 0
    assert [(row["name"], row["hr_source"]) for row in records(scene / "pairs")] == [
        ("im0_1.png", "im0_1.png"),
        ("im0_2.png", "im0.png"),
    ]
    (scene / "y/im0_1.png").unlink()
    image_file("y/im0_1.bmp", 64, 40)
    refused(make("pairs", "--method", "gaussian", hr="y", noise=None), 2, "im0_1.png, not im0_1.bmp")


def test_files_of_others_among_the_pairs_are_replaced_only_when_asked_for(make, scene, image_file):
    make("pairs", "--method", "bicubic", noise=None)
    for side in ("hr", "lr"):
        image_file(f"pairs/{side}/mine.png", 40, 40)
    before = tree(scene / "pairs")
    assert make("pairs", "--method", "bicubic", noise=None).code == 0
    image_file("hr/mine.jpg", 80, 80)
    done = make("pairs", "--method", "bicubic", noise=None)
    refused(done, 4, "pairs/hr/mine.png, ", "pairs/lr/mine.png", "--overwrite")
    assert tree(scene / "pairs") == before
    assert make("pairs", "--method", "bicubic", "--overwrite", noise=None).code == 0
    assert pixels(scene / "pairs/lr/mine.png").shape == (20, 20, 3)


def test_what_a_kill_left_before_its_line_is_made_again(make, scene, monkeypatch):
    """The pairs of two images are written, and the run ends before their lines are."""

    def killed(_manifest, _record):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(manifest.Manifest, "add", killed)
        assert make("pairs", "--method", "bicubic", "--workers", 1, noise=None).code == 130
    assert (scene / "pairs/lr/a.png").exists()
    assert records(scene / "pairs") == []
    assert make("pairs", "--method", "bicubic", noise=None).code == 0
    assert make("fresh", "--method", "bicubic", noise=None).code == 0
    assert tree(scene / "pairs") == tree(scene / "fresh")
