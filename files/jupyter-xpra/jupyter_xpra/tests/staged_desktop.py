"""Desktops that a real hub spawned."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from jupyter_xpra import runtime

PACKAGE_PARENT = Path(__file__).parents[2]
TOKEN = "a-token-of-the-tests-for-the-hub"
START_SECONDS = 90


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Hub:
    """A JupyterHub as a process of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.configure()

    def configure(self, **settings: Any) -> None:
        """Write the configuration of desktops that are started from now on."""
        values = {
            "DesktopApp": {"notices": "jupyter_xpra.tests.staged_notices"},
            "DisplayManager": {"default_size": [1280, 800], "desktop_command": ["openbox"], **settings},
        }
        (self.directory / "desktop_config.json").write_text(json.dumps(values))

    def start(self) -> None:
        left_out = ("JUPYTER", "XDG", "DISPLAY")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        environment |= {
            "STAGED_DIRECTORY": str(self.directory),
            "STAGED_PORT": str(self.port),
            "STAGED_HUB_PORT": str(free_port()),
            "STAGED_TOKEN": TOKEN,
            "PYTHONPATH": str(PACKAGE_PARENT),
        }
        config = Path(__file__).with_name("desktop_hub.py")
        with open(self.directory / "log", "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", str(config)],
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while "JupyterHub is now running" not in self.log():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.2)

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def stop(self) -> None:
        """End the hub, which ends the sessions."""
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        # What a failed test leaves.
        for display in self.directory.glob("*/run/jupyter-xpra/*"):
            if re.fullmatch("[0-9a-f]{8}", display.name):
                runtime.sweep(display.name, 0)

    # -- what an administrator asks ---------------------------------------------------------------------------------

    async def api(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the hub's API."""
        headers = {"Authorization": f"token {TOKEN}"}
        async with (
            aiohttp.ClientSession(headers=headers) as client,
            client.request(method, f"{self.url}/hub/api/{path}", json=body) as answer,
        ):
            text = await answer.text()
            assert answer.ok, (answer.status, text)
            return json.loads(text) if text else None

    async def spawn(self, user: str, name: str = "") -> Session:
        """Start a desktop."""
        with suppress(AssertionError):
            await self.api("POST", f"users/{user}")
        await self.api("POST", f"users/{user}/servers/{name}", {})
        session = Session(self, user, name)
        async with asyncio.timeout(START_SECONDS):
            while not (await session.model())["ready"]:
                await asyncio.sleep(0.2)
        return session


class Session:
    """A desktop that is a server of a user's."""

    def __init__(self, hub: Hub, user: str, name: str) -> None:
        self.hub, self.user, self.name = hub, user, name
        self.directory = hub.directory / f"{user}-{name}"
        self.displays_directory = self.directory / "run" / "jupyter-xpra"
        self.path = f"/user/{user}/{name}/" if name else f"/user/{user}/"
        self.url = hub.url + self.path

    async def model(self) -> dict[str, Any]:
        """Return what the hub says of the server."""
        servers = (await self.hub.api("GET", f"users/{self.user}?include_stopped_servers"))["servers"]
        model: dict[str, Any] = servers[self.name]
        return model

    async def pid(self) -> int:
        """Return the process of the server."""
        state: dict[str, int] = (await self.model())["state"]
        return state["pid"]

    async def stop(self) -> None:
        """Have the hub stop it."""
        await self.hub.api("DELETE", f"users/{self.user}/servers/{self.name}")
        async with asyncio.timeout(60):
            while (await self.model())["pending"] or not (await self.model())["stopped"]:
                await asyncio.sleep(0.2)

    async def token(self, **options: Any) -> str:
        """Make a token of the user's."""
        token: str = (await self.hub.api("POST", f"users/{self.user}/tokens", options))["token"]
        return token

    async def display(self) -> dict[str, Any]:
        """Return the desktop, which runs or soon will."""
        headers = {"Authorization": f"token {await self.token()}"}
        async with aiohttp.ClientSession(headers=headers) as client, asyncio.timeout(START_SECONDS):
            while True:
                async with client.get(f"{self.url}xpra/api/displays") as answer:
                    found: list[dict[str, Any]] = (await answer.json())["displays"]
                    if found and found[0]["state"] == "running":
                        return found[0]
                await asyncio.sleep(0.1)


@asynccontextmanager
async def logged_in(hub: Hub, user: str) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a browser without scripts that has logged in to the hub."""
    # By name: a jar keeps no cookies of addresses unless it is told to.
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, headers={"Sec-Fetch-Mode": "navigate"}) as browser:
        async with browser.get(f"{hub.url}/hub/login") as answer:
            xsrf = re.search(r'name="_xsrf" value="([^"]+)"', await answer.text())
        assert xsrf
        form = {"username": user, "password": "right", "_xsrf": xsrf[1]}
        async with browser.post(f"{hub.url}/hub/login?next=/hub/token", data=form) as answer:
            assert answer.url.path == "/hub/token", await answer.text()
        yield browser
