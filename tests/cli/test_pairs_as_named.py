"""Pairs under names and of sizes of the field, in figures and in training."""

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
