"""What is typed arrives: each key of eight layouts, typed into a browser and read back from programs of three kinds.

So do the clipboard, both ways, and what is done with the mouse.
"""

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from jupyter_xpra.layouts import characters
from jupyter_xpra.tests.keystrokes import ALT, CONTROL, SHIFT, Keyboard, rows, strokes
from jupyter_xpra.tests.typed_display import READY, Display

LAYOUTS = {layout: characters(layout) for layout in ("us", "ru", "de", "fr", "es", "tr", "ua", "gr")}


# In this order: tests that are for some of them are grouped by the place in it.
@pytest.fixture(scope="module", params=["gtk", "qt", "xterm"])
def display(request: pytest.FixtureRequest) -> Iterator[Display]:
    with Display(request.param) as display:
        yield display


@pytest.fixture(scope="module")
def page(browser: Browser, display: Display) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 1000, "height": 700}, permissions=["clipboard-write"]) as context:
        page = context.new_page()
        page.goto(display.url)
        page.wait_for_function(READY)
        yield page


@pytest.fixture
def keyboard(page: Page) -> Keyboard:
    return Keyboard(page)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_key_at_each_level(page: Page, display: Display, keyboard: Keyboard, layout: str) -> None:
    page.evaluate("names => client.keyboard.setLayouts(names)", [layout])
    keys = rows(LAYOUTS[layout])
    before = display.state()["text"]
    keyboard.strokes(keys)
    assert display.typed_after(before, len(keys)) == "".join(key.key for key in keys)


def test_layouts_within_a_word_at_the_speed_of_a_typist(display: Display, keyboard: Keyboard) -> None:
    text = "mixed тест abcконец Ёлка№5 ΑβγABC Gruß"
    before = display.state()["text"]
    keyboard.strokes(strokes(text, *LAYOUTS.values()), per_second=15)
    assert display.typed_after(before, len(text)) == text


def test_characters_of_layouts_that_nobody_chose(page: Page, display: Display, keyboard: Keyboard) -> None:
    page.evaluate("client.keyboard.setLayouts(['us'])")
    text = "Съешь же ещё этих мягких булок, да ВЫПЕЙ ЧАЮ. Fußgängerübergänge €½"
    before = display.state()["text"]
    keyboard.strokes(strokes(text, *LAYOUTS.values()))
    assert display.typed_after(before, len(text)) == text


def test_more_new_characters_than_there_are_spare_keys(page: Page, display: Display) -> None:
    page.evaluate("names => client.keyboard.setLayouts(names)", list(LAYOUTS))
    text = "".join(chr(0x4E00 + number) for number in range(60))
    before = display.state()["text"]
    page.keyboard.insert_text(text)
    assert display.typed_after(before, len(text)) == text
    page.evaluate("client.keyboard.setLayouts(['us', 'ru'])")


def test_caps_lock(display: Display, keyboard: Keyboard) -> None:
    # The browser tells what Caps Lock makes of a key; the remote side must not do so once more.
    before = display.state()["text"]
    keyboard.press("CapsLock", "CapsLock")
    for code, key in ("KeyA", "A"), ("KeyF", "А"), ("Digit1", "1"):
        keyboard.press(code, key)
    keyboard.press("CapsLock", "CapsLock")
    keyboard.press("KeyA", "a")
    assert display.typed_after(before, 4) == "AА1a"


def test_dead_keys(display: Display, keyboard: Keyboard) -> None:
    before = display.state()["text"]
    for composed in "éÉñΐ":
        keyboard.press("BracketLeft", "Dead")
        keyboard.press("KeyE", composed)
    assert display.typed_after(before, 4) == "éÉñΐ"


def test_repeating_key(display: Display, keyboard: Keyboard) -> None:
    before = display.state()["text"]
    for repeat in range(20):
        keyboard.event("keyDown", "KeyF", "а", repeat=repeat > 0)
        # Longer than X waits until it repeats a key by itself.
        time.sleep(0.7 if repeat == 0 else 0.03)
    keyboard.event("keyUp", "KeyF", "а")
    assert display.typed_after(before, 20) == "а" * 20


def test_text_of_input_methods(page: Page, display: Display, keyboard: Keyboard) -> None:
    before = display.state()["text"]
    # A composition as a Chinese or Japanese input method makes it, of keys that are not for the program.
    keyboard.event("rawKeyDown", "KeyN", "Process")
    keyboard.session.send("Input.imeSetComposition", {"text": "にほ", "selectionStart": 2, "selectionEnd": 2})
    keyboard.event("keyUp", "KeyN", "n")
    keyboard.session.send("Input.insertText", {"text": "日本"})
    # A panel of emoji, and a character of two code points.
    page.keyboard.insert_text("😀👍🏽")
    assert display.typed_after(before, 5) == "日本😀👍🏽"


