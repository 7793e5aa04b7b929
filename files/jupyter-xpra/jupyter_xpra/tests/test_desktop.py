"""A desktop in place of a Jupyter server: who may come in, what is told to the hub, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Browser, Page

from jupyter_xpra import runtime, supervisor
from jupyter_xpra.desktop_app import DesktopApp
from jupyter_xpra.hub import missing
from jupyter_xpra.tests.chromium import chromium
from jupyter_xpra.tests.staged_desktop import Hub, Session, logged_in
from jupyter_xpra.tests.staged_server import assert_nothing_left, pids, short_directory
from jupyter_xpra.tests.test_browser import PAINTED_MS, SCREENSHOTS

#: Of what each route's pattern asks for.
SAMPLES = {
    "([0-9a-f]{8})": "0123abcd",
    "(?P<display_id>[0-9a-f]{8})": "0123abcd",
    "(?P<path>.*)": "js/Client.js",
    r"((?:[\w-]+/)*[\w-][\w.-]*)": "connection.js",
    ".*": "anything",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
#: How many colours a picture of the desktop has at least: a canvas that nothing was painted on has one.
FEWEST_COLOURS = 8
COLOURS = """() => {
    const canvas = [...document.querySelectorAll("canvas")].sort((a, b) => b.width * b.height - a.width * a.height)[0];
    if (!canvas || !canvas.width) return 0;
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
    copy.drawImage(canvas, 0, 0);
    const pixels = new Uint32Array(copy.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    return new Set(pixels).size;
}"""


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """A hub for all tests."""
    directory = short_directory()
    running = Hub(directory)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(directory)


@pytest.fixture(scope="module")
def alice(hub: Hub) -> Session:
    """A desktop that tests leave as it is."""
    return asyncio.run(hub.spawn("alice"))


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as started:
        yield started


async def open_desktop(browser: Browser, session: Session, scale: float = 1) -> Page:
    """Go to the desktop as somebody does who has not logged in yet."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, device_scale_factor=scale)
    context.set_default_timeout(PAINTED_MS)
    page = await context.new_page()
    await page.goto(session.url)
    await page.get_by_label("Username").fill(session.user)
    await page.get_by_label("Password").fill("right")
    await page.get_by_role("button", name="Sign in").click()
    return page


async def wait_painted(page: Page, least: int = FEWEST_COLOURS) -> None:
    """Wait until there is something to be seen on the desktop."""
    async with asyncio.timeout(PAINTED_MS / 1000):
        # Of the frame, where scale.js has put the page into one.
        while await page.frames[-1].evaluate(COLOURS) < least:
            await asyncio.sleep(0.1)


def xterm() -> list[str]:
    """Return a desktop with something to be seen."""
    return ["sh", "-c", "xterm -geometry 80x24+100+100 & exec openbox"]


# -- who may come in --------------------------------------------------------------------------------------------------


@pytest.fixture
def hub_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the hub gives to a server of alice's."""
    for name, value in {
        "JUPYTERHUB_API_TOKEN": "x",
        "JUPYTERHUB_API_URL": "http://127.0.0.1:9/hub/api",
        "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-alice",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:servers!server=alice/"]',
        "JUPYTERHUB_SERVICE_PREFIX": "/user/alice/",
    }.items():
        monkeypatch.setenv(name, value)
    yield
    DesktopApp.clear_instance()


def paths() -> list[str]:
    """Return a path for each route there is."""
    app = DesktopApp()
    app.initialize(["--DesktopApp.notices=jupyter_xpra.tests.staged_notices"])
    found = []
    for rule in app.web_app.wildcard_router.rules:
        path = rule.matcher.regex.pattern.removesuffix("$")  # type: ignore[attr-defined]
        for pattern, sample in SAMPLES.items():
            path = path.replace(pattern, sample)
        assert not re.search(r"[\\()*\[\]]", path), f"say in SAMPLES what stands for the pattern in {path}"
        found.append(path if path.startswith("/") else f"/user/alice/{path}")
    return found


async def refused(client: aiohttp.ClientSession, url: str, method: str, **options: Any) -> str:
    """Say what was not refused, or nothing."""
    async with client.request(method, url, allow_redirects=False, **options) as answer:
        login = answer.headers.get("Location", "").startswith("/hub/api/oauth2/authorize?")
        if answer.status == 403 or (answer.status == 302 and login and method in {"GET", "HEAD"}):
            return ""
        return f"{method} {url}: {answer.status} {await answer.text()}"


async def refused_socket(client: aiohttp.ClientSession, url: str, **options: Any) -> str:
    """Say that an upgrade to a WebSocket was not refused, or nothing."""
    try:
        async with client.ws_connect(url, protocols=["binary"], **options):
            return f"{url}: a WebSocket"
    except aiohttp.WSServerHandshakeError as error:
        return "" if error.status == 403 else f"{url}: {error.status}"


async def test_every_route_asks_who_is_there(hub_environment: None, hub: Hub, alice: Session) -> None:
    display = await alice.display()
    everything = [path.replace("0123abcd", display["id"]) for path in paths()]
    assert len(everything) > 8 and f"{alice.path}notices" in everything
    wrong = []
    async with aiohttp.ClientSession() as client:
        for path in everything:
            if path == f"{alice.path}oauth_callback":
                # The login's: it takes nothing but what the hub answered to a login that was begun here.
                async with client.get(hub.url + path, params={"code": "x", "state": "y"}) as answer:
                    assert answer.status == 403
                continue
            wrong += [await refused(client, hub.url + path, method) for method in METHODS]
            wrong.append(await refused_socket(client, hub.url + path))
    assert [line for line in wrong if line] == []


@asynccontextmanager
async def nobody(alice: Session) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody without a cookie."""
    async with aiohttp.ClientSession() as client:
        yield client


@asynccontextmanager
async def with_cookie_of_another_server(alice: Session) -> AsyncIterator[aiohttp.ClientSession]:
    """Bob, who shows the cookie of his own desktop under the name of alice's."""
    bob = await alice.hub.spawn("bob")
    async with logged_in(alice.hub, "bob") as browser:
        async with browser.get(bob.url) as answer:
            assert answer.status == 200
        cookies = {cookie.key: cookie.value for cookie in browser.cookie_jar}
    await bob.stop()
    headers = {"Cookie": f"jupyterhub-user-alice={cookies['jupyterhub-user-bob']}"}
    async with aiohttp.ClientSession(headers=headers) as client:
        yield client


@asynccontextmanager
async def another_user(alice: Session) -> AsyncIterator[aiohttp.ClientSession]:
    """Bob, whom the hub knows."""
    token = (await alice.hub.api("POST", "users/bob/tokens", {}))["token"]
    async with aiohttp.ClientSession(headers={"Authorization": f"token {token}"}) as client:
        yield client


@asynccontextmanager
async def with_expired_token(alice: Session) -> AsyncIterator[aiohttp.ClientSession]:
    """Alice, whose token was good a moment ago."""
    token = await alice.token(expires_in=6)
    async with aiohttp.ClientSession(headers={"Authorization": f"token {token}"}) as client:
        async with client.get(f"{alice.url}xpra/api/displays") as answer:
            assert answer.status == 200
        await asyncio.sleep(7)
        yield client


@asynccontextmanager
async def with_revoked_cookie(alice: Session) -> AsyncIterator[aiohttp.ClientSession]:
    """Alice's browser after her login was ended from elsewhere."""
    async with logged_in(alice.hub, "alice") as browser:
        async with browser.get(alice.url) as answer:
            assert answer.status == 200
        for token in (await alice.hub.api("GET", "users/alice/tokens"))["api_tokens"]:
            if token["kind"] == "api_token" and token["oauth_client"] != "JupyterHub":
                await alice.hub.api("DELETE", f"users/alice/tokens/{token['id']}")
        await asyncio.sleep(1.5)
        browser.headers.pop("Sec-Fetch-Mode")
        yield browser


@pytest.mark.parametrize(
    "who", [nobody, with_cookie_of_another_server, another_user, with_expired_token, with_revoked_cookie]
)
async def test_nobody_else_comes_in(alice: Session, who: Any) -> None:
    display = await alice.display()
    page = alice.hub.url + display["url"]
    async with who(alice) as client:
        for url in (alice.url, page, f"{page}js/Client.js", f"{alice.url}xpra/api/displays"):
            assert not await refused(client, url, "GET")
        assert not await refused_socket(client, page)


async def test_page_of_another_site_comes_not_in(alice: Session) -> None:
    display = await alice.display()
    page = alice.hub.url + display["url"]
    async with logged_in(alice.hub, "alice") as browser:
        async with browser.get(alice.url) as answer:
            assert answer.status == 200 and str(answer.url) == page
        async with browser.ws_connect(page, protocols=["binary"], origin=alice.hub.url) as connection:
            assert connection.protocol == "binary"
        assert not await refused_socket(browser, page, origin="https://evil.example")
        for url in (alice.url, page, f"{page}js/Client.js"):
            assert not await refused(browser, url, "GET", headers={"Origin": "https://evil.example"})
        # A form that it sends has no token of ours.
        form = {"_xsrf": "guessed"}
        assert not await refused(browser, alice.url, "POST", data=form)


def test_is_not_started_by_anything_but_the_hub() -> None:
    given = {
        "JUPYTERHUB_API_TOKEN": "x",
        "JUPYTERHUB_API_URL": "http://127.0.0.1:9/hub/api",
        "JUPYTERHUB_CLIENT_ID": "a",
        "JUPYTERHUB_SERVICE_PREFIX": "/",
    }
    assert missing(given) == ["JUPYTERHUB_OAUTH_ACCESS_SCOPES"]
    assert missing(given | {"JUPYTERHUB_OAUTH_ACCESS_SCOPES": "[]"}) == ["JUPYTERHUB_OAUTH_ACCESS_SCOPES"]
    assert missing(given | {"JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:servers"]'}) == []


# -- what it does -----------------------------------------------------------------------------------------------------


async def test_login_ends_in_a_desktop_that_is_painted(hub: Hub, browser: Browser) -> None:
    hub.configure(desktop_command=xterm())
    session = await hub.spawn("carol")
    page = await open_desktop(browser, session)
    await wait_painted(page)
    assert page.url == hub.url + (await session.display())["url"]
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / "desktop.png")
    # A link to the notebooks of an earlier session leads here too.
    await page.goto(f"{session.url}lab/tree/some.ipynb")
    await wait_painted(page)
    await page.context.close()
    await session.stop()
    hub.configure()


async def test_desktop_that_is_smaller_than_the_screen_is_painted(hub: Hub, browser: Browser) -> None:
    """On a screen with more pixels than a page counts; a desktop that dies there leads the page around it."""
    hub.configure(desktop_command=xterm())
    session = await hub.spawn("judy")
    page = await open_desktop(browser, session, scale=2)
    await wait_painted(page)
    await page.screenshot(path=SCREENSHOTS / "desktop-scaled.png")
    os.kill(pids(await session.display())["xpra"], signal.SIGKILL)
    await page.get_by_text("Xpra ended unexpectedly (signal SIGKILL).").wait_for()
    assert page.url == session.url and len(page.frames) == 1
    await page.context.close()
    await session.stop()
    hub.configure()


async def test_what_the_session_has_to_say_is_shown(hub: Hub, browser: Browser) -> None:
    hub.configure(desktop_command=xterm())
    session = await hub.spawn("ivan")
    file = hub.directory / "home-ivan" / "notices.json"
    ends = {"id": "a", "kind": "warning", "message": "Ends at {time}.", "at": "2026-11-24T12:34:00+00:00"}
    other = {"id": "b", "kind": "info", "message": "<b>Later</b>", "at": "", "label": "", "url": ""}
    file.write_text(json.dumps([{**ends, "label": "Extend it", "url": "/hub/home"}, other]))
    page = await open_desktop(browser, session)
    await page.get_by_text(re.compile(r"^Ends at \d+:34")).wait_for()
    await page.get_by_text("<b>Later</b>").wait_for()
    await wait_painted(page)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / "desktop-notices.png")
    assert await page.get_by_role("link", name="Extend it").get_attribute("href") == "/hub/home"
    await page.locator(".notice", has_text="Ends").get_by_role("button").click()
    assert await page.locator(".notice").count() == 1
    # What does not hold any more goes, and what was closed does not come back.
    file.write_text(json.dumps([ends]))
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await page.locator(".notice").wait_for(state="detached")
    await page.context.close()
    await session.stop()
    hub.configure()


