"""The page as a file: what it says, what it holds, how large it is."""

import errno
import re
from base64 import b64decode
from dataclasses import replace
from html import unescape
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.errors import ConfigError, DataError, ImageReadError, ImageWriteError
from ddnsr_cli.metrics.statistics import mean_interval
from ddnsr_cli.reports import evaluation_page as page_module
from ddnsr_cli.reports.evaluation_page import write_eval_page
from ddnsr_cli.reports.results import Sample
from tests.helpers.evaluation_results import LPIPS, PSNR, drawn, save, write_evaluation

EVIL = '<evil x="1">&\'"</script></style>$heading${x}'


def page_of(evaluation, folder, against=None):
    path = folder / "page.html"
    write_eval_page(evaluation, path, against=against)
    return path.read_text(encoding="utf-8")


def decoded(source):
    return np.asarray(Image.open(BytesIO(b64decode(source.partition(",")[2]))).convert("RGB"))


def details(page):
    """(caption, image) of every detail."""
    found = re.findall(r'<img class="detail" alt="Detail, ([^"]*)".*?src="([^"]*)"', page)
    return [(unescape(name), decoded(source)) for name, source in found]


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (128, 128, 3), np.uint8)


def words_of(html):
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def test_a_detail_is_a_piece_of_the_file_pixel_for_pixel(tmp_path):
    evaluation = write_evaluation(tmp_path, samples=1)
    found = dict(details(page_of(evaluation, tmp_path)))
    assert list(found) == ["bicubic", "alpha", "beta", "reference"]
    files = [evaluation.images[model, "scene_0"] for model in evaluation.models]
    places = []
    for cut, path in zip(found.values(), [*files, evaluation.samples[0].hr], strict=True):
        assert cut.shape == (64, 64, 3)
        image = np.asarray(Image.open(path))
        windows = np.lib.stride_tricks.sliding_window_view(image, (64, 64, 3))[:, :, 0]
        places.append(np.argwhere((windows == cut).all(axis=(2, 3, 4))).tolist())
    assert places[0]
    assert places[1:] == places[:-1]


def test_the_detail_lies_where_the_networks_differ_not_where_bicubic_does(tmp_path):
    evaluation = write_evaluation(tmp_path, samples=1)
    same = np.full((96, 128, 3), 90, np.uint8)
    odd, wrong = same.copy(), same.copy()
    odd[:32, :32] = 120
    wrong[64:, 64:] = 255
    for model, image in {"bicubic": wrong, "alpha": same, "beta": odd}.items():
        save(evaluation.images[model, "scene_0"], image)
    cuts = dict(details(page_of(evaluation, tmp_path)))
    np.testing.assert_array_equal(cuts["beta"], odd[:64, :64])


def test_means_and_their_intervals_are_reported(tmp_path):
    evaluation = write_evaluation(tmp_path, samples=5)
    text = words_of(page_of(evaluation, tmp_path))
    for model in evaluation.models:
        for metric in evaluation.metrics:
            known = mean_interval(evaluation.column(model, metric.key))
            mean, low, high = (f"{value:.{metric.digits}f}" for value in (known.mean, known.low, known.high))
            assert f"{mean} {low} to {high}" in text
    assert evaluation.methodology in text
    assert "measured on whole images without loss" in text


def test_the_best_of_a_column_is_bold(tmp_path):
    evaluation = write_evaluation(tmp_path, samples=3)
    means = page_of(evaluation, tmp_path).partition("<h2>Means</h2>")[2].partition("<h2>")[0]
    bold = [words_of(cell).split()[0] for cell in re.findall(r'<td class="best">.*?</td>', means)]
    psnr, lpips = (
        [np.mean(evaluation.column(model, metric.key)) for model in evaluation.models] for metric in (PSNR, LPIPS)
    )
    assert bold == [f"{max(psnr):.2f}", f"{min(lpips):.4f}"]


def test_the_page_says_whether_p_is_corrected(tmp_path):
    evaluation = write_evaluation(tmp_path, samples=1)
    assert "Wilcoxon's p, corrected by Holm for 2 models;" in words_of(page_of(evaluation, tmp_path, against="alpha"))
    two = replace(evaluation, models=("alpha", "beta"))
    assert "Wilcoxon's p; better" in words_of(page_of(two, tmp_path, against="alpha"))


