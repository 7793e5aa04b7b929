"""The server extension of the sessions: answer the page that asks for notices."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado.web import authenticated

from .i18n import set_language
from .notices import Notices


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
        self.finish({"notices": [dataclasses.asdict(notice) for notice in await self.notices.current()]})


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "jupyterhub_sessions.extension"}]


def _load_jupyter_server_extension(app: Any) -> None:
    set_language(os.environ.get("JUPYTERHUB_SESSIONS_LANGUAGE", "en"))
    url = url_path_join(app.web_app.settings["base_url"], "jupyterhub-sessions", "notices")
    app.web_app.add_handlers(".*$", [(url, NoticesHandler, {"notices": Notices()})])
