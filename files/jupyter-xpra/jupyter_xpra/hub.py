"""JupyterHub, as a server that it spawned sees it: who may come in, and to whom activity is told."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from http.client import responses
from typing import Any

import aiohttp
from jupyter_server.auth import IdentityProvider, User
from jupyterhub.httpclient import fetch
from jupyterhub.services.auth import HubOAuthenticated
from jupyterhub.utils import isoformat
from tornado import web

from .display import DisplayError

#: Without these nobody could be recognised; without the scopes, everybody whom the hub knows would be let in.
NEEDED = (
    "JUPYTERHUB_API_TOKEN",
    "JUPYTERHUB_API_URL",
    "JUPYTERHUB_CLIENT_ID",
    "JUPYTERHUB_OAUTH_ACCESS_SCOPES",
    "JUPYTERHUB_SERVICE_PREFIX",
)
CHECK_SECONDS = 5.0


def missing(environment: Mapping[str, str]) -> list[str]:
    """Name what an environment lacks of that which JupyterHub gives to the servers it spawns."""
    lacking = [name for name in NEEDED if not environment.get(name)]
    if not lacking and not json.loads(environment["JUPYTERHUB_OAUTH_ACCESS_SCOPES"]):
        return ["JUPYTERHUB_OAUTH_ACCESS_SCOPES"]
    return lacking


class HubIdentityProvider(IdentityProvider):
    """Have Jupyter's handlers know their user from JupyterHub; for those with `HubHandler`."""

    async def get_user(self, handler: Any) -> User | None:
        """Return who asks, if the hub says that they may use this server."""
        # The mixin's own way is a thread that is waited for; it uses the answer that is there.
        await handler.hub_auth.get_user(handler, sync=False)
        model = HubOAuthenticated.get_current_user(handler)
        return User(username=model["name"]) if model else None


class HubHandler(HubOAuthenticated):
    """Ask JupyterHub about the user of one of Jupyter's handlers, with which this is mixed."""

    async def prepare(self) -> None:
        """Let nobody else in, by whatever method, nor what another site's page asks for."""
        await super().prepare()
        if self._finished:
            # Sent to the login.
            return
        if not self.current_user or not self.check_origin(self.request.headers.get("Origin")):
            raise web.HTTPError(403)

    def get_login_url(self) -> str:
        """Refuse a WebSocket, which cannot be sent to the login."""
        if self.request.headers.get("Upgrade", "").lower() == "websocket":
            raise web.HTTPError(403)
        return str(super().get_login_url())

    def check_xsrf_cookie(self) -> None:
        """Have the token sent along for everything but what the handler excepts."""
        if not getattr(self, "is_client_file", False):
            super().check_xsrf_cookie()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say in plain words what is wrong: Jupyter's pages for it need the rest of its server."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, DisplayError):
            super().write_error(status_code, **kwargs)
            return
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(f"{status_code} {responses.get(status_code, '')}\n")


def by_hub(handler: type) -> Any:
    """Return a handler of Jupyter's that asks JupyterHub for its user."""
    return type(handler.__name__, (HubHandler, handler), {})


async def report_activity(last_activity: Callable[[], datetime], interval: float, log: logging.Logger) -> None:
    """Tell the hub when somebody last did something, for as long as this is not cancelled.

    Parameters
    ----------
    last_activity
        Knows of it.
    interval
        Seconds between two reports. The first after a pause is made at once: the session might be about to be culled.
    log
        Where it is said that the hub cannot be told.
    """
    url, name = os.environ.get("JUPYTERHUB_ACTIVITY_URL", ""), os.environ.get("JUPYTERHUB_SERVER_NAME", "")
    if not url:
        log.warning("The hub did not say where activity is reported to.")
        return
    reported: datetime | None = None
    failing = False
    while True:
        last = last_activity()
        if last != reported:
            time = isoformat(last)
            # The hub's API (/users/{name}/activity); the default server's name is empty.
            body = {"servers": {name: {"last_activity": time}}, "last_activity": time}
            headers = {
                "Authorization": f"token {os.environ['JUPYTERHUB_API_TOKEN']}",
                "Content-Type": "application/json",
            }
            try:
                await fetch(url, method="POST", headers=headers, data=json.dumps(body))
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if not failing:
                    log.warning("The hub was not told of activity, and will be: %s", error)
                failing = True
            else:
                reported, failing = last, False
                await asyncio.sleep(interval)
        await asyncio.sleep(min(CHECK_SECONDS, interval))
