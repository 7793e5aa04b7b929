"""What the tests with a browser share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, expect
from testing import Service

Shoot = Callable[[Page, str], Path]

# JupyterLab is some 20 MB of scripts, and a VM without virtualisation hardware hands them out slowly.
LAB_MS = 240_000
PAGE_MS = 60_000
expect.set_options(timeout=PAGE_MS)
#: Options of Debian's Chromium.
CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def new_context(browser: Browser, service: Service) -> BrowserContext:
    """Open a browser window without cookies."""
    context = browser.new_context(
        base_url=service.url, ignore_https_errors=True, viewport={"width": 1280, "height": 800}
    )
    context.set_default_timeout(PAGE_MS)
    context.set_default_navigation_timeout(LAB_MS)
    return context


def log_in(page: Page, user: str, password: str) -> None:
    """Fill in and send the login form."""
    page.goto("/hub/login?next=%2Fhub%2Fhome")
    page.locator("#username_input").fill(user)
    page.locator("#password_input").fill(password)
    page.locator("#login_submit").click()
