"""For the tests of networks that spandrel knows."""

import pytest


@pytest.fixture(scope="session")
def spandrel():
    """`spandrel(program, *words)`: a program run where spandrel is imported; see tests/helpers/spandrel_process.py."""
    from tests.helpers.spandrel_process import SpandrelProcess

    with SpandrelProcess() as process:
        yield process.run
