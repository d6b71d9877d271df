"""The realism report from files: what is drawn, what is written, what is reported."""

import re
from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.errors import DataError, ImageWriteError
from ddnsr_cli.reports import realism
from ddnsr_cli.reports.realism import measure_realism, realism_report
from tests.helpers.noisy_images import noise, scene, write_set

SIDE = 96


def noisy(sigma, first=0, **kind):
    """`make` for `write_set`: the same subjects under noise of their own."""

    def make(index):
        return scene(SIDE, seed=index) + noise((SIDE, SIDE, 3), sigma, seed=first + index, **kind)

    return make


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    return {
        "real": write_set(root / "real", 6, noisy(8, grain=(0.18, 1, 0.18), gray=0.4)),
        "like": write_set(root / "like", 5, noisy(7.5, 50, grain=(0.18, 1, 0.18), gray=0.4)),
        "white": write_set(root / "white", 5, noisy(8, 60)),
        "clean": write_set(root / "clean", 5, noisy(0)),
    }


def test_known_noise_is_measured_from_files(sets):
    found = measure_realism(sets["real"], seed=1)
    assert found.noise == pytest.approx(8, rel=0.07)
    assert found.neighbors == pytest.approx(0.34, abs=0.06)
    assert found.channels == pytest.approx(0.4, abs=0.08)
    assert found.images == 6


def test_like_noise_is_close(sets, tmp_path):
    told = realism_report(sets["real"], sets["like"], tmp_path / "page.html")
    assert re.fullmatch(
        r"Noise \d\.\d against \d\.\d levels, neighbors correlate 0\.\d\d against 0\.\d\d, channels 0\.\d\d against "
        r"0\.\d\d: the fake LR is close to the real\.",
        told,
    )


@pytest.mark.parametrize(("fake", "fault"), [("white", "too fine"), ("clean", "too weak")])
def test_other_noise_is_told_apart(sets, tmp_path, fake, fault):
    told = realism_report(sets["real"], sets[fake], tmp_path / "page.html")
    assert "the noise of the fake LR is " in told
    assert fault in told


def test_the_page_holds_verdict_figures_and_samples(sets, tmp_path):
    page = tmp_path / "page.html"
    told = realism_report(sets["real"], sets["like"], page)
    text = page.read_text(encoding="utf-8")
    assert told in text
    assert text.count("<svg") == 4
    assert [text.count(f"<dt>{name}</dt>") for name in ("neighbors", "channels", "red", "green", "blue")] == [1] * 5
    real = measure_realism(sets["real"])
    assert f"</i> {real.channels:.2f}</dd>" in text
    assert f"</i> {real.mean_rgb[2]:.0f}</dd>" in text
    for figure in ("Noise, levels of 255", "Mean color", "Contrast", "Correlation of channels"):
        assert figure in text
    samples = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert len(samples) == 8
    for sample in samples:
        pixels = np.asarray(Image.open(BytesIO(b64decode(sample))))
        assert pixels.shape == (256, 256, 3)
        assert (pixels.reshape(64, 4, 64, 4, 3).std((1, 3)) == 0).all()  # each pixel four times, both ways


