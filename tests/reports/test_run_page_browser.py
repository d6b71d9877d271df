"""The page in a real browser: curves drawn, values read under the pointer, nothing asked of the network."""

import pytest

from ddnsr_cli.reports.run_page import write_run_report
from tests.helpers.run_files import joint_rows, write_run, write_sample


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    run = write_run(
        tmp_path_factory.mktemp("runs") / 'a <b>&"run"', joint_rows(20_000), {"schedule": {"steps": 40_000}}
    )
    write_sample(run, 20_000, width=1200, height=300)
    return write_run_report(run)


def center(browser, index):
    """Middle of a panel's plot, scrolled into view, in CSS pixels of the window."""
    return browser.evaluate(
        f"(() => {{ const plot = document.querySelectorAll('.plot')[{index}]; plot.scrollIntoView({{block: 'center'}});"
        "const box = plot.getBoundingClientRect(); return [box.left + box.width / 2, box.top + box.height / 2] })()"
    )


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_draws_without_complaint_and_without_network(browser, page, width, dark):
    browser.open(page, width=width, dark=dark)
    assert browser.complaints == []
    assert browser.requests == [page.resolve().as_uri()]
    assert browser.evaluate("document.title") == 'a <b>&"run"'
    sizes = browser.evaluate("[...document.querySelectorAll('.line')].map(p => p.getBoundingClientRect().width)")
    assert len(sizes) == 28
    assert min(sizes) > 200
    strokes = browser.evaluate("[...document.querySelectorAll('.line')].map(p => getComputedStyle(p).stroke)")
    assert "none" not in strokes
    image = browser.evaluate("(i => [i.complete, i.naturalWidth])(document.querySelector('img'))")
    assert image == [True, 1200]


@pytest.mark.parametrize("width", [320, 400, 1280])
def test_nothing_stands_over_the_edge_and_words_stay_legible(browser, page, width):
    browser.open(page, width=width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("Math.min(...[...document.querySelectorAll('.plot span')].map(s => s.offsetHeight))") >= 11
    lefts = browser.evaluate("[...document.querySelectorAll('.plot span')].map(s => s.getBoundingClientRect().left)")
    assert min(lefts) >= 0


@pytest.mark.parametrize("width", [320, 1280])
def test_long_labels_stay_inside_their_cards(browser, tmp_path, width):
    values = {"rate": 1.5e-6, "ssim": 0.123456789, "lpips": 123456789.0, "psnr_db": 20.0}
    rows = [{"step": step, **{name: value * (1 + 1e-9 * step) for name, value in values.items()}} for step in range(9)]
    browser.open(write_run_report(write_run(tmp_path / "run", rows)), width=width)
    rooms = browser.evaluate(
        "[...document.querySelectorAll('.plot .y')].map(s => s.getBoundingClientRect().left"
        " - s.closest('.panel').getBoundingClientRect().left)"
    )
    assert min(rooms) >= 8
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_one_validation_is_seen(browser, tmp_path):
    rows = [{"step": 50, "noise_carried_flat": 0.9, "noise_carried_textured": 0.8, "structure_leaked": 0.1}]
    browser.open(write_run_report(write_run(tmp_path / "run", rows)))
    sizes = browser.evaluate("[...document.querySelectorAll('.dots')].map(p => getComputedStyle(p).strokeWidth)")
    assert sizes == ["8px"] * 3


def test_dark_and_light_are_told_apart(browser, page):
    grounds = []
    for dark in (False, True):
        browser.open(page, dark=dark)
        grounds.append(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(set(grounds)) == 2


def test_the_pointer_reads_every_panel_at_one_step(browser, page):
    browser.open(page)
    latest = browser.evaluate("[...document.querySelectorAll('output')].map(o => o.textContent)")
    browser.point_at(*center(browser, 3))
    steps = browser.evaluate("[...document.querySelectorAll('.at')].map(o => o.textContent)")
    assert steps[0] == "step 10,000"  # PSNR: validated every 5,000 steps
    assert set(steps[3:]) == {steps[3]}
    assert abs(int(steps[3].removeprefix("step ").replace(",", "")) - 10_000) <= 50
    assert browser.evaluate("document.querySelector('li output').textContent") == "20.1"
    assert browser.evaluate("[...document.querySelectorAll('.cursor')].every(c => !c.hidden)")
    browser.point_at(1, 1)
    assert browser.evaluate("[...document.querySelectorAll('output')].map(o => o.textContent)") == latest
    assert browser.evaluate("[...document.querySelectorAll('.cursor')].every(c => c.hidden)")
    assert browser.complaints == []


def test_without_scripts_the_curves_and_the_latest_values_are_there(browser, page):
    browser.tab("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        browser.point_at(*center(browser, 3))
        assert set(browser.evaluate("[...document.querySelectorAll('.at')].map(o => o.textContent)")) == {"latest"}
        assert browser.evaluate("document.querySelectorAll('.line').length") == 28
    finally:
        browser.tab("Emulation.setScriptExecutionDisabled", value=False)


def test_a_page_that_asks_and_complains_is_seen(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<img src='http://127.0.0.1:9/x.png'><script>console.log(1); nothing()</script>")
    browser.open(page)
    assert "http://127.0.0.1:9/x.png" in browser.requests
    assert len(browser.complaints) >= 2


def test_the_policy_refuses_what_was_not_there_when_the_page_was_written(browser, page, tmp_path):
    bad = tmp_path / "bad.html"
    asks = "<img src='http://127.0.0.1:9/x.png'><script>document.title = 'run'</script>"
    bad.write_text(page.read_text(encoding="utf-8").replace("<main>", f"<main>{asks}"), encoding="utf-8")
    browser.open(bad)
    assert browser.evaluate("document.title") == 'a <b>&"run"'
    assert len([told for told in browser.complaints if "Content Security Policy" in told]) == 2
