"""What a person sees of EOS and CVMFS: a notebook of a view that is saved in EOS, and what is said of EOS away."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browsing import LAB_MS, Shoot, log_in, new_context, open_notebook, write
from playwright.sync_api import Browser, Page, expect
from testing import PEOPLE, Browserless, Service, person, wait_for

EOS = "/var/lib/campus/eos/eos/user/t/tanya"
Say = Callable[[str], str]


@pytest.fixture(scope="module")
def tanya(service: Service) -> Iterator[Browserless]:
    """Lend an account without a session; its browser is the test's."""
    user = person(service, "tanya")
    user.login()
    user.stop()
    yield user
    user.login()
    user.stop()


@pytest.fixture
def page(browser: Browser, service: Service, tanya: Browserless) -> Iterator[Page]:
    """Lend a page of tanya's."""
    context = new_context(browser, service)
    page = context.new_page()
    log_in(page, "tanya", PEOPLE["tanya"]["password"])
    expect(page.locator("#logout")).to_be_visible()
    yield page
    context.close()


def test_notebook_of_a_view_is_saved_in_eos(page: Page, tanya: Browserless, campus: Any, shoot: Shoot) -> None:
    tanya.ensure()
    notebook = open_notebook(page, tanya, "view.ipynb", "lcg-107")
    cells = notebook.locator(".jp-Cell .cm-content")
    write(cells.first, "import numpy; print(numpy.__file__)")
    cells.first.press("Shift+Enter")
    output = notebook.locator(".jp-OutputArea-output").first
    expect(output).to_contain_text("/cvmfs/sft.example.org/lcg/views/LCG_107", timeout=LAB_MS)
    page.keyboard.press("Control+s")

    def saved() -> bool:
        stored = json.loads(campus.check_output("cat %s/view.ipynb", EOS))
        return bool(stored["cells"][0]["outputs"])

    shoot(page, "30-notebook-of-a-view")
    wait_for("the notebook to be in EOS", saved)


def test_launcher_offers_the_stacks(page: Page, tanya: Browserless, shoot: Shoot) -> None:
    tanya.ensure()
    page.goto(f"{tanya.base()}lab?reset")
    for title in ("Python (LCG 107)", "Python (LCG 106)", "Bash"):
        card = page.locator(".jp-Launcher .jp-LauncherCard", has_text=title).first
        expect(card).to_be_visible(timeout=LAB_MS)
    shoot(page, "31-launcher-with-stacks")


@pytest.mark.destructive
def test_dead_eos_in_the_browser(page: Page, tanya: Browserless, campus: Any, say: Say, shoot: Shoot) -> None:
    tanya.stop()
    campus.check_output("campus-ctl stop eos")
    try:
        page.goto("/hub/spawn/tanya")
        button = page.locator("#temporary-home")
        expect(button).to_be_visible(timeout=LAB_MS)
        shoot(page, "32-eos-is-away")
        button.click()
        notice = page.locator(".Toastify__toast", has_text=say(NOTICE).partition(":")[0])
        expect(notice).to_be_visible(timeout=LAB_MS)
        shoot(page, "33-temporary-home")
        page.goto("/hub/home")
        expect(page.locator("main")).to_contain_text(say(MARK))
        shoot(page, "34-home-page-with-temporary-home")
    finally:
        campus.check_output("campus-ctl start eos")
        tanya.stop()


MARK = "This session has a temporary home on this server. Your own files will be there again in the next one."
NOTICE = "Temporary home: your own files were out of reach. What you save stays on this server, in %(home)s."
