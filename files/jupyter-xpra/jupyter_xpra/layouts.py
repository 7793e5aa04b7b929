"""Read from xkeyboard-config which character each key makes.

The page's table is written by it: `python -m jupyter_xpra.layouts > page/layouts.js`.
"""

import ctypes
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ctypes import POINTER, byref, c_char_p, c_int, c_uint32, c_void_p
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

# The keys that print, by what browsers call them (KeyboardEvent.code) and by what XKB calls them, row by row.
KEYS: Mapping[str, str] = {
    "Backquote": "TLDE",
    **{f"Digit{digit}": f"AE{place:02}" for place, digit in enumerate("1234567890", 1)},
    "Minus": "AE11",
    "Equal": "AE12",
    "IntlYen": "AE13",
    **{f"Key{letter}": f"AD{place:02}" for place, letter in enumerate("QWERTYUIOP", 1)},
    "BracketLeft": "AD11",
    "BracketRight": "AD12",
    **{f"Key{letter}": f"AC{place:02}" for place, letter in enumerate("ASDFGHJKL", 1)},
    "Semicolon": "AC10",
    "Quote": "AC11",
    "Backslash": "BKSL",
    "IntlBackslash": "LSGT",
    **{f"Key{letter}": f"AB{place:02}" for place, letter in enumerate("ZXCVBNM", 1)},
    "Comma": "AB08",
    "Period": "AB09",
    "Slash": "AB10",
    "IntlRo": "AB11",
    "Space": "SPCE",
}
# Plain, Shift, AltGr, AltGr and Shift: more no browser tells apart.
LEVELS = 4
XKB = Path("/usr/share/X11/xkb")


class UnknownLayoutError(ValueError):
    """X does not know the layout."""


class _RuleNames(ctypes.Structure):
    _fields_ = [(name, c_char_p) for name in ("rules", "model", "layout", "variant", "options")]


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libxkbcommon.so.0")
    syms = POINTER(c_uint32)
    for name, result, *arguments in (
        ("context_new", c_void_p, c_int),
        ("context_set_log_level", None, c_void_p, c_int),
        ("keymap_new_from_names", c_void_p, c_void_p, POINTER(_RuleNames), c_int),
        ("keymap_unref", None, c_void_p),
        ("keymap_key_by_name", c_uint32, c_void_p, c_char_p),
        ("keymap_num_levels_for_key", c_uint32, c_void_p, c_uint32, c_uint32),
        ("keymap_key_get_syms_by_level", c_int, c_void_p, c_uint32, c_uint32, c_uint32, POINTER(syms)),
        ("keysym_to_utf32", c_uint32, c_uint32),
    ):
        function = getattr(library, f"xkb_{name}")
        function.restype, function.argtypes = result, arguments
    return library


@cache
def _context() -> int:
    context: int = _library().xkb_context_new(0)
    # What is wrong is said by the exception.
    _library().xkb_context_set_log_level(context, 0)
    return context


def characters(layout: str) -> dict[str, list[str]]:
    """Tell what each key of a layout prints.

    Parameters
    ----------
    layout
        As X calls it: ``us``, ``ru``.

    Returns
    -------
    dict
        For each printing key, by KeyboardEvent.code, its characters at up to four levels: plain, Shift, AltGr, AltGr
        and Shift. An empty string where the level prints nothing by itself, as a dead key.

    Raises
    ------
    UnknownLayoutError
        If xkeyboard-config has no such layout.
    """
    xkb = _library()
    names = _RuleNames(b"evdev", b"pc105", layout.encode(), b"", b"")
    keymap = re.fullmatch(r"\w+", layout) and xkb.xkb_keymap_new_from_names(_context(), byref(names), 0)
    if not keymap:
        raise UnknownLayoutError(f"X knows no keyboard layout {layout!r}")
    try:
        keys = {code: xkb.xkb_keymap_key_by_name(keymap, key.encode()) for code, key in KEYS.items()}
        return {code: list(_levels(keymap, key)) for code, key in keys.items()}
    finally:
        xkb.xkb_keymap_unref(keymap)


def _levels(keymap: int, key: int) -> Iterator[str]:
    xkb = _library()
    for level in range(min(xkb.xkb_keymap_num_levels_for_key(keymap, key, 0), LEVELS)):
        syms = POINTER(c_uint32)()
        count = xkb.xkb_keymap_key_get_syms_by_level(keymap, key, 0, level, byref(syms))
        character = chr(xkb.xkb_keysym_to_utf32(syms[0])) if count == 1 else ""
        yield character if character >= " " and character != "\x7f" else ""


def names() -> dict[str, tuple[str, str]]:
    """List the layouts that X knows.

    Returns
    -------
    dict
        For each layout its English name and the tag of its language (BCP 47), by which a browser names it in any other.
    """
    # The system's own file. Some layouts have no language or no country.
    rules = ElementTree.parse(XKB / "rules/evdev.xml")  # noqa: S314
    items = [layout.find("configItem") for layout in rules.iter("layout")]
    found = {}
    for item in items:
        assert item is not None, "a layout in evdev.xml has no configItem"
        name, language, country = (item.findtext(path, "") for path in ("name", ".//iso639Id", ".//iso3166Id"))
        found[name] = item.findtext("description", name), f"{language or 'und'}-{country}".rstrip("-")
    languages = [tag.partition("-")[0] for _, tag in found.values()]
    return {
        name: (description, tag if languages.count(tag.partition("-")[0]) > 1 else tag.partition("-")[0])
        for name, (description, tag) in found.items()
        if name != "custom"
    }


def table(layouts: Iterable[str]) -> dict[str, list[str | list[str]]]:
    """Put together what the page needs of each layout.

    Returns
    -------
    dict
        For each layout: its English name, the tag of its language, and what its keys print, in the order of ``KEYS``:
        one string per key, a character per level, and a blank where there is none.
    """
    known = names()
    return {layout: [*known[layout], [_packed(levels) for levels in characters(layout).values()]] for layout in layouts}


def _packed(levels: Sequence[str]) -> str:
    # The space bar's own blank is not needed: it prints one in every layout.
    return "".join(character or " " for character in levels).rstrip()


def main() -> None:
    """Print the module that the page imports."""
    rows = ",\n".join(
        f"  {json.dumps(layout)}: {json.dumps(row, ensure_ascii=False)}"
        for layout, row in table(sorted(names())).items()
    )
    codes = json.dumps(list(KEYS))
    print(
        "// What each key prints, from xkeyboard-config. Written by `python -m jupyter_xpra.layouts`, not by hand.\n"
        f"export const codes = {codes};\n"
        "// By layout: English name, tag of the language; by code the characters plain, with Shift, AltGr, both.\n"
        f"export const layouts = {{\n{rows},\n}};"
    )


if __name__ == "__main__":
    main()
