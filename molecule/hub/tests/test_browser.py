"""What a person sees and does in a browser. Each step leaves a screenshot in build/screenshots, to be looked at."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from browsing import LAB_MS, Shoot, faultless_page, log_in, logged_in, open_notebook, write
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from testing import ACCOUNTS, Browserless, Service

Say = Callable[[str], str]

USER = "tanya"


@pytest.fixture(scope="module")
def tanya(service: Service) -> Iterator[Browserless]:
    """Lend an account without sessions; its browser is the test's."""
    user = Browserless(service, USER, ACCOUNTS[USER]["password"])
    user.login()
    user.stop()
    user.forget("second")
    yield user
    user.login()
    user.stop()
    user.forget("second")


@pytest.fixture(scope="module")
def desk(browser: Browser, service: Service, tanya: Browserless) -> Iterator[BrowserContext]:
    """Log tanya in."""
    with logged_in(browser, service, USER, tanya.password) as context:
        yield context


@pytest.fixture
def page(desk: BrowserContext) -> Iterator[Page]:
    """Lend a page of tanya's; an error in a script of ours fails the test."""
    with faultless_page(desk) as page:
        yield page


def logo_is_drawn(logo: Locator) -> bool:
    """Tell whether the picture has been loaded, and not only asked for."""
    expect(logo).to_be_visible()
    return bool(logo.evaluate("image => image.complete && image.naturalWidth > 0"))


# -- before the login -----------------------------------------------------------------------------------------------


def test_login_page_carries_the_sites_name_and_logo(stranger: Page, service: Service, shoot: Shoot) -> None:
    stranger.goto("/")
    expect(stranger.locator("#login_submit")).to_be_visible()
    shoot(stranger, "01-login")
    heading = stranger.locator("#login-main h1").inner_text()
    assert heading and heading in stranger.title()
    assert logo_is_drawn(stranger.locator("#login-main img"))
    # The page must not believe that the connection is insecure.
    expect(stranger.locator("#insecure-login-warning")).to_be_hidden()


def test_wrong_password_is_said_and_the_user_name_kept(stranger: Page, say: Say, shoot: Shoot) -> None:
    log_in(stranger, USER, "not-her-password")
    expect(stranger.locator("#login-error")).to_have_text(say("The user name or the password is wrong."))
    shoot(stranger, "02-wrong-password")
    expect(stranger.locator("#username_input")).to_have_value(USER)
    expect(stranger.locator("#password_input")).to_be_focused()


# -- a day of a user's ----------------------------------------------------------------------------------------------


def test_home_offers_a_start(page: Page, say: Say, shoot: Shoot) -> None:
    page.goto("/hub/home")
    expect(page.locator("#start")).to_have_text(say("Start my session"))
    expect(page.locator("#stop")).to_have_count(0)
    shoot(page, "03-home")
    assert logo_is_drawn(page.locator("#jupyterhub-logo img"))


def test_start_shows_what_happens_and_opens_lab(page: Page, shoot: Shoot) -> None:
    page.goto("/hub/home")
    page.locator("#start").click()
    message = page.locator("#progress-message")
    expect(message).not_to_be_empty()
    shoot(page, "04-starting")
    page.wait_for_url(re.compile(f"/user/{USER}/lab"), timeout=LAB_MS, wait_until="commit")
    # Not the launcher: JupyterLab opens again what was open, and all sessions of a user share that memory.
    expect(page.locator(".jp-DirListing").first).to_be_visible(timeout=LAB_MS)
    shoot(page, "05-lab")


def test_notebook_prints_and_plots(page: Page, tanya: Browserless, shoot: Shoot) -> None:
    tanya.ensure()
    notebook = open_notebook(page, tanya, "plot.ipynb")
    outputs = notebook.locator(".jp-OutputArea-output")

    cells = notebook.locator(".jp-Cell .cm-content")
    write(cells.first, "print(6 * 7)")
    cells.first.press("Shift+Enter")
    expect(outputs.first).to_have_text("42", timeout=LAB_MS)

    write(cells.nth(1), "import matplotlib.pyplot as plt\nplt.plot([1, 4, 2, 8]);")
    cells.nth(1).press("Shift+Enter")
    plot = outputs.locator("img")
    expect(plot).to_be_visible(timeout=LAB_MS)
    assert plot.evaluate("image => image.naturalWidth") > 100
    shoot(page, "06-notebook")


def test_home_shows_the_running_session(page: Page, tanya: Browserless, say: Say, shoot: Shoot) -> None:
    tanya.ensure()
    page.goto("/hub/home")
    expect(page.locator("#default-state")).to_have_text(say("Running"))
    expect(page.locator("#start")).to_have_text(say("Open my session"))
    shoot(page, "07-home-running")


def test_second_session_from_the_home_page(page: Page, tanya: Browserless, say: Say, shoot: Shoot) -> None:
    tanya.ensure()
    page.goto("/hub/home")
    create = page.locator(".new-server-btn")
    # A session without a name cannot be asked for.
    expect(create).to_be_disabled()
    page.locator(".new-server-name").fill("second")
    create.click()
    page.locator("#start-second").click()
    page.wait_for_url(re.compile(f"/user/{USER}/second/lab"), timeout=LAB_MS, wait_until="commit")
    # Not the launcher: JupyterLab opens again what was open, and all sessions of a user share that memory.
    expect(page.locator(".jp-DirListing").first).to_be_visible(timeout=LAB_MS)
    page.goto("/hub/home")
    expect(page.locator("#default-state")).to_have_text(say("Running"))
    expect(page.locator("#stop-second")).to_be_visible()
    shoot(page, "08-second-session")

    page.locator("#stop-second").click()
    expect(page.locator("#start-second")).to_be_visible(timeout=LAB_MS)
    shoot(page, "09-second-stopped")
    expect(page.locator("#stop-second")).to_be_hidden()
    assert tanya.running()


def test_stop_from_the_home_page(page: Page, tanya: Browserless, say: Say, shoot: Shoot) -> None:
    tanya.ensure()
    page.goto("/hub/home")
    page.locator("#stop").click()
    expect(page.locator("#start")).to_have_text(say("Start my session"), timeout=LAB_MS)
    expect(page.locator("#default-state")).to_have_text(say("Not running"), timeout=LAB_MS)
    shoot(page, "10-stopped")
    assert not tanya.running()


def test_address_of_a_stopped_session_offers_a_start(page: Page, tanya: Browserless, say: Say, shoot: Shoot) -> None:
    tanya.login()
    tanya.stop()
    page.goto(f"/user/{USER}/lab")
    expect(page.locator("#start")).to_have_text(say("Start the session"))
    shoot(page, "11-not-running")


def test_page_of_another_user_is_refused(page: Page, say: Say, shoot: Shoot) -> None:
    answer = page.goto("/user/alice/lab")
    assert answer is not None
    assert answer.status in {403, 404}
    shoot(page, "12-refused")


# Last: it ends the login of all tests here.
def test_log_out(page: Page, shoot: Shoot) -> None:
    page.goto("/hub/home")
    page.locator("#logout").click()
    expect(page.locator("#login_submit")).to_be_visible()
    shoot(page, "13-logged-out")
    page.goto("/hub/home")
    expect(page.locator("#login_submit")).to_be_visible()
    expect(page.locator("#logout")).to_have_count(0)
