"""Press keys of any layout in a real browser, as a keyboard would."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from playwright.sync_api import CDPSession, Page

SHIFT, CONTROL, ALT = 8, 2, 1
# What Windows calls the keys: KeyboardEvent.keyCode, the same in all browsers.
VIRTUAL = {
    **{f"Key{letter}": ord(letter) for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"},
    **{f"Digit{digit}": ord(digit) for digit in "0123456789"},
    **dict(zip(("Semicolon", "Equal", "Comma", "Minus", "Period", "Slash", "Backquote"), range(186, 193), strict=True)),
    **dict(zip(("BracketLeft", "Backslash", "BracketRight", "Quote"), range(219, 223), strict=True)),
    **{"IntlBackslash": 226, "IntlRo": 193, "IntlYen": 255, "Space": 32, "Enter": 13, "Tab": 9, "Backspace": 8},
    **{"Escape": 27, "Delete": 46, "Insert": 45, "Home": 36, "End": 35, "PageUp": 33, "PageDown": 34},
    **{"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "ContextMenu": 93},
    **{f"F{number}": 111 + number for number in range(1, 13)},
    **{f"Numpad{digit}": 96 + digit for digit in range(10)},
    **{"ShiftLeft": 16, "ControlLeft": 17, "AltLeft": 18, "AltRight": 18, "CapsLock": 20, "NumpadEnter": 13},
}


@dataclass(frozen=True)
class Stroke:
    """A key of a layout, pressed with what its level needs."""

    code: str
    key: str
    level: int = 0


class Keyboard:
    """The keyboard of the browser's machine.

    Parameters
    ----------
    page
        Where the keys go.
    """

    def __init__(self, page: Page) -> None:
        self.session: CDPSession = page.context.new_cdp_session(page)

    def event(self, kind: str, code: str, key: str, modifiers: int = 0, repeat: bool = False) -> None:
        text = key if len(key) == 1 and not modifiers & (CONTROL | ALT) else {"Enter": "\r", "Tab": ""}.get(key, "")
        self.session.send(
            "Input.dispatchKeyEvent",
            {
                "type": kind,
                "code": code,
                "key": key,
                "modifiers": modifiers,
                "windowsVirtualKeyCode": VIRTUAL.get(code, 0),
                "location": {"Left": 1, "Right": 2}.get(code.removeprefix(key.removesuffix("Graph")), 0),
                "isKeypad": code.startswith("Numpad"),
                "autoRepeat": repeat,
                **({"text": text, "unmodifiedText": text} if text and kind == "keyDown" else {}),
            },
        )

    def press(self, code: str, key: str, modifiers: int = 0) -> None:
        """Press and release a key."""
        self.event("keyDown" if len(key) == 1 or key == "Enter" else "rawKeyDown", code, key, modifiers)
        self.event("keyUp", code, key, modifiers)

    def chord(self, code: str, key: str, modifiers: int) -> None:
        """Press a key with Ctrl, Alt or Shift held by their own keys."""
        held = [(name, bit) for name, bit in (("Control", CONTROL), ("Alt", ALT), ("Shift", SHIFT)) if modifiers & bit]
        down = 0
        for name, bit in held:
            down |= bit
            self.event("rawKeyDown", f"{name}Left", name, down)
        self.press(code, key, modifiers)
        for name, bit in reversed(held):
            down &= ~bit
            self.event("keyUp", f"{name}Left", name, down)

    def strokes(self, strokes: Iterable[Stroke], per_second: float = 0) -> None:
        """Type keys one after the other; Shift and AltGr stay down over keys that need them alike.

        Parameters
        ----------
        strokes
            What to press.
        per_second
            How many keys to press in a second; 0 is as many as the browser takes.
        """
        level = 0
        for stroke in [*strokes, None]:
            wanted = stroke.level if stroke else 0
            for bit, code, key, modifier in ((1, "ShiftLeft", "Shift", SHIFT), (2, "AltRight", "AltGraph", 0)):
                if (wanted ^ level) & bit:
                    self.event("rawKeyDown" if wanted & bit else "keyUp", code, key, modifier if wanted & bit else 0)
            level = wanted
            if stroke:
                began = time.monotonic()
                self.press(stroke.code, stroke.key, SHIFT if level & 1 else 0)
                if per_second:
                    time.sleep(max(0, 1 / per_second - (time.monotonic() - began)))


def rows(layout: dict[str, list[str]]) -> list[Stroke]:
    """List the keys of a layout at each of its levels, level by level.

    Parameters
    ----------
    layout
        As jupyter_xpra.layouts.characters() returns it.
    """
    return [
        Stroke(code, characters[level], level)
        for level in range(4)
        for code, characters in layout.items()
        if level < len(characters) and characters[level]
    ]


def strokes(text: str, *layouts: dict[str, list[str]]) -> list[Stroke]:
    """Find the keys that type a text, each in the first of the layouts that has it."""
    keys = {stroke.key: stroke for layout in reversed(layouts) for stroke in reversed(rows(layout))}
    return [Stroke("Enter", "Enter") if character == "\n" else keys[character] for character in text]
