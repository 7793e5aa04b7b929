"""The session form in a browser, and a teacher's link. Each step leaves a screenshot, to be looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from browsing import LAB_MS, Shoot, log_in, new_context
from playwright.sync_api import Browser, Page, expect
from testing import ACCOUNTS, Browserless, Service

USER = "bob"
REPOSITORY = "/srv/course.git"


@pytest.fixture
def bob(service: Service) -> Iterator[Browserless]:
    """Lend a student without a session; the browser is the test's."""
    user = Browserless(service, USER, ACCOUNTS[USER]["password"])
    user.login()
    user.stop()
    yield user
    user.stop()


@pytest.fixture
def page(browser: Browser, service: Service, bob: Browserless) -> Iterator[Page]:
    """Lend a page of his."""
    context = new_context(browser, service)
    page = context.new_page()
    log_in(page, USER, bob.password)
    expect(page.locator("#logout")).to_be_visible()
    yield page
    context.close()


def test_form_by_keyboard(page: Page, shoot: Shoot) -> None:
    page.goto("/hub/spawn")
    expect(page.locator("#choose-kind input:checked")).to_be_focused()
    # What was chosen last is remembered.
    page.check("input[name=profile][value=small]")
    page.check("input[name=kind][value=lab]")
    for key in ("ArrowRight", "Tab", "Tab"):
        page.keyboard.press(key)
    shoot(page, "sessions-01-form")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(f"/user/{USER}/tree"), timeout=LAB_MS, wait_until="commit")
    shoot(page, "sessions-02-notebook")
    page.goto("/hub/home")
    expect(page.locator(".facts")).to_contain_text("Small")
    shoot(page, "sessions-03-home")


@pytest.fixture
def repository(hub: Any) -> Iterator[str]:
    """Have a repository that git lets the student clone: his own."""
    git = "git -c user.name=t -c user.email=t@example.org"
    hub.check_output(
        f"rm -rf {REPOSITORY} /srv/course ~{USER}/course && "
        "git init --quiet --initial-branch=main /srv/course && cd /srv/course && "
        f"echo '# Course' >lesson.md && {git} add . && {git} commit --quiet -m first && "
        f"git clone --quiet --bare /srv/course {REPOSITORY} && chown -R {USER}: {REPOSITORY}"
    )
    yield f"file://{REPOSITORY}"
    hub.run(f"rm -rf {REPOSITORY} /srv/course")


def test_link_starts_the_session_and_pulls_the_repository(
    page: Page, bob: Browserless, repository: str, shoot: Shoot
) -> None:
    link = {
        "repo": repository,
        "branch": "main",
        "urlpath": "lab/tree/course/lesson.md",
        "targetPath": "course",
        "opt-kind": "lab",
        "opt-profile": "large",
    }
    page.goto(f"/hub/user-redirect/git-pull?{urlencode(link)}")
    page.wait_for_url(re.compile(f"/user/{USER}/lab/tree/course/lesson.md"), timeout=LAB_MS, wait_until="commit")
    shoot(page, "sessions-04-link")
    state = bob.state()
    assert state and state["user_options"] == {"kind": "lab", "profile": "large"}
    bob.enter()
    assert bob.api("contents/course/lesson.md").json()["content"] == "# Course\n"
