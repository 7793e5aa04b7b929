"""Configure a hub on loopback that spawns desktops, behind a proxy that is a part of it.

Read by `jupyterhub -f`; what differs from one test run to another comes from the environment.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, unquote, urlsplit

import aiohttp
from aiohttp import web
from jupyterhub.proxy import Proxy
from jupyterhub.spawner import SimpleLocalProcessSpawner
from traitlets.config import get_config

DIRECTORY = Path(os.environ["STAGED_DIRECTORY"])
PORT, HUB_PORT = int(os.environ["STAGED_PORT"]), int(os.environ["STAGED_HUB_PORT"])
#: A connection is the business of the two who have it.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade"}


class StagedProxy(Proxy):
    """Pass on HTTP and WebSocket to the hub and to sessions, as configurable-http-proxy does."""

    should_start = True
    routes: ClassVar[dict[str, dict[str, Any]]] = {}

    async def start(self) -> None:
        """Listen."""
        runner = web.AppRunner(web.Application(handler_args={"auto_decompress": False}, client_max_size=2**26))
        runner.app.router.add_route("*", "/{path:.*}", self.handle)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", PORT).start()

    async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
        """Remember a route."""
        self.routes[routespec] = {"routespec": routespec, "target": target, "data": data}

    async def delete_route(self, routespec: str) -> None:
        """Forget a route."""
        self.routes.pop(routespec, None)

    async def get_all_routes(self) -> dict[str, dict[str, Any]]:
        """Return the routes."""
        return self.routes

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass on a request."""
        found = max((spec for spec in self.routes if request.path.startswith(spec)), key=len, default="/")
        target = urlsplit(self.routes[found]["target"])
        connector, url = None, f"http://{target.netloc}{request.raw_path}"
        if target.scheme == "http+unix":
            # The hub appends a port.
            connector = aiohttp.UnixConnector(unquote(target.netloc).removesuffix(":80"))
            url = f"http://localhost{request.raw_path}"
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        timeout = aiohttp.ClientTimeout(120)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=timeout) as client:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self.relay(client, request, url, headers)
            body = await request.read()
            async with client.request(
                request.method, url, headers=headers, data=body or None, allow_redirects=False
            ) as answer:
                response = web.StreamResponse(status=answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in HOP_BY_HOP:
                        response.headers.add(name, value)
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                return response

    async def relay(
        self, client: aiohttp.ClientSession, request: web.Request, url: str, headers: dict[str, str]
    ) -> web.StreamResponse:
        """Pass on a WebSocket."""
        protocols = [word for word in request.headers.get("Sec-WebSocket-Protocol", "").split(", ") if word]
        kept = {name: value for name, value in headers.items() if not name.lower().startswith("sec-websocket")}
        try:
            backend = await client.ws_connect(url, headers=kept, protocols=protocols, max_msg_size=0)
        except aiohttp.WSServerHandshakeError as error:
            return web.Response(status=error.status)
        front = web.WebSocketResponse(protocols=protocols, max_msg_size=0)
        await front.prepare(request)

        async def copy(source: Any, sink: Any) -> None:
            async for message in source:
                if message.type == aiohttp.WSMsgType.BINARY:
                    await sink.send_bytes(message.data)
                elif message.type == aiohttp.WSMsgType.TEXT:
                    await sink.send_str(message.data)
            await sink.close(code=source.close_code or 1000)

        await asyncio.gather(copy(front, backend), copy(backend, front), return_exceptions=True)
        return front


class DesktopSpawner(SimpleLocalProcessSpawner):
    """Start the desktop as a process that listens on a unix socket."""

    home_dir_template = str(DIRECTORY / "home-{username}")

    @property
    def directory(self) -> Path:
        """The directory of a session's own."""
        return DIRECTORY / f"{self.user.name}-{self.name}"

    def get_args(self) -> list[str]:
        """Have the server listen on the socket, and report soon."""
        return [
            f"--socket={self.directory}/server.sock",
            "--socket-mode=0660",
            "--DesktopApp.activity_interval=0.5",
            "--HubOAuth.cache_max_age=1",
            f"--config={DIRECTORY}/desktop_config.json",
        ]

    def get_env(self) -> dict[str, str]:
        """Give it a runtime directory, and only what a session has."""
        runtime = self.directory / "run"
        runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        env: dict[str, str] = super().get_env()
        return env | {"XDG_RUNTIME_DIR": str(runtime), "JUPYTER_CONFIG_DIR": str(DIRECTORY / "config")}

    async def start(self) -> str:
        """Start it."""
        await super().start()
        return f"http+unix://{quote(str(self.directory / 'server.sock'), safe='')}"


c = get_config()
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = "right"
c.Authenticator.allow_all = True
c.JupyterHub.allow_named_servers = True
c.JupyterHub.spawner_class = DesktopSpawner
c.JupyterHub.proxy_class = StagedProxy
c.JupyterHub.bind_url = f"http://127.0.0.1:{PORT}"
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{HUB_PORT}"
c.JupyterHub.db_url = f"sqlite:///{DIRECTORY}/hub.sqlite"
c.JupyterHub.cookie_secret_file = str(DIRECTORY / "cookie_secret")
c.Spawner.cmd = [sys.executable, "-m", "jupyter_xpra.desktop_app"]
c.Spawner.env_keep = ["PATH", "PYTHONPATH", "LANG"]
c.Spawner.start_timeout = 60
c.Spawner.http_timeout = 60
c.JupyterHub.services = [{"name": "tests", "api_token": os.environ["STAGED_TOKEN"]}]
c.JupyterHub.load_roles = [
    {
        "name": "tests",
        "services": ["tests"],
        "scopes": ["admin:users", "admin:servers", "tokens", "access:servers!user=nobody"],
    }
]
