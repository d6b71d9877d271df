"""The page in a real browser: dropped, enlarged, compared and saved, by hand, by keys, on a phone, in two at once."""

import pytest

from tests.helpers import browser as helpers
from tests.helpers.browser import Browser
from tests.helpers.hands import click, drag, middle, press


def count(browser, state):
    return browser.evaluate(f"document.querySelectorAll('.item.{state}').length")


def text(browser, selector):
    return browser.evaluate(f"document.querySelector({selector!r}).textContent")


def given(browser, asked, *files, **window):
    browser.open("about:blank")  # the page of another test asks for the last time, and is forgotten
    browser.open(asked.address, **window)
    browser.give_files("#files", *files)
    browser.wait_for(f"document.querySelectorAll('.item.ready').length == {len(files)}")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True), (320, False)])
def test_from_the_drop_to_the_comparison(browser, studio, drawn, width, dark):
    files = [drawn("Grüße aus Köln.png", 240, 160), drawn("clear <b>&.png", 60, 90, "RGBA")]
    with studio() as asked:
        given(browser, asked, *files, width=width, dark=dark)
        assert text(browser, "#enlarge") == "Enlarge 2 images"
        assert text(browser, ".item .told") == "240 × 160 → 960 × 640"
        click(browser, "#enlarge")
        browser.wait_for("document.querySelectorAll('.item.done').length == 2")
        assert text(browser, "#status") == "2 done"
        assert text(browser, ".item:nth-child(2) h3") == "clear <b>&.png"
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        sizes = browser.evaluate("[...document.querySelectorAll('button, .button, select')].map(e => e.offsetHeight)")
        assert min(size for size in sizes if size) >= 40
        browser.wait_for("[...document.querySelectorAll('.thumb img')].every(i => i.complete && i.naturalWidth)")
        click(browser, ".thumb")
        browser.wait_for("document.querySelector('#after').naturalWidth == 960")
        browser.wait_for("document.querySelector('#before').naturalWidth == 240")
        assert browser.evaluate("document.querySelector('dialog').scrollWidth") <= width
        box = browser.evaluate("(b => [b.width / b.height, b.bottom])(frame.getBoundingClientRect())")
        assert box[0] == pytest.approx(1.5, abs=0.02)
        assert box[1] <= 900
        drag(browser, middle(browser, "#at"), middle(browser, ".tag-left"))
        assert browser.evaluate("Number(at.value)") < 400
        assert "before" in browser.evaluate("at.getAttribute('aria-valuetext')")
        click(browser, "#zoom")
        assert browser.evaluate("frame.offsetWidth") == 960
        click(browser, "#close")
        assert not browser.evaluate("document.querySelector('dialog').open")
        assert browser.complaints == []
        assert all(
            address.startswith(asked.address) or address.endswith("/favicon.ico") for address in browser.requests
        )


def test_it_can_be_used_by_keys_alone(browser, studio, drawn):
    with studio() as asked:
        given(browser, asked, drawn("a.png", 30, 20))
        browser.evaluate("document.activeElement.blur()")
        for _ in range(12):
            press(browser, "Tab")
            if browser.evaluate("document.activeElement.id") == "enlarge":
                break
        press(browser, "Enter")
        browser.wait_for("document.querySelectorAll('.item.done').length == 1")
        for _ in range(12):
            press(browser, "Tab")
            if browser.evaluate("document.activeElement.className") == "thumb":
                break
        press(browser, "Enter")
        browser.wait_for("document.querySelector('dialog').open")
        assert browser.evaluate("document.activeElement.id") == "at"
        press(browser, "ArrowLeft", "ArrowLeft")
        assert browser.evaluate("at.value") == "460"
        assert (
            browser.evaluate("getComputedStyle(document.querySelector('.handle'), '::after').outlineStyle") == "solid"
        )
        press(browser, "Escape")
        browser.wait_for("!document.querySelector('dialog').open")
        assert browser.evaluate("document.activeElement.className") == "thumb"


def test_settings_are_those_of_the_command_and_the_form_says_what_is_wrong(browser, studio, drawn):
    with studio() as asked:
        given(browser, asked, drawn("a.png", 30, 20))
        browser.evaluate("size.value = 'side'; side.value = 75; format.value = 'webp'; quality.value = 0;")
        browser.evaluate("settings.dispatchEvent(new Event('input'))")
        assert text(browser, ".item .told") == "30 × 20 → 75 × 50"
        click(browser, "#enlarge")
        assert not browser.evaluate("settings.checkValidity()")
        assert count(browser, "ready") == 1
        browser.evaluate("quality.value = 80")
        click(browser, "#enlarge")
        browser.wait_for("document.querySelectorAll('.item.done').length == 1")
        (image,) = asked.images()
        assert image["result"]["name"] == "a_75px.webp"
        assert (image["result"]["width"], image["result"]["height"]) == (75, 50)


