"""The way from the browser to a display: its page, and the WebSocket that is the display."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Any

from jupyter_server.base.handlers import AuthenticatedFileHandler, JupyterHandler
from jupyter_server.utils import ensure_async
from jupyter_server_proxy.handlers import ProxyHandler
from jupyter_server_proxy.unixsock import UnixResolver
from tornado import httpclient, web, websocket

from . import client_page
from .display import DisplayError
from .handlers import AUTH_RESOURCE
from .manager import DisplayManager

#: What a client sends when its user does something (xpra/server/mixins/input_server.py of 3.1 and its like in 6); the
#: name stands at the start of a packet.
INPUT_PACKETS = (
    b"key-action",
    b"button-action",
    b"pointer-position",
    b"wheel-motion",
    b"pointer-button",
    b"keyboard-event",
)
#: Close codes of the WebSocket (RFC 6455, section 7.4.2: 4000 and above are an application's own).
DISPLAY_ENDED = 4410
NOT_REACHED = 1014
#: Xpra's own end of a connection, when it does not name a code that may be passed on.
GOING_AWAY = 1001
PAGES = ("", "index.html")
CONNECTION = '<script src="../static/connection.js"></script>\n'
#: Nothing of these is Xpra's business; the first two are keys to the whole Jupyter server.
KEPT_BACK = ("Cookie", "Authorization", "X-Xsrftoken", "Accept-Encoding")


def may_be_sent(code: int | None) -> bool:
    """Tell whether a close code may stand in a close frame (RFC 6455, section 7.4)."""
    return code is not None and code in {*range(1000, 1015), *range(3000, 5000)} - {1004, 1005, 1006}


def is_input(message: str | bytes) -> bool:
    """Tell whether a client's message tells of something its user did."""
    return isinstance(message, bytes) and any(name in message[:64] for name in INPUT_PACKETS)


class ClientHandler(JupyterHandler):
    """What the page of Xpra's client and its files have in common."""

    @property
    def content_security_policy(self) -> str:
        """Let no other site show the page in a frame of its own, as clicks there would be clicks in the display.

        Jupyter's policy for files would besides keep the client's workers from being of this site.
        """
        return "frame-ancestors 'self'"

    @property
    def is_client_file(self) -> bool:
        """Tell whether a page of this site asks for a file, which holds nothing of a user's.

        The client starts workers and loads fonts, for which no script can send the token that JupyterHub asks for
        besides the login's cookie (jupyterhub/_xsrf_utils.py).
        """
        return self.request.method in {"GET", "HEAD"} and self.request.headers.get("Sec-Fetch-Site") == "same-origin"

    def check_xsrf_cookie(self) -> None:
        """Have the token sent along for everything but the client's files."""
        if not self.is_client_file:
            super().check_xsrf_cookie()


