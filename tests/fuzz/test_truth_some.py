"""Some files of truth.py; thousands are run by hand, see README.md."""

from collections import Counter

from tests.fuzz import truth


def test_what_is_damaged_is_told_and_what_is_sound_is_not_refused(tmp_path):
    tally = Counter()
    path, size = tmp_path / "image", (96, 128)
    finds = [find for number in range(60) for find in truth.examine(number, 7, path, tally, size=size)]
    assert finds == []
    assert {what for _, what in tally} >= {"refused", "noted", "right"}


def test_sound_files_that_compress_to_nothing_are_read_in_silence(tmp_path):
    kinds = [kind for kind in truth.ENCODERS if kind not in {"AVIF", "JPEG libvips"}]  # these are slow
    assert [find for kind in kinds for find in truth.check_sound(kind, 1, 1, tmp_path / "image")] == []


def test_drawings_that_were_once_called_damaged(tmp_path):
    for kind, numbers in (("JPEG libvips", (71, 385)), ("WebP lossy", (118, 131, 322))):
        assert [find for number in numbers for find in truth.check_sound(kind, number, 1, tmp_path / "image")] == []
