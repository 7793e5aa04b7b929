"""The REST API."""

from __future__ import annotations

import json
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from .display import DisplayError
from .manager import DisplayManager

#: What `authorizer.is_authorized` is asked about.
AUTH_RESOURCE = "xpra"
LONGEST_BODY = 64 * 1024


class XpraHandler(APIHandler):
    """Share what the handlers have in common."""

    auth_resource = AUTH_RESOURCE
    # A page that asks by itself is no work of a student.
    _track_activity = False

    def initialize(self, manager: DisplayManager) -> None:
        """Keep whom to ask."""
        self.manager = manager

    async def prepare(self) -> None:
        """Answer once it is known what there is."""
        await super().prepare()
        await self.manager.opened.wait()

    def body(self) -> dict[str, Any]:
        """Return the request's JSON object.

        Raises
        ------
        DisplayError
            It is none.
        """
        try:
            if len(self.request.body) > LONGEST_BODY:
                raise ValueError
            body = json.loads(self.request.body)
        except (ValueError, RecursionError):
            raise DisplayError(400, "The body of the request is not JSON.", "json") from None
        if not isinstance(body, dict):
            raise DisplayError(400, "The body of the request must be a JSON object.", "json")
        return body

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with what the manager says of the error."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, DisplayError):
            self.set_header("Content-Type", "application/json")
            self.finish(json.dumps({"message": error.message, "cause": error.cause, "log": error.log}))
        else:
            super().write_error(status_code, **kwargs)


class StatusHandler(XpraHandler):
    """What can be had."""

    @web.authenticated
    @authorized  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        """Tell programs, kinds, limits, and what is missing."""
        self.finish(await self.manager.status())


class DisplaysHandler(XpraHandler):
    """All displays."""

    @web.authenticated
    @authorized  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        """List them."""
        self.finish({"displays": self.manager.list()})

    @web.authenticated
    @authorized  # type: ignore[untyped-decorator]
    async def post(self) -> None:
        """Start one."""
        display = await self.manager.create(self.body())
        self.set_status(201)
        self.set_header("Location", url_path_join(self.base_url, "xpra/api/displays", display["id"]))
        self.finish(display)


class DisplayHandler(XpraHandler):
    """One display."""

    @web.authenticated
    @authorized  # type: ignore[untyped-decorator]
    async def get(self, display_id: str) -> None:
        """Describe it."""
        self.finish(self.manager.get(display_id))

    @web.authenticated
    @authorized  # type: ignore[untyped-decorator]
    async def patch(self, display_id: str) -> None:
        """Change it."""
        self.finish(await self.manager.update(display_id, self.body()))

    @web.authenticated
    @authorized  # type: ignore[untyped-decorator]
    async def delete(self, display_id: str) -> None:
        """End it."""
        await self.manager.delete(display_id)
        self.set_status(204)
        self.finish()


class UsageHandler(XpraHandler):
    """What a display uses."""

    @web.authenticated
    @authorized  # type: ignore[untyped-decorator]
    async def get(self, display_id: str) -> None:
        """Tell its memory and its programs."""
        self.finish(await self.manager.usage(display_id))


class ThumbnailHandler(XpraHandler):
    """How a display looks."""

    @web.authenticated
    @authorized  # type: ignore[untyped-decorator]
    async def get(self, display_id: str) -> None:
        """Send a picture of it."""
        picture = await self.manager.thumbnail(display_id)
        self.set_header("Content-Type", "image/png")
        self.set_header("Cache-Control", "no-store")
        self.finish(picture, set_content_type="image/png")


_ID = r"([0-9a-f]{8})"


def api_handlers(manager: DisplayManager) -> list[tuple[str, type[XpraHandler], dict[str, Any]]]:
    """Return the routes of the API."""
    routes: list[tuple[str, type[XpraHandler]]] = [
        ("status", StatusHandler),
        ("displays", DisplaysHandler),
        (f"displays/{_ID}", DisplayHandler),
        (f"displays/{_ID}/usage", UsageHandler),
        (f"displays/{_ID}/thumbnail", ThumbnailHandler),
    ]
    return [(f"/xpra/api/{path}", handler, {"manager": manager}) for path, handler in routes]
