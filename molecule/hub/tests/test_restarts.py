"""What runs goes on while parts of the service end and come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testing import Browserless, Kernel, Service, Vms, new_kernel, reboot, still_holds, wait_for

pytestmark = pytest.mark.destructive

Say = Callable[[str], str]
# Generous: how long it takes is measured elsewhere, and a VM in User-Mode Linux shares its processor with the tests.
BACK_SECONDS = 180.0
BOOT_SECONDS = 400.0


@pytest.fixture
def kernel(alice: Browserless) -> Iterator[Kernel]:
    """Lend alice's kernel that holds x = 42."""
    with new_kernel(alice) as kernel:
        kernel.output("x = 42")
        yield kernel


def check_all_is_back(hub: Any, service: Service, alice: Browserless, kernel: Kernel) -> None:
    """Wait until the hub, the session and its kernel answer as before."""
    end = time.monotonic() + BACK_SECONDS
    wait_for("the hub", service.healthy, BACK_SECONDS)
    wait_for("the kernel and its variable", lambda: still_holds(kernel), max(end - time.monotonic(), 5))
    # The same login goes on, in the hub and in the session.
    assert alice.logged_in() and alice.running()
    assert alice.api("status").status_code == 200
    running = hub.run("systemctl is-system-running; systemctl --failed --no-legend").stdout
    assert running.strip() == "running"


def main_pid(hub: Any, unit: str) -> str:
    """Return the main process of a unit."""
    return str(hub.check_output(f"systemctl show -P MainPID {unit}"))


@pytest.mark.parametrize("unit", ["jupyterhub", "chp", "nginx"])
def test_restart_loses_nothing(hub: Any, service: Service, alice: Browserless, kernel: Kernel, unit: str) -> None:
    before, session = main_pid(hub, unit), main_pid(hub, "jupyter-alice")
    hub.check_output(f"systemctl restart {unit}")
    assert main_pid(hub, unit) != before
    check_all_is_back(hub, service, alice, kernel)
    assert main_pid(hub, "jupyter-alice") == session


@pytest.mark.parametrize("unit", ["jupyterhub", "chp", "nginx"])
def test_killed_service_comes_back_by_itself(
    hub: Any, service: Service, alice: Browserless, kernel: Kernel, unit: str
) -> None:
    before = main_pid(hub, unit)
    hub.check_output(f"systemctl kill --kill-whom=main --signal=KILL {unit}")
    wait_for(f"another {unit}", lambda: main_pid(hub, unit) not in {before, "0"}, BACK_SECONDS)
    check_all_is_back(hub, service, alice, kernel)


def test_kernel_keeps_its_websocket_while_the_hub_restarts(hub: Any, service: Service, kernel: Kernel) -> None:
    hub.check_output("systemctl restart jupyterhub")
    # No new connection: a cell that runs meanwhile loses no output.
    assert kernel.output("print(x)") == "42"
    wait_for("the hub", service.healthy, BACK_SECONDS)


def test_page_says_what_happens_while_the_hub_is_down(hub: Any, service: Service, kernel: Kernel) -> None:
    ours = hub.check_output("cat /var/www/cygnet/503.html").strip()
    hub.check_output("systemctl stop jupyterhub")
    try:
        answer = service.get("/hub/login")
        assert answer.status_code in {502, 503}
        assert answer.content.decode().strip() == ours
        assert answer.headers["Retry-After"].isdigit()
        assert answer.headers["Cache-Control"] == "no-store"
        # The address of a session that does not run; nginx leaves what is under /user/ as it is, the proxy answers.
        session = service.get("/user/nobody/lab")
        assert (session.status_code, session.content.decode().strip()) == (503, ours)
        # Who works does not notice.
        assert kernel.output("print(x)") == "42"
    finally:
        hub.check_output("systemctl start jupyterhub")
        wait_for("the hub", service.healthy, BACK_SECONDS)


def test_page_says_what_happens_while_the_proxy_is_down(hub: Any, service: Service) -> None:
    ours = hub.check_output("cat /var/www/cygnet/503.html").strip()
    hub.check_output("systemctl stop chp")
    try:
        answer = service.get("/hub/login")
        assert answer.status_code in {502, 503}
        assert answer.content.decode().strip() == ours
    finally:
        hub.check_output("systemctl start chp")
        wait_for("the hub", service.healthy, BACK_SECONDS)


def test_session_that_ended_while_the_hub_was_down_is_noticed(hub: Any, service: Service, bob: Browserless) -> None:
    hub.check_output("systemctl stop jupyterhub && systemctl kill --signal=KILL jupyter-bob.service")
    hub.check_output("systemctl start jupyterhub")
    wait_for("the hub", service.healthy, BACK_SECONDS)
    wait_for("the hub to see that bob's session is gone", bob.stopped)
    bob.start()
    assert bob.api("status").status_code == 200


# Last in this file: it takes a minute or two, and nothing that ran before runs afterwards.
def test_reboot_brings_the_service_back(vms: Vms, hub: Any, service: Service, alice: Browserless) -> None:
    reboot(vms, hub)
    wait_for("the hub", service.healthy, BOOT_SECONDS)
    wait_for(
        "the end of the boot", lambda: hub.run("systemctl is-system-running").stdout.strip() == "running", BOOT_SECONDS
    )
    assert not alice.running()
    alice.login()
    alice.start()
    with new_kernel(alice) as kernel:
        assert kernel.output("print(6 * 7)") == "42"
