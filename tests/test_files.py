import os
import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from ddnsr_cli.files import atomic_path, safetensors_head, sha256_of


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_whole_when_the_block_ends_well(tmp_path):
    target = tmp_path / "a.txt"
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert names(tmp_path) == ["a.txt"]


def test_the_temporary_file_is_hidden_beside_the_target_and_keeps_its_suffix(tmp_path):
    with atomic_path(tmp_path / "image.tiff") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.suffix == ".tiff"


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failed_block_leaves_the_old_file_and_nothing_beside_it(tmp_path, failure):
    target = tmp_path / "a.txt"
    target.write_bytes(b"old")

    def write_half():
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half of the n")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_bytes_that_do_not_reach_the_disk_are_a_failure(tmp_path, monkeypatch):
    target = tmp_path / "a.txt"
    target.write_bytes(b"old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"), atomic_path(target) as temporary:
        temporary.write_bytes(b"new")
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_a_block_that_takes_the_temporary_file_away_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.unlink()
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="permission bits")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_permissions_follow_the_umask_and_the_umask_stays(tmp_path, mask):
    before = os.umask(mask)
    try:
        with atomic_path(tmp_path / "a.txt"):
            pass
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("stem", ["a" * 251, "é" * 125, "\N{FRAME WITH PICTURE}" * 62])
def test_names_as_long_as_the_file_system_takes(tmp_path, stem):
    target = tmp_path / f"{stem}.png"
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"x")
    assert target.read_bytes() == b"x"


def test_a_missing_folder_is_the_file_systems_own_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "missing" / "a.txt"):
        pass


def test_sha256_of_a_known_message(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")  # FIPS 180-4, first example
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


posix = pytest.mark.skipif(os.name == "nt", reason="locks of POSIX")


def killed_in_the_middle(target):
    """What a process that was killed while it wrote `target` leaves behind."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        left = temporary.with_name("kept")
        left.write_bytes(b"half")
        name = temporary.name
    target.unlink()
    left.rename(target.with_name(name))
    return target.with_name(name)


@posix
def test_what_a_killed_process_left_is_taken_over(tmp_path):
    left = killed_in_the_middle(tmp_path / "a.txt")
    assert names(tmp_path) == [left.name]
    with atomic_path(tmp_path / "a.txt") as temporary:
        assert temporary == left
        assert temporary.read_bytes() == b""
        temporary.write_bytes(b"whole")
    assert names(tmp_path) == ["a.txt"]


def test_two_at_the_same_target_do_not_meet(tmp_path):
    with atomic_path(tmp_path / "a.txt") as one, atomic_path(tmp_path / "a.txt") as other:
        assert one != other
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert (tmp_path / "a.txt").read_bytes() == b"one"
    assert names(tmp_path) == ["a.txt"]


@posix
@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_link_that_lies_in_wait_is_not_written_through(tmp_path, link):
    left = killed_in_the_middle(tmp_path / "a.txt")
    left.unlink()
    (tmp_path / "precious").write_bytes(b"precious")
    getattr(left, link)(tmp_path / "precious")
    with atomic_path(tmp_path / "a.txt") as temporary:
        assert temporary != left
        temporary.write_bytes(b"whole")
    assert (tmp_path / "precious").read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["pipe", "link"])
def test_a_pipe_is_not_replaced_by_a_file(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with pytest.raises(OSError, match="not a file"), atomic_path(tmp_path / name):
        pytest.fail("something was about to be written")
    assert stat.S_ISFIFO((tmp_path / name).stat().st_mode)
    assert len(list(tmp_path.iterdir())) == 2


def test_nothing_is_put_among_devices():
    with pytest.raises(OSError, match="device"), atomic_path(Path("/dev/ddnsr-test.json")):
        pytest.fail("something was about to be written")


def test_two_names_that_begin_alike_have_temporary_files_of_their_own(tmp_path):
    start = "n" * 60
    with atomic_path(tmp_path / f"{start}1.txt") as one, atomic_path(tmp_path / f"{start}2.txt") as other:
        assert one != other


def test_a_head_made_here_is_understood_by_the_formats_own_reader():
    head = safetensors_head(
        {"a": ("F32", (2, 3), 24), "b": ("F32", (4,), 16), "d": ("F16", (5,), 10)}, {"source": "here"}
    )
    assert len(head) % 8 == 0
    held = load(head + np.arange(10, dtype="<f4").tobytes() + np.arange(5, dtype="<f2").tobytes())
    np.testing.assert_array_equal(held["a"], np.arange(6, dtype=np.float32).reshape(2, 3), strict=True)
    np.testing.assert_array_equal(held["b"], np.arange(6, 10, dtype=np.float32), strict=True)
    np.testing.assert_array_equal(held["d"], np.arange(5, dtype=np.float16), strict=True)


@posix
@pytest.mark.parametrize("mode", [0o600, 0o444, 0o664])
def test_what_replaces_a_file_keeps_its_permissions(tmp_path, mode):
    target = tmp_path / "a.txt"
    target.write_bytes(b"old")
    target.chmod(mode)
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == mode


@posix
def test_what_replaces_a_link_has_the_usual_permissions(tmp_path):
    (tmp_path / "private").write_bytes(b"precious")
    (tmp_path / "private").chmod(0o600)
    (tmp_path / "link").symlink_to("private")
    (tmp_path / "new").touch()
    with atomic_path(tmp_path / "link") as temporary:
        temporary.write_bytes(b"new")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "private").read_bytes() == b"precious"
    assert (tmp_path / "link").stat().st_mode == (tmp_path / "new").stat().st_mode
