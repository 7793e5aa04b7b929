"""A display in Chromium: what its programs draw is seen, and what is typed arrives."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from jupyterhub._xsrf_utils import _needs_check_xsrf
from playwright.async_api import Browser, Page, Request
from tornado.httputil import HTTPHeaders

from jupyter_xpra.tests.chromium import chromium
from jupyter_xpra.tests.staged_server import TOKEN, Server

SCREENSHOTS = Path(__file__).parents[4] / "build" / "screenshots"
PAINTED_MS = 60_000
#: The colour of the xterm, which nothing else on the page has.
GREEN = [18, 222, 52]
XTERM = ["xterm", "-bg", "#12de34", "-fg", "black", "-geometry", "80x24+100+100"]
#: Counts pixels of the colour on the canvases of the windows.
COUNT = """([red, green, blue]) => [...document.querySelectorAll("canvas")].map((canvas) => {
    if (!canvas.width || !canvas.height) return 0;
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
    copy.drawImage(canvas, 0, 0);
    const data = copy.getImageData(0, 0, canvas.width, canvas.height).data;
    let count = 0;
    for (let i = 0; i < data.length; i += 4)
        count += data[i] === red && data[i + 1] === green && data[i + 2] === blue;
    return count;
}).reduce((a, b) => a + b, 0)"""


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as started:
        yield started


async def open_page(browser: Browser, server: Server, url: str) -> Page:
    """Log in with the token, as the link does that a server prints, and open a display."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PAINTED_MS)
    page = await context.new_page()
    await page.goto(server.url(f"api?token={TOKEN}"))
    await page.goto(server.url(url))
    return page


async def wait_painted(page: Page, least: int = 100_000) -> None:
    """Wait until the xterm's background is there."""
    async with asyncio.timeout(PAINTED_MS / 1000):
        while await page.evaluate(COUNT, GREEN) < least:
            await asyncio.sleep(0.1)


async def test_xterm_is_painted_and_typed_into(server: Server, browser: Browser) -> None:
    display = await server.create(command=XTERM)
    first = await open_page(browser, server, display["url"])
    await wait_painted(first)
    # A second browser sees it at the same time, and takes nothing away.
    second = await open_page(browser, server, display["url"])
    await wait_painted(second)
    path = f"xpra/api/displays/{display['id']}"
    before = (await server.request("GET", path))[1]
    assert before["clients"] == 2
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    target = server.directory / "typed"
    await first.mouse.click(400, 300)
    await first.keyboard.type(f"echo 12345 > {target}", delay=30)
    await first.keyboard.press("Enter")
    async with asyncio.timeout(20):
        while not target.exists() or target.read_text() != "12345\n":
            await asyncio.sleep(0.1)
    await first.screenshot(path=SCREENSHOTS / "display.png")
    after = (await server.request("GET", path))[1]
    assert after["last_activity"] > before["last_activity"]
    # A picture for the list.
    async with server.client() as client, client.get(server.url(f"{path}/thumbnail")) as answer:
        picture = await answer.read()
        assert (answer.status, answer.content_type) == (200, "image/png") and picture.startswith(b"\x89PNG")
    (SCREENSHOTS / "display-thumbnail.png").write_bytes(picture)
    # The end is told on the page.
    await server.delete(display)
    for page in (first, second):
        await page.get_by_role("status").filter(has_text="This display has ended.").wait_for()
    await first.screenshot(path=SCREENSHOTS / "display-ended.png")


async def test_hub_lets_the_page_have_its_files(server: Server, browser: Browser) -> None:
    """Behind JupyterHub a request with a cookie alone is answered or not by the mode that the browser names."""
    display = await server.create(command=XTERM)
    page = await browser.new_page()
    await page.goto(server.url(f"api?token={TOKEN}"))
    await page.context.add_cookies([{"name": "_xsrf", "value": "secret", "url": server.url("")}])
    requests: list[Request] = []
    page.on("request", lambda request: requests.append(request))
    await page.goto(server.url(display["url"]))
    await wait_painted(page)
    await server.delete(display)
    await page.get_by_role("status").filter(has_text="This display has ended.").wait_for()
    asked = set()
    for request in requests:
        # What only the client's scripts and style ask for.
        if request.url.startswith((server.url(display["url"]), server.url("xpra/client/"))):
            continue
        headers = HTTPHeaders(await request.all_headers())
        if "Sec-Fetch-Mode" not in headers:
            # Answered from the browser's cache.
            continue
        handler = SimpleNamespace(request=SimpleNamespace(method=request.method, headers=headers))
        assert not _needs_check_xsrf(handler) or headers.get("X-XSRFToken"), request.url
        asked.add(request.url.rpartition("/")[2])
    assert asked >= {"scale.js", "display.css", "display.js", "connection.js", display["id"]}
    await page.context.close()


async def test_page_connects_again(own_server: Server, browser: Browser) -> None:
    own_server.start()
    display = await own_server.create(command=XTERM)
    page = await open_page(browser, own_server, display["url"])
    await wait_painted(page)
    port = own_server.port
    own_server.kill(signal.SIGKILL)
    await page.get_by_role("status").filter(has_text="The connection is lost.").wait_for()
    await page.screenshot(path=SCREENSHOTS / "display-lost.png")
    own_server.start(port)
    await page.get_by_role("status").wait_for(state="detached")
    await wait_painted(page)
    # The display's own death, with its reason.
    os.kill(own_server.pids(display)["xpra"], signal.SIGKILL)
    await page.get_by_role("status").filter(has_text="Xpra ended unexpectedly").wait_for()


async def test_proxy_closes_what_the_browser_closes(server: Server, browser: Browser) -> None:
    display = await server.create(command=XTERM)
    page = await open_page(browser, server, display["url"])
    await wait_painted(page)
    await page.close()
    async with asyncio.timeout(20):
        while (await server.request("GET", f"xpra/api/displays/{display['id']}"))[1]["clients"]:
            await asyncio.sleep(0.1)
    await server.delete(display)
