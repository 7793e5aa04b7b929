"""Fixtures of the tests with the university's accounts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testing import Browserless, Service, person, ticket_of, wait_for

STATUS = "sssctl domain-status --online example.org"


@pytest.fixture(autouse=True)
def _as_before(hub: Any) -> None:
    """Forget the wrong passwords of the test before, and have SSSD find the directory again.

    After what a slow machine could not answer in time, it takes the directory for dead and asks its cache alone. It
    tries again after up to a minute, or at once when it is told to (SIGUSR2, sssd(8)).
    """
    hub.check_output("rm -f /run/jupyterhub/faillock/*")

    def online() -> bool:
        if "Online status: Online" in hub.check_output(STATUS):
            return True
        hub.check_output("systemctl kill --kill-whom=main --signal=SIGUSR2 sssd")
        return False

    wait_for("SSSD to reach the directory", online, 120, 5)


@pytest.fixture
def short_ticket(service: Service, hub: Any, campus: Any) -> Iterator[Callable[[str, str], Browserless]]:
    """Log in alice with a ticket of the given life; afterwards she has an ordinary one."""

    def log_in(life: str, renewable: str) -> Browserless:
        campus.check_output("campus-ctl ticket-life alice %s %s", life, renewable)
        hub.run("setpriv --reuid 10001 --regid 20010 --clear-groups kdestroy -A")
        user = person(service, "alice")

        def has_ticket() -> bool:
            user.login()
            # On a busy machine SSSD may take the password from its cache, and then there is none.
            return ticket_of(user)[0] != "none"

        wait_for("a login that brings a ticket", has_ticket, 120, 10)
        return user

    yield log_in
    campus.check_output("campus-ctl ticket-life alice 10h 7d")
    person(service, "alice").login()
