"""What all tests share: no test reaches the network, the user's cache or the user's token."""

import gc
import os
import signal
import tempfile

import pytest
from hypothesis import settings

from tests.helpers import compiler_stand_in  # noqa: F401
from tests.helpers.command_tree import build_parser_once

# The same examples each time, and however long they take: neither chance nor other work on the machine fails a test.
# `--hypothesis-profile=default` looks for new ones.
settings.register_profile("ddnsr", derandomize=True, deadline=None)
settings.load_profile("ddnsr")

# One thread for PyTorch, here and in the processes that tests start: on a loaded machine two take ten times as long.
# Read when it is imported.
os.environ["OMP_NUM_THREADS"] = "1"

# Read by huggingface_hub when it is imported, so set before any test module is.
_HOME = tempfile.TemporaryDirectory(prefix="ddnsr-tests-hub-")
os.environ["HF_HOME"] = _HOME.name
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # nothing listens there
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TORCH_HOME"] = _HOME.name  # where LPIPS is looked for
for _name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"):
    os.environ.pop(_name, None)

# A shell ignores these in what it starts in the background, and so would every process that a test stops by them.
for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)


build_parser_once()


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported stays: no collection of garbage, now or when memory is full, need go through it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_unconfigure():
    _HOME.cleanup()


@pytest.fixture(scope="session")
def built_wheel(tmp_path_factory):
    """The wheel of this checkout."""
    from tests.helpers.packages import built

    return built("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def one_browser(tmp_path_factory):
    """A tab of a real browser, the same for all tests of a process; see tests/helpers/browser.py."""
    from tests.helpers.browser import CHROMIUM, Browser

    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH")
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def browser(one_browser):
    """The browser; what it shows at the end of a module costs no time beside the tests of others."""
    yield one_browser
    one_browser.open("about:blank")


@pytest.fixture
def fake_hub(monkeypatch):
    """A Hub on the loopback device; see tests/helpers/fake_hub.py."""
    from tests.helpers.fake_hub import FakeHub

    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")  # a proxy in the environment would swallow loopback too
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    with FakeHub() as hub:
        yield hub


@pytest.fixture
def as_layout():
    """`as_layout(state, 2)`: our state dict under the names of layout 1, 2 or 3; see tests/helpers/foreign.py."""
    from tests.helpers.foreign import as_layout

    return as_layout


@pytest.fixture
def small_net():
    """`small_net(scale=4)`: a seeded RRDB network of a few thousand parameters, in eval mode."""
    from tests.helpers.foreign import small_net

    return small_net


@pytest.fixture
def small_compact():
    """`small_compact(convs=3)`: a seeded Compact network, in eval mode."""
    from tests.helpers.foreign import small_compact

    return small_compact


@pytest.fixture
def small_runs(monkeypatch):
    """What trains in this process is small; see tests/helpers/small_training.py."""
    from tests.helpers.small_training import small_training

    small_training(monkeypatch.setitem)
