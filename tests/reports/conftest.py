"""For the tests of pages: one browser, and keys to press in it."""

import pytest


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A tab of a real browser; see helpers/browser.py."""
    from tests.helpers.browser import CHROMIUM, Browser

    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH")
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser
