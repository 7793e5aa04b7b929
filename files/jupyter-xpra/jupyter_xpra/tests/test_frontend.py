"""Displays in the real JupyterLab and Notebook, as a student sees them in Chromium; from the wheel, as on a server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from jupyter_xpra import runtime
from jupyter_xpra.tests.chromium import chromium
from jupyter_xpra.tests.staged_server import TOKEN, Server, short_directory
from jupyter_xpra.tests.test_browser import COUNT, GREEN, PAINTED_MS, SCREENSHOTS, XTERM

PROJECT = Path(__file__).parents[2]
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><rect width="9" height="9" rx="2" fill="#12a034"/></svg>'
)
PROGRAMS: list[dict[str, Any]] = [
    {"name": "green", "title": "Green terminal", "command": XTERM, "icon": ICON},
    {"name": "absent", "title": "Absent program", "command": ["no-such-program"]},
]
#: What the server tells the other browsers, they show within this time: JupyterLab asks by itself every ten seconds.
PUSHED_MS = 3000


@pytest.fixture(scope="module")
def lab() -> Iterator[Server]:
    """A server with JupyterLab, Notebook and what is in the wheel."""
    directory = short_directory()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)], cwd=PROJECT, check=True
    )
    (wheel,) = directory.glob("*.whl")
    installed = directory / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    (data,) = installed.glob("*.data/data")
    running = Server(directory, base_url="/user/alice/", max_displays=4, programs=PROGRAMS)
    running.environment |= {
        "PYTHONPATH": str(installed),
        "JUPYTER_PATH": str(data / "share/jupyter"),
        "JUPYTER_CONFIG_PATH": str(data / "etc/jupyter"),
        "JUPYTERLAB_SETTINGS_DIR": str(directory / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(directory / "workspaces"),
    }
    running.settings["ServerApp"]["jpserver_extensions"] = {"jupyterlab": True, "notebook": True}
    # It asks whether it may look for news in the internet.
    page_config = directory / "config/labconfig/page_config.json"
    page_config.parent.mkdir(parents=True)
    page_config.write_text('{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}')
    running.start()
    yield running
    running.stop()
    shutil.rmtree(directory)


@pytest.fixture
async def browser(lab: Server) -> AsyncIterator[Browser]:
    async with chromium() as started:
        yield started
    for display in await lab.displays():
        await lab.delete(display)
    shutil.rmtree(lab.directory / "settings", ignore_errors=True)


async def log_in(browser: Browser, server: Server) -> BrowserContext:
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(15_000)
    page = await context.new_page()
    await page.goto(server.url(f"api?token={TOKEN}"))
    await page.close()
    return context


async def open_lab(browser: Browser, server: Server, path: str = "lab?reset") -> Page:
    page = await (await log_in(browser, server)).new_page()
    await page.goto(server.url(path))
    await page.locator(".jp-LauncherCard", has_text="Green terminal").wait_for()
    return page


async def wait_painted(page: Page) -> None:
    """Wait until the terminal's background is in the frame of the current tab."""
    frame = page.locator(".jp-Display:not(.lm-mod-hidden) iframe").content_frame.locator("html")
    async with asyncio.timeout(PAINTED_MS / 1000):
        await frame.locator("canvas").first.wait_for()
        while await frame.evaluate(f"(_html, colour) => ({COUNT})(colour)", GREEN) < 100_000:
            await asyncio.sleep(0.1)


