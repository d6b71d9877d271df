"""The realism report in a real browser: from a file, without network, in light and dark, by keyboard."""

import pytest

from ddnsr_cli.reports.realism import realism_report
from tests.helpers.noisy_images import noise, scene, write_set

SIDE = 96
RATIO = """
(selector => {
  const light = rgb => rgb.match(/[\\d.]+/g).slice(0, 3).map(Number)
    .map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = node => {
    const found = getComputedStyle(node).backgroundColor;
    return found === 'rgba(0, 0, 0, 0)' ? ground(node.parentElement) : found;
  };
  return Math.min(...[...document.querySelectorAll(selector)].map(node => {
    const [low, high] = [light(getComputedStyle(node).color), light(ground(node))].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  }));
})
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("pages")
    real, fake = (
        write_set(root / name, 4, lambda index, sigma=sigma: scene(SIDE, seed=index) + noise((SIDE, SIDE, 3), sigma))
        for name, sigma in (("real", 8), ("fake", 5))
    )
    bad = root / '<script>document.title="x"<'
    bad.write_bytes(b"no image")
    realism_report([*real, bad], fake, root / "realism.html")
    return root / "realism.html"


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_shows_all_without_complaint_and_without_network(browser, page, width, dark):
    browser.open(page, width=width, dark=dark)
    assert browser.complaints == []
    assert browser.requests == [page.resolve().as_uri()]
    sizes = browser.evaluate("[...document.querySelectorAll('.line')].map(p => p.getBoundingClientRect().width)")
    assert len(sizes) == 8
    assert min(sizes) > 60
    assert "none" not in browser.evaluate(
        "[...document.querySelectorAll('.line')].map(p => getComputedStyle(p).stroke)"
    )
    images = browser.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight])")
    assert images == [[True, 256, 256]] * 8
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [320, 1280])
def test_bars_are_as_long_as_their_figures(browser, page, width):
    browser.open(page, width=width)
    bars = browser.evaluate(
        "[...document.querySelectorAll('.bars dd')].map(d => [d.querySelector('i').getBoundingClientRect().width, "
        "Number(d.textContent), d.parentElement.getBoundingClientRect().width - d.getBoundingClientRect().width, "
        "d.parentElement.getBoundingClientRect().width])"
    )
    assert len(bars) == 2 * (2 + 3)  # neighbors and channels, three colors; real and fake
    for place, (length, figure, margin, whole) in enumerate(bars):
        high, digits = (1, 2) if place < 4 else (255, 0)
        expected = max(2, (whole - margin) * max(0, figure) / high)
        assert length == pytest.approx(expected, abs=1 + whole * 0.6 * 10**-digits / high)
    assert max(length for length, *_ in bars[4:]) > width / 8


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("what", [".verdict", "td", "th", ".hint", ".note", ".plot span", ".bars dd", "h2", "summary"])
def test_words_stand_out_from_their_ground(browser, page, dark, what):
    """At least 4.5 to 1, as the accessibility guidelines (WCAG 2) ask for text of this size."""
    browser.open(page, dark=dark)
    assert browser.evaluate(f"{RATIO}('{what}')") >= 4.5


def test_the_ratio_sees_faint_words(browser, page):
    browser.open(page)
    browser.evaluate("document.querySelector('.verdict').style.color = '#bbb'")
    assert browser.evaluate(f"{RATIO}('.verdict')") < 4.5


def test_names_of_files_are_words(browser, page):
    browser.open(page)
    assert browser.evaluate("document.title") == "Fake LR against real LR"
    assert '<script>document.title="x"<' in browser.evaluate("document.querySelector('main').textContent")
    assert browser.evaluate("document.scripts.length") == 0


def test_the_keyboard_reaches_tables_and_the_fold(browser, page):
    browser.open(page)
    reached = []
    for _ in range(3):
        press(browser, "Tab")
        reached.append(browser.evaluate("document.activeElement.tagName + document.activeElement.className"))
    assert reached == ["DIVcard wide", "DIVcard wide", "SUMMARY"]
    assert not browser.evaluate("document.querySelector('details').open")
    press(browser, "Enter", text="\r")
    assert browser.evaluate("document.querySelector('details').open")
    assert browser.evaluate("document.querySelectorAll('details tr').length") > 30


def press(browser, key, *, text=""):
    code = {"Tab": 9, "Enter": 13}[key]
    for kind in ("keyDown", "keyUp"):
        browser.tab("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)


@pytest.mark.parametrize("width", [320, 1280])
def test_a_table_that_goes_beyond_the_screen_says_so_and_no_other(browser, page, width):
    browser.open(page, width=width)
    each = (
        "[...document.querySelectorAll('.wide')].map(e => [e.scrollWidth > e.clientWidth, "
        "parseFloat(getComputedStyle(e, '::before').height) > 10])"
    )
    browser.wait_for(f"{each}.every(([beyond, hint]) => beyond === hint)")  # hints come with the next frame
    told = browser.evaluate(each)
    assert any(beyond for beyond, _ in told) == (width == 320)
