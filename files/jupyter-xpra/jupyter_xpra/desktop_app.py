"""A desktop in place of a Jupyter server: what JupyterHub spawns for a user who needs no notebook.

A small web server with the handlers of the extension, and JupyterHub to say who may come in.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import secrets
import signal
import sys
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from jupyter_core.application import JupyterApp
from jupyter_server.auth import AllowAllAuthorizer
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import JupyterHandler
from jupyterhub import __version__
from jupyterhub.log import log_request
from jupyterhub.services.auth import HubOAuth, HubOAuthCallbackHandler
from tornado import netutil, web
from tornado.httpserver import HTTPServer
from traitlets import Float, TraitError, Unicode, default, validate

from .desktop import Desktop
from .display import DisplayError
from .handlers import AUTH_RESOURCE, api_handlers
from .hub import HubIdentityProvider, by_hub, missing, report_activity
from .manager import DisplayManager
from .proxy import PAGES, DisplayProxyHandler, proxy_handlers

#: A page waits so long for a start before it tells of it.
START_SECONDS = 10.0
TEXTS = {
    "en": {
        "title": "Desktop",
        "starting": "Your desktop is starting …",
        "ended": "Your desktop is not running",
        "log": "The end of its log",
        "start": "Start it again",
    },
    "ru": {
        "title": "Рабочий стол",
        "starting": "Рабочий стол запускается …",
        "ended": "Рабочий стол не запущен",
        "log": "Последние строки журнала",
        "start": "Запустить снова",
    },
}


class DesktopHandler(JupyterHandler):
    """Lead to the desktop, or say why there is none, and start it again."""

    auth_resource = AUTH_RESOURCE

    def initialize(self, desktop: Desktop) -> None:
        """Keep whom to ask."""
        self.desktop = desktop

    @web.authenticated
    @authorized  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        """Show it as soon as it runs."""
        await self.desktop.started(START_SECONDS)
        state = self.desktop.state()
        if state.name == "running":
            self.redirect(state.url)
            return
        language = self.request.headers.get("Accept-Language", "")[:2].lower()
        self.set_header("Cache-Control", "no-store")
        self.render(
            "desktop.html",
            language=language if language in TEXTS else "en",
            text=TEXTS.get(language, TEXTS["en"]),
            state=state,
        )

    @web.authenticated
    @authorized  # type: ignore[untyped-decorator]
    async def post(self) -> None:
        """Start it."""
        self.desktop.start()
        self.redirect(self.base_url, status=303)


class DesktopDisplayHandler(DisplayProxyHandler):
    """Show the desktop."""

    @property
    def connection(self) -> str:
        """Have the page lead to where it is said why the desktop has ended, and show what its session has to say."""
        script = super().connection.replace("></script>", ' data-home="../../"></script>')
        if notices := self.settings["notices_url"]:
            script += f'<script src="../static/notices.js" data-notices="{escape(notices)}"></script>\n'
        return script

    async def http_get(self, display_id: str, path: str) -> None:
        """Answer with the page."""
        # Sets the cookie with the token that the page's scripts send along.
        assert self.xsrf_token
        await super().http_get(display_id, path)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Lead from the page of a desktop that is not there any more to the one that is."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, DisplayError) and self.path_kwargs["path"] in PAGES and not self.is_websocket:
            self.redirect(self.base_url)
        else:
            super().write_error(status_code, **kwargs)


class UnknownHandler(JupyterHandler):
    """Answer to any other path."""

    auth_resource = AUTH_RESOURCE

    @property
    def opens_page(self) -> bool:
        """Tell whether a browser opens a page: a link to the notebooks of an earlier session, for example."""
        return bool(self.request.headers.get("Sec-Fetch-Mode") == "navigate")

    def get_login_url(self) -> str:
        """Send to the login who opens a page, and nobody else."""
        if not self.opens_page:
            raise web.HTTPError(403)
        return str(super().get_login_url())

    @web.authenticated
    @authorized  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        """Lead to the desktop who opens a page."""
        if not self.opens_page:
            raise web.HTTPError(404)
        self.redirect(self.base_url)


class ExtensionRoutes:
    """In the place of a Jupyter server's application: keep the routes of an extension.

    Parameters
    ----------
    module
        Name of the extension's module.
    base_url
        Path of the server.
    """

    def __init__(self, module: str, base_url: str) -> None:
        self.settings = {"base_url": base_url}
        self.web_app = self
        self.routes: list[tuple[str, Any, dict[str, Any]]] = []
        importlib.import_module(module)._load_jupyter_server_extension(self)

    def add_handlers(self, host_pattern: str, routes: list[tuple[str, Any, dict[str, Any]]]) -> None:
        """Take what an extension gives to `tornado.web.Application.add_handlers`."""
        self.routes += routes


class DesktopWebApp(web.Application):
    """Routes and settings, and when somebody last did something, as extensions ask a Jupyter server's.

    Parameters
    ----------
    manager
        Of displays.
    """

    def __init__(self, manager: DisplayManager, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._manager = manager
        self._started = datetime.now(UTC)

    def last_activity(self) -> datetime:
        """Return the moment: of the start, of an input, or of what an extension has put into the settings."""
        said = [moment for name, moment in self.settings.items() if name.endswith("_last_activity")]
        last: datetime = max([self._started, *filter(None, [self._manager.last_activity]), *said])
        return last


class DesktopApp(JupyterApp):
    """A desktop in the browser, as a server of JupyterHub."""

    name = "jupyter-xpra-desktop"
    description = __doc__
    classes = [DisplayManager, HubOAuth]  # noqa: RUF012 - as in the base class
    aliases = {  # noqa: RUF012
        **JupyterApp.aliases,
        "socket": "DesktopApp.socket",
        "socket-mode": "DesktopApp.socket_mode",
    }

    socket = Unicode(help="Unix socket to listen on; without it JUPYTERHUB_SERVICE_URL says where.").tag(config=True)
    socket_mode = Unicode("0600", help="Permissions of the socket, in octal digits.").tag(config=True)
    base_url = Unicode(help="Path of the server; JUPYTERHUB_SERVICE_PREFIX.")
    activity_interval = Float(
        min=0.1,
        help="Seconds between two reports of activity to the hub; JUPYTERHUB_ACTIVITY_INTERVAL, a minute at most.",
    ).tag(config=True)

    notices = Unicode(
        help="""Module of a Jupyter server extension whose first route answers with notices for the user
        (`{"notices": [{"id", "kind", "message", "at", "label", "url", "post"}]}`); they are shown on the desktop."""
    ).tag(config=True)

    @default("config_file_name")
    def _default_config_file_name(self) -> str:
        # What is set for displays in a Jupyter server holds here too.
        return "jupyter_xpra_config"

    @default("activity_interval")
    def _default_activity_interval(self) -> float:
        return min(60.0, float(os.environ.get("JUPYTERHUB_ACTIVITY_INTERVAL") or 60))

    @default("base_url")
    def _default_base_url(self) -> str:
        return os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "/").rstrip("/") + "/"

    @validate("socket_mode")
    def _check_socket_mode(self, proposal: Any) -> str:
        value: str = proposal["value"]
        try:
            int(value, 8)
        except ValueError:
            raise TraitError(f"DesktopApp.socket_mode: {value!r} is no octal number such as 0660") from None
        return value

    def migrate_config(self) -> None:
        """Leave the files of IPython 3 alone."""

    def initialize(self, argv: Any = None) -> None:
        """Read the configuration, and make what serves."""
        super().initialize(argv)
        if lacking := missing(os.environ):
            sys.exit(f"{self.name} is started by JupyterHub: {', '.join(lacking)} must be set.")
        # The handlers find it by themselves; made here it has the configuration.
        HubOAuth.instance(parent=self)
        # An idle session is the hub's to end.
        self.manager = DisplayManager(base_url=self.base_url, max_displays=1, idle_timeout=0, parent=self)
        self.desktop = Desktop(self.manager)
        self.web_app = self.make_web_app()

    def make_web_app(self) -> DesktopWebApp:
        """Return the routes, all but that of the login for this server's users only."""
        routes: list[tuple[str, Any, dict[str, Any]]] = [("/", DesktopHandler, {"desktop": self.desktop})]
        routes += api_handlers(self.manager)
        routes += proxy_handlers(self.manager, DesktopDisplayHandler)
        # Names of users and servers may have characters that mean something else in a pattern.
        base = re.escape(self.base_url.rstrip("/"))
        identity_provider = HubIdentityProvider(parent=self)
        said = ExtensionRoutes(self.notices, self.base_url).routes if self.notices else []
        return DesktopWebApp(
            self.manager,
            [
                (f"{base}/oauth_callback", HubOAuthCallbackHandler),
                *((base + path, by_hub(handler), arguments) for path, handler, arguments in routes),
                *((re.escape(path), by_hub(handler), arguments) for path, handler, arguments in said),
                (".*", by_hub(UnknownHandler)),
            ],
            # What Jupyter's handlers and JupyterHub's ask for. The hub compares the version with its own; its way to
            # log keeps tokens back.
            headers={"X-JupyterHub-Version": __version__},
            log_function=log_request,
            base_url=self.base_url,
            notices_url=said[0][0] if said else "",
            identity_provider=identity_provider,
            authorizer=AllowAllAuthorizer(parent=self, identity_provider=identity_provider),
            allow_remote_access=True,
            last_activity_times={},
            cookie_secret=secrets.token_bytes(32),
            template_path=str(Path(__file__).with_name("templates")),
        )

    def listen(self, server: HTTPServer) -> None:
        """Listen where the hub says."""
        url = urlsplit(os.environ.get("JUPYTERHUB_SERVICE_URL", ""))
        if url.scheme == "http+unix":
            self.socket = self.socket or unquote(url.netloc)
        if self.socket:
            server.add_socket(netutil.bind_unix_socket(self.socket, int(self.socket_mode, 8)))
        else:
            server.add_sockets(netutil.bind_sockets(url.port or 8888, url.hostname or "127.0.0.1"))

    async def serve(self) -> None:
        """Serve until a signal ends it, and leave nothing behind."""
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        # The hub's proxy alone reaches the server, and says who the client is.
        server = HTTPServer(self.web_app, xheaders=True)
        self.listen(server)
        await self.manager.open()
        self.desktop.start()
        reports = asyncio.create_task(report_activity(self.web_app.last_activity, self.activity_interval, self.log))
        await stopped.wait()
        self.log.info("Ending the desktop")
        reports.cancel()
        server.stop()
        await self.desktop.close()
        if self.socket:
            Path(self.socket).unlink(missing_ok=True)

    def start(self) -> None:
        """Run."""
        super().start()
        asyncio.run(self.serve())


def main() -> None:
    """Run the command `jupyter-xpra-desktop`."""
    DesktopApp.launch_instance()


if __name__ == "__main__":
    main()
