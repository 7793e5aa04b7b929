"""What a display is, and which wishes for one are refused."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from tornado import web

KINDS = ("seamless", "desktop")
STATES = ("starting", "running", "failed", "ended")
#: The keyboard layouts that X knows (xkeyboard-config(7)).
LAYOUTS_FILE = Path("/usr/share/X11/xkb/rules/base.lst")
#: XKB has no more groups.
MOST_LAYOUTS = 4
LONGEST_NAME = 60
LONGEST_COMMAND = 4096
SMALLEST_SIZE = (320, 200)


class DisplayError(web.HTTPError):
    """A wish that is refused.

    Parameters
    ----------
    status_code
        Of HTTP.
    message
        A sentence for the user.
    cause
        The same as a word for programs.
    log
        The last lines of the display's log, when it has one.
    """

    def __init__(self, status_code: int, message: str, cause: str, log: str = "") -> None:
        super().__init__(status_code, message.replace("%", "%%"))
        self.message = message
        self.cause = cause
        self.log = log


@dataclass
class Display:
    """A display.

    Parameters
    ----------
    id, name
        The first is a part of the URL, the second is the user's.
    kind
        `seamless`, each window one of the page, or `desktop`, a whole screen with a window manager.
    url
        Path of the page on the server.
    command
        Of the program that is started in it; empty for none.
    size
        Width and height of the screen, in pixels.
    program
        Name of the program of the administrator's list, if it is one of these.
    layouts
        Keyboard layouts, the active one first.
    started
        Time of the start, by ISO 8601.
    state, cause, reason, log
        How it is; when it has come to an end, why: a word, a sentence, and the last lines of its log.
    default
        Whether new kernels and terminals get it.
    number
        Of the X display.
    """

    id: str
    name: str
    kind: str
    url: str
    command: list[str]
    size: tuple[int, int]
    program: str | None = None
    layouts: list[str] = field(default_factory=list)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    state: str = "starting"
    cause: str = ""
    reason: str = ""
    log: str = ""
    default: bool = False
    number: int = 0
    #: Size at the start, which the X server cannot exceed.
    largest: tuple[int, int] = (0, 0)
    #: Browsers that show it.
    clients: int = 0
    #: When a user last did something in it.
    last_activity: datetime = field(default_factory=lambda: datetime.now(UTC))

    def model(self) -> dict[str, Any]:
        """Return what clients are told."""
        names = ("id", "name", "kind", "state", "url", "command", "program", "layouts", "started", "default", "clients")
        values = {name: getattr(self, name) for name in (*names, "cause", "reason", "log")}
        return values | {
            "size": {"width": self.size[0], "height": self.size[1]},
            "last_activity": self.last_activity.isoformat(timespec="seconds"),
        }


@cache
def known_layouts() -> frozenset[str]:
    """Read the layouts that X knows: `us`, `de`, and with a variant `us(dvorak)`."""
    found = set()
    section = ""
    try:
        lines = LAYOUTS_FILE.read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        if line.startswith("!"):
            section = line[1:].strip()
        elif section == "layout" and line.split():
            found.add(line.split()[0])
        elif section == "variant" and (match := re.match(r"\s*(\S+)\s+(\w+):", line)):
            found.add(f"{match[2]}({match[1]})")
    return frozenset(found)


def check_name(value: Any) -> str:
    """Return the name of a display, one line of text, or refuse it."""
    if not isinstance(value, str) or not value.strip():
        raise DisplayError(400, "A display's name must be a text that is not empty.", "name")
    name = " ".join(value.split())
    if len(name) > LONGEST_NAME:
        raise DisplayError(400, f"A display's name has at most {LONGEST_NAME} characters.", "name")
    if not name.isprintable() or set(name) & set("<>&\"'`/\\"):
        raise DisplayError(400, "A display's name must not contain any of < > & \" ' ` / \\.", "name")
    return name


def check_kind(value: Any) -> str:
    """Return the kind of a display, or refuse it."""
    if value not in KINDS:
        raise DisplayError(400, f"A display's kind is {' or '.join(KINDS)}, not {value!r}.", "kind")
    kind: str = value
    return kind


def check_size(value: Any, largest: tuple[int, int]) -> tuple[int, int]:
    """Return width and height of a screen, or refuse them."""
    try:
        if not isinstance(value, Mapping) or set(value) != {"width", "height"}:
            raise TypeError
        size = value["width"], value["height"]
        if not all(type(side) is int for side in size):
            raise TypeError
    except TypeError:
        raise DisplayError(400, 'A size is given as {"width": 1920, "height": 1080}.', "size") from None
    if any(side < least or side > most for side, least, most in zip(size, SMALLEST_SIZE, largest, strict=True)):
        limits = f"{SMALLEST_SIZE[0]} × {SMALLEST_SIZE[1]} to {largest[0]} × {largest[1]}"
        raise DisplayError(400, f"A screen of {size[0]} × {size[1]} cannot be had: sizes go from {limits}.", "size")
    return size


def check_layouts(value: Any) -> list[str]:
    """Return keyboard layouts, or refuse them."""
    if not isinstance(value, list) or not all(isinstance(layout, str) for layout in value):
        raise DisplayError(400, 'Keyboard layouts are given as a list, such as ["us", "ru"].', "layouts")
    if len(value) > MOST_LAYOUTS:
        raise DisplayError(400, f"A keyboard has at most {MOST_LAYOUTS} layouts.", "layouts")
    known = known_layouts()
    for layout in value:
        # Without the list, at least nothing that is no name at all.
        if layout not in known if known else not re.fullmatch(r"\w+(\([\w-]+\))?", layout):
            raise DisplayError(400, f"X knows no keyboard layout {layout!r}.", "layouts")
    return value


def check_command(value: Any, path: str | None = None) -> list[str]:
    """Return a command as a list of words, whose first is there to be executed, or refuse it.

    Parameters
    ----------
    value
        The words, or a line that is split like a shell's.
    path
        Where programs are looked for; `$PATH` when None.
    """
    try:
        words = shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:
        raise DisplayError(400, f"The command cannot be read: {error}.", "command") from None
    if (
        not isinstance(words, list)
        or not words
        or not all(isinstance(word, str) and "\0" not in word for word in words)
    ):
        raise DisplayError(400, "A command is a list of words, the first of which is the program.", "command")
    if sum(map(len, words)) > LONGEST_COMMAND:
        raise DisplayError(400, f"A command has at most {LONGEST_COMMAND} characters.", "command")
    if not words[0] or shutil.which(os.path.expanduser(words[0]), path=path) is None:
        raise DisplayError(400, f"There is no program {words[0]!r} on this machine.", "command")
    return [os.path.expanduser(words[0]), *words[1:]]
