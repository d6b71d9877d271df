"""Partners told by name, as the field writes names, and by size."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from ddnsr_cli.data.images import PairRules, finished_by_name, match_pairs
from ddnsr_cli.errors import DataError
from ddnsr_cli.io.provenance import mark_as

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@pytest.fixture
def folders(tmp_path):
    """`folders(lr=[names], hr=[names])`: their paths; LR of 4 x 5 pixels, HR four times that."""

    def make(*, times=4, **sides):
        for side, names in sides.items():
            for name in names:
                path = tmp_path / side / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (5, 4) if side == "lr" else (5 * times, 4 * times)).save(path)
        return [tmp_path / side for side in sides]

    return make


def matched(lr, hr, **rules):
    notes = []
    pairs = match_pairs(lr, hr, scale=4, rules=PairRules(**rules), note=notes.append)
    return {pair.hr.stem: pair.lr.stem for pair in pairs}, notes


@pytest.mark.parametrize(
    ("lr", "hr"),
    [
        (["0001x4", "0002x4"], ["0001", "0002"]),
        (["0001x4m", "0002x4m"], ["0001", "0002"]),
        (["0801x4w2", "0802x4w2"], ["0801", "0802"]),
        (["a_out", "b_out"], ["a", "b"]),
        (["a_lr", "b_lr"], ["a", "b"]),
        (["a", "b"], ["a_HR", "b_HR"]),
        (["Canon_001_LR4", "Nikon_002_LR4"], ["Canon_001_HR", "Nikon_002_HR"]),
        (["img_001_SRF_4_LR", "img_002_SRF_4_LR"], ["img_001_SRF_4_HR", "img_002_SRF_4_HR"]),
        (["p_1_x4", "p_2_x4"], ["p_1_x1", "p_2_x1"]),
        (["baby_LRBI_x4", "bird_LRBI_x4"], ["baby", "bird"]),
        ([NFC, "b"], [NFD, "b"]),
        (["IMG_1", "img_2"], ["img_1", "IMG_2"]),
        ([f"{NFC}x4", "bx4"], [NFD, "b"]),
        (["deep/ax4", "bx4"], ["deep/a", "b"]),
        (["lr_0001", "lr_0002"], ["hr_0001", "hr_0002"]),
        (["deep/LR0001", "LR0002"], ["deep/HR0001", "HR0002"]),
        (["sr_1", "sr_2"], ["1", "2"]),
        (["1_NOISY_SRGB_010", "2_NOISY_SRGB_010"], ["1_GT_SRGB_010", "2_GT_SRGB_010"]),
        (["a_low", "b_low"], ["a_high", "b_high"]),
        (["a(noise_scale)(x4.000000)", "b(noise_scale)(x4.000000)"], ["a", "b"]),
    ],
)
def test_names_of_the_field_find_their_partners_and_it_is_told(folders, lr, hr):
    found, notes = matched(*folders(lr=lr, hr=hr))
    assert found == {right.rpartition("/")[2]: left.rpartition("/")[2] for left, right in zip(lr, hr, strict=True)}
    assert len(notes) == 1
    assert "taken for the partner of" in notes[0]


def test_plain_names_need_no_word(folders):
    assert matched(*folders(lr=["a", "bx4"], hr=["a", "bx4"])) == ({"a": "a", "bx4": "bx4"}, [])


@pytest.mark.parametrize(
    ("lr", "hr"),
    [
        (["1-2"], ["1"]),  # a number tells an image
        (["10", "20"], ["1", "2"]),
        (["ax4", "b"], ["a", "b"]),  # not all
        (["ax4", "bx2"], ["a", "b"]),
        (["a", "b"], ["a", "c"]),
    ],
)
def test_what_may_be_chance_is_refused_with_the_way_out(folders, lr, hr):
    with pytest.raises(DataError, match=r"has no partner in .* --lr-suffix x4"):
        matched(*folders(lr=lr, hr=hr))


def test_twins_of_one_form_are_told(folders):
    with pytest.raises(DataError, match="differ in case or Unicode form alone"):
        matched(*folders(lr=["IMG", "img"], hr=["Img", "b"]))


def test_twins_on_both_sides_are_partners(folders):
    assert matched(*folders(lr=["IMG", "img"], hr=["IMG", "img"])) == ({"IMG": "IMG", "img": "img"}, [])


def test_a_suffix_that_is_given_chooses_the_files(folders):
    lr, hr = folders(lr=["ax2", "ax4", "bx2", "bx4"], hr=["a", "b"])
    assert matched(lr, hr, lr_suffix="x4") == ({"a": "ax4", "b": "bx4"}, [])
    with pytest.raises(DataError, match=r"No name in .* ends in '_out'"):
        matched(lr, hr, lr_suffix="_out")


def test_finished_images_are_told_alike(folders):
    sr, hr = folders(sr=["a_out", "b_out", "a_raw", "b_raw"], hr=["a", "b"])
    found = finished_by_name(hr, sr, scale=1, rules=PairRules(sr_suffix="_out"))
    assert {name: path.stem for name, path in found.items()} == {"a": "a_out", "b": "b_out"}


def test_of_finished_images_those_of_ddnsr_stay_and_its_sheets_do_not(folders):
    sr, hr = folders(sr=["a", "b", "c", "b_compare"], hr=["a", "b", "c"])
    for name, kind in {"a": "result", "b": "evaluated", "b_compare": "sheet"}.items():
        mark_as(sr / f"{name}.png", kind)
    found = finished_by_name(hr, sr, scale=1, rules=PairRules())
    assert {name: path.stem for name, path in found.items()} == {"a": "a", "b": "b", "c": "c"}


@pytest.mark.parametrize(("size", "lr_px"), [((23, 19), (4, 5)), ((19, 15), (3, 4)), ((20, 18), (4, 5))])
def test_sizes_that_are_no_multiples_are_cut_when_asked(tmp_path, size, lr_px):
    for side, px in (("lr", (5, 4)), ("hr", size)):
        (tmp_path / side).mkdir()
        Image.new("RGB", px).save(tmp_path / side / "a.png")
    with pytest.raises(DataError, match="--mod-crop cuts such pairs"):
        matched(tmp_path / "lr", tmp_path / "hr")
    (pair,) = match_pairs(tmp_path / "lr", tmp_path / "hr", scale=4, rules=PairRules(mod_crop=True))
    lr, hr = pair.cut(np.zeros((4, 5, 3), np.uint8), np.zeros((*size[::-1], 3), np.uint8))
    assert lr.shape[:2] == lr_px
    assert hr.shape[:2] == (4 * lr_px[0], 4 * lr_px[1])


def test_other_sizes_are_refused_all_the_same(folders):
    with pytest.raises(DataError, match="Crop or remove the pair"):
        matched(*folders(lr=["a"], hr=["a"], times=3), mod_crop=True)
