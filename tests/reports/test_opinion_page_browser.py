"""The blind pages in a real browser: a person ranks or scores by keyboard, and the table comes out."""

import json
import time

import numpy as np
import pytest

from ddnsr_cli.commands.evaluate.mean_opinion import mean_opinions
from ddnsr_cli.reports.opinion_page import write_ranking_page, write_scoring_page
from tests.helpers.evaluation_results import save, write_evaluation
from tests.helpers.hands import box, click, middle, press, type_text

EVIL = '<evil x="1">&\'"</script>'
MODELS = ("bicubic", "alpha", EVIL, "gamma")
LEVELS = {"alpha": 60, EVIL: 120, "gamma": 180}


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    """Four images; in each, a result's gray level tells its model: the darkest is alpha's."""
    names = ["scene_0", f"a/{EVIL}", "scene_2", "\N{GREEK SMALL LETTER ALPHA}"]
    made = write_evaluation(tmp_path_factory.mktemp("made"), models=MODELS, names=names)
    for model, level in LEVELS.items():
        for index, name in enumerate(names):
            save(made.images[model, name], np.full((96, 128, 3), level + index, np.uint8))
    return made


@pytest.fixture(scope="module")
def page(tmp_path_factory, evaluation):
    path = tmp_path_factory.mktemp("page") / "ranking.html"
    write_ranking_page(evaluation, path, seed=1)
    return path


@pytest.fixture
def fresh(browser, page):
    """The page, opened by one who was never here."""
    browser.evaluate("try { localStorage.clear() } catch {}")  # of the page of the test before; none at the very first
    for _ in range(20):  # what that one has stored may arrive after it was cleared
        browser.open(page)
        if browser.evaluate("localStorage.length") == 0:
            return browser
        browser.evaluate("localStorage.clear()")
    raise AssertionError("the page remembers what was cleared")


def where(browser):
    return browser.evaluate("document.getElementById('where').textContent")


def reopen(browser, page, *, expected):
    """Open the page again until it shows what it has kept, which the browser may write a moment later.

    expected: where it stands, and the ranks or scores there.
    """
    for _ in range(40):
        browser.open(page, width=1280)
        if (where(browser), ranks(browser)) == expected:
            return
        time.sleep(0.05)
    raise AssertionError(f"opened again the page shows {where(browser)!r} and {ranks(browser)}, not {expected}")


def told(browser):
    return browser.evaluate("document.getElementById('told').textContent")


def ranks(browser):
    """The ranks on the image that is shown, as buttons tell them; None for none."""
    return browser.evaluate(
        "[...document.querySelectorAll('.scene:not([hidden]) .result')]"
        ".map(r => r.querySelector('[aria-pressed=true]')).map(b => b && Number(b.dataset.value))"
    )


def letter(browser):
    """Of the result that has the focus."""
    return browser.evaluate("document.activeElement.dataset.name.at(-1)")


def seen_levels(browser):
    """Gray level of every result of the image that is shown, read from the pixels."""
    browser.evaluate(
        "window.levels = null; Promise.all([...document.querySelectorAll('.scene:not([hidden]) .result img')]"
        ".map(image => image.decode().then(() => { const canvas = document.createElement('canvas');"
        "canvas.width = canvas.height = 1; const pen = canvas.getContext('2d'); pen.drawImage(image, 0, 0, 1, 1);"
        "return pen.getImageData(0, 0, 1, 1).data[0] }))).then(found => { window.levels = found })"
    )
    while (levels := browser.evaluate("window.levels")) is None:
        pass
    return levels


def rank_as_seen(browser, best):
    """Rank the shown image by pressing digits at A, B, C: by darkness, or by brightness."""
    levels = seen_levels(browser)
    order = sorted(levels, reverse=best == "brightest")
    press(browser, *(str(order.index(level) + 1) for level in levels))


def export(browser, folder, rater):
    """Type a name, press Enter, and give the file that was saved."""
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    to_the_name(browser)
    type_text(browser, rater)
    press(browser, "Enter")
    for _ in range(200):
        files = [path for path in folder.glob("*.json") if path.stat().st_size]
        if files:
            return files[0]
        time.sleep(0.05)
    raise AssertionError("nothing was saved")