def test_keys_on_the_number_pad(display: Display, keyboard: Keyboard) -> None:
    before = display.state()["text"]
    for code, key in ("Numpad7", "7"), ("NumpadAdd", "+"), ("NumpadDecimal", ","), ("NumpadDivide", "/"):
        keyboard.press(code, key)
    assert display.typed_after(before, 4) == "7+,/"


# Keys that programs know, with what layouts have on them (English, Russian, Greek); what GTK, Qt and a terminal make of
# them. No terminal has a character for the last of them.
CHORDS = [
    ("KeyC", "cсψ", CONTROL, "<Primary>c", "Ctrl+C", "\x03"),
    ("KeyF", "fаφ", ALT, "<Alt>f", "Alt+F", "\x1bf"),
    ("KeyT", "TЕΤ", CONTROL | SHIFT, "<Primary><Shift>t", "Ctrl+Shift+T", "\x14"),
    ("Tab", ["Tab"], SHIFT, "<Shift>ISO_Left_Tab", "Shift+Backtab", "\x1b[Z"),
    ("F5", ["F5"], 0, "F5", "F5", "\x1b[15~"),
    ("F11", ["F11"], 0, "F11", "F11", "\x1b[23~"),
    ("F2", ["F2"], ALT, "<Alt>F2", "Alt+F2", "\x1b[1;3Q"),
    ("ArrowLeft", ["ArrowLeft"], 0, "Left", "Left", "\x1b[D"),
    ("ArrowUp", ["ArrowUp"], CONTROL, "<Primary>Up", "Ctrl+Up", "\x1b[1;5A"),
    ("Home", ["Home"], SHIFT, "<Shift>Home", "Shift+Home", "\x1b[1;2H"),
    ("PageDown", ["PageDown"], 0, "Page_Down", "PgDown", "\x1b[6~"),
    ("Delete", ["Delete"], 0, "Delete", "Del", "\x1b[3~"),
    ("Backspace", ["Backspace"], 0, "BackSpace", "Backspace", "\x7f"),
    ("Escape", ["Escape"], 0, "Escape", "Esc", "\x1b"),
    ("NumpadEnter", ["Enter"], 0, "KP_Enter", "Num+Enter", "\n"),
    ("Numpad7", ["Home"], 0, "KP_Home", "Num+Home", "\x1b[H"),
    ("Comma", ",б,", CONTROL, "<Primary>comma", "Ctrl+,", ""),
    ("NumpadAdd", ["+"], CONTROL, "<Primary>KP_Add", "Ctrl+Num++", ""),
]


@pytest.mark.parametrize(("code", "keys", "modifiers", "gtk", "qt", "xterm"), CHORDS)
def test_keys_that_programs_know(
    display: Display, keyboard: Keyboard, code: str, keys: str, modifiers: int, gtk: str, qt: str, xterm: str
) -> None:
    before = display.state()
    for key in keys:
        keyboard.chord(code, key, modifiers)
    if display.program == "xterm":
        expected = xterm * len(keys)
        assert display.typed_after(before["text"], len(expected)).startswith(expected)
        return
    wanted = [{"gtk": gtk, "qt": qt}[display.program]] * len(keys)

    def come() -> list[str] | None:
        come = [key for key in display.state()["keys"][len(before["keys"]) :] if not is_modifier(key)]
        return come if len(come) >= len(wanted) else None

    assert display.wait(come, 5, f"{wanted} have not come") == wanted


def is_modifier(key: str) -> bool:
    """Tell whether a key that a program wrote down is Shift, Ctrl or Alt: Qt has no names for those."""
    return key.endswith(("Shift_L", "Control_L", "Alt_L")) or "\ud800" <= key[-1:] <= "\udfff"


TEXT = "Первая строка — «ёлки»\nsecond line: €½ 😀\n\n\tδ 你好"


@pytest.fixture
def elsewhere(browser: Browser, display: Display) -> Iterator[Page]:
    """Be another page of the same browser, which may do with the clipboard what the display's page may not."""
    with browser.new_context(permissions=["clipboard-read", "clipboard-write"]) as context:
        page = context.new_page()
        page.goto(display.url + "favicon.png")
        page.bring_to_front()
        yield page