def test_a_sample_is_a_part_of_its_image(sets, tmp_path):
    page = tmp_path / "page.html"
    realism_report(sets["real"][:1], sets["like"], page)
    first = re.search(r'src="data:image/png;base64,([^"]+)"', page.read_text(encoding="utf-8"))
    part = np.asarray(Image.open(BytesIO(b64decode(first[1]))))[::4, ::4]
    image = np.asarray(Image.open(sets["real"][0]))
    windows = np.lib.stride_tricks.sliding_window_view(image, (64, 64), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
    assert (windows == part).all((2, 3, 4)).any()


def test_same_seed_same_bytes_whatever_order_or_folder(sets, tmp_path):
    moved = [tmp_path / "elsewhere" / path.name for path in sets["real"]]
    moved[0].parent.mkdir()
    for old, new in zip(sets["real"], moved, strict=True):
        new.write_bytes(old.read_bytes())
    pages = []
    for index, real in enumerate((sets["real"], sets["real"][::-1], moved)):
        pages.append(tmp_path / f"{index}.html")
        realism_report(real, sets["like"], pages[-1], seed=3)
    assert len({page.read_bytes() for page in pages}) == 1
    realism_report(sets["real"], sets["like"], pages[0], seed=4)
    assert pages[0].read_bytes() != pages[1].read_bytes()


def test_of_a_large_set_some_are_drawn_by_the_seed(sets, monkeypatch):
    monkeypatch.setattr(realism, "MOST_IMAGES", 2)
    drawn = [measure_realism(sets["real"], seed=seed).each_noise for seed in (0, 0, 1, 2, 3)]
    assert {len(levels) for levels in drawn} == {2}
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_of_a_large_image_a_window_is_drawn_by_the_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(realism, "WINDOW_PX", 64)
    paths = write_set(tmp_path, 1, noisy(8))
    assert measure_realism(paths, seed=0) == measure_realism(paths, seed=0)
    assert len({measure_realism(paths, seed=seed) for seed in range(4)}) > 1


def test_what_cannot_be_measured_is_left_out_and_told(sets, tmp_path):
    bad = tmp_path / "<b>bad&.png"
    bad.write_bytes(b"no image")
    small = tmp_path / "small.png"
    Image.new("RGB", (31, 200)).save(small)
    page = tmp_path / "page.html"
    realism_report([*sets["real"], bad, small], sets["like"], page)
    text = page.read_text(encoding="utf-8")
    assert "&lt;b&gt;bad&amp;.png is not an image we can read" in text
    assert "<b>bad" not in text
    assert "small.png is below 32 pixels on a side" in text
    assert measure_realism([*sets["real"], bad, small]) == measure_realism(sets["real"])
    with pytest.raises(DataError, match=r"None of 2 LR images can be measured\. The first: .*(bad|small)"):
        measure_realism([bad, small])
    with pytest.raises(DataError, match="None of 0"):
        measure_realism([])


def test_sets_that_tell_nothing_make_a_page_too(sets, tmp_path):
    black = write_set(tmp_path / "black", 2, lambda index: np.zeros((SIDE, SIDE, 3)))
    told = realism_report(sets["real"], black, tmp_path / "page.html")
    assert told.startswith("Too little to tell: ")
    assert "and 0 of 2 fake images have enough that is neither black nor white." in told
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("<svg") == 4
    assert "<dd>unknown</dd>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    realism_report(black, black, tmp_path / "page.html")
    assert "<dt>neighbors</dt>" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("<svg") == 1  # their spectrum is there


def test_a_side_without_a_line_is_told(sets, tmp_path):
    def textured(index):
        image = np.random.default_rng(index).uniform(50, 205, (SIDE, SIDE, 3))
        image[:40, :40] = 40 * index + 20
        return image + noise((SIDE, SIDE, 3), 5, seed=index)

    fake = write_set(tmp_path / "fake", 5, textured)
    assert set(measure_realism(fake).by_brightness) == {None}
    realism_report(sets["real"], fake, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("No line for fake: too few of the images have smooth parts of one brightness.") == 1
    assert text.count("No line for") == 1
    realism_report(fake, fake, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "No line for real or fake: too few of the images" in text
    assert text.count("<svg") == 3


def test_a_page_that_cannot_be_written_leaves_nothing(sets, tmp_path):
    with pytest.raises(ImageWriteError, match=r"no/page\.html could not be written"):
        realism_report(sets["real"], sets["like"], tmp_path / "no" / "page.html")
    taken = tmp_path / "page.html"
    taken.mkdir()
    with pytest.raises(ImageWriteError, match=r"page\.html could not be written"):
        realism_report(sets["real"], sets["like"], taken)
    assert list(tmp_path.iterdir()) == [taken]
