"""Fixtures and hooks of the machine tests of all scenarios."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

PROJECT = Path(__file__).parents[1]
sys.path[:0] = [str(PROJECT / "molecule" / "shared"), str(PROJECT / "files" / "jupyterhub-sessions")]

from browsing import CHROMIUM, Shoot, new_context  # noqa: E402
from testing import (  # noqa: E402
    ACCOUNTS,
    Browserless,
    Service,
    Vms,
    journals,
    run_playbook,
    state_directory,
    write_inventory,
)

from jupyterhub_sessions import i18n  # noqa: E402

HUB = pytest.StashKey[Any]()


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks."""
    config.addinivalue_line("markers", "destructive: changes the machine; leave out against a production host")
    config.addinivalue_line("markers", "row(name): the row of build/faults.json that the test writes")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the service wrote last."""
    report = yield
    hub = item.session.stash.get(HUB, None)
    if report.failed and hub is not None:
        try:
            text = journals(hub)
        except (AssertionError, OSError, RuntimeError) as error:  # the machine may be what is broken
            text = f"not to be had: {error}"
        report.sections.append(("journals of the hub's machine", text))
    return report


@pytest.fixture(scope="session")
def default_state() -> str:
    """Name the state directory that holds when CYGNET_STATE says nothing."""
    return "default-bookworm"


@pytest.fixture(scope="session")
def vms(default_state: str) -> Iterator[Vms]:
    """Find the scenario's running VMs."""
    scratch = Path(tempfile.mkdtemp(prefix="cygnet-"))
    vms = Vms(state_directory(default_state), scratch)
    yield vms
    vms.disconnect()
    shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture(scope="session")
def hub(vms: Vms, request: pytest.FixtureRequest) -> Any:
    """Give root's shell on the hub's machine."""
    host = vms.host("hub")
    request.session.stash[HUB] = host
    return host


@pytest.fixture(scope="session")
def campus(vms: Vms) -> Any:
    """Give root's shell on the university's machine."""
    return vms.host("campus")


@pytest.fixture(scope="session")
def service(vms: Vms, hub: Any) -> Service:
    """Reach the service as the world does."""
    ca_file = vms.scratch / "ca.pem"
    ca_file.write_text(hub.check_output("cat /etc/nginx/tls/certificate.pem"))
    return Service(vms.url("hub"), ca_file)


@pytest.fixture(scope="session")
def inventory(vms: Vms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Have an inventory of the scenario's machines, with what it was deployed with."""
    return write_inventory(vms, tmp_path_factory.mktemp("inventory"))


@pytest.fixture(scope="session")
def play(inventory: Path) -> Any:
    """Return the function that runs a playbook with further variables, and gives its output."""

    def run(playbook: str, variables: dict[str, Any] | None = None, *options: str) -> str:
        status, out = run_playbook(inventory, playbook, variables or {}, *options)
        assert status == 0, out
        return out

    return run


@pytest.fixture(scope="session")
def refused(inventory: Path) -> Any:
    """Return the function that runs a playbook on the hub, expects it to fail, and gives its output in one line."""

    def run(playbook: str, variables: dict[str, Any] | None = None, *options: str) -> str:
        status, out = run_playbook(inventory, playbook, variables or {}, "--limit", "localhost,hub", *options)
        assert status != 0, out
        return " ".join(out.split())

    return run


@pytest.fixture(scope="session")
def say(service: Service) -> Any:
    """Return the function that gives an English sentence of our pages in the language of the site."""
    match = re.search(r'<html lang="(\w+)"', service.get("/hub/login").text)
    assert match, "The login page names no language"
    return i18n.catalog(match[1]).gettext


@pytest.fixture(scope="session")
def users(service: Service) -> Iterator[dict[str, Browserless]]:
    """Log users in and end the sessions they may have left."""
    users = {}
    for name in ("alice", "bob"):
        users[name] = user = Browserless(service, name, ACCOUNTS[name]["password"])
        user.login()
        user.stop()
    yield users
    for user in users.values():
        if not user.logged_in():
            user.login()
        user.stop()


@pytest.fixture
def alice(users: dict[str, Browserless]) -> Browserless:
    """Have a student with a session."""
    users["alice"].ensure()
    return users["alice"]


@pytest.fixture
def bob(users: dict[str, Browserless]) -> Browserless:
    """Have another student with a session."""
    users["bob"].ensure()
    return users["bob"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shoot(vms: Vms) -> Shoot:
    """Return the function that takes a screenshot under a name with its number."""
    directory = PROJECT / "build" / "screenshots" / vms.name
    directory.mkdir(parents=True, exist_ok=True)

    def take(page: Page, name: str) -> Path:
        path = directory / f"{name}.png"
        page.screenshot(path=path)
        return path

    return take


@pytest.fixture
def stranger(browser: Browser, service: Service) -> Iterator[Page]:
    """Lend a page of someone who has not logged in."""
    context = new_context(browser, service)
    yield context.new_page()
    context.close()
