"""Read the state of a user's Kerberos ticket.

It lives in the cache that /etc/krb5.conf names. That of sssd-kcm is behind a socket, which gives each user their own
tickets: so the question is asked under the user's id.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

KLIST = "klist"
#: How long klist may take; the cache is on the same machine.
KLIST_SECONDS = 5.0

_TIME = r"\d\d/\d\d/\d{2,4} \d\d:\d\d:\d\d"
# The first line of a ticket-granting ticket, and the line below it where it can be renewed.
_TICKET = re.compile(
    rf"^{_TIME}\s+(?P<expires>{_TIME})\s+krbtgt/(?P<realm>[^@\s]+)@(?P=realm)$(\n\s+renew until (?P<renew>{_TIME}))?",
    re.MULTILINE,
)


class TicketError(Exception):
    """The state could not be read; the message says why."""


@dataclass(frozen=True)
class Ticket:
    """A ticket-granting ticket.

    Parameters
    ----------
    principal
        Whom it is for.
    expires
        When it ends, unless it is renewed.
    renewable_until
        Until when it is renewed by itself; the same as `expires` where it cannot be.
    """

    principal: str
    expires: datetime
    renewable_until: datetime

    def valid(self, now: datetime) -> bool:
        """Tell whether it can be used."""
        return now < self.expires

    def ends(self) -> datetime:
        """Return when it ends for good, even if it is renewed."""
        return max(self.expires, self.renewable_until)


def _time(text: str) -> datetime:
    date, clock = text.split()
    year = date.rpartition("/")[2]
    form = "%m/%d/%Y %H:%M:%S" if len(year) == 4 else "%m/%d/%y %H:%M:%S"
    return datetime.strptime(f"{date} {clock}", form).replace(tzinfo=UTC)


def parse(listing: str) -> Ticket | None:
    """Read klist's listing, printed in the language C and in UTC; None where it has no ticket-granting ticket."""
    found = list(_TICKET.finditer(listing))
    principal = re.search(r"^Default principal: (\S+)$", listing, re.MULTILINE)
    if not found or not principal:
        return None
    latest = max(found, key=lambda match: _time(match["expires"]))
    expires = _time(latest["expires"])
    return Ticket(principal[1], expires, _time(latest["renew"]) if latest["renew"] else expires)


async def read_ticket(uid: int | None = None, gid: int | None = None) -> Ticket | None:
    """Return the user's ticket, also when it has expired; None where there is none.

    Parameters
    ----------
    uid, gid
        Whose; root alone may ask for others. None for those of this process.

    Raises
    ------
    TicketError
        klist is missing or did not answer.
    """
    identity: dict[str, Any] = {} if uid is None else {"user": uid, "group": gid, "extra_groups": []}
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC0"}
    try:
        process = await asyncio.create_subprocess_exec(
            KLIST,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
            **identity,
        )
    except OSError as error:
        raise TicketError(f"klist could not be started: {error}") from error
    try:
        # It fails where there is no cache; what it says then is for people.
        out, _err = await asyncio.wait_for(process.communicate(), KLIST_SECONDS)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise TicketError(f"klist did not answer within {KLIST_SECONDS:.0f} s") from None
    return parse(out.decode(errors="replace"))