async def test_answer_to_a_notice_is_activity(hub: Hub, browser: Browser) -> None:
    hub.configure(desktop_command=xterm())
    session = await hub.spawn("judy")
    file = hub.directory / "home-judy" / "notices.json"
    idle = {"id": "a", "kind": "warning", "message": "Nobody.", "at": "", "label": "I am still here", "post": True}
    file.write_text(json.dumps([idle | {"url": f"{session.path}notices/nothing"}]))
    page = await open_desktop(browser, session)
    await wait_painted(page)
    button = page.get_by_role("button", name="I am still here")
    async with page.expect_response("**/notices/nothing"):
        await button.click()
    # What did not arrive can be said again.
    await page.wait_for_timeout(1_000)
    assert await button.is_enabled()
    file.write_text(json.dumps([idle | {"url": f"{session.path}notices/answer"}]))
    await page.reload()
    await button.wait_for()
    await page.screenshot(path=SCREENSHOTS / "desktop-idle.png")
    file.write_text("[]")
    async with page.expect_request("**/notices/answer") as caught:
        await button.click()
    await button.wait_for(state="detached")
    # The click was activity anyway. The answer is by itself.
    await page.wait_for_timeout(3_000)
    before = (await session.model())["last_activity"]
    request = await caught.value
    token = request.headers["x-xsrftoken"]
    answer = await page.request.post(request.url, headers={"X-XSRFToken": token, "Origin": hub.url})
    assert answer.status == 204
    async with asyncio.timeout(20):
        while (await session.model())["last_activity"] == before:
            await asyncio.sleep(0.2)
    await page.context.close()
    await session.stop()
    hub.configure()