def compared(folder, samples):
    """The words about bicubic, which is undecided, and beta: 1, 2, 3, ... dB above alpha, by LPIPS 0.1 worse."""
    evaluation = write_evaluation(folder, samples=samples)
    for index, sample in enumerate(evaluation.samples):
        evaluation.values["alpha", sample.name].update(psnr_rgb=20.0, lpips_alex=0.5)
        evaluation.values["beta", sample.name].update(psnr_rgb=21.0 + index, lpips_alex=0.6)
        evaluation.values["bicubic", sample.name].update(psnr_rgb=20.0 + (-1) ** index, lpips_alex=0.5)
    words = words_of(page_of(evaluation, folder, against="alpha"))
    table = words.partition("Against alpha")[2].partition("What was measured")[0]
    bicubic, _, beta = table.partition("bicubic ")[2].partition(" beta ")
    return bicubic, beta


def test_the_comparison_tells_differences_wins_and_a_verdict(tmp_path):
    bicubic, beta = compared(tmp_path, 8)
    assert re.match(r"\+4\.50 [23]\.\d\d to [56]\.\d\d wins 100%, p 0\.016 better ", beta)
    assert re.search(r" \+0\.1000 0\.1000 to 0\.1000 wins 0%, p 0\.0\d+ worse", beta)
    assert re.match(r"0\.00 −0\.\d\d to 0\.\d\d wins 50%, p 1 not clear 0\.0000 0\.0000 to 0\.0000 wins 50%", bicubic)


def test_four_images_make_nothing_clear(tmp_path):
    _, beta = compared(tmp_path, 4)
    assert re.match(r"\+2\.50 1\.\d\d to 3\.\d\d wins 100%, p 0\.25 not clear", beta)


def test_without_a_model_to_compare_with_there_is_no_comparison(tmp_path):
    assert "Against" not in words_of(page_of(write_evaluation(tmp_path, samples=1), tmp_path))


def test_an_unknown_model_to_compare_with_is_reported(tmp_path):
    evaluation = write_evaluation(tmp_path, samples=1)
    with pytest.raises(ConfigError, match=r"No model is called gamma\. Compare with one of: bicubic, alpha, beta\."):
        page_of(evaluation, tmp_path, against="gamma")


def test_many_images_have_details_and_few_have_sliders(tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "MOST_SLIDERS", 4)
    monkeypatch.setattr(page_module, "MOST_CARDS", 6)
    evaluation = write_evaluation(tmp_path, samples=9)
    page = page_of(evaluation, tmp_path)
    assert len(re.findall(r"<article ", page)) == 6
    assert len(re.findall(r'<div class="stage"', page)) == 4
    assert len(re.findall(r"<tr data-image=", page)) == 9 * 2
    assert len(re.findall(r'<a href="#p\d+">', page)) == 6 * 2
    assert "Of 9 images, 6 are shown" in page
    order = np.argsort(-np.array(evaluation.column("alpha", "lpips_alex")), kind="stable")
    shown = [int(index) for index in re.findall(r'<article class="card" id="p(\d+)"', page)]
    assert shown == order[[0, 1, 2, 3, 4, 8]].tolist()


def test_without_a_reference_the_models_alone_are_shown(tmp_path):
    page = page_of(write_evaluation(tmp_path, samples=1, hr=False), tmp_path)
    assert [name for name, _ in details(page)] == ["bicubic", "alpha", "beta"]
    assert "reference" not in page.partition("<h2>Images</h2>")[2].partition("<script>")[0]


def test_a_reference_of_the_lr_size_is_shown_in_squares(tmp_path):
    evaluation = write_evaluation(tmp_path, samples=1)
    clean = save(tmp_path / "clean.png", drawn(0, 24, 32))
    evaluation = replace(evaluation, samples=(Sample(name="scene_0", lr=None, hr=clean),))
    cut = dict(details(page_of(evaluation, tmp_path)))["reference"]
    np.testing.assert_array_equal(cut, cut[::4, ::4].repeat(4, axis=0).repeat(4, axis=1))


def test_finished_images_of_one_model_have_a_page(tmp_path):
    page = page_of(write_evaluation(tmp_path, models=("mine",), samples=2), tmp_path)
    assert [name for name, _ in details(page)] == ["mine", "reference"] * 2
    assert page.count('<div class="stage"') == 2