def to_the_name(browser):
    browser.evaluate("document.getElementById('rater').focus(); document.getElementById('rater').select()")


def rank_all(browser, best):
    for _ in range(4):
        rank_as_seen(browser, best)
        press(browser, "Enter")


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_opens_without_complaint_and_without_network(browser, page, width, dark):
    browser.open(page, width=width, dark=dark)
    assert browser.complaints == []
    assert browser.requests == [page.resolve().as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("document.querySelectorAll('.scene:not([hidden])').length") == 1
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(16, 20, 24)") is dark


def test_nothing_on_the_page_tells_a_model_or_a_file(fresh):
    text = fresh.evaluate("document.documentElement.outerHTML").lower()
    for secret in ("alpha", "gamma", "evil", "scene_", "lpips"):
        assert secret not in text
    assert fresh.evaluate("document.querySelectorAll('evil').length") == 0


def test_from_keys_to_the_table_of_two_raters(fresh, page, evaluation, tmp_path_factory):
    browser, folders = fresh, [tmp_path_factory.mktemp(name) for name in ("ann", "ben")]
    rank_all(browser, "darkest")
    assert where(browser) == "4 ranked"
    ann = export(browser, folders[0], 'Ann "A." <Ö>')
    assert ann.name == "ranks_Ann_A_Ö_.json"
    assert told(browser).startswith("Saved as ranks_Ann_A_Ö_.json")
    click(browser, "#clear")
    assert where(browser) == "Image 1 of 4, 0 ranked"
    rank_all(browser, "brightest")
    ben = export(browser, folders[1], "Ben")
    assert browser.complaints == []
    assert browser.requests[0] == page.resolve().as_uri()
    assert not [address for address in browser.requests[1:] if not address.startswith("blob:")]

    alone = mean_opinions([ann], seed=0)
    assert [(row.model, row.mean.mean) for row in alone.rows] == [("alpha", 1), (EVIL, 2), ("gamma", 3)]
    assert (alone.raters, alone.images) == (('Ann "A." <Ö>',), 4)
    both = mean_opinions([ann, ben], seed=0)
    assert {row.model: row.mean.mean for row in both.rows} == {"alpha": 2, EVIL: 2, "gamma": 2}
    assert {row.votes for row in both.rows} == {8}
    assert set(json.loads(ben.read_text("utf-8"))["images"]) == {sample.name for sample in evaluation.samples}


def test_from_keys_to_the_table_of_scores(browser, evaluation, tmp_path):
    """Whoever scores by darkness finds alpha perfect, the next one slightly worse, gamma much worse."""
    path = tmp_path / "score.html"
    write_scoring_page(evaluation, path, seed=1)
    browser.open(path, width=1280)
    browser.evaluate("localStorage.clear()")
    browser.open(path, width=1280)
    assert browser.complaints == []
    assert where(browser) == "Result 1 of 12, 0 scored"
    press(browser, "Enter", "6", "9")
    assert (where(browser), ranks(browser), told(browser)) == (
        "Result 1 of 12, 0 scored",
        [None],
        "This result has no score yet.",
    )
    for step in range(12):
        (level,) = seen_levels(browser)
        press(browser, str(2 * [60, 120, 180].index(level - level % 60)))
        assert told(browser) == "Enter for the next result."
        if step == 5:
            reopen(browser, path, expected=("Result 6 of 12, 6 scored", ranks(browser)))
        press(browser, "Enter")
    assert where(browser) == "12 scored"
    saved = export(browser, tmp_path, "Ann")
    assert saved.name == "scores_Ann.json"
    table = mean_opinions([saved], seed=0)
    assert table.kind == "scores"
    assert [(row.model, row.mean.mean, row.counts) for row in table.rows] == [
        ("alpha", 0, (4, 0, 0, 0, 0, 0)),
        (EVIL, 2, (0, 0, 4, 0, 0, 0)),
        ("gamma", 4, (0, 0, 0, 0, 4, 0)),
    ]
    assert browser.complaints == []


@pytest.mark.parametrize("width", [320, 1280])
def test_the_truth_stands_beside_every_result_that_is_scored(browser, evaluation, tmp_path, width):
    path = tmp_path / "score.html"
    write_scoring_page(evaluation, path, seed=2)
    browser.open(path, width=width)
    widths = "Promise.all([...document.images].map(image => image.decode().then(() => image.naturalWidth)))"
    browser.evaluate(f"window.sides = null; {widths}.then(found => {{ window.sides = found }})")
    while (sides := browser.evaluate("window.sides")) is None:
        pass
    assert sides == [128] * 24  # each of four truths is in the file once, and shown with all three of its results
    assert path.read_text("utf-8").count('alt="Reference" src="data:') == 4
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    tops = browser.evaluate(
        "[...document.querySelectorAll('.scene:not([hidden]) .frame')].map(f => f.getBoundingClientRect().top)"
    )
    assert (tops[0] == tops[1]) is (width == 1280)  # side by side where there is room
    click(browser, ".scene:not([hidden]) .result button:nth-child(4) small")
    assert ranks_given(browser) == ["3"]


def ranks_given(browser):
    return browser.evaluate("[...document.querySelectorAll('[aria-pressed=true]')].map(b => b.dataset.value)")


def test_two_windows_of_one_page_do_not_take_back_what_was_given_in_the_other(fresh, page):
    """The other one tells of it by an event that only windows beside it get."""
    press(fresh, "2", "1")
    kept = "Object.keys(localStorage)[0]"
    other = '{"at": 1, "rater": "Ann", "ranks": [[3,1,2],[0,0,0],[0,0,0],[0,0,0]]}'
    fresh.evaluate(f"localStorage.setItem({kept}, {other!r})")
    fresh.evaluate(f"dispatchEvent(new StorageEvent('storage', {{ key: {kept}, newValue: {other!r} }}))")
    assert where(fresh) == "Image 2 of 4, 1 ranked"
    press(fresh, "Backspace")
    assert ranks(fresh) == [3, 1, 2]


def test_raters_of_pages_of_other_seeds_go_together(browser, evaluation, tmp_path):
    files = []
    for seed in (2, 3):
        path = tmp_path / f"{seed}.html"
        write_ranking_page(evaluation, path, seed=seed)
        browser.open(path)
        rank_all(browser, "darkest")
        (tmp_path / f"saved_{seed}").mkdir()
        files.append(export(browser, tmp_path / f"saved_{seed}", f"rater {seed}"))
    assert [json.loads(path.read_text("utf-8"))["seed"] for path in files] == [2, 3]
    table = mean_opinions(files, seed=0)
    assert [(row.model, row.mean.mean) for row in table.rows] == [("alpha", 1), (EVIL, 2), ("gamma", 3)]


def test_a_digit_ranks_and_goes_to_the_next_open_result(fresh):
    assert letter(fresh) == "A"
    press(fresh, "3")
    assert (ranks(fresh), letter(fresh)) == ([3, None, None], "B")
    press(fresh, "ArrowRight", "1")
    assert (ranks(fresh), letter(fresh)) == ([3, None, 1], "B")
    label = "document.querySelector('.scene:not([hidden]) .result').getAttribute('aria-label')"
    assert fresh.evaluate(label) == "Result A, rank 3"
    press(fresh, "4", "9", "x")  # no such ranks, no such key
    assert ranks(fresh) == [3, None, 1]


def test_no_two_results_have_one_rank(fresh):
    press(fresh, "1", "1")
    assert ranks(fresh) == [None, 1, None]
    press(fresh, "2", "ArrowLeft", "ArrowLeft", "ArrowLeft")  # A gets 2; round from C to A... to C
    assert ranks(fresh) == [2, 1, None]
    press(fresh, "3")
    given = ranks(fresh)
    assert sorted(given) == [1, 2, 3]
    fresh.evaluate("document.querySelector('.scene:not([hidden]) .result').focus()")
    press(fresh, str(given[1]))
    assert ranks(fresh) == [given[1], given[0], given[2]]  # the other took what this one had


def test_arrows_go_round_and_zero_takes_a_rank_away(fresh):
    walked = []
    for key in ("ArrowRight", "ArrowDown", "ArrowRight", "ArrowLeft", "ArrowUp"):
        press(fresh, key)
        walked.append(letter(fresh))
    assert walked == ["B", "C", "A", "C", "B"]
    press(fresh, "2", "ArrowRight")
    press(fresh, "0")
    assert (ranks(fresh), letter(fresh)) == ([None, None, None], "B")


def test_enter_waits_until_all_are_ranked_and_backspace_goes_back(fresh):
    press(fresh, "Enter")
    assert (where(fresh), told(fresh)) == ("Image 1 of 4, 0 ranked", "3 results have no rank yet.")
    press(fresh, "1", "2", "Enter")
    assert told(fresh) == "One result has no rank yet."
    press(fresh, "3", "Enter")
    assert where(fresh) == "Image 2 of 4, 1 ranked"
    assert ranks(fresh) == [None, None, None]
    assert letter(fresh) == "A"
    press(fresh, "Backspace")
    assert where(fresh) == "Image 1 of 4, 1 ranked"
    assert ranks(fresh) == [1, 2, 3]
    press(fresh, "Backspace")
    assert where(fresh) == "Image 1 of 4, 1 ranked"


def test_a_reload_loses_nothing(fresh, page):
    press(fresh, "2", "1", "3", "Enter", "3", "1")
    before = ranks(fresh)
    reopen(fresh, page, expected=("Image 2 of 4, 1 ranked", [3, 1, None]))
    assert ranks(fresh) == before == [3, 1, None]
    assert letter(fresh) == "C"
    press(fresh, "Backspace")
    assert ranks(fresh) == [2, 1, 3]


@pytest.mark.parametrize(
    "kept",
    [
        "{",
        "null",
        "[]",
        '{"at": 0, "rater": "", "ranks": [[1, 2, 3]]}',
        '{"at": 9, "rater": "", "ranks": [[0,0,0],[0,0,0],[0,0,0],[0,0,0]]}',
        '{"at": 0, "rater": "", "ranks": [[1,1,0],[0,0,0],[0,0,0],[0,0,0]]}',
        '{"at": 0, "rater": 3, "ranks": [[0,0,0],[0,0,0],[0,0,0],[0,0,0]]}',
        '{"at": 4, "rater": "", "ranks": [[1,2,3],[1,2,3],[0,0,0],[1,2,3]]}',
    ],
)
def test_what_was_kept_damaged_is_begun_again(fresh, page, kept):
    press(fresh, "1")
    fresh.evaluate(f"localStorage.setItem(Object.keys(localStorage)[0], {kept!r})")
    fresh.open(page)
    assert fresh.complaints == []
    assert where(fresh) == "Image 1 of 4, 0 ranked"


def test_a_browser_that_keeps_nothing_is_told_of(browser, page):
    found = browser.tab(
        "Page.addScriptToEvaluateOnNewDocument",
        source="Object.defineProperty(window, 'localStorage', { get() { throw new Error('no') } })",
    )
    try:
        browser.open(page)
        press(browser, "1")
        assert ranks(browser) == [1, None, None]
        assert "keeps nothing" in browser.evaluate("document.getElementById('kept').textContent")
        assert browser.complaints == []
    finally:
        browser.tab("Page.removeScriptToEvaluateOnNewDocument", identifier=found["identifier"])


def test_the_mouse_does_it_too(fresh):
    for place, rank in ((1, 2), (2, 3), (3, 1)):
        click(fresh, f".scene:not([hidden]) .result[data-name='Result {'ABC'[place - 1]}'] button:nth-child({rank})")
    assert ranks(fresh) == [2, 3, 1]
    click(fresh, "#next")
    assert where(fresh) == "Image 2 of 4, 1 ranked"
    click(fresh, "#back")
    assert where(fresh) == "Image 1 of 4, 1 ranked"


def test_keys_pressed_by_habit_after_the_last_image_neither_name_nor_export(fresh, page, tmp_path):
    fresh.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    rank_all(fresh, "darkest")
    for _ in range(2):
        assert fresh.evaluate("document.activeElement.textContent") == "All images are ranked."
        press(fresh, "1", "2", "3", "Enter")
        assert fresh.evaluate("document.getElementById('rater').value") == ""
        assert (where(fresh), told(fresh)) == ("4 ranked", "")
        fresh.open(page)
    assert list(tmp_path.iterdir()) == []


def test_a_digit_that_is_held_down_is_given_once(fresh):
    held = {"type": "keyDown", "key": "1", "text": "1", "windowsVirtualKeyCode": ord("1")}
    for repeated in (False, True, True, True):
        fresh.tab("Input.dispatchKeyEvent", autoRepeat=repeated, **held)
    fresh.tab("Input.dispatchKeyEvent", **held | {"type": "keyUp"})
    assert (ranks(fresh), letter(fresh)) == ([1, None, None], "B")
    for repeated in (False, True):  # others go on
        tab = {"type": "rawKeyDown", "key": "Tab", "windowsVirtualKeyCode": 9}
        fresh.tab("Input.dispatchKeyEvent", autoRepeat=repeated, **tab)
    assert fresh.evaluate("document.activeElement.textContent") == "2"


def test_after_a_press_on_zoom_digits_go_on_ranking(fresh):
    press(fresh, "2")
    click(fresh, "#zoom")
    press(fresh, "1")
    assert ranks(fresh) == [2, 1, None]
    for _ in range(3):
        click(fresh, "#zoom")
    fresh.evaluate("document.getElementById('zoom').focus()")
    press(fresh, "Enter")
    assert fresh.evaluate("document.activeElement.id") == "zoom"  # by the keyboard it can be pressed again
    for _ in range(3):
        click(fresh, "#zoom")


def test_an_export_needs_a_name(fresh):
    rank_all(fresh, "darkest")
    to_the_name(fresh)
    press(fresh, "Enter")
    assert told(fresh) == ""
    assert fresh.evaluate("document.getElementById('rater').matches(':invalid')")
    type_text(fresh, "   ")
    press(fresh, "Enter")
    assert told(fresh) == "Your name is missing."


def label_of_clear(browser):
    """What the button says; None while it cannot be seen."""
    return browser.evaluate("(b => b.offsetParent && b.textContent)(document.getElementById('clear'))")


def test_ranks_that_were_not_exported_are_cleared_by_a_second_press_alone(fresh, page, tmp_path):
    rank_all(fresh, "darkest")
    fresh.open(page)  # for the next person, say
    clear = "Clear all ranks, for another person"
    assert label_of_clear(fresh) == clear
    click(fresh, "#clear")
    assert (where(fresh), label_of_clear(fresh)) == ("4 ranked", "Press again to clear all ranks")
    press(fresh, "Backspace", "Enter")
    assert (where(fresh), label_of_clear(fresh)) == ("4 ranked", clear)  # who goes on does not mean it
    export(fresh, tmp_path, "Ann")
    fresh.evaluate("document.activeElement.blur()")
    press(fresh, "Backspace")
    kept = ranks(fresh)
    press(fresh, str(kept[1]))  # A and B change places
    press(fresh, "Enter")
    click(fresh, "#clear")
    assert where(fresh) == "4 ranked"
    press(fresh, "Backspace")
    assert ranks(fresh) == [kept[1], kept[0], kept[2]]
    press(fresh, "Enter")
    for _ in range(2):
        click(fresh, "#clear")
    assert where(fresh) == "Image 1 of 4, 0 ranked"
    assert fresh.evaluate("document.getElementById('rater').value") == ""


def test_neither_a_double_click_nor_a_key_held_down_is_a_second_press(fresh):
    rank_all(fresh, "darkest")
    x, y = middle(fresh, "#clear")
    for count in (1, 2):
        for kind in ("mousePressed", "mouseReleased"):
            fresh.tab("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=count)
    assert (where(fresh), label_of_clear(fresh)) == ("4 ranked", "Press again to clear all ranks")
    press(fresh, "Backspace", "Enter")
    fresh.evaluate("document.getElementById('clear').focus()")
    held = {"type": "keyDown", "key": "Enter", "text": "\r", "windowsVirtualKeyCode": 13}
    for repeated in (False, True, True):
        fresh.tab("Input.dispatchKeyEvent", autoRepeat=repeated, **held)
    fresh.tab("Input.dispatchKeyEvent", **held | {"type": "keyUp"})
    assert (where(fresh), label_of_clear(fresh)) == ("4 ranked", "Press again to clear all ranks")


def test_a_digit_without_a_result_in_focus_goes_to_the_next_open_one_and_is_told(fresh):
    press(fresh, "2")
    fresh.evaluate("document.activeElement.blur()")
    press(fresh, "3")
    assert (ranks(fresh), letter(fresh), told(fresh)) == ([2, 3, None], "C", "Result B, rank 3.")
    fresh.evaluate("document.getElementById('next').focus()")
    press(fresh, "1")
    assert (ranks(fresh), told(fresh)) == ([2, 3, 1], "Result C, rank 1. All ranked: Enter for the next image.")
    fresh.evaluate("document.activeElement.blur()")
    press(fresh, "3")  # which of them is meant nobody knows
    assert (ranks(fresh), told(fresh)) == ([2, 3, 1], "Choose a result first.")


def test_digits_in_a_name_are_no_ranks_and_backspace_there_goes_nowhere(fresh):
    rank_all(fresh, "darkest")
    press(fresh, "Tab")  # the field is the next that the keyboard comes to
    type_text(fresh, "Ann")
    press(fresh, "2", "z", "Backspace")
    assert fresh.evaluate("document.getElementById('rater').value") == "Ann2"
    assert where(fresh) == "4 ranked"
    fresh.evaluate("document.activeElement.blur()")
    press(fresh, "Backspace")
    assert where(fresh) == "Image 4 of 4, 4 ranked"


def test_zoom_shows_the_same_part_of_all_images_pixel_by_pixel(fresh):
    image = ".scene:not([hidden]) .result img"
    size = f"document.querySelector('{image}').getBoundingClientRect().width"
    offsets = (
        "[...document.querySelectorAll('.scene:not([hidden]) img')].map(i => [i, i.parentElement]"
        ".map(e => e.getBoundingClientRect())).map(([i, f]) => [i.left - f.left, i.top - f.top].map(Math.round).join())"
    )
    fitted = fresh.evaluate(size)
    widths = []
    for _ in range(3):
        press(fresh, "z")
        widths.append(fresh.evaluate(size))
    assert widths == [128, 256, 512]
    assert fresh.evaluate(f"getComputedStyle(document.querySelector('{image}')).imageRendering") == "pixelated"
    left, top, width, height = box(fresh, ".scene:not([hidden]) .result .frame")
    fresh.point_at(left + 1, top + height - 1)
    places = fresh.evaluate(offsets)
    assert len(places) == 5  # bicubic, reference, three results
    assert len(set(places)) == 1
    across, down = map(int, places[0].split(","))
    assert abs(across) <= 2  # the left edge of the image at that of the frame
    assert abs(down - (height - 384)) <= 3  # the lower edge, likewise
    press(fresh, *["ArrowRight"] * 10, shift=True)
    assert abs(int(fresh.evaluate(offsets)[0].split(",")[0]) - (width - 512)) <= 2
    press(fresh, "z")
    assert fresh.evaluate(size) == fitted
    assert fresh.complaints == []


def test_the_results_that_are_shown_are_not_over_the_edge_of_their_frames(fresh):
    press(fresh, "z", "z", "z")
    x, y = middle(fresh, ".scene:not([hidden]) .result .frame")
    fresh.point_at(x, y)
    assert fresh.evaluate("document.documentElement.scrollWidth") <= 1280
    press(fresh, "z")


def test_without_scripts_the_page_says_so(browser, page):
    browser.tab("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        assert "needs JavaScript" in browser.evaluate("document.body.innerText")
    finally:
        browser.tab("Emulation.setScriptExecutionDisabled", value=False)
