"""A real Jupyter server with real displays, asked over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from jupyter_xpra import runtime, supervisor

PACKAGE_PARENT = Path(__file__).parents[2]
TOKEN = "a-token-of-the-tests"
START_SECONDS = 60
XTERM = {"name": "xterm", "title": "Terminal", "icon": "", "command": ["xterm"]}


class Server:
    """A Jupyter server as a process of its own, with a runtime directory that survives it."""

    def __init__(self, directory: Path, base_url: str = "/", **settings: Any) -> None:
        self.directory = directory
        self.base_url = base_url
        self.runtime = directory / "run"
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "XDG", "DISPLAY"))
        }
        self.environment |= {
            "XDG_RUNTIME_DIR": str(self.runtime),
            "JUPYTER_CONFIG_DIR": str(directory / "config"),
            "JUPYTER_DATA_DIR": str(directory / "data"),
            "JUPYTER_RUNTIME_DIR": str(directory / "jupyter"),
            "IPYTHONDIR": str(directory / "ipython"),
            "PYTHONPATH": os.pathsep.join([str(PACKAGE_PARENT), os.environ.get("PYTHONPATH", "")]),
            "HOME": str(directory / "home"),
        }
        self.settings: dict[str, Any] = {
            "ServerApp": {
                "allow_root": True,
                "base_url": base_url,
                "ip": "127.0.0.1",
                "jpserver_extensions": {"jupyter_xpra": True},
                "open_browser": False,
                "root_dir": str(directory / "home"),
            },
            "IdentityProvider": {"token": TOKEN},
            "DisplayManager": {"programs": [XTERM], **settings},
        }
        for name in ("run", "home"):
            (directory / name).mkdir(mode=0o700, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def displays_directory(self) -> Path:
        return self.runtime / "jupyter-xpra"

    def start(self, port: int = 0) -> None:
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))
            self.port = free.getsockname()[1]
        self.settings["ServerApp"]["port"] = self.port
        config = self.directory / "config.json"
        config.write_text(json.dumps(self.settings))
        with open(self.directory / "log", "ab") as log:
            command = [sys.executable, "-m", "jupyter_server", f"--config={config}"]
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError(self.log())

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self.process
        self.process.send_signal(number)
        self.process.wait(30)
        self.process = None

    def stop(self) -> None:
        if self.process:
            self.kill(signal.SIGTERM)
        # What a failed test leaves.
        if self.displays_directory.is_dir():
            for entry in self.displays_directory.iterdir():
                if re.fullmatch("[0-9a-f]{8}", entry.name):
                    runtime.sweep(entry.name, 0)

    # -- requests -------------------------------------------------------------------------------------------------

    def url(self, path: str, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path if path.startswith('/') else self.base_url + path}"

    @asynccontextmanager
    async def client(self, token: str | None = TOKEN) -> AsyncIterator[aiohttp.ClientSession]:
        headers = {"Authorization": f"token {token}"} if token else {}
        async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(90)) as client:
            yield client

    async def request(self, method: str, path: str, body: Any = None, token: str | None = TOKEN) -> tuple[int, Any]:
        """Ask, and return status and body, which is parsed where it is JSON."""
        async with (
            self.client(token) as client,
            client.request(method, self.url(path), json=body, allow_redirects=False) as response,
        ):
            text = await response.text()
            try:
                return response.status, json.loads(text)
            except ValueError:
                return response.status, text

    async def create(self, **wish: Any) -> dict[str, Any]:
        status, display = await self.request("POST", "xpra/api/displays", wish)
        assert status == 201, (display, self.log())
        assert isinstance(display, dict)
        return display

    async def delete(self, display: dict[str, Any]) -> None:
        status, body = await self.request("DELETE", f"xpra/api/displays/{display['id']}")
        assert status == 204, body

    async def displays(self) -> list[dict[str, Any]]:
        status, body = await self.request("GET", "xpra/api/displays")
        assert status == 200, body
        found: list[dict[str, Any]] = body["displays"]
        return found

    @asynccontextmanager
    async def events(self) -> AsyncIterator[Events]:
        """Subscribe to the events, as a browser does."""
        async with self.client() as client, client.ws_connect(self.url("api/events/subscribe", "ws")) as connection:
            yield Events(connection)

    # -- what is there --------------------------------------------------------------------------------------------

    def number(self, display: dict[str, Any]) -> int:
        record = json.loads((self.displays_directory / display["id"] / "display.json").read_text())
        number: int = record["number"]
        return number

    def pids(self, display: dict[str, Any]) -> dict[str, int]:
        return pids(display)


class Events:
    """The displays' events that arrive at a subscriber."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self.connection = connection

    async def next(self, seconds: float = 20) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            while True:
                event = json.loads(await self.connection.receive_str())
                if event["schema_id"].endswith("/jupyter_xpra/display/v1"):
                    return dict(event)

    async def wait_state(self, display_id: str, state: str, seconds: float = 20) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            while True:
                display = (await self.next())["display"]
                if display["id"] == display_id and display["state"] == state:
                    return dict(display)


def pids(display: dict[str, Any]) -> dict[str, int]:
    """Return the display's processes by name."""
    found = {}
    for pid in runtime.marked(display["id"]):
        # It may have ended since.
        with suppress(OSError):
            found[Path(f"/proc/{pid}/comm").read_text().strip()] = pid
    return found


def short_directory() -> Path:
    """Make a directory whose path leaves room for sockets; pytest's own are too long."""
    return Path(tempfile.mkdtemp(prefix="xpra-"))


def taken_by_another(number: int, processes: list[int]) -> bool:
    """Tell whether an X server that is not one of these has the number, which is free for a test beside this one."""
    with suppress(OSError, ValueError):
        server = int(supervisor.x_lock(number).read_text())
        return supervisor.alive(server) and server not in processes
    return False


class HasDisplays(Protocol):
    """What has displays: a server."""

    @property
    def displays_directory(self) -> Path: ...


async def assert_nothing_left(server: HasDisplays, display: dict[str, Any], number: int, seconds: float = 10) -> None:
    """See to it that nothing of a display is there any more, or soon is not."""
    deadline = time.monotonic() + seconds
    while True:
        processes = runtime.marked(display["id"])
        left: list[Any] = [*processes]
        if not taken_by_another(number, processes):
            left += [path for path in (supervisor.x_lock(number), supervisor.x_socket(number)) if path.exists()]
        left += list(server.displays_directory.glob(f"*{display['id']}*"))
        if not left:
            return
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.1)