def test_one_image_of_one_model_without_reference_has_a_page(tmp_path):
    page = page_of(write_evaluation(tmp_path, models=("mine",), samples=1, hr=False), tmp_path)
    assert [name for name, _ in details(page)] == ["mine"]
    assert '<div class="stage"' not in page
    assert "nan" not in words_of(page.partition("<script>")[0])


def test_names_are_words_and_nothing_else(tmp_path):
    evaluation = write_evaluation(tmp_path, models=("bicubic", EVIL, "\udcff"), names=[f"a/{EVIL}", "b"])
    evaluation = replace(evaluation, methodology=EVIL)
    page = page_of(evaluation, tmp_path, against="bicubic")
    assert "<evil" not in page
    assert page.count("</script>") == page.count("</style>") == 1
    assert words_of(page).count(EVIL) > 10


def test_the_page_asks_for_nothing_from_elsewhere(tmp_path):
    page = page_of(write_evaluation(tmp_path, samples=2), tmp_path)
    outside = re.sub(r'src="data:image/(webp|jpeg);base64,[\w+/=]*"', "", page)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|\bfetch\b|XMLHttp|import\(|src=|<link", outside)
    assert "content=\"default-src 'none'; img-src data:;" in page


def test_same_evaluation_same_bytes(tmp_path):
    evaluation = write_evaluation(tmp_path, samples=3)
    assert page_of(evaluation, tmp_path, "alpha") == page_of(evaluation, tmp_path, "alpha")


def test_an_image_without_slider_takes_some_hundred_kilobytes_at_most(tmp_path):
    """Of pure noise, than which nothing takes more bytes; five models. So a hundred images stay far below 30 MB."""
    models = ("bicubic", "a", "b", "c", "d")
    most = write_evaluation(tmp_path, models=models, samples=13, draw=noise)
    fewer, more = (len(page_of(replace(most, samples=most.samples[:count]), tmp_path)) for count in (12, 13))
    assert 60_000 < more - fewer < 150_000


def test_a_large_image_is_reduced_under_the_slider_alone(tmp_path):
    evaluation = write_evaluation(tmp_path, samples=1, draw=lambda seed: drawn(seed, 40, 1400))
    page = page_of(evaluation, tmp_path)
    stage = page.partition('<div class="stage">')[2].partition('<div class="strip"')[0]
    sizes = [decoded(source).shape for source in re.findall(r'src="([^"]*)"', stage)]
    assert sizes == [(29, 1024, 3)] * 4
    assert all(cut.shape == (40, 64, 3) for _, cut in details(page))


def test_a_damaged_image_is_named_and_no_page_is_left(tmp_path):
    evaluation = write_evaluation(tmp_path, samples=2)
    bad = evaluation.images["beta", "scene_1"]
    bad.write_bytes(bad.read_bytes()[:60])
    with pytest.raises(ImageReadError, match=re.escape(str(bad))):
        page_of(evaluation, tmp_path)
    assert not (tmp_path / "page.html").exists()


def test_an_image_of_another_size_is_named(tmp_path):
    evaluation = write_evaluation(tmp_path, samples=1)
    bad = save(evaluation.images["beta", "scene_0"], drawn(0, 96, 124))
    with pytest.raises(DataError, match=rf"{re.escape(str(bad))} has 124 x 96 pixels, but .* has 128 x 96\."):
        page_of(evaluation, tmp_path)


def test_a_page_that_cannot_be_written_is_reported(tmp_path):
    evaluation = write_evaluation(tmp_path, samples=1)
    with pytest.raises(ImageWriteError, match=r"no/page\.html could not be written \(No such file or directory\)"):
        write_eval_page(evaluation, tmp_path / "no" / "page.html", against=None)
    assert not list(Path(tmp_path).glob(".page*"))


def test_a_full_disk_leaves_the_page_that_was_there(tmp_path, monkeypatch):
    evaluation = write_evaluation(tmp_path, samples=1)
    before = page_of(evaluation, tmp_path)
    files = sorted(path.name for path in tmp_path.iterdir())

    def half(path, text, **_):
        path.write_bytes(text[: len(text) // 2].encode())
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", half)
        with pytest.raises(ImageWriteError, match=r"page\.html could not be written \(No space left on device\)"):
            page_of(evaluation, tmp_path, against="alpha")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == files
