"""Pairs under names and of sizes of the field, in figures and in training."""

import numpy as np
from PIL import Image

from tests.helpers.drawn_images import drawn_image, resized


def test_figures_and_training_take_such_pairs(ddnsr, tmp_path, monkeypatch):
    for number in range(2):
        hr = drawn_image(number, 150)[: 146 - number]
        for side, name, pixels in (
            ("hr", f"{number}", hr),
            ("lr", f"{number}x4", resized(hr[:144, :148], 1 / 4)),
            ("sr", f"{number}_out", hr[:144, :148]),
        ):
            (tmp_path / side).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / side / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    plain = ("eval", "--lr", "lr", "--hr", "hr", "--sr", "sr", "--lpips", "none", "--csv", "-", "--report", "r.html")
    done = ddnsr(*plain)
    assert done.code == 8
    assert "--mod-crop" in done.err
    done = ddnsr(*plain, "--mod-crop")
    assert done.code == 0, done.err
    assert "sr,0,100" in done.out or "sr,0,1" in done.out
    alone = ddnsr("eval", "--hr", "hr", "--sr", "sr", "--lpips", "none", "--csv", "-", "--mod-crop")
    assert alone.code == 0, alone.err
    words = ("train", "--pretrain", "--lite", "--hr", "hr", "--lr", "lr", "--crop", "64", "--batch", "2", "-o", "run")
    check = ddnsr(*words, "--check", "--mod-crop")
    assert check.code == 0, check.err
    assert "taken for the partner" in check.err


def test_pairs_are_looked_at_before_the_first_step_and_before_the_figures(ddnsr, tmp_path, monkeypatch):
    scenes = [drawn_image(seed, 128) for seed in range(4)]
    partners = [scenes[0], scenes[1][:, ::-1], scenes[3], scenes[3][..., ::-1]]
    for number, (scene, partner) in enumerate(zip(scenes, partners, strict=True)):
        for side, pixels in (("hr", scene), ("lr", resized(np.ascontiguousarray(partner), 1 / 4)), ("sr", partner)):
            (tmp_path / side).mkdir(exist_ok=True)
            Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / side / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    train = ddnsr("train", "--pretrain", "--lite", "--hr", "hr", "--lr", "lr", "--crop", "64", "-o", "run", "--check")
    figures = ddnsr("eval", "--hr", "hr", "--lr", "lr", "-m", "bicubic", "--sr", "sr", "--lpips", "none")
    for done, partner in ((train, "lr"), (figures, "lr"), (figures, "sr")):
        assert done.code == 0, done.err
        assert f"hr/1.png is mirrored against {partner}/1.png" in done.err
        assert f"hr/2.png does not show what {partner}/2.png shows" in done.err
        assert f"hr/3.png has red and blue exchanged against {partner}/3.png" in done.err
        assert "hr/0.png is" not in done.err


def test_mod_crop_cuts_finished_images_too_and_refuses_those_that_are_short(ddnsr, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hr = drawn_image(1, 64)
    sides = {"lr": resized(hr, 1 / 4), "same": hr, "larger": np.pad(hr, ((0, 3), (0, 2), (0, 0))), "short": hr[:-1]}
    for side, pixels in (sides | {"hr": drawn_image(1, 64)}).items():
        (tmp_path / side).mkdir()
        Image.fromarray(pixels).save(tmp_path / side / "a.png")
    for folders in (("--lr", "lr"), ("--hr", "hr"), ("--lr", "lr", "--hr", "hr")):
        words = ("eval", *folders, "--mod-crop", "--lpips", "none", "--csv", "-")
        done = ddnsr(*words, "--sr", "same", "--sr", "larger", "--report", "page.html")
        assert done.code == 0, done.err
        same, larger = (line.split(",", 1)[1] for line in done.out.splitlines()[-2:])
        assert same == larger
        done = ddnsr(*words, "--sr", "short")
        assert done.code == 8
        assert "short/a.png has 64x63 pixels" in done.err