def test_the_size_that_is_told_before_is_that_of_the_result(browser, studio, drawn):
    with studio() as asked:
        given(browser, asked, drawn("a.png", 174, 145))
        browser.evaluate("size.value = 'side'; side.value = 75; settings.dispatchEvent(new Event('input'))")
        assert text(browser, ".item .told") == "174 × 145 → 75 × 63"  # a half goes up
        click(browser, "#enlarge")
        (image,) = asked.wait("done")
    assert (image["result"]["width"], image["result"]["height"]) == (75, 63)


def test_what_is_refused_is_told_and_the_rest_goes_on(browser, studio, drawn, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with studio() as asked:
        browser.open(asked.address)
        browser.give_files("#files", tmp_path / "notes.txt", drawn("a.png"))
        browser.wait_for("document.querySelectorAll('.item.ready').length == 1")
        browser.wait_for("!document.querySelector('#refused').hidden")
        assert text(browser, "#refused-told").startswith("notes.txt is not an image we can read.")


def test_what_was_refused_stays_until_it_is_dismissed_or_until_the_next_drop(browser, studio, drawn, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    hidden = "document.querySelector('#refused').hidden"
    with studio() as asked:
        browser.open(asked.address)
        browser.give_files("#files", tmp_path / "notes.txt", drawn("a.png"))
        browser.wait_for(f"!{hidden} && document.querySelector('.item.ready') !== null")
        click(browser, "#enlarge")
        browser.wait_for("document.querySelectorAll('.item.done').length == 1")
        assert not browser.evaluate(hidden)
        assert browser.evaluate("document.querySelector('#alert').hidden")
        click(browser, "#dismiss")
        assert browser.evaluate(hidden)
        browser.give_files("#files", tmp_path / "notes.txt")
        browser.wait_for(f"!{hidden}")
        browser.give_files("#files", drawn("b.png"))
        browser.wait_for(hidden)


def test_a_dropped_folder_without_images_is_told(browser, studio, tmp_path):
    (tmp_path / "empty").mkdir()
    data = {"items": [], "files": [str(tmp_path / "empty")], "dragOperationsMask": 1}
    with studio() as asked:
        browser.open(asked.address)
        for kind in ("dragEnter", "dragOver", "drop"):
            browser.tab("Input.dispatchDragEvent", type=kind, x=300, y=300, data=data)
        browser.wait_for("!document.querySelector('#refused').hidden")
        assert text(browser, "#refused-told") == "No image files were in what was dropped."


def test_the_scrollbar_of_the_page_is_not_over_the_comparison(studio, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(helpers, "FLAGS", [flag for flag in helpers.FLAGS if flag != "--hide-scrollbars"])
    bar = "innerWidth - document.documentElement.clientWidth"
    with studio() as asked, Browser(tmp_path / "profile") as browser:
        given(browser, asked, *(drawn(f"{name}.png", 30, 20) for name in "abcdef"), height=500)
        click(browser, "#enlarge")
        browser.wait_for("document.querySelectorAll('.item.done').length == 6")
        assert browser.evaluate(bar) > 0
        click(browser, ".thumb")
        browser.wait_for("document.querySelector('dialog').open")
        assert browser.evaluate(bar) == 0
        assert browser.evaluate("innerWidth - document.querySelector('dialog').getBoundingClientRect().right") == 0
        click(browser, "#close")
        assert browser.evaluate(bar) > 0


def test_at_full_size_keys_scroll_the_comparison(browser, studio, drawn):
    with studio() as asked:
        given(browser, asked, drawn("a.png", 40, 400))
        click(browser, "#enlarge")
        browser.wait_for("document.querySelectorAll('.item.done').length == 1")
        click(browser, ".thumb")
        press(browser, "Tab")
        assert browser.evaluate("document.activeElement.id") != "pane"  # there is nothing to scroll
        click(browser, "#zoom")
        browser.evaluate("document.querySelector('#close').focus()")
        press(browser, "Tab")
        assert browser.evaluate("document.activeElement.id") == "pane"
        before = browser.evaluate("pane.scrollTop")
        press(browser, "ArrowUp")
        browser.wait_for(f"pane.scrollTop < {before}")


def test_a_thumbnail_that_is_dragged_on_the_page_is_no_new_image(browser, studio, drawn):
    with studio() as asked:
        given(browser, asked, drawn("a.png", 60, 40))
        click(browser, "#enlarge")
        browser.wait_for("document.querySelector('.item.done .thumb img')?.naturalWidth > 0")
        browser.evaluate("window.began = []; addEventListener('dragstart', event => began.push(event.target.tagName))")
        x, y = middle(browser, ".thumb")
        mouse = {"button": "left", "buttons": 1, "clickCount": 1}
        browser.tab("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **mouse)
        for step in range(12):
            browser.tab("Input.dispatchMouseEvent", type="mouseMoved", x=x + 5 * step, y=y - 5 * step, **mouse)
        browser.tab("Input.dispatchMouseEvent", type="mouseReleased", x=x + 60, y=y - 60, **mouse)
        assert browser.evaluate("began") == []
        assert len(asked.images()) == 1


def test_all_are_cleared_by_one_look_at_the_queue(browser, studio, drawn):
    """For each image all were asked for: with thousands of them that took minutes."""
    with studio() as asked:
        given(browser, asked, *(drawn(f"{name}.png", 30, 20) for name in "abcdef"))
        click(browser, "#enlarge")
        browser.wait_for("document.querySelectorAll('.item.done').length == 6")
        browser.evaluate("window.setTimeout = () => 0")  # the clock has no part in it
        browser.requests.clear()
        click(browser, "#clear")
        browser.wait_for("document.querySelectorAll('.item').length == 0")
        looks = [address for address in browser.requests if "state?since=" in address]
        assert len(looks) <= 2


def test_a_dropped_folder_is_walked_as_the_command_does(browser, studio, drawn, tmp_path):
    folder = tmp_path / "holiday ü"
    (folder / "sub").mkdir(parents=True)
    for name in ("10.png", "9.PNG", "sub/1.png", ".hidden.png", "notes.txt"):
        (folder / name).write_bytes(drawn("a.png").read_bytes())
    data = {"items": [], "files": [str(folder), str(drawn("b.png"))], "dragOperationsMask": 1}
    with studio() as asked:
        browser.open(asked.address)
        for kind in ("dragEnter", "dragOver", "drop"):
            browser.tab("Input.dispatchDragEvent", type=kind, x=300, y=300, data=data)
        browser.wait_for("document.querySelectorAll('.item.ready').length == 4")
        assert [image["name"] for image in asked.images()] == ["9.PNG", "10.png", "1.png", "b.png"]
        assert browser.evaluate("document.querySelector('#refused').hidden")


def test_what_cannot_be_read_of_a_dropped_folder_is_told_and_the_rest_is_taken(browser, studio, drawn):
    """Entries in the place of a drop's: here folders are listed and files read whatever their permissions are."""
    content = list(drawn("a.png").read_bytes())
    entries = f"""(() => {{
      const refuse = (_, fail) => fail(new DOMException("no", "NotReadableError"));
      const read = (give) => give(new File([new Uint8Array({content})], "a.png"));
      const file = (fullPath, file) => ({{ isFile: true, name: fullPath.split("/").pop(), fullPath, file }});
      const folder = (fullPath, ...answers) => ({{ isDirectory: true, name: fullPath.split("/").pop(), fullPath,
        createReader: () => ({{ readEntries: (give, fail) => answers.shift()(give, fail) }}) }});
      const inside = [folder("/all/locked", refuse), file("/all/gone.png", refuse), file("/all/a.png", read),
        folder("/all/half", (give) => give([file("/all/half/a.png", read)]), refuse)];
      const all = [folder("/all", (give) => give(inside), (give) => give([])), folder("/none", refuse)];
      return {{ items: all.map((entry) => ({{ webkitGetAsEntry: () => entry }})), files: [] }};
    }})()"""
    with studio() as asked:
        browser.open(asked.address)
        browser.evaluate(f"dispatchEvent(Object.assign(new Event('drop'), {{ dataTransfer: {entries} }}))")
        browser.wait_for("!document.querySelector('#refused').hidden")
        assert [image["name"] for image in asked.images()] == ["a.png", "a.png"]
        named = " ".join(f"all/{name} could not be read." for name in ("gone.png", "half", "locked"))
        assert text(browser, "#refused-told") == f"{named} And 1 more like it."
        assert browser.complaints == []


def test_the_list_is_not_gone_through_for_each_image_that_is_taken(browser, studio, drawn):
    """With thousands of images that took longer than to send them."""
    with studio() as asked:
        given(browser, asked, drawn("a.png"))
        browser.evaluate(
            "(field => { window.reads = 0; const { get, set } = Object.getOwnPropertyDescriptor("
            "HTMLSelectElement.prototype, 'value'); Object.defineProperty(field, 'value', "
            "{ get() { reads += 1; return get.call(field) }, set }) })(document.querySelector('#size'))"
        )
        browser.evaluate("window.setTimeout = () => 0")  # nor does the clock have a part in it
        browser.give_files("#files", *[drawn("b.png", 8, 8)] * 24)
        browser.wait_for("document.querySelectorAll('.item.ready').length == 25")
        assert browser.evaluate("reads") <= 25 * 6  # every card asks for the size


def test_two_browsers_see_one_queue_and_the_second_goes_on_where_the_first_is_closed(browser, studio, drawn, tmp_path):
    with studio() as asked:
        with Browser(tmp_path / "profile") as first:
            given(first, asked, drawn("a.png", 30, 20), drawn("b.png", 30, 20))
            browser.open(asked.address)
            browser.wait_for("document.querySelectorAll('.item').length == 2")
            click(first, "#enlarge")
            first.wait_for("document.querySelector('.item.ready') === null")  # else it may end before it has asked
        browser.wait_for("document.querySelectorAll('.item.done').length == 2")
        click(browser, "#clear")
        browser.wait_for("document.querySelectorAll('.item').length == 0")
        assert asked.images() == []


def test_the_end_of_the_studio_is_told_on_the_page(browser, studio):
    with studio() as asked:
        browser.open(asked.address)
    browser.wait_for("document.querySelector('#alert').textContent.startsWith('The studio has ended.')")
