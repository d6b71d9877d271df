"""Runs small enough for a test: a network of some thousand parameters on photos of 48 pixels."""

import pytest


@pytest.fixture
def tiny_options():
    """`tiny_options(clip_norm=0.1)`: see helpers/tiny_run.py."""
    from tests.helpers.tiny_run import tiny_options

    return tiny_options


@pytest.fixture
def tiny_batches(tmp_path):
    """`tiny_batches(options, start=0)`: an endless stream of pairs from photos written here."""
    from tests.helpers.tiny_run import tiny_batches, write_photos

    folder = tmp_path / "photos"
    write_photos(folder)
    return lambda options, start=0: tiny_batches(folder, options, start=start)