class DisplayProxyHandler(ClientHandler, ProxyHandler):
    """Show the page of a display, and pass its WebSocket on to the display's socket.

    The client's files come from where its package puts them: a browser asks for all of them at once, of which Xpra lets
    five wait on its socket (listen(2)) and drops others while it is busy, and a page without one of them is broken.
    """

    auth_resource = AUTH_RESOURCE
    _track_activity = False

    def initialize(self, manager: DisplayManager) -> None:
        """Keep whom to ask."""
        self.manager = manager
        self.backend: websocket.WebSocketClientConnection | None = None
        self.display_id = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Only what a user does in the display is activity, and `on_message` knows it.
        self.update_last_activity = False

    @property
    def max_message_size(self) -> int:
        """Take messages of any size: a pasted text, or the picture of a large screen."""
        return sys.maxsize

    def get_login_url(self) -> str:
        """Send to the login who opens a page, and refuse everything that a page asks for."""
        if self.path_kwargs.get("path") in PAGES and self.request.method == "GET":
            return str(super().get_login_url())
        raise web.HTTPError(403)

    @property
    def is_client_file(self) -> bool:
        """Tell whether a page asks for a file: not who opens the page itself."""
        return self.path_kwargs["path"] not in PAGES and super().is_client_file

    async def prepare(self) -> None:
        """Let in who is logged in and may use displays, for whatever kind of request."""
        await super().prepare()
        if self._finished:
            return
        if not await ensure_async(self.authorizer.is_authorized(self, self.current_user, "execute", AUTH_RESOURCE)):
            raise web.HTTPError(403)
        if self.request.method not in {"GET", "HEAD"}:
            raise web.HTTPError(405)
        if self.is_websocket:
            # Before the upgrade, so that the answer can be one of HTTP.
            self.manager.socket(self.path_kwargs["display_id"])

    @property
    def is_websocket(self) -> bool:
        """Tell whether the request wants to become a WebSocket."""
        return bool(self.request.headers.get("Upgrade", "").lower() == "websocket")

    def proxy_request_headers(self) -> Any:
        """Hold back what lets into the Jupyter server."""
        headers = super().proxy_request_headers()
        for name in KEPT_BACK:
            headers.pop(name, None)
        return headers

    # -- HTTP -----------------------------------------------------------------------------------------------------

    async def http_get(self, display_id: str, path: str) -> None:
        """Answer with the page, or lead to a file of Xpra's client."""
        self.manager.socket(display_id)
        root = client_page.directory()
        if path not in PAGES:
            address = client_page.address(path, root)
            if address is None:
                raise web.HTTPError(404)
            self.redirect(f"{self.base_url}xpra/{address}")
            return
        # A page of another version must not stay behind after an upgrade.
        self.set_header("Cache-Control", "no-cache")
        self.set_header("Content-Type", "text/html; charset=UTF-8")
        page = client_page.rewrite((root / "index.html").read_bytes(), root)
        self.finish(page.replace(b"</head>", self.connection.encode() + b"</head>", 1))

    async def head(self, display_id: str, path: str) -> None:
        """Answer with the headers."""
        await self.http_get(display_id, path)

    @property
    def connection(self) -> str:
        """Return the element of the page that keeps it connected."""
        return CONNECTION

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say on the page what happened."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, DisplayError):
            self.set_header("Content-Type", "text/plain; charset=UTF-8")
            self.finish(error.message)
        else:
            super().write_error(status_code, **kwargs)

    # -- WebSocket ------------------------------------------------------------------------------------------------

    async def open(self, display_id: str, path: str) -> None:
        """Connect to the display, and pass on what it sends.

        Not the library's way: it takes messages of 10 MiB at most, passes no close code on, and reads from either side
        as fast as it comes, however slowly the other takes it.
        """
        self.display_id = display_id
        try:
            request = httpclient.HTTPRequest(f"ws://localhost/{path}", headers=self.proxy_request_headers())
            for name in [name for name in request.headers if name.lower().startswith("sec-websocket")]:
                del request.headers[name]
            self.backend = await websocket.websocket_connect(
                request,
                subprotocols=self._requested_subprotocols,
                max_message_size=sys.maxsize,
                resolver=UnixResolver(self.manager.socket(display_id)),
            )
        except (OSError, web.HTTPError, httpclient.HTTPError, websocket.WebSocketError) as error:
            self.log.warning("The display %s was not reached: %s", display_id, error)
            self.close(NOT_REACHED, "The display does not answer.")
            return
        self.manager.connected(display_id, +1)
        # Not awaited, so that messages of the browser are taken at the same time.
        self._relay = asyncio.create_task(self._read_backend(self.backend))

    async def _read_backend(self, backend: websocket.WebSocketClientConnection) -> None:
        with contextlib.suppress(websocket.WebSocketClosedError):
            while (message := await backend.read_message()) is not None:
                await self.write_message(message, binary=isinstance(message, bytes))
        code = backend.close_code
        try:
            self.manager.socket(self.display_id)
        except DisplayError as error:
            self.close(DISPLAY_ENDED, error.message)
            return
        self.close(code if may_be_sent(code) else GOING_AWAY, backend.close_reason)

    async def on_message(self, message: str | bytes) -> None:
        """Pass on what the browser sends; the next message waits until this one is on its way."""
        if is_input(message):
            self.manager.used(self.display_id)
            self.settings["last_activity_times"]["jupyter_xpra"] = self.manager.last_activity
        if self.backend:
            with contextlib.suppress(websocket.WebSocketClosedError):
                await self.backend.write_message(message, binary=isinstance(message, bytes))

    def on_ping(self, data: bytes) -> None:
        """Leave it to Tornado, which has answered."""

    def on_close(self) -> None:
        """Close the other side as well."""
        if self.backend:
            self.backend.close(self.close_code if may_be_sent(self.close_code) else None, self.close_reason)
            self.backend = None
            self.manager.connected(self.display_id, -1)


class StaticHandler(AuthenticatedFileHandler):
    """The files that the page asks for besides Xpra's own."""

    auth_resource = AUTH_RESOURCE
    _track_activity = False

    def get_login_url(self) -> str:
        """Refuse rather than send to the login: no page is opened here."""
        raise web.HTTPError(403)

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        """Look no further than Tornado does: Jupyter asks its contents manager whether hidden files may be had."""
        return web.StaticFileHandler.validate_absolute_path(self, root, absolute_path)


class ClientFileHandler(ClientHandler, StaticHandler):
    """The files of Xpra's client, from where its package puts them."""

    def initialize(self) -> None:
        """Look where they are now: the package may be installed while a server runs."""
        directory = client_page.directory()
        # Debian's package has links to other packages' files.
        super().initialize(path=str(directory), allowed_symlink_directory=[str(directory.parents[1])])


def proxy_handlers(
    manager: DisplayManager, display_handler: type[DisplayProxyHandler] = DisplayProxyHandler
) -> list[tuple[str, type, dict[str, Any]]]:
    """Return the routes of the displays' pages and of our files for them."""
    static = {"path": str(Path(__file__).with_name("static"))}
    page = r"/xpra/(?P<display_id>[0-9a-f]{8})/(?P<path>.*)"
    return [
        (rf"/xpra/static/({client_page.FILE})", StaticHandler, static),
        (rf"/xpra/client/({client_page.FILE})", ClientFileHandler, {}),
        (page, display_handler, {"manager": manager}),
    ]
