"""Speak the site's language: one language per hub, chosen at deployment.

The hub is one process that serves one university, so the active catalogue is a module's state and no request carries a
language. Messages are looked up when they are needed, never at import, so that code imported before `set_language`
speaks the right language as well.
"""

import functools
import gettext as stdlib_gettext
import io
from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from babel.support import Translations

DOMAIN = "jupyterhub_sessions"
LOCALE_DIR = Path(__file__).parent / "locale"

# English is the language of the msgids and needs no catalogue.
LANGUAGES = ("en", "ru")

_active: stdlib_gettext.NullTranslations = stdlib_gettext.NullTranslations()
_language = "en"


@functools.cache
def catalog(language: str) -> stdlib_gettext.NullTranslations:
    """Return the translations of a language, compiled in memory from the .po file.

    A .mo file would be a build step and a binary in the repository, to save some milliseconds at the hub's start.

    Raises
    ------
    ValueError
        If the language is not one of `LANGUAGES`.
    """
    if language not in LANGUAGES:
        raise ValueError(f"Unknown language {language!r}. Known are: {', '.join(LANGUAGES)}.")
    if language == "en":
        return stdlib_gettext.NullTranslations()
    with (LOCALE_DIR / language / "LC_MESSAGES" / f"{DOMAIN}.po").open("rb") as source:
        messages = read_po(source, locale=language, domain=DOMAIN, abort_invalid=True)
    compiled = io.BytesIO()
    write_mo(compiled, messages)
    compiled.seek(0)
    return Translations(compiled, domain=DOMAIN)


def set_language(language: str) -> None:
    """Make a language the one that `gettext` answers in.

    Raises
    ------
    ValueError
        If the language is not one of `LANGUAGES`.
    """
    global _active, _language
    _active, _language = catalog(language), language


def gettext(message: str) -> str:
    """Return the message in the active language; imported as `_`."""
    return _active.gettext(message)


def ngettext(singular: str, plural: str, n: int) -> str:
    """Return the form of the message that the active language uses with the number `n`."""
    return _active.ngettext(singular, plural, n)


def decimal(number: float) -> str:
    """Write a number as people do in the active language, with what matters of its fraction."""
    return str(format_decimal(round(number, 2), locale=_language))


def N_(message: str) -> str:
    """Mark a message of a module's constant for the catalogue, to be translated where it is used."""
    return message