async def screenshot(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png")


async def show_running(page: Page) -> Any:
    """Show the panel of what runs, and return its items of displays."""
    await page.locator('.lm-TabBar-tab[data-id="jp-running-sessions"]').click()
    return page.locator(".jp-Displays-item")


async def choose(page: Page, *labels: str, picture: str = "") -> None:
    """Click through the menus."""
    await page.locator(".lm-MenuBar-item", has_text=labels[0]).click()
    for label in labels[1:]:
        item = page.locator(".lm-Menu-item", has=page.get_by_text(label, exact=True)).last
        await item.hover()
    if picture:
        await screenshot(page, picture)
    await item.click()


async def wait_page_painted(opening: Any) -> None:
    """Wait until the terminal's background is in a tab of the browser that opens."""
    page = await opening.value
    await page.wait_for_url("**/xpra/*/?lang=en")
    async with asyncio.timeout(PAINTED_MS / 1000):
        while await page.evaluate(COUNT, GREEN) < 100_000:
            await asyncio.sleep(0.1)


def kill_xpra(display: dict[str, Any]) -> None:
    """Kill the display's server, not what takes its picture, which has the same name."""
    for pid in runtime.marked(display["id"]):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"start" in command and any(word.endswith(b"/xpra") for word in command):
            os.kill(pid, signal.SIGKILL)
            return
    raise AssertionError("There is no Xpra.")


async def test_from_the_launcher_to_the_end(lab: Server, browser: Browser) -> None:
    first, second = [await open_lab(browser, lab) for _ in range(2)]
    seen = await show_running(second)
    await expect(seen).to_have_count(0)
    launcher = first.locator(".jp-Launcher")
    await expect(launcher.get_by_text("Green terminal")).to_be_visible()
    await expect(launcher.get_by_text("Absent program")).to_have_count(0)
    await screenshot(first, "lab-launcher")
    await launcher.locator(".jp-LauncherCard", has_text="Green terminal").click()
    tab = first.locator(".lm-TabBar-tab", has_text="Green terminal")
    await expect(tab).to_be_visible()
    await wait_painted(first)
    await expect(seen).to_have_count(1)
    # What is typed goes there, without a click.
    typed = lab.directory / "typed"
    await first.keyboard.type(f"echo here > {typed}", delay=30)
    await first.keyboard.press("Enter")
    async with asyncio.timeout(20):
        while not typed.exists() or typed.read_text() != "here\n":
            await asyncio.sleep(0.1)
    shown = await show_running(first)
    item = shown.first
    await expect(item).to_contain_text(re.compile(r"xterm.* · \d+ MB"))
    await expect(item.locator("img")).to_be_visible()
    await screenshot(first, "lab-running")
    # Its name, in both browsers.
    await item.click(button="right")
    await first.get_by_text("Rename Display…").click()
    await first.get_by_label("Name", exact=True).fill("My model")
    await first.keyboard.press("Enter")
    await expect(first.locator(".lm-TabBar-tab", has_text="My model")).to_be_visible()
    await expect(seen.get_by_text("My model")).to_be_visible(timeout=PUSHED_MS)
    # A new one, and its end.
    another = await lab.create(name="Another")
    await expect(seen.get_by_text("Another")).to_be_visible(timeout=PUSHED_MS)
    await lab.delete(another)
    await expect(seen.get_by_text("Another")).to_have_count(0, timeout=PUSHED_MS)
    # Stopped by the panel.
    await item.hover()
    await item.get_by_title("Stop", exact=True).click()
    await screenshot(first, "lab-stop")
    await first.get_by_role("dialog").get_by_role("button", name="Stop").click()
    await expect(first.locator(".lm-TabBar-tab", has_text="model")).to_have_count(0)
    assert await lab.displays() == []
    await expect(seen).to_have_count(0, timeout=PUSHED_MS)
    await expect(first.locator(".jp-NotificationsList, .Toastify__toast")).to_have_count(0)


async def test_death_is_told_with_its_log(lab: Server, browser: Browser) -> None:
    display = await lab.create(program="green")
    page = await open_lab(browser, lab)
    items = await show_running(page)
    await expect(items).to_have_count(1)
    kill_xpra(display)
    notice = page.locator(".Toastify__toast", has_text="Green terminal: Xpra ended unexpectedly")
    await expect(notice).to_be_visible(timeout=2 * PUSHED_MS)
    await expect(items).to_contain_text("Xpra ended unexpectedly")
    await screenshot(page, "lab-died")
    await notice.get_by_role("button", name="Show Log").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog.locator("pre")).to_contain_text("xpra")
    await screenshot(page, "lab-log")
    await page.keyboard.press("Escape")
    # Clicked in the list, where it stays with its reason, until it is taken from it.
    await items.first.hover()
    await items.first.get_by_title("Remove from the List").click()
    await expect(items).to_have_count(0)
    assert await lab.displays() == []


async def test_reload_restores_the_tab(lab: Server, browser: Browser) -> None:
    page = await open_lab(browser, lab)
    # The layout is saved some time after it has changed.
    async with page.expect_request(
        lambda request: "/api/workspaces/" in request.url and "jupyter-xpra:" in (request.post_data or "")
    ):
        await page.locator(".jp-LauncherCard", has_text="Green terminal").click()
    await wait_painted(page)
    await page.goto(lab.url("lab"))
    await expect(page.locator(".lm-TabBar-tab", has_text="Green terminal")).to_be_visible()
    await wait_painted(page)
    assert len(await lab.displays()) == 1


async def test_keys_alone(lab: Server, browser: Browser) -> None:
    page = await open_lab(browser, lab)
    await page.keyboard.press("Control+Shift+C")
    await page.locator(".lm-CommandPalette-input").wait_for()
    await page.keyboard.type("Start “Green")
    await screenshot(page, "lab-palette")
    await page.keyboard.press("Enter")
    await wait_painted(page)
    # All of them are stopped by the same way, out of the display by the one chord that it leaves.
    await lab.create(name="Another")
    await page.keyboard.press("Control+Alt+Shift+J")
    await page.keyboard.press("Control+Shift+C")
    await page.keyboard.type("Stop All Displays")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.keyboard.press("Enter")
    async with asyncio.timeout(20):
        while await lab.displays():
            await asyncio.sleep(0.1)
    await expect(page.locator(".jp-Display")).to_have_count(0)


