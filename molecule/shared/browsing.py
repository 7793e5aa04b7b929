"""What the tests with a browser share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from testing import Browserless, Service, wait_for

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


@contextmanager
def logged_in(browser: Browser, service: Service, user: str, password: str) -> Iterator[BrowserContext]:
    """Yield a browser window in which somebody has logged in."""
    with new_context(browser, service) as context:
        page = context.new_page()
        log_in(page, user, password)
        expect(page.locator("#logout")).to_be_visible()
        page.close()
        yield context


@contextmanager
def faultless_page(context: BrowserContext) -> Iterator[Page]:
    """Yield a page, in which an error in a script of ours fails the test."""
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert errors == []


def open_notebook(page: Page, user: Browserless, path: str, kernel: str = "python3") -> Locator:
    """Open a new notebook whose kernel runs already; return its panel.

    Not by the launcher: on a slow machine JupyterLab can take a kernel that it has just asked for as gone again, as an
    older answer of the server does not list it yet.
    """
    cell = {"cell_type": "code", "source": "", "metadata": {}, "outputs": [], "execution_count": None}
    # Without its name the page could ask which kernel to take.
    metadata = {"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}}
    content = {"cells": [cell], "metadata": metadata, "nbformat": 4, "nbformat_minor": 4}
    user.api(f"contents/{path}", "PUT", json={"type": "notebook", "content": content}).raise_for_status()
    session = {"path": path, "name": path, "type": "notebook", "kernel": {"name": kernel}}
    user.api("sessions", "POST", json=session).raise_for_status()
    # What earlier visits left open would be opened again.
    page.goto(f"{user.base()}lab/tree/{path}?reset")
    notebook = page.locator(".jp-NotebookPanel")
    expect(notebook.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]')).to_be_visible(timeout=LAB_MS)
    return notebook


def write(cell: Locator, code: str) -> None:
    """Write into a cell of a notebook, again while the page, still loading the notebook, takes it back."""

    def stays() -> bool:
        cell.fill(code)
        cell.page.wait_for_timeout(1000)
        return cell.inner_text().strip() == code

    wait_for("the cell to hold its code", stays)
