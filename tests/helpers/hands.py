"""What a person does in the browser: keys, presses, drags."""

CODES = {
    "Tab": 9,
    "Escape": 27,
    "Enter": 13,
    "Backspace": 8,
    " ": 32,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}


def press(browser, *keys, shift=False):
    """Press keys one after the other; letters and digits by themselves, others by their DOM names."""
    for key in keys:
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        told = {"key": key, "modifiers": 8 if shift else 0}
        told["windowsVirtualKeyCode"] = CODES.get(key) or ord(key.upper())
        browser.tab("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **told)
        browser.tab("Input.dispatchKeyEvent", type="keyUp", **told)


def type_text(browser, text):
    """Text into the field that has the focus, as a keyboard of its language gives it."""
    browser.tab("Input.insertText", text=text)


def drag(browser, start, end):
    """Press the mouse at one point, move, let go at another; CSS pixels of the window."""
    for kind, (x, y) in (("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)):
        browser.tab("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)


def click(browser, selector):
    """Press and let go in the middle of the first element that a selector finds, scrolled into view."""
    point = middle(browser, selector)
    drag(browser, point, point)


def middle(browser, selector):
    """The middle of an element, scrolled into view; CSS pixels of the window."""
    left, top, width, height = box(browser, selector)
    return left + width / 2, top + height / 2


def box(browser, selector):
    """(left, top, width, height) of an element, scrolled into view; CSS pixels of the window."""
    return browser.evaluate(
        f"(() => {{ const found = document.querySelector({selector!r}); found.scrollIntoView({{block: 'center'}});"
        "const box = found.getBoundingClientRect(); return [box.left, box.top, box.width, box.height] })()"
    )
