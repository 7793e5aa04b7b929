"""Count how many keys arrive, with the page as it is here and with Xpra's client as shipped; print a table in Markdown.

`PYTHONPATH=files/jupyter-xpra python -m jupyter_xpra.tests.compare_clients [xterm|gtk|qt ...]`. The
client as shipped guesses the layout by the browser's language, so the browser speaks the layout's.
"""

import os
import sys
import time
from collections.abc import Iterable
from difflib import SequenceMatcher

from playwright.sync_api import Browser, sync_playwright

from jupyter_xpra.layouts import characters
from jupyter_xpra.tests.keystrokes import Keyboard, Stroke, rows, strokes
from jupyter_xpra.tests.typed_display import READY, Display

# Each layout with the browser's language that goes with it.
LANGUAGES = {
    "us": "en-US", "ru": "ru-RU", "de": "de-DE", "fr": "fr-FR",
    "es": "es-ES", "tr": "tr-TR", "ua": "uk-UA", "gr": "el-GR",
}  # fmt: skip
# Two layouts by turns, in a Russian browser.
MIXED = "mixed тест abcконец Ёлка№5 Путь/к/файлу.txt; print('Привет, World')"
PER_SECOND = 15


def lines_typed(browser: Browser, display: Display, query: str, language: str, keys: Iterable[Stroke]) -> list[str]:
    """Type keys, Enter after each of a list of them, and return what came, by line."""
    with browser.new_context(viewport={"width": 1000, "height": 700}, locale=language) as context:
        page = context.new_page()
        page.goto(display.url + query)
        page.wait_for_function(READY)
        time.sleep(1)
        keyboard = Keyboard(page)
        before = display.state()["text"]
        for key in keys:
            keyboard.strokes([key], per_second=PER_SECOND)
        time.sleep(2)
        text: str = display.state()["text"]
        return text[len(before) :].split("\n")


def correct(expected: list[str], found: list[str]) -> int:
    """Count what of one sequence is found in the other, in its order."""
    return sum(block.size for block in SequenceMatcher(None, expected, found, autojunk=False).get_matching_blocks())


def main() -> None:
    """Measure and print."""
    programs = sys.argv[1:] or ["xterm", "gtk", "qt"]
    clients = {"as shipped": "?shipped", "here": ""}
    enter = Stroke("Enter", "Enter")
    count: dict[tuple[str, str, str], tuple[int, int]] = {}
    with sync_playwright() as playwright:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=sandbox)
        for program in programs:
            for client, query in clients.items():
                # A new display each time: what one client has done to the keymap is not for the next.
                for layout, language in LANGUAGES.items():
                    with Display(program) as display:
                        keys = rows(characters(layout))
                        typed = lines_typed(
                            browser, display, query, language, (key for pair in keys for key in (pair, enter))
                        )
                        count[program, client, layout] = correct([key.key for key in keys], typed), len(keys)
                        print(program, client, layout, *count[program, client, layout], file=sys.stderr, flush=True)
                with Display(program) as display:
                    keys = strokes(MIXED, characters("us"), characters("ru"))
                    typed = lines_typed(browser, display, query, "ru-RU", keys)
                    count[program, client, "us + ru"] = correct(list(MIXED), list("\n".join(typed))), len(MIXED)
        browser.close()
    columns = [(program, client) for program in programs for client in clients]
    print("| layout | keys |", " | ".join(f"{program}, {client}" for program, client in columns), "|")
    print("| --- | ---: |", " | ".join("---:" for _ in columns), "|")
    for layout in [*LANGUAGES, "us + ru"]:
        found = [count[program, client, layout] for program, client in columns]
        print(f"| `{layout}` | {found[0][1]} |", " | ".join(str(arrived) for arrived, _ in found), "|")


if __name__ == "__main__":
    main()
