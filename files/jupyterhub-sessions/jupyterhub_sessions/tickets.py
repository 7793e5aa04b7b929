"""Read the state of a user's Kerberos ticket.

It lives in the cache that /etc/krb5.conf names. That of sssd-kcm is behind a socket, which gives each user their own
tickets: so the question is asked under the user's id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from . import units

KLIST = "klist"
KLIST_SECONDS = 5.0

_TIME = r"\d\d/\d\d/\d{2,4} \d\d:\d\d:\d\d"
_TICKET = re.compile(
    rf"^(?P<starts>{_TIME})\s+(?P<expires>{_TIME})\s+krbtgt/(?P<realm>[^@\s]+)@(?P=realm)$"
    rf"(\n\s+renew until (?P<renew>{_TIME}))?",
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
    starts, expires
        When it begins, and when it ends unless it is renewed.
    renewable_until
        Until when it is renewed by itself; the same as `expires` where it cannot be.
    """

    principal: str
    starts: datetime
    expires: datetime
    renewable_until: datetime

    def valid(self, now: datetime) -> bool:
        """Tell whether it can be used."""
        return now < self.expires


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
    renewable_until = _time(latest["renew"]) if latest["renew"] else expires
    return Ticket(principal[1], _time(latest["starts"]), expires, renewable_until)


async def read_ticket(uid: int | None = None, gid: int | None = None) -> Ticket | None:
    """Return the user's ticket, also when it has expired; None where there is none.

    Parameters
    ----------
    uid, gid
        Whose; root alone may ask for others. None for the user of this process.

    Raises
    ------
    TicketError
        klist is missing or did not answer.
    """
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC0"}
    try:
        if uid is None:
            done = await units.run([KLIST], KLIST_SECONDS, environment)
        else:
            done = await units.run_as([KLIST], KLIST_SECONDS, environment, uid=uid, gid=uid if gid is None else gid)
    except TimeoutError:
        raise TicketError(f"klist did not answer within {KLIST_SECONDS:.0f} s") from None
    except OSError as error:
        raise TicketError(f"klist could not be started: {error}") from error
    # It fails where there is no cache; what it says then is for people.
    return parse(done.out)
