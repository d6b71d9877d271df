import errno

import pytest

from ddnsr_cli.commands.train import run_folder
from ddnsr_cli.commands.train.run_folder import alone_in
from ddnsr_cli.errors import TrainingError

needs_locks = pytest.mark.skipif(run_folder.fcntl is None, reason="locks of Unix")


@needs_locks
def test_what_comes_to_nothing_leaves_nothing(tmp_path):
    run = tmp_path / "some/run"
    with alone_in(run):
        assert (run / ".lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_or_was_made_stays(tmp_path):
    with alone_in(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
    with alone_in(tmp_path / "run"):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run/log").write_text("")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["log"]


def test_a_lock_file_that_a_kill_left_is_none(tmp_path):
    (tmp_path / ".lock").write_text("")
    with alone_in(tmp_path):
        pass


@needs_locks
def test_a_lock_file_that_was_taken_away_meanwhile_is_made_again(tmp_path, monkeypatch):
    plain, times = run_folder.fcntl.lockf, []

    def lockf(handle, how):
        plain(handle, how)
        times.append(handle)
        if len(times) == 1:
            (tmp_path / ".lock").unlink()  # by the one before, at its end

    monkeypatch.setattr(run_folder.fcntl, "lockf", lockf)
    with alone_in(tmp_path):
        assert len(times) == 2
        assert (tmp_path / ".lock").exists()


def test_without_locks_nobody_is_kept_out_and_nothing_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "fcntl", None)
    with alone_in(tmp_path / "run"):
        assert not (tmp_path / "run").exists()


@needs_locks
def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch):
    def lockf(_handle, _how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(run_folder.fcntl, "lockf", lockf)
    with alone_in(tmp_path / "run"):
        pass
    assert list(tmp_path.iterdir()) == []


@needs_locks
def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"file/run cannot be written .*-o\.$"), alone_in(tmp_path / "file/run"):
        pass