async def test_page_says_why_it_died_and_starts_it_again(hub: Hub, browser: Browser) -> None:
    hub.configure(desktop_command=xterm())
    session = await hub.spawn("dave")
    page = await open_desktop(browser, session)
    await wait_painted(page)
    display = await session.display()
    os.kill(pids(display)["xpra"], signal.SIGKILL)
    await page.get_by_text("Xpra ended unexpectedly (signal SIGKILL).").wait_for()
    assert page.url == session.url
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / "desktop-ended.png")
    await page.get_by_role("button", name="Start it again").click()
    await page.wait_for_url(re.compile(r"/xpra/[0-9a-f]{8}/$"))
    await wait_painted(page)
    assert (await session.display())["id"] != display["id"]
    await page.context.close()
    await session.stop()
    hub.configure()


async def test_page_says_why_it_does_not_start(hub: Hub, browser: Browser) -> None:
    hub.configure(desktop_command=["sh", "-c", "echo the bus is missing >&2; exit 3"])
    session = await hub.spawn("erin")
    page = await open_desktop(browser, session)
    await page.get_by_text("sh ended with an error (exit code 3).").wait_for()
    assert "the bus is missing" in await page.inner_text("pre")
    await page.screenshot(path=SCREENSHOTS / "desktop-not-started.png")
    await page.get_by_role("button", name="Start it again").click()
    await page.get_by_text("sh ended with an error (exit code 3).").wait_for()
    await page.context.close()
    await session.stop()
    hub.configure()


