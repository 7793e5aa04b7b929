"""Notices for the student inside a session: what the page of JupyterLab or Notebook must say by itself.

A server extension (extension.py) answers with the list of notices that hold just now; the front end (labextension/)
asks once a minute, shows what is new and takes away what no longer holds. Each source of notices is a function in
`SOURCES`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from . import announcements, stacks, tickets
from .homes import TEMPORARY_DIRECTORY, TEMPORARY_HOME
from .i18n import gettext as _

#: How long an answer holds, however many pages ask.
SECONDS = 50.0
#: Characters of a message that JupyterLab shows; it cuts the rest off.
SHOWN = 140
#: A ticket is renewed when half of its life is over. One that has less than this left was not: it will not be any more.
TICKET_LEFT = timedelta(minutes=30)
#: A session whose time is over soon says so.
SESSION_LEFT = timedelta(minutes=10)


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
        Text; `{time}` in it stands for `at`, where that is given.
    at
        A moment, which the browser writes in the student's own time.
    label, url
        A button, and what it opens in another tab; empty for none.
    post
        Whether the button sends a POST there in place of opening it.
    """

    id: str
    kind: str
    message: str
    at: str = ""
    label: str = ""
    url: str = ""
    post: bool = False


def _home_page() -> str:
    """Return the address of the hub's page of sessions."""
    return os.environ.get("JUPYTERHUB_BASE_URL", "/").rstrip("/") + "/hub/home"


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


def about_home(temporary: bool, home: Path, left: Path | None) -> list[Notice]:
    """Say that the home is a temporary one, or that files are still in one.

    Parameters
    ----------
    temporary
        Whether this session's home is.
    home
        $HOME.
    left
        Temporary home of an earlier session, None if there is none.
    """
    if temporary:
        message = _(
            "Temporary home: your own files were out of reach. What you save stays on this server, in %(home)s."
        )
        return [Notice("home-temporary", "warning", message % {"home": home})]
    if left is not None and left.is_dir() and any(left.iterdir()):
        message = _("Files of a temporary home are left. Fetch them in a terminal: mv %(left)s ~/from-temporary-home")
        return [Notice("home-left", "info", message % {"left": left})]
    return []


async def _home() -> list[Notice]:
    # Set by the hub where homes are on the network (homes.py).
    temporary = os.environ.get("JUPYTERHUB_SESSIONS_HOME") == TEMPORARY_HOME
    local = os.environ.get("JUPYTERHUB_SESSIONS_LOCAL", "")
    return about_home(temporary, Path(os.environ["HOME"]), Path(local) / TEMPORARY_DIRECTORY if local else None)


def about_end(ends: float, latest: float, now: datetime, url: str) -> list[Notice]:
    """Say that the time of the session is over soon.

    Parameters
    ----------
    ends, latest
        When it is, and when it is at the latest, in seconds since the epoch.
    now
        The present time.
    url
        The hub's page with the button that extends it.
    """
    at = datetime.fromtimestamp(ends, UTC)
    if at - now > SESSION_LEFT:
        return []
    message = _("This session ends at {time}. Save your work.")
    label, url = (_("Extend it"), url) if ends < latest else ("", "")
    return [Notice("session-ending", "warning", message, at.isoformat(), label, url)]


def about_idleness(last: datetime, seconds: float, now: datetime, url: str) -> list[Notice]:
    """Say that the session is ended soon because nobody does anything in it.

    Parameters
    ----------
    last
        When somebody last did something.
    seconds
        How long after that the session is ended.
    now
        The present time.
    url
        Where a POST counts as doing something.
    """
    ends = last + timedelta(seconds=seconds)
    # Where that is short, not for the whole time.
    if ends - now > min(SESSION_LEFT, timedelta(seconds=seconds / 2)):
        return []
    message = _("Nobody uses this session: it ends at {time}. What is not saved is lost then.")
    return [Notice("session-idle", "warning", message, ends.isoformat(), _("I am still here"), url, post=True)]


async def _end() -> list[Notice]:
    # Set by the hub where the size of the session has an end; the file says when, as that can be extended.
    file = os.environ.get("JUPYTERHUB_SESSIONS_ENDS", "")
    if not file:
        return []
    try:
        ends, latest = map(float, Path(file).read_text().split())
    except (OSError, ValueError):
        return []
    return about_end(ends, latest, datetime.now(UTC), _home_page())


def about_stacks(absent: Sequence[stacks.Stack]) -> list[Notice]:
    """Say which repositories do not answer, and which kernels that concerns."""
    repositories = sorted({stack.repository for stack in absent})
    return [
        Notice(
            f"stacks-{repository}",
            "warning",
            _("%(repository)s is out of reach. Its kernels cannot start: %(kernels)s.")
            % {
                "repository": repository,
                "kernels": ", ".join(stack.display_name for stack in absent if stack.repository == repository),
            },
        )
        for repository in repositories
    ]


async def _stacks() -> list[Notice]:
    known = stacks.stacks()
    for stack in known:
        stacks.AVAILABILITY.start(stack.path)
    return about_stacks([stack for stack in known if stacks.AVAILABILITY.known(stack.path) is False])


def about_announcement(text: str, url: str) -> list[Notice]:
    """Say what the administrator announces.

    Parameters
    ----------
    text
        The announcement, empty for none.
    url
        The hub's page that shows all of it.
    """
    if not text:
        return []
    line = " ".join(text.split())
    # Another text is another notice, which is shown again.
    name = f"announcement-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if len(line) <= SHOWN:
        return [Notice(name, "info", line)]
    return [Notice(name, "info", line[: SHOWN - 1].rsplit(" ", 1)[0] + "…", label=_("Read all of it"), url=url)]


async def _announcement() -> list[Notice]:
    return about_announcement(announcements.announcement(), _home_page())


SOURCES: tuple[Callable[[], Awaitable[Iterable[Notice]]], ...] = (_announcement, _end, _ticket, _home, _stacks)


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
