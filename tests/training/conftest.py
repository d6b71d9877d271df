"""Runs small enough for a test: a network of some thousand parameters on images of 48 pixels."""

import pytest

from tests.helpers.processes import processes
from tests.helpers.small_training import narrow_vgg19

__all__ = ["processes"]


@pytest.fixture(scope="module")
def narrow_vgg():
    """For the tests of a module VGG19, random ones too, is an eighth as wide."""
    with pytest.MonkeyPatch.context() as patch:
        narrow_vgg19(patch.setitem)
        yield


@pytest.fixture
def tiny_options():
    """`tiny_options(clip_norm=0.1)`: see helpers/tiny_run.py."""
    from tests.helpers.tiny_run import tiny_options

    return tiny_options


@pytest.fixture
def tiny_batches(tmp_path):
    """`tiny_batches(options, start=0)`: an endless stream of pairs from images written here."""
    from tests.helpers.tiny_run import tiny_batches, write_images

    folder = tmp_path / "images"
    write_images(folder)
    return lambda options, start=0: tiny_batches(folder, options, start=start)
