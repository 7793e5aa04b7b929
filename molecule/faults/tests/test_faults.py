"""Each fault is survived, as often as it strikes: what runs goes on, and the service is back without a person."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from faults import FAULTS, Fault, Machines, Record, write_table
from testing import Browserless, Service, Vms, new_kernel, person, still_holds, wait_for

pytestmark = pytest.mark.destructive

TRIES = int(os.environ.get("TRIES") or 3)
DATABASE = """
import sqlite3
database = sqlite3.connect("file:/var/lib/jupyterhub/jupyterhub.sqlite?mode=ro", uri=True)
print(database.execute("pragma integrity_check").fetchone()[0])
"""


@pytest.fixture(scope="module")
def records() -> Iterator[dict[str, Record]]:
    """Collect what the tries gave, and write the table."""
    found: dict[str, Record] = defaultdict(Record)
    yield found
    print(f"\n{write_table(found)}")


@pytest.fixture(scope="module")
def machines(vms: Vms, hub: Any, campus: Any, service: Service, users: dict[str, Browserless]) -> Machines:
    """Have what the faults strike."""
    return Machines(vms, hub, campus, service, users["bob"])


def check_all_is_back(fault: Fault, on: Machines, alice: Browserless, kernel: Any) -> None:
    """Wait until somebody can log in, and what must be left of alice's session is there."""
    end = time.monotonic() + fault.seconds

    def left() -> float:
        return max(end - time.monotonic(), 5)

    def logs_in() -> bool:
        tanya = person(on.service, "tanya")
        return tanya.try_login().status_code == 200 and tanya.logged_in()

    wait_for("a login", logs_in, left())
    if fault.keeps == "kernel":
        wait_for("the kernel and its variable", lambda: still_holds(kernel), left())
    elif fault.keeps == "server":
        wait_for("another kernel in place of that one", lambda: not still_holds(kernel, "42"), left())
        assert kernel.output("print(6 * 7)") == "42"
    else:
        wait_for("the hub to see that the session is gone", alice.stopped, left())


@pytest.mark.parametrize("attempt", range(TRIES))
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "_"))
def test_fault(fault: Fault, attempt: int, machines: Machines, alice: Browserless, records: dict[str, Record]) -> None:
    record = records[fault.name]
    record.tries += 1
    with new_kernel(alice) as kernel:
        kernel.output("x = 42")
        try:
            fault.strike(machines)
            if fault.mend and fault.keeps == "kernel":
                # Meanwhile who is in a session works.
                assert kernel.output("print(x)", 120) == "42"
        finally:
            if fault.mend:
                fault.mend(machines)
        over = time.monotonic()
        check_all_is_back(fault, machines, alice, kernel)
        seconds = time.monotonic() - over
    if not alice.logged_in():
        alice.login()
    alice.ensure()
    hub = machines.hub
    assert hub.check_output("python3 -c %s", DATABASE) == "ok"
    wait_for("the machine to be well", lambda: hub.run("systemctl --failed --no-legend").stdout.strip() == "", 60)
    record.recovery_s.append(seconds)
