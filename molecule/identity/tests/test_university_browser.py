"""What the people of the university see in a browser; screenshots of it are in build/screenshots, to be looked at."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browsing import LAB_MS, Shoot, log_in, new_context
from playwright.sync_api import Browser, Page, expect
from testing import PEOPLE, Browserless, Service, new_kernel, notices, ticket_of, wait_for

Say = Callable[[str], str]


def test_a_name_with_a_dot_logs_in(stranger: Page, shoot: Shoot) -> None:
    log_in(stranger, "Ivan.Petrov", PEOPLE["ivan.petrov"]["password"])
    expect(stranger.locator("#logout")).to_be_visible()
    expect(stranger.locator("body")).to_contain_text("ivan.petrov")
    shoot(stranger, "21-university-home")


def test_an_expired_account_is_told_so(stranger: Page, say: Say, shoot: Shoot) -> None:
    log_in(stranger, "olga", PEOPLE["olga"]["password"])
    sentence = say("The account %(user)s has expired. Please tell the support.")
    expect(stranger.locator("#login-error")).to_have_text(sentence % {"user": "olga"})
    shoot(stranger, "22-expired-account")


@pytest.fixture
def expiring(
    browser: Browser, service: Service, short_ticket: Callable[[str, str], Browserless]
) -> Iterator[tuple[Page, Browserless]]:
    """Lend a page of alice's, logged in, whose ticket lives for a minute."""
    context = new_context(browser, service)
    page = context.new_page()
    log_in(page, "alice", PEOPLE["alice"]["password"])
    expect(page.locator("#logout")).to_be_visible()
    user = short_ticket("1m", "1m")
    user.ensure()
    yield page, user
    context.close()


def renew(ticket: Page) -> None:
    """Get a new ticket; as the page asks, once more when SSSD on a busy machine has given the KDC up for a minute."""
    for _attempt in range(4):
        ticket.locator("#password_input").fill(PEOPLE["alice"]["password"])
        with ticket.expect_navigation():
            ticket.locator("#renew").click()
        if ticket.locator("#ticket-renewed").is_visible():
            break
        expect(ticket.locator("#ticket-error")).to_be_visible()
        time.sleep(40)
    expect(ticket.locator("#ticket-renewed")).to_be_visible()


@pytest.mark.destructive
def test_jupyterlab_says_that_the_ticket_ended_and_leads_to_a_new_one(
    expiring: tuple[Page, Browserless], campus: Any, say: Say, shoot: Shoot
) -> None:
    page, user = expiring
    with new_kernel(user) as kernel:
        kernel.run("kept = 'as it was'")
        wait_for("the end of the ticket", lambda: ticket_of(user)[0] == "expired", 120, 2)
        assert kernel.shell("klist -s")[0] != 0
        # It says that the ticket has ended, no more that it is about to.
        wait_for("the notice in JupyterLab", lambda: notices(user) == {"ticket-expired"}, 120, 5)
        page.goto("/user/alice/lab?reset")
        notice = page.locator(".Toastify__toast")
        expect(notice).to_be_visible(timeout=LAB_MS)
        shoot(page, "23-ticket-notice")
        campus.check_output("campus-ctl ticket-life alice 10h 7d")
        with page.context.expect_page() as opened:
            notice.get_by_role("button").filter(has_text=say("Get a new ticket")).click()
        ticket = opened.value
        expect(ticket.locator("#password_input")).to_be_visible()
        shoot(ticket, "24-ticket")
        renew(ticket)
        expect(ticket.locator("#ticket-state")).to_have_attribute("data-state", "valid")
        shoot(ticket, "25-ticket-renewed")
        # The programs that run have the new one, and nothing of theirs is lost.
        assert kernel.shell("klist -s")[0] == 0
        assert kernel.output("print(kept)") == "as it was"
        ticket.close()
        page.bring_to_front()
        expect(notice).to_be_hidden(timeout=LAB_MS)
