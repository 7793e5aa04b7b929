"""The picker of keyboard layouts, as somebody without a mouse uses it; and the page's table of layouts."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from jupyter_xpra.client_page import rewrite
from jupyter_xpra.layouts import KEYS, UnknownLayoutError, characters, names
from jupyter_xpra.tests.keystrokes import ALT, CONTROL, SHIFT, Keyboard, strokes
from jupyter_xpra.tests.typed_display import PACKAGE, READY, Display

SCREENSHOTS = Path(__file__).parents[4] / "build/screenshots"


@pytest.fixture(scope="module")
def display() -> Iterator[Display]:
    with Display("xterm") as display:
        yield display


@pytest.fixture(params=["en-US", "ru-RU"])
def page(request: pytest.FixtureRequest, browser: Browser, display: Display) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 1000, "height": 700}, locale=request.param) as context:
        page = context.new_page()
        open_display(page, display)
        yield page


def open_display(page: Page, display: Display, query: str = "") -> None:
    page.goto(display.url + query)
    page.wait_for_function(READY)
    # Keys reach a page that has the focus alone.
    page.bring_to_front()


def chosen(page: Page) -> list[str]:
    return page.locator(".layouts-button strong, .layouts-button span:not(.layouts-icon)").all_text_contents()


def test_layouts_are_chosen_by_keys_alone_and_remembered(page: Page, display: Display) -> None:
    # Not guessed by the browser's language.
    assert chosen(page) == ["us"]
    keyboard = Keyboard(page)
    keyboard.chord("KeyK", "K", CONTROL | ALT | SHIFT)
    russian = page.evaluate("navigator.language") == "ru-RU"
    panel = page.get_by_role("dialog", name="Раскладки клавиатуры" if russian else "Keyboard layouts")
    expect(panel).to_be_visible()
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"layouts-{'ru' if russian else 'en'}.png")
    page.keyboard.type("греч" if russian else "gree")
    expect(panel.get_by_role("checkbox")).to_have_count(1)
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    assert chosen(page) == ["us", "gr"]
    before = display.state()["text"]
    text = "αΒγ abc"
    keyboard.strokes(strokes(text, characters("us"), characters("gr")))
    # Nothing of what was typed into the picker.
    assert display.typed_after(before, len(text)) == text
    page.reload()
    page.wait_for_function(READY)
    assert chosen(page) == ["us", "gr"]


@pytest.mark.parametrize(
    "event",
    [
        # What the client does when the server has shown all windows: it tidies up, and focuses its field.
        "document.dispatchEvent(new Event('connection-established'))",
        "document.getElementById('pasteboard').focus()",
    ],
)
def test_open_picker_keeps_the_focus(page: Page, display: Display, event: str) -> None:
    before = display.state()["text"]
    Keyboard(page).chord("KeyK", "K", CONTROL | ALT | SHIFT)
    search = page.get_by_role("searchbox")
    expect(search).to_be_focused()
    page.evaluate(event)
    page.keyboard.type("gre")
    expect(search).to_have_value("gre")
    page.keyboard.press("Tab")
    box = page.get_by_role("checkbox").first
    expect(box).to_be_focused()
    page.evaluate(event)
    expect(box).to_be_focused()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "pasteboard"
    assert display.typed_after(before, 0) == ""


def test_last_layout_stays(page: Page) -> None:
    page.locator(".layouts-button").click()
    page.get_by_role("checkbox").first.click()
    assert page.get_by_role("checkbox").first.is_checked()
    assert chosen(page) == ["us"]


def test_layouts_of_the_display(page: Page, display: Display) -> None:
    open_display(page, display, "?layouts=de,us(dvorak),<b>")
    assert chosen(page) == ["de", "us"]


def test_letter_chooses_its_layout(page: Page, display: Display) -> None:
    before = display.state()["text"]
    text = "Привет, world; їжак"
    Keyboard(page).strokes(strokes(text, characters("us"), characters("ru"), characters("ua")), per_second=15)
    assert display.typed_after(before, len(text)) == text
    assert chosen(page) == ["us", "ru", "ua"]


def test_active_layout_is_the_one_of_the_last_letter(page: Page, display: Display) -> None:
    open_display(page, display, "?layouts=us,ru")
    active = page.locator(".layouts-button strong")
    expect(active).to_have_text("us")
    Keyboard(page).strokes(strokes("ж", characters("ru")))
    expect(active).to_have_text("ru")
    Keyboard(page).strokes(strokes("7 a", characters("us")))
    expect(active).to_have_text("us")


def table() -> dict[str, tuple[str, str, list[str]]]:
    script = (PACKAGE.parent / "page/layouts.js").read_text()
    # A JSON object but for the last comma.
    body = re.search(r"export const layouts = (\{.*\});", script, re.DOTALL)
    assert body
    layouts: dict[str, tuple[str, str, list[str]]] = json.loads(body[1].replace(",\n}", "\n}"))
    return layouts


def test_table_of_the_page_is_that_of_x() -> None:
    layouts = table()
    assert set(names()) == set(layouts)
    for layout in ("us", "ru", "de", "fr", "es", "tr", "ua", "gr"):
        packed = ["".join(level or " " for level in levels).rstrip() for levels in characters(layout).values()]
        assert layouts[layout][2] == packed
    assert all(len(keys) == len(KEYS) for _, _, keys in layouts.values())


@pytest.mark.parametrize("layout", ["xx", "", "us,ru", "../us"])
def test_unknown_layout(layout: str) -> None:
    with pytest.raises(UnknownLayoutError, match="no keyboard layout"):
        characters(layout)


def test_page_without_a_head_is_refused() -> None:
    with pytest.raises(ValueError, match="no head"):
        rewrite(b"<html><body>Not found</body></html>")
