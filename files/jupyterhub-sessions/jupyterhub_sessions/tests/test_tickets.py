"""The state of a Kerberos ticket, read from klist."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jupyterhub_sessions import tickets

LISTING = """\
Ticket cache: KCM:10001
Default principal: alice@EXAMPLE.ORG

Valid starting     Expires            Service principal
11/23/26 01:00:00  11/23/26 11:00:00  krbtgt/EXAMPLE.ORG@EXAMPLE.ORG
{renew}11/23/26 01:02:00  11/23/26 11:00:00  ldap/ldap.example.org@
\tTicket server: ldap/ldap.example.org@EXAMPLE.ORG
"""
STARTS = datetime(2026, 11, 23, 1, tzinfo=UTC)
EXPIRES = datetime(2026, 11, 23, 11, tzinfo=UTC)


@pytest.mark.parametrize("year", ["26", "2026"])
def test_renewable(year: str) -> None:
    text = LISTING.format(renew="\trenew until 11/30/26 01:00:00\n").replace("/26 ", f"/{year} ")
    ticket = tickets.parse(text)
    assert ticket == tickets.Ticket("alice@EXAMPLE.ORG", STARTS, EXPIRES, datetime(2026, 11, 30, 1, tzinfo=UTC))
    assert ticket.valid(datetime(2026, 11, 23, 10, 59, tzinfo=UTC)) and not ticket.valid(EXPIRES)


def test_not_renewable() -> None:
    ticket = tickets.parse(LISTING.format(renew=""))
    assert ticket and ticket.renewable_until == ticket.expires == EXPIRES


def test_ticket_of_another_realm_is_none_of_ours() -> None:
    text = LISTING.format(renew="") + "11/23/26 01:00:00  11/25/26 11:00:00  krbtgt/OTHER.ORG@EXAMPLE.ORG\n"
    ticket = tickets.parse(text)
    assert ticket and ticket.expires == EXPIRES


@pytest.mark.parametrize("text", ["", "klist: Credentials cache 'KCM:10001' not found\n"])
def test_none(text: str) -> None:
    assert tickets.parse(text) is None


@pytest.fixture
def klist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a program in the place of klist."""
    monkeypatch.setattr(tickets, "KLIST", str(tmp_path / "klist"))
    return tmp_path / "klist"


async def test_read(klist: Path) -> None:
    text = LISTING.format(renew="")
    klist.write_text(f"#!/bin/sh\n[ \"$LC_ALL$TZ$(id -u)\" = CUTC0{os.getuid()} ] && cat <<'E'\n{text}E\n")
    klist.chmod(0o755)
    ticket = await tickets.read_ticket()
    assert ticket and ticket.expires == EXPIRES


async def test_klist_that_hangs(klist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "KLIST_SECONDS", 0.2)
    klist.write_text("#!/bin/sh\nexec sleep 60\n")
    klist.chmod(0o755)
    with pytest.raises(tickets.TicketError, match="did not answer"):
        await tickets.read_ticket()


async def test_without_klist(klist: Path) -> None:
    with pytest.raises(tickets.TicketError, match="could not be started"):
        await tickets.read_ticket()
