"""The page in a real browser: sliders, sorting, filtering; nothing asked of the network, nothing complained."""

from dataclasses import replace

import pytest

from ddnsr_cli.reports.evaluation_page import write_eval_page
from tests.helpers.evaluation_results import write_evaluation
from tests.helpers.hands import box, click, drag, press, type_text

EVIL = '<evil x="1">&\'"</script>'


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    """14 images; one of evil name; `beta` without order of its own, so that sorting by it can be seen."""
    names = [f"scene_{index}" for index in range(13)] + [f"sub/{EVIL}"]
    made = write_evaluation(tmp_path_factory.mktemp("made"), models=("bicubic", "alpha", EVIL), names=names)
    for index, name in enumerate(names):
        made.values["alpha", name].update(psnr_rgb=20 + index / 10, lpips_alex=0.3 + 0.01 * ((5 * index) % 14))
        made.values[EVIL, name].update(psnr_rgb=9.5 + (3 * index) % 14, lpips_alex=0.5)
    return replace(made, methodology=EVIL)


@pytest.fixture(scope="module")
def page(tmp_path_factory, evaluation):
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_eval_page(evaluation, path, against="bicubic")
    return path


def shown_cards(browser):
    return browser.evaluate(
        "[...document.querySelectorAll('#cards .card')].filter(c => !c.hidden)"
        ".map(c => c.querySelector('h3').textContent)"
    )


def rows(browser):
    return browser.evaluate(
        "[...document.querySelectorAll('.values:not([hidden]) tbody tr')].filter(r => !r.hidden)"
        ".map(r => r.cells[0].textContent)"
    )


def column(browser, index):
    return browser.evaluate(
        "[...document.querySelectorAll('.values:not([hidden]) tbody tr')]"
        f".map(r => Number(r.cells[{index}].textContent))"
    )


def sorts(browser):
    return browser.evaluate(
        "[...document.querySelectorAll('.values:not([hidden]) thead th')].map(h => h.getAttribute('aria-sort'))"
    )


def head(index):
    return f".values:not([hidden]) thead th:nth-child({index + 1}) button"


