"""Notices for the student inside a session: what the page of JupyterLab or Notebook must say by itself.

A server extension (extension.py) answers with the list of notices that hold just now; the front end (labextension/)
asks once a minute, shows what is new and takes away what no longer holds. Each source of notices is a function in
`SOURCES`.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta

from . import tickets
from .i18n import gettext as _

#: How long an answer holds, however many pages ask.
SECONDS = 50.0
#: A ticket is renewed when half of its life is over. One that has less than this left was not: it will not be any more.
TICKET_LEFT = timedelta(minutes=30)


@dataclasses.dataclass(frozen=True)
class Notice:
    """A notice.

    Parameters
    ----------
    id
        What it is about: shown once, until it no longer holds.
    kind
        `info`, `warning` or `error`.
    message
        Text; `{time}` in it stands for `at`.
    at
        A moment, which the browser writes in the student's own time.
    label, url
        A button, and what it opens in another tab; empty for none.
    """

    id: str
    kind: str
    message: str
    at: str = ""
    label: str = ""
    url: str = ""


def about_ticket(ticket: tickets.Ticket | None, now: datetime, url: str) -> list[Notice]:
    """Say when the Kerberos ticket is about to end, or is not there."""
    at = ticket.expires.isoformat() if ticket else ""
    if ticket is None:
        kind, name = "warning", "ticket-missing"
        message = _(
            "You have no Kerberos ticket: services of the university that ask for one will refuse your programs."
        )
    elif not ticket.valid(now):
        kind, name = "error", "ticket-expired"
        message = _(
            "Your Kerberos ticket ended at {time}: services of the university that ask for one refuse your programs."
        )
    elif ticket.expires - now < min(TICKET_LEFT, (ticket.expires - ticket.starts) / 4):
        kind, name = "warning", "ticket-ending"
        message = _("Your Kerberos ticket ends at {time} and is not renewed by itself any more.")
    else:
        return []
    return [Notice(name, kind, message, at, _("Get a new ticket"), url)]


async def _ticket() -> list[Notice]:
    # Set by the hub where a login gives a ticket: its page that renews it.
    url = os.environ.get("JUPYTERHUB_SESSIONS_TICKET_URL", "")
    if not url:
        return []
    try:
        ticket = await tickets.read_ticket()
    except tickets.TicketError:
        return []
    return about_ticket(ticket, datetime.now(UTC), url)


SOURCES: tuple[Callable[[], Awaitable[Iterable[Notice]]], ...] = (_ticket,)


class Notices:
    """Collect the notices of all sources, at most once in `SECONDS`."""

    def __init__(self) -> None:
        self._until = 0.0
        self._known: list[Notice] = []

    async def current(self) -> list[Notice]:
        """Return what holds now."""
        if time.monotonic() >= self._until:
            # First of all, so that pages that ask at the same time do not ask the sources several times.
            self._until = time.monotonic() + SECONDS
            self._known = [notice for source in SOURCES for notice in await source()]
        return self._known
