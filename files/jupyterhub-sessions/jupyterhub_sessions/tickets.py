"""Read the state of a user's Kerberos ticket.

It lives in the cache that /etc/krb5.conf names. That of sssd-kcm is behind a socket, which gives each user their own
tickets: so the question is asked under the user's id, for another user by a unit of systemd. The hub could not change
its own id: pam_sss of SSSD 2.10 takes that right (CAP_SETUID) from the process that called it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime

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
    command = [KLIST]
    if uid is not None:
        command = [
            *("systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--uid={uid}", f"--gid={gid}"),
            *(f"--setenv={name}={value}" for name, value in environment.items()),
            # Ends klist where this process does not wait for it any more.
            *(f"--property=RuntimeMaxSec={KLIST_SECONDS}", "--", KLIST),
        ]
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
        )
    except OSError as error:
        raise TicketError(f"klist could not be started: {error}") from error
    try:
        # It fails where there is no cache; what it says then is for people.
        out, _err = await asyncio.wait_for(process.communicate(), KLIST_SECONDS)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise TicketError(f"klist did not answer within {KLIST_SECONDS:.0f} s") from None
    return parse(out.decode(errors="replace"))