def choose(browser, selector, index):
    """As a person does: the field has the focus, keys go through its options."""
    browser.evaluate(f"document.querySelector({selector!r}).focus()")
    press(browser, "Home", *["ArrowDown"] * index)


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_opens_without_complaint_and_without_network(browser, page, width, dark):
    browser.open(page, width=width, dark=dark)
    assert browser.complaints == []
    assert browser.requests == [page.resolve().as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("document.querySelectorAll('evil').length") == 0
    assert browser.evaluate("document.querySelector('h1').textContent") == "3 models on 14 images"
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(16, 20, 24)") is dark


def test_all_images_that_are_shown_can_be_decoded(browser, page):
    browser.open(page, height=20_000)
    browser.evaluate(
        "Promise.all([...document.querySelectorAll('img')].filter(image => image.offsetParent)"
        ".map(image => image.decode().then(() => image.naturalWidth))).then(widths => { window.widths = widths })"
    )
    while (sizes := browser.evaluate("window.widths")) is None:
        pass
    assert len(sizes) == 10 * 5 + 9 * 2  # overview and four details of ten images; two on each of nine stages
    assert set(sizes) == {64, 128}


def test_images_below_the_window_are_there_too(browser, page):
    """Or they would be missing on paper, and in an image of the whole page."""
    browser.open(page)
    loaded = browser.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
    assert len(loaded) == 14 * 5 + 12 * 4
    assert all(loaded)


def test_at_first_the_ten_worst_are_shown_the_worst_first(browser, page, evaluation):
    browser.open(page)
    worst = sorted(evaluation.samples, key=lambda sample: -evaluation.values["alpha", sample.name]["lpips_alex"])
    assert shown_cards(browser) == [sample.name for sample in worst[:10]]
    assert rows(browser) == [sample.name for sample in worst]
    assert sorts(browser) == ["none", "none", "descending", "none"]
    assert browser.evaluate("document.getElementById('count').textContent") == "14 of 14 images, 10 shown below"


def test_the_slider_moves_by_key_and_the_clip_with_it(browser, page):
    browser.open(page)
    stage = "#cards .card:not([hidden]) .stage"
    seen = f"getComputedStyle(document.querySelector('{stage} img.left')).clipPath"
    assert browser.evaluate(seen) == "inset(0px 50% 0px 0px)"
    browser.evaluate(f"document.querySelector('{stage} input').focus()")
    press(browser, "ArrowRight", "ArrowRight", "ArrowUp")
    assert browser.evaluate(seen) == "inset(0px 44% 0px 0px)"
    press(browser, *["ArrowLeft"] * 4)
    assert browser.evaluate(seen) == "inset(0px 52% 0px 0px)"
    press(browser, "End")
    assert browser.evaluate(seen) == "inset(0px 0% 0px 0px)"
    press(browser, "Home")
    assert browser.evaluate(seen) == "inset(0px 100% 0px 0px)"
    assert browser.evaluate("document.activeElement.getAttribute('aria-valuetext')") == "bicubic 0%, alpha 100%"
    assert browser.complaints == []


@pytest.mark.parametrize("target", [0.03, 0.25, 0.97])
def test_the_handle_goes_where_it_is_dragged(browser, page, target):
    browser.open(page)
    frame = "#cards .card:not([hidden]) .frame"
    left, top, width, height = box(browser, frame)
    middle = top + height / 2
    drag(browser, (left + width / 2, middle), (left + target * width, middle))
    handle_left, _, handle_width, _ = box(browser, f"{frame} .handle")
    assert abs(handle_left + handle_width / 2 - (left + target * width)) <= 2
    clip = browser.evaluate(f"getComputedStyle(document.querySelector('{frame} img.left')).clipPath")
    assert float(clip.split()[1].rstrip("%")) == pytest.approx(100 * (1 - target), abs=1)


def test_what_is_left_and_right_of_the_handle_are_the_chosen_images(browser, page):
    browser.open(page)
    stage = "#cards .card:not([hidden]) .stage"
    of_all = (
        "[...document.querySelectorAll('.stage')].map(s => ['left', 'right'].map(c => s.querySelector('img.' + c).alt))"
    )
    tags = f"[...document.querySelectorAll('{stage} .tag')].slice(0, 2).map(t => t.textContent)"
    assert browser.evaluate(of_all) == [["bicubic", "alpha"]] * 12
    choose(browser, f"{stage} .view-left", 3)
    assert browser.evaluate(of_all) == [["reference", "alpha"]] * 12
    choose(browser, f"{stage} .view-right", 2)
    assert browser.evaluate(of_all) == [["reference", EVIL]] * 12
    assert browser.evaluate(tags) == ["reference", EVIL]
    assert browser.evaluate(f"document.querySelectorAll('{stage} img').length") == 4 * 9
    assert browser.complaints == []


def test_the_same_image_may_be_on_both_sides(browser, page):
    browser.open(page)
    stage = "#cards .card:not([hidden]) .stage"
    choose(browser, f"{stage} .view-left", 1)
    seen = f"[...document.querySelectorAll('{stage} img.left, {stage} img.right')].slice(0, 1)"
    assert browser.evaluate(f"{seen}.map(i => [i.alt, getComputedStyle(i).clipPath])") == [["alpha", "none"]]
    choose(browser, f"{stage} .view-left", 0)
    assert browser.evaluate(f"document.querySelector('{stage} img.right').alt") == "alpha"


def test_a_click_on_a_head_sorts_table_and_images(browser, page):
    browser.open(page)
    choose(browser, "#metric", 0)
    assert column(browser, 2) == sorted(column(browser, 2))  # PSNR: the worst is the least
    click(browser, head(3))
    assert column(browser, 3) == sorted(column(browser, 3))
    assert column(browser, 3)[0] == 9.5  # by value, not by text
    assert sorts(browser) == ["none", "none", "none", "ascending"]
    assert shown_cards(browser) == rows(browser)[:10]
    click(browser, head(3))
    assert column(browser, 3) == sorted(column(browser, 3), reverse=True)
    assert sorts(browser) == ["none", "none", "none", "descending"]
    assert shown_cards(browser) == rows(browser)[:10]
    assert browser.complaints == []


@pytest.mark.parametrize("key", ["Enter", " "])
def test_a_head_sorts_by_key(browser, page, key):
    browser.open(page)
    browser.evaluate(f"document.querySelector({head(0)!r}).focus()")
    press(browser, key)
    assert rows(browser) == [*(f"scene_{index}" for index in range(13)), f"sub/{EVIL}"]  # 2 before 10
    assert sorts(browser) == ["ascending", "none", "none", "none"]


def test_another_metric_keeps_the_column(browser, page):
    browser.open(page)
    click(browser, head(3))
    choose(browser, "#metric", 0)
    assert sorts(browser) == ["none", "none", "none", "ascending"]
    assert browser.evaluate("[...document.querySelectorAll('.values')].filter(t => !t.hidden).length") == 1


def test_the_filter_narrows_table_and_images(browser, page):
    browser.open(page)
    browser.evaluate("document.getElementById('filter').focus()")
    type_text(browser, "SCENE_1")
    assert sorted(rows(browser)) == ["scene_1", "scene_10", "scene_11", "scene_12"]
    assert shown_cards(browser) == rows(browser)
    assert browser.evaluate("document.getElementById('count').textContent") == "4 of 14 images, 4 shown below"
    press(browser, "Backspace", "Backspace")
    assert len(rows(browser)) == 13


def test_all_images_can_be_shown(browser, page):
    browser.open(page)
    choose(browser, "#most", 2)
    assert shown_cards(browser) == rows(browser)
    assert len(rows(browser)) == 14


def test_a_name_in_the_table_leads_to_its_image(browser, page):
    browser.open(page)
    last = rows(browser)[-1]
    assert last not in shown_cards(browser)
    click(browser, ".values:not([hidden]) tbody tr:last-child a")
    assert_led_to(browser, last)


def assert_led_to(browser, name):
    """All ten of the beginning are shown, and after them one more, to which the page has gone."""
    assert shown_cards(browser)[-1] == name
    assert browser.evaluate("document.activeElement.querySelector('h3').textContent") == name
    top = browser.evaluate("document.activeElement.getBoundingClientRect().top")
    assert -5 <= top < 900
    assert browser.evaluate("document.getElementById('count').textContent") == "14 of 14 images, 11 shown below"


def test_an_image_in_the_address_of_the_page_is_shown(browser, page):
    """After a reload, by Back and in a link that somebody sends."""
    browser.open(page)
    last = rows(browser)[-1]
    click(browser, ".values:not([hidden]) tbody tr:last-child a")
    address = browser.evaluate("location.href")
    browser.open("about:blank")
    browser.open(address)
    assert_led_to(browser, last)
    choose(browser, "#most", 1)
    choose(browser, "#most", 0)
    assert last not in shown_cards(browser)
    click(browser, ".values:not([hidden]) tbody tr:first-child a")
    assert last not in shown_cards(browser)
    browser.evaluate("history.back()")
    browser.wait_for("document.activeElement.closest('.card')?.id == location.hash.slice(1)")
    assert_led_to(browser, last)
    assert browser.complaints == []


def test_every_control_is_reached_by_tab(browser, page):
    browser.open(page)
    reached = set()
    for _ in range(45):
        press(browser, "Tab")
        reached.add(browser.evaluate("(e => e.id || e.className || e.type)(document.activeElement)"))
    assert {"metric", "filter", "most", "values", "button", "range", "view-left", "view-right", "strip"} <= reached


def test_without_scripts_all_is_there(browser, page):
    browser.tab("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        assert len(shown_cards(browser)) == 14
        tables = "[...document.querySelectorAll('.values')].filter(t => t.offsetHeight).length"
        assert browser.evaluate(tables) == 2
        assert browser.evaluate("document.getElementById('tools').hidden")
    finally:
        browser.tab("Emulation.setScriptExecutionDisabled", value=False)