async def test_command_that_does_not_exist(lab: Server, browser: Browser) -> None:
    page = await open_lab(browser, lab)
    await choose(page, "File", "New", "Display", "Run a Command in a Display…", picture="lab-menu")
    await page.get_by_label("Command", exact=True).fill("no-such-program --at-all")
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("no-such-program")
    await screenshot(page, "lab-refused")
    await page.keyboard.press("Escape")
    await expect(page.locator(".lm-TabBar-tab", has_text="no-such-program")).to_have_count(0)


async def test_empty_displays_have_names_of_their_own(lab: Server, browser: Browser) -> None:
    page = await open_lab(browser, lab)
    card = page.locator(".jp-LauncherCard", has_text=re.compile("^Display$"))
    await card.click()
    # The display takes its place.
    await expect(page.locator(".jp-Launcher")).to_have_count(0)
    await page.get_by_title("New Launcher").first.click()
    await card.click()
    await expect(page.locator(".jp-Display")).to_have_count(2)
    await expect(page.locator(".lm-TabBar-tab", has_text="Display 2")).to_be_visible()
    assert [(shown["name"], shown["kind"]) for shown in await lab.displays()] == [
        ("Display", "desktop"),
        ("Display 2", "desktop"),
    ]


async def test_settings(lab: Server, browser: Browser) -> None:
    page = await open_lab(browser, lab)
    await page.keyboard.press("Control+,")
    await page.locator(".jp-PluginList-entry", has_text="Displays").click()
    async with page.expect_response(lambda response: "settings/jupyter-xpra" in response.url and response.ok):
        await page.locator('select[id$="jupyter-xpra:plugin_openIn"]').select_option(label="A tab of the browser")
    await screenshot(page, "lab-settings")
    await page.goto(lab.url("lab?reset"))
    async with page.context.expect_page() as opening:
        await page.locator(".jp-LauncherCard", has_text="Green terminal").click()
    await wait_page_painted(opening)
    await expect(page.locator(".jp-Display")).to_have_count(0)


async def test_russian(lab: Server, browser: Browser) -> None:
    settings = lab.directory / "settings/@jupyterlab/translation-extension/plugin.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"locale": "ru_RU"}')
    display = await lab.create(program="green")
    page = await open_lab(browser, lab)
    await expect(page.locator(".jp-Launcher").get_by_text("Дисплеи")).to_be_visible()
    items = await show_running(page)
    await expect(items).to_contain_text(re.compile(r"xterm.* · \d+ МБ"))
    kill_xpra(display)
    await expect(page.locator(".Toastify__toast", has_text="Xpra неожиданно завершился.")).to_be_visible()
    await screenshot(page, "lab-russian")
    await page.keyboard.press("Control+,")
    await page.locator(".jp-PluginList-entry", has_text="Дисплеи").click()
    await expect(page.get_by_text("Где открывать дисплей", exact=True)).to_be_visible()
    await screenshot(page, "lab-settings-russian")


async def test_notebook_opens_a_tab_of_the_browser(lab: Server, browser: Browser) -> None:
    page = await (await log_in(browser, lab)).new_page()
    await page.goto(lab.url("tree"))
    async with page.context.expect_page() as opening:
        await choose(page, "File", "New", "Display", "Green terminal", picture="notebook-menu")
    await wait_page_painted(opening)
    await page.bring_to_front()
    await page.get_by_role("tab", name="Running").click()
    await expect(page.locator(".jp-Displays-item")).to_contain_text("Green terminal")
    await expect(page.locator(".jp-Displays-item")).to_contain_text(" MB")
    await screenshot(page, "notebook-running")


def test_every_text_is_translated() -> None:
    found = set()
    for source in (PROJECT / "frontend").glob("*.ts"):
        found |= set(re.findall(r'trans\.__\(\s*"([^"]*)"', source.read_text()))
        assert not re.search(r"trans\.__\(\s*['`]", source.read_text())
    schema = (PROJECT / "labextension/schemas/jupyter-xpra/plugin.json").read_text()
    found |= set(re.findall(r'"(?:title|description|jupyter.lab.setting-icon-label)": "([^"]*)"', schema))
    russian = json.loads((PROJECT / "jupyter_xpra/locale/ru_RU/LC_MESSAGES/jupyter_xpra.json").read_text())
    assert found == {text for text in russian if text}
