"""Which results are finished."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from ddnsr_cli.commands.upscale.jobs import (
    State,
    mark_result,
    mark_sheet,
    settings_of,
    sheet_of,
    state_of,
)
from ddnsr_cli.commands.upscale.options import UpscaleOptions
from ddnsr_cli.errors import ConfigError, ImageWriteError
from ddnsr_cli.inference.pipeline import LookOptions
from ddnsr_cli.io.image import RasterImage
from ddnsr_cli.io.provenance import made_as, source_of
from ddnsr_cli.io.write import WriteOptions, write_image
from ddnsr_cli.processing.resize import OutputSize


def settings(target, model="0" * 64, **options):
    return settings_of(UpscaleOptions(**options), model, target)


@pytest.fixture
def made(tmp_path):
    """`made("png")`: an input, and its result a second later."""

    def make(extension="png", **options):
        source, target = tmp_path / "in.png", tmp_path / f"out.{extension}"
        write_image(RasterImage(pixels=np.full((4, 4, 3), 7, np.uint8)), source)
        write_image(
            RasterImage(pixels=np.full((16, 16, 3), 7, np.uint8)),
            target,
            finish=lambda path: mark_result(path, source_of(source), settings(target, **options)),
        )
        later = source.stat().st_ctime_ns + 10**9
        os.utime(target, ns=(later, later))
        return source, target

    return make


@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "tiff", "avif", "bmp"])
def test_a_result_is_finished_for_the_same_settings(made, extension):
    source, target = made(extension)
    assert state_of(source, target, settings(target)) == (State.FINISHED, "")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"model": "1" * 64}, "model"),
        ({"tta": True}, "tta off"),
        ({"look": LookOptions(strength=0.5)}, "strength 1.0"),
        ({"look": LookOptions(grain=1)}, "grain 0"),
        ({"look": LookOptions(color_fix=False)}, "color_fix on"),
        ({"look": LookOptions(to_srgb=True)}, "to_srgb off"),
        ({"size": OutputSize(scale=2)}, "(the network's own scale)"),
        ({"size": OutputSize(width=9), "tta": True}, "(tta off, the network's own scale)"),
    ],
)
def test_another_model_or_look_is_outdated(made, options, word):
    source, target = made()
    state, why = state_of(source, target, settings(target, **options))
    assert state is State.OUTDATED
    assert word in why


@pytest.mark.parametrize(
    ("size", "told"),
    [(OutputSize(scale=2.5), "(scale 2.5)"), (OutputSize(long_side=16), "(long side 16)"),
     (OutputSize(width=16, height=9), "(width 16 and height 9)")],
)  # fmt: skip
def test_the_size_that_a_result_was_made_in_is_told(made, size, told):
    source, target = made(size=size)
    assert told in state_of(source, target, settings(target))[1]
    assert told in state_of(source, target, settings(target, size=OutputSize(megapixels=1)))[1]


def test_what_makes_no_difference_does_not_count(made):
    source, target = made()
    same = settings(target, device="cuda", dtype="fp16", engine="torch", write=WriteOptions(quality=50), suffix="_x")
    assert settings(target, overwrite=True, engine="openvino") == same
    assert state_of(source, target, same) == (State.FINISHED, "")
    assert settings(target, look=LookOptions(seed=3)) == settings(target)


def test_quality_counts_where_it_loses(made):
    source, target = made("jpg")
    assert state_of(source, target, settings(target, write=WriteOptions(quality=50)))[0] is State.OUTDATED


def test_nothing_there_is_absent(tmp_path):
    assert state_of(tmp_path / "a.png", tmp_path / "b.png", {})[0] is State.ABSENT


@pytest.mark.parametrize("spoil", ["cut", "append", "replace", "empty", "folder", "pipe"])
def test_what_is_not_as_we_left_it_is_foreign(made, spoil):
    source, target = made()
    if spoil == "folder":
        target.unlink()
        target.mkdir()
    elif spoil == "pipe":  # it is not waited for until somebody writes
        target.unlink()
        os.mkfifo(target)
    else:
        content = target.read_bytes()
        target.write_bytes({"cut": content[:-9], "append": content + b"x", "replace": b"photo", "empty": b""}[spoil])
    assert state_of(source, target, settings(target))[0] is State.FOREIGN


@pytest.mark.parametrize("asked", ["stat", "open"])
def test_what_a_mount_does_not_tell_of_is_neither_absent_nor_foreign(made, monkeypatch, asked):
    source, target = made()
    plain = getattr(Path, asked)

    def refuse(path, *words, **options):
        if path == target:
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return plain(path, *words, **options)

    monkeypatch.setattr(Path, asked, refuse)
    with pytest.raises(ImageWriteError, match=r"out\.png cannot be looked at \(Stale file handle\)"):
        state_of(source, target, settings(target))


def test_an_input_that_changed_its_size_is_another(made):
    source, target = made()
    source.write_bytes(source.read_bytes() + b"more")
    assert state_of(source, target, settings(target))[0] is State.OUTDATED


def test_an_input_of_the_same_size_and_other_content_is_another(made):
    source, target = made()
    other = bytearray(source.read_bytes())
    other[-20] ^= 1
    old = source.stat().st_mtime_ns - 10**12
    replacement = source.with_name("replacement")
    replacement.write_bytes(other)
    os.utime(replacement, ns=(old, old))  # older than the result, as an image from an archive is
    replacement.replace(source)
    os.utime(target, ns=(old + 1, old + 1))
    assert state_of(source, target, settings(target))[0] is State.OUTDATED


def test_an_input_that_was_only_copied_is_the_same(made, tmp_path):
    source, target = made()
    (tmp_path / "disk").mkdir()
    copy = shutil.copy(source, tmp_path / "disk" / "in.png")
    later = target.stat().st_mtime_ns + 10**12
    os.utime(copy, ns=(later, later))
    assert state_of(copy, target, settings(target))[0] is State.FINISHED


def test_sheets_are_told_from_images(made):
    source, target = made()
    sheet = sheet_of(target)
    assert sheet.name == "out.compare.png"
    shutil.copy(target, sheet)
    assert made_as(sheet) == "result"
    write_image(
        RasterImage(pixels=np.zeros((4, 4, 3), np.uint8)),
        sheet,
        finish=lambda path: mark_sheet(path, source_of(source), settings(target)),
    )
    assert made_as(sheet) == "sheet"
    assert state_of(source, sheet, settings(target), kind="sheet")[0] is State.FINISHED
    assert state_of(source, sheet, settings(target))[0] is State.FOREIGN
    assert made_as(target) == "result"


def test_a_note_that_is_no_note_is_foreign(made):
    source, target = made()
    target.write_bytes(target.read_bytes().replace(b'"kind"', b'"kind\\'))
    assert state_of(source, target, settings(target))[0] is State.FOREIGN


def test_settings_are_checked_when_made():
    with pytest.raises(ConfigError):
        UpscaleOptions(look=LookOptions(strength=2))
