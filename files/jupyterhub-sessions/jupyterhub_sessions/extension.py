"""The server extension of the sessions: answer the page that asks for notices, and know when somebody did something."""

from __future__ import annotations

import dataclasses
import os
from datetime import UTC, datetime
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado.web import HTTPError, authenticated

from . import activity
from .i18n import gettext as _
from .i18n import set_language
from .notices import Notices, about_idleness


class NoticesHandler(APIHandler):
    """Answer with the notices."""

    auth_resource = "jupyterhub-sessions"
    # A page that asks by itself is no work of a student.
    _track_activity = False

    def initialize(self, notices: Notices) -> None:
        """Keep whom to ask."""
        self.notices = notices

    @authenticated
    @authorized  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        """Give the list."""
        notices = list(await self.notices.current())
        if seconds := activity.idle_seconds():
            # Asked each time, as it is over at once when somebody does something.
            last = self.application.last_activity()
            notices += about_idleness(last, seconds, datetime.now(UTC), f"{self.request.path}/stay")
        self.finish({"notices": [dataclasses.asdict(notice) for notice in notices]})


class StayHandler(APIHandler):
    """Have the user say that the session is in use."""

    auth_resource = "jupyterhub-sessions"

    @authenticated
    @authorized  # type: ignore[untyped-decorator]
    async def post(self) -> None:
        """Count it."""
        try:
            await activity.stay(self.settings)
        except OSError as error:
            self.log.warning("%s", error)
            raise HTTPError(503, _("The service does not answer just now.")) from error
        self.set_status(204)
        self.finish()


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "jupyterhub_sessions.extension"}]


def _load_jupyter_server_extension(app: Any) -> None:
    set_language(os.environ.get("JUPYTERHUB_SESSIONS_LANGUAGE", "en"))
    url = url_path_join(app.web_app.settings["base_url"], "jupyterhub-sessions", "notices")
    routes = [(url, NoticesHandler, {"notices": Notices()}), (f"{url}/stay", StayHandler, {})]
    app.web_app.add_handlers(".*$", routes)
    # A desktop knows by itself.
    if "kernel_manager" in app.web_app.settings:
        activity.Activity(app.web_app)