async def test_page_of_a_session_that_was_stopped_leads_to_the_hub(hub: Hub, browser: Browser) -> None:
    hub.configure(desktop_command=xterm())
    session = await hub.spawn("heidi")
    page = await open_desktop(browser, session)
    await wait_painted(page)
    await session.stop()
    await page.get_by_text("Your server is not running.").wait_for()
    await page.context.close()
    hub.configure()


@pytest.mark.parametrize("name", ["", "second"])
async def test_only_what_the_user_does_is_activity(hub: Hub, browser: Browser, name: str) -> None:
    hub.configure(desktop_command=xterm())
    session = await hub.spawn("frank", name)
    page = await open_desktop(browser, session)
    await wait_painted(page)

    async def last_activity() -> datetime:
        return datetime.fromisoformat((await session.model())["last_activity"])

    before = await last_activity()
    # The xterm paints and the tab is open.
    await asyncio.sleep(3)
    assert await last_activity() == before
    await page.mouse.click(400, 300)
    async with asyncio.timeout(20):
        while await last_activity() == before:
            await asyncio.sleep(0.2)
    await page.context.close()
    await session.stop()
    hub.configure()


@pytest.mark.parametrize("to_all", [False, True])
async def test_programs_have_time_and_nothing_is_left(hub: Hub, to_all: bool) -> None:
    """Also where all get SIGTERM at once, as systemd does it."""
    saved, ready = hub.directory / "saved", hub.directory / "ready"
    saved.unlink(missing_ok=True)
    ready.unlink(missing_ok=True)
    # Needs the X server while it saves.
    save = f"sleep 3; xdpyinfo | grep dimensions > {saved}; exit"
    program = f'trap "{save}" TERM; touch {ready}; while :; do sleep 0.1; done'
    hub.configure(desktop_command=["sh", "-c", f"sh -c '{program}' & exec openbox"])
    session = await hub.spawn("grace")
    display = await session.display()
    async with asyncio.timeout(30):
        while not ready.exists():
            await asyncio.sleep(0.05)
    number = json.loads((session.displays_directory / display["id"] / "display.json").read_text())["number"]
    for pid in [await session.pid(), *(runtime.marked(display["id"]) if to_all else [])]:
        supervisor.kill(pid, signal.SIGTERM)
    await assert_nothing_left(session, display, number, 20)
    assert "dimensions" in saved.read_text()
    async with asyncio.timeout(60):
        while not (await session.model())["stopped"]:
            await asyncio.sleep(0.5)
    assert not (session.directory / "server.sock").exists()
    hub.configure()
