"""Single sign-on in place of the hub's own login page, with a real OpenID Connect provider over the same directory.

It turns the hub over to the provider and back, so it stands apart from the tests with passwords.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from browsing import CHROMIUM, LAB_MS, PAGE_MS, Shoot
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from testing import PROJECT, Service, Vms, wait_for

Say = Callable[[str], str]
Play = Callable[..., str]

HUB = "https://hub.example.org"
PROVIDER = "https://auth.example.org"
SECRET = "swan-secret-1"  # molecule/shared/campus.yml
SETTINGS = {
    "jupyterhub_authentication": "oidc",
    "jupyterhub_oidc": {
        "issuer": PROVIDER,
        "client_id": "hub",
        "client_secret": SECRET,
        "ca_certificate": "{{ campus_files }}/ca.pem",
        "login_service": "Campus",
    },
}
DIRECTORY = yaml.safe_load((PROJECT / "molecule/shared/campus/people.yml").read_text())
PASSWORDS = {
    person.get("directory_name", person["user"]): person["password"]
    for person in DIRECTORY["people"] + DIRECTORY["people_without_account"]
}

pytestmark = pytest.mark.destructive


@pytest.fixture(scope="module")
def deployed(play: Play, service: Service) -> Iterator[str]:
    """Have the provider, and a hub that sends people there; give what Ansible printed of the hub."""
    play("molecule/shared/campus.yml", {"campus_extras": ["oidc"]})
    site = ("site.yml", "--tags=jupyterhub", "--limit=localhost,hub")
    out = play(site[0], SETTINGS, *site[1:], "--diff")
    wait_for("the hub answers", service.healthy)
    yield out
    play(site[0], {}, *site[1:])
    wait_for("the hub answers", service.healthy)


@pytest.fixture(scope="module")
def far_browser(vms: Vms, deployed: str) -> Iterator[Browser]:
    """Start a browser that takes the VMs' published ports for the machines of these names."""
    hosts = vms.summary["hosts"]
    ports = {"hub.example.org": hosts["hub"]["ports"]["443"], "auth.example.org": hosts["campus"]["ports"]["443"]}
    rules = ",".join(f"MAP {name} 127.0.0.1:{port}" for name, port in ports.items())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=[*CHROMIUM, f"--host-resolver-rules={rules}"]
        )
        yield browser
        browser.close()


@pytest.fixture
def visitor(far_browser: Browser) -> Iterator[BrowserContext]:
    """Lend a browser window without cookies."""
    context = far_browser.new_context(base_url=HUB, ignore_https_errors=True, viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PAGE_MS)
    context.set_default_navigation_timeout(LAB_MS)
    yield context
    context.close()


def begin(page: Page) -> None:
    """Go from the hub's login page to the provider."""
    page.goto("/hub/login?next=%2Fhub%2Fhome")
    page.locator("#login-main a[role=button]").click()


def log_in(page: Page, name: str) -> None:
    """Log in at the provider, and wait for the hub's answer."""
    begin(page)
    page.locator("input[name=user]").fill(name)
    page.locator("input[name=password]").fill(PASSWORDS[name])
    page.locator("form:has(input[name=password]) button[type=submit]").first.click()
    page.wait_for_url(re.compile(rf"^{HUB}/hub/"))


def test_login_page_leads_to_the_provider(visitor: BrowserContext, shoot: Shoot) -> None:
    page = visitor.new_page()
    page.goto("/")
    expect(page.locator("#login-main a[role=button]")).to_contain_text("Campus")
    expect(page.locator("input[type=password]")).to_have_count(0)
    shoot(page, "sso-1-login")
    begin(page)
    page.wait_for_url(re.compile(rf"^{PROVIDER}/"))
    shoot(page, "sso-2-provider")


@pytest.mark.parametrize(("name", "account"), [("alice", "alice"), ("Maria", "maria"), ("ivan.petrov", "ivan.petrov")])
def test_login_arrives_at_the_own_sessions(visitor: BrowserContext, shoot: Shoot, name: str, account: str) -> None:
    page = visitor.new_page()
    log_in(page, name)
    expect(page.locator("#logout")).to_be_visible()
    shoot(page, f"sso-3-home-{account}")
    user = page.evaluate("() => window.jhdata.user")
    assert user == account
    # The second time nobody is asked for a password.
    visitor.clear_cookies(domain="hub.example.org")
    begin(page)
    expect(page.locator("#logout")).to_be_visible()


@pytest.mark.parametrize(
    ("name", "sentence", "account"),
    [
        (
            "vera",
            "You are logged in as %(name)s, but there is no account %(account)s for you on this service. If you think "
            "there should be one, please tell the support these names.",
            "vera",
        ),
        ("olga", "The account %(user)s has expired. Please tell the support.", "olga"),
        (
            "gordon",
            "You are logged in as %(name)s, but this account may not use this service. If you think it should, please "
            "tell the support.",
            "gordon",
        ),
    ],
)
def test_who_may_not_use_the_service_is_told_why(
    visitor: BrowserContext, say: Say, shoot: Shoot, name: str, sentence: str, account: str
) -> None:
    page = visitor.new_page()
    log_in(page, name)
    shoot(page, f"sso-4-refused-{name}")
    told = say(sentence) % {"name": name, "account": account, "user": account}
    expect(page.locator("main")).to_contain_text(told)
    page.goto("/hub/home")
    expect(page.locator("#logout")).to_have_count(0)


def test_secret_is_for_root_alone(hub: Any, deployed: str) -> None:
    assert hub.check_output("stat -c '%U %a' /etc/jupyterhub/secrets.json") == "root 600"
    assert SECRET in hub.check_output("cat /etc/jupyterhub/secrets.json")
    assert SECRET not in deployed
    assert SECRET not in hub.check_output("journalctl --no-pager -u jupyterhub.service")
