"""What keeps a session: work and its user's word, and no page that is merely open."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from jupyterhub_sessions import activity, notices
from jupyterhub_sessions.tests.hubs import PACKAGE, chromium_page, free_port

SCREENSHOTS = PACKAGE.parents[2] / "build" / "screenshots" / "form"
TOKEN = "a-token-of-the-tests"
IDLE_S = 10
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


# -- the rules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("idle_min", "limit_min", "said"),
    [(49, 60, False), (51, 60, True), (61, 60, True), (1, 4, False), (3, 4, True)],
)
def test_it_is_said_ten_minutes_before(idle_min: int, limit_min: int, said: bool) -> None:
    last = NOW - timedelta(minutes=idle_min)
    found = notices.about_idleness(last, limit_min * 60, NOW, "/stay")
    assert [(one.id, one.url, one.post, one.at) for one in found] == [
        ("session-idle", "/stay", True, (last + timedelta(minutes=limit_min)).isoformat())
    ] * said


def process(proc: Path, number: int, name: str, state: str, session: int) -> None:
    """Make a process as proc(5) has it."""
    (proc / str(number)).mkdir()
    (proc / str(number) / "stat").write_text(f"{number} ({name}) {state} 1 {number} {session} 34816 0\n")


@pytest.mark.parametrize(
    ("name", "state", "session", "work"),
    [
        ("sleep", "S", 100, True),
        ("a b) (c", "S", 100, True),
        # Of no terminal here.
        ("sleep", "S", 300, False),
        # Stopped, or over.
        ("vim", "T", 100, False),
        ("make", "Z", 100, False),
        # A shell in a shell waits, unless it computes.
        ("bash", "S", 100, False),
        ("bash", "R", 100, True),
    ],
)
def test_jobs_of_terminals(tmp_path: Path, name: str, state: str, session: int, work: bool) -> None:
    process(tmp_path, 100, "bash", "R", 100)
    process(tmp_path, 200, name, state, session)
    assert activity.works({100}, tmp_path) is work
    assert not activity.works(set(), tmp_path)


# -- a real server ----------------------------------------------------------------------------------------------------


class Server:
    """A Jupyter server with the extension, as a session has it, and a hub that notes what is reported to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.reports: list[dict[str, Any]] = []
        self.hub_status = 200

    def start(self, hub_port: int) -> None:
        left_out = ("JUPYTER", "XDG")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        environment |= {
            "HOME": str(self.directory),
            "JUPYTER_CONFIG_DIR": str(self.directory / "config"),
            "JUPYTER_DATA_DIR": str(self.directory / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.directory / "run"),
            "IPYTHONDIR": str(self.directory / "ipython"),
            "PYTHONPATH": str(PACKAGE.parent),
            "SHELL": "/bin/bash",
            "JUPYTERHUB_SESSIONS_IDLE_S": str(IDLE_S),
            "JUPYTERHUB_ACTIVITY_URL": f"http://127.0.0.1:{hub_port}/hub/api/users/alice/activity",
            "JUPYTERHUB_API_TOKEN": "of-the-server",
        }
        settings = {
            "ServerApp": {
                "allow_root": True, "ip": "127.0.0.1", "port": self.port, "base_url": "/user/alice/",
                "open_browser": False, "root_dir": str(self.directory),
                "jpserver_extensions": {"jupyterhub_sessions.extension": True, "jupyterlab": True},
            },
            "IdentityProvider": {"token": TOKEN},
            "LabApp": {"extra_labextensions_path": [str(self.directory / "labextensions")]},
        }  # fmt: skip
        (self.directory / "config.json").write_text(json.dumps(settings))
        extensions = self.directory / "labextensions"
        extensions.mkdir()
        (extensions / "jupyterhub-sessions").symlink_to(PACKAGE.parent / "labextension")
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyter_server", f"--config={self.directory}/config.json"],
                cwd=self.directory, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def log(self) -> str:
        return (self.directory / "log").read_text()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/user/alice/"

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"token {TOKEN}"}
        async with (
            aiohttp.ClientSession(headers=headers) as client,
            client.request(method, self.url + path, json=body) as answer,
        ):
            text = await answer.text()
            assert answer.ok, (answer.status, text)
            return json.loads(text) if text else None

    async def last_activity(self) -> datetime:
        return datetime.fromisoformat((await self.ask("GET", "api/status"))["last_activity"])

    async def notices(self) -> list[str]:
        found = (await self.ask("GET", "jupyterhub-sessions/notices"))["notices"]
        return [notice["id"] for notice in found if notice["id"] == "session-idle"]

    async def quiet(self, seconds: float) -> bool:
        """Tell whether nothing counts as activity in that time."""
        before = await self.last_activity()
        await asyncio.sleep(seconds)
        return await self.last_activity() == before

    @asynccontextmanager
    async def websocket(self, path: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        headers = {"Authorization": f"token {TOKEN}"}
        async with aiohttp.ClientSession(headers=headers) as client, client.ws_connect(self.url + path) as connection:
            yield connection


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    staged = Server(tmp_path)

    async def note(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "token of-the-server"
        staged.reports.append(await request.json())
        return web.Response(status=staged.hub_status)

    application = web.Application()
    application.router.add_post("/hub/api/users/alice/activity", note)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", hub_port := free_port())
    await site.start()
    try:
        await asyncio.to_thread(staged.start, hub_port)
        yield staged
    finally:
        staged.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(staged.process.wait, 20)
        except subprocess.TimeoutExpired:
            staged.process.kill()
            staged.process.wait()
        await runner.cleanup()


async def test_looking_is_no_activity_and_changing_is(server: Server) -> None:
    await server.ask("PUT", "lab/api/workspaces/a", {"data": {}, "metadata": {"id": "a"}})
    before = await server.last_activity()
    await server.ask("PUT", "lab/api/workspaces/a", {"data": {}, "metadata": {"id": "a"}})
    for path in ("api/kernels", "api/sessions", "api/terminals", "api/contents", "api/kernelspecs", "api/me"):
        await server.ask("GET", path)
    await server.notices()
    assert await server.last_activity() == before
    await server.ask("PUT", "api/contents/a.txt", {"type": "file", "format": "text", "content": ""})
    assert await server.last_activity() > before


async def test_silent_kernel_that_computes_keeps_the_session(server: Server) -> None:
    kernel = await server.ask("POST", "api/kernels", {"name": "python3"})
    header = {"msg_id": "1", "msg_type": "execute_request", "session": "1", "username": "", "date": "", "version": "5"}
    content = {"code": "import time; time.sleep(1000)", "silent": False, "store_history": False, "user_expressions": {}}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    async with server.websocket(f"api/kernels/{kernel['id']}/channels") as connection:
        await connection.send_json(message)
        async with asyncio.timeout(30):
            while (await server.ask("GET", f"api/kernels/{kernel['id']}"))["execution_state"] != "busy":
                await asyncio.sleep(0.1)
    # Also when nobody is connected.
    assert not await server.quiet(2)
    assert not await server.quiet(2)
    await server.ask("POST", f"api/kernels/{kernel['id']}/interrupt")
    async with asyncio.timeout(30):
        while (await server.ask("GET", f"api/kernels/{kernel['id']}"))["execution_state"] == "busy":
            await asyncio.sleep(0.2)
    assert await server.quiet(3)


async def test_job_in_a_terminal_keeps_the_session(server: Server) -> None:
    terminal = (await server.ask("POST", "api/terminals", {}))["name"]
    async with server.websocket(f"terminals/websocket/{terminal}") as connection:
        await connection.send_json(["stdin", "sleep 1001\r"])
        async with asyncio.timeout(60):
            while await server.quiet(1):
                pass
    # Also when nobody is connected.
    assert not await server.quiet(2)
    assert not await server.quiet(2)
    async with server.websocket(f"terminals/websocket/{terminal}") as connection:
        await connection.send_json(["stdin", "\x03"])
        async with asyncio.timeout(60):
            while not await server.quiet(3):
                pass


async def test_user_stays(server: Server) -> None:
    async with asyncio.timeout(30):
        while not await server.notices():
            await asyncio.sleep(0.5)
    # Asked again and again, it goes on to hold.
    assert await server.notices() and server.reports == []
    server.hub_status = 503
    with pytest.raises(AssertionError, match="503"):
        await server.ask("POST", "jupyterhub-sessions/notices/stay")
    server.hub_status = 200
    before = datetime.now(UTC)
    await server.ask("POST", "jupyterhub-sessions/notices/stay")
    assert await server.notices() == []
    _refused, report = server.reports
    assert datetime.fromisoformat(report["servers"][""]["last_activity"]) >= before - timedelta(seconds=1)
    assert await server.last_activity() >= before


async def test_open_page_warns_and_keeps_nothing(server: Server) -> None:
    loop = asyncio.get_running_loop()

    def ask(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)

    def look() -> None:
        with chromium_page(viewport={"width": 1280, "height": 800}) as page:
            page.goto(f"{server.url}lab?token={TOKEN}")
            page.locator(".jp-Launcher").wait_for(timeout=60_000)
            page.wait_for_timeout(3_000)
            # JupyterLab asks for what runs, and saves the arrangement of its parts, every ten seconds.
            assert ask(server.quiet(15))
            page.reload()
            notice = page.locator(".Toastify__toast").filter(has_text="Nobody uses this session")
            page.wait_for_timeout(IDLE_S * 1000)
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            notice.wait_for(timeout=20_000)
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=SCREENSHOTS / "idle.png")
            assert server.reports == []
            page.get_by_role("button", name="I am still here").click()
            notice.wait_for(state="detached")
            page.wait_for_timeout(1_000)
            assert len(server.reports) == 1 and ask(server.notices()) == []

    await asyncio.to_thread(look)
