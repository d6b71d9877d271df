import os
import tempfile
from pathlib import Path

import pytest

from ddnsr_cli.errors import FolderWriteError, ImageWriteError
from ddnsr_cli.io.formats import check_format, check_writable

SMALL = {"width": 40, "height": 30, "has_alpha": False, "depth_bits": 8}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a.GIF", r"a\.GIF: \.GIF cannot be written\."),
        ("a", r"a has no extension\."),
        ("a.png.txt", r"a\.png\.txt: \.txt cannot"),
        ("a.heic", r"a\.heic: \.heic cannot"),
    ],
)
def test_other_extensions_are_refused(name, told):
    with pytest.raises(ImageWriteError, match=rf"^{told}.*Use one of: \.png \.jpg"):
        check_format(Path(name), **SMALL)


@pytest.mark.parametrize(
    ("name", "side"), [("a.jpg", 65_500), ("a.JPEG", 65_500), ("a.webp", 16_383), ("a.avif", 32_768)]
)
def test_sides_beyond_the_format_are_refused_before_any_work(name, side):
    for width, height in ((side, 9), (9, side)):
        assert check_format(Path(name), **SMALL | {"width": width, "height": height}) == ()
        too_large = SMALL | {"width": max(9, width + (width == side)), "height": height + (height == side)}
        with pytest.raises(ImageWriteError, match=r"too large, .* holds \d\d,\d{3} pixels a side.* Use \.png or \.tif"):
            check_format(Path(name), **too_large)


def test_the_area_of_an_avif_is_limited_too():
    with pytest.raises(ImageWriteError, match="268,435,456 in all"):
        check_format(Path("a.avif"), **SMALL | {"width": 16_385, "height": 16_384})


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_large_results_fit_into_png_and_tiff(name):
    assert check_format(Path(name), **SMALL | {"width": 100_000, "height": 100_000}) == ()


@pytest.mark.parametrize("name", ["a.jpg", "a.bmp"])
def test_transparency_needs_a_format_that_holds_it(name):
    with pytest.raises(ImageWriteError, match=r"holds no transparency.*Use \.png"):
        check_format(Path(name), **SMALL | {"has_alpha": True})
    assert check_format(Path("a.webp"), **SMALL | {"has_alpha": True}) == ()


def test_16_bits_into_8_is_a_note():
    (note,) = check_format(Path("a.jpg"), **SMALL | {"depth_bits": 16})
    assert "rounded to 8" in note
    assert check_format(Path("a.tif"), **SMALL | {"depth_bits": 16}) == ()


def test_a_missing_folder_is_made_and_left_empty(tmp_path):
    check_writable(tmp_path / "new" / "deeper" / "a.png", **SMALL)
    assert list((tmp_path / "new" / "deeper").iterdir()) == []


def test_a_folder_in_the_place_of_the_file_is_reported(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(ImageWriteError, match=r"a\.png is a folder\. Name a file"):
        check_writable(tmp_path / "a.png", **SMALL)


def test_a_file_in_the_place_of_the_folder_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ImageWriteError, match=r"Nothing can be written to .*file"):
        check_writable(tmp_path / "file" / "a.png", **SMALL)


def test_a_name_that_is_too_long_is_no_fault_of_the_folder(tmp_path):
    for path in (tmp_path / f"{'a' * 300}.png", tmp_path / ("b" * 300) / "a.png"):
        with pytest.raises(ImageWriteError, match=r"\.png is too long a name for a file") as caught:
            check_writable(path, **SMALL)
        assert not isinstance(caught.value, FolderWriteError)  # other names may do


def test_a_folder_without_permission_is_reported(tmp_path, monkeypatch):
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):  # root may write everywhere
        monkeypatch.setattr(
            tempfile, "TemporaryFile", lambda **_: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
        )
    with pytest.raises(ImageWriteError, match=r"Nothing can be written to .* \(Permission denied\)"):
        check_writable(tmp_path / "a.png", **SMALL)
    tmp_path.chmod(0o700)


def test_a_name_too_long_for_the_system_is_reported(tmp_path):
    with pytest.raises(ImageWriteError):
        check_writable(tmp_path / ("x" * 300 + ".png"), **SMALL)


def test_the_check_leaves_an_existing_file_alone(tmp_path):
    (tmp_path / "a.png").write_bytes(b"old")
    check_writable(tmp_path / "a.png", **SMALL)
    assert (tmp_path / "a.png").read_bytes() == b"old"
