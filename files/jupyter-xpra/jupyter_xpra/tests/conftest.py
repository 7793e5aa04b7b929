"""Jupyter servers, and a browser, for the tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from jupyter_xpra.tests.staged_server import Server, short_directory


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Debian's Chromium."""
    with sync_playwright() as playwright:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=sandbox)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One server for tests that leave it as it was."""
    directory = short_directory()
    running = Server(directory, base_url="/user/alice/", max_displays=20)
    running.start()
    yield running
    running.stop()
    shutil.rmtree(directory)


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that is not started yet, for one test."""
    directory = short_directory()
    one = Server(directory)
    yield one
    one.stop()
    shutil.rmtree(directory)
