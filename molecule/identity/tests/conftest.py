"""Fixtures of the tests with the university's accounts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testing import Browserless, Service, person, wait_for

STATUS = "sssctl domain-status --online example.org"


@pytest.fixture(autouse=True)
def _as_before(hub: Any) -> None:
    """Forget the wrong passwords of the test before, and wait until SSSD has found the directory again.

    After a burst of logins that a slow machine could not answer in time, it takes the directory for dead for some
    seconds and asks its cache alone.
    """
    hub.check_output("rm -f /run/jupyterhub/faillock/*")
    wait_for("SSSD to reach the directory", lambda: "Online status: Online" in hub.check_output(STATUS), 120, 2)


@pytest.fixture
def short_ticket(service: Service, hub: Any, campus: Any) -> Iterator[Callable[[str, str], Browserless]]:
    """Log in alice with a ticket of the given life; afterwards she has an ordinary one."""

    def log_in(life: str, renewable: str) -> Browserless:
        campus.check_output("campus-ctl ticket-life alice %s %s", life, renewable)
        hub.run("setpriv --reuid 10001 --regid 20010 --clear-groups kdestroy -A")
        user = person(service, "alice")
        user.login()
        return user

    yield log_in
    campus.check_output("campus-ctl ticket-life alice 10h 7d")
    person(service, "alice").login()