def test_paste(page: Page, display: Display, keyboard: Keyboard, elsewhere: Page) -> None:
    keyboard.chord("End", "End", CONTROL)
    pastes = [(TEXT, "KeyV", "v", CONTROL), ("Ещё\r\nраз", "KeyV", "м", CONTROL), ("x", "Insert", "Insert", SHIFT)]
    for text, code, key, modifiers in pastes:
        if display.program == "xterm":
            # There Ctrl+V is a character.
            code, key, modifiers = "Insert", "Insert", SHIFT
        elsewhere.bring_to_front()
        elsewhere.evaluate("text => navigator.clipboard.writeText(text)", text)
        page.bring_to_front()
        before = display.state()["text"]
        keyboard.chord(code, key, modifiers)
        expected = text.replace("\r\n", "\n")
        assert display.typed_after(before, len(expected)) == expected


def test_copy(page: Page, display: Display, keyboard: Keyboard, elsewhere: Page) -> None:
    if display.program == "xterm":
        # It copies what is marked.
        box = page.locator(".window canvas").first.bounding_box()
        assert box
        page.mouse.dblclick(box["x"] + 25, box["y"] + 12)
        expected = "ready"
    else:
        keyboard.chord("KeyA", "ф", CONTROL)
        keyboard.chord("KeyC", "с", CONTROL)
        expected = display.state()["text"]

    def copied() -> bool | None:
        elsewhere.bring_to_front()
        return elsewhere.evaluate("navigator.clipboard.readText()") == expected or None

    display.wait(copied, 5, "what was copied has not come")
    page.bring_to_front()


# A terminal does not tell of the mouse.
@pytest.mark.parametrize("display", ["gtk", "qt"], indirect=True)
def test_mouse(page: Page, display: Display) -> None:
    box = page.locator(".window canvas").first.bounding_box()
    assert box
    x, y = box["x"] + 100, box["y"] + 150
    before = display.state()
    page.mouse.click(x, y)
    for dx, dy in (0, 120), (0, 120), (0, 120), (0, -120), (120, 0):
        page.mouse.wheel(dx, dy)

    def done() -> bool | None:
        turned = [new - old for new, old in zip(display.state()["scrolled"], before["scrolled"], strict=True)]
        return turned == [1, 2] or None

    display.wait(done, 5, "the wheel's turns have not come")
    button, *position = display.state()["clicks"][-1]
    assert button == 1
    assert position == pytest.approx([100, 150], abs=1)


def test_window_follows_the_tab(page: Page, display: Display) -> None:
    page.locator(".windowbuttons .maximize, [id^=maximize]").first.click()
    for width, height in (1200, 800), (900, 650):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_function(
            "size => client.desktop_width === size[0] && client.desktop_height === size[1]", arg=[width, height]
        )
        if display.program == "xterm":
            continue

        def follows(width: int = width) -> bool | None:
            return abs(display.state()["size"][0] - width) < 10 or None

        display.wait(follows, 5, "the window has another size")


# The page does not know the program: one of them is enough.
@pytest.mark.parametrize("display", ["gtk"], indirect=True)
@pytest.mark.parametrize("scale", [1.25, 2])
def test_screen_with_more_pixels(browser: Browser, display: Display, scale: float) -> None:
    with browser.new_context(viewport={"width": 900, "height": 500}, device_scale_factor=scale) as context:
        page = context.new_page()
        page.goto(display.url)
        frame = page.frame_locator("iframe")
        canvas = frame.locator(".window canvas").first
        inside = page.frames[1]
        inside.wait_for_function(READY)
        assert inside.evaluate("[client.desktop_width, client.desktop_height]") == [900 * scale, 500 * scale]
        box = canvas.bounding_box()
        assert box
        # As many of the screen's pixels as the program has drawn.
        assert inside.evaluate("Object.values(client.id_to_window)[0].w") == pytest.approx(box["width"] * scale, abs=1)
        page.mouse.click(box["x"] + 60, box["y"] + 40)

        def clicked() -> bool | None:
            position = display.state()["clicks"][-1][1:]
            return position == pytest.approx([60 * scale, 40 * scale], abs=1.5) or None

        display.wait(clicked, 5, "the click has not come there")
        before = display.state()["text"]
        Keyboard(page).strokes(strokes("тест", LAYOUTS["ru"]))
        display.wait(lambda: len(display.state()["text"]) == len(before) + 4 or None, 5, "what was typed has not come")
