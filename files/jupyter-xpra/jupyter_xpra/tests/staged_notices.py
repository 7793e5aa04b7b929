"""A Jupyter server's extension that says to the user what is in a file of theirs, and takes an answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado.web import authenticated


class NoticesHandler(APIHandler):
    """Answer with the notices."""

    @authenticated
    async def get(self) -> None:
        """Give the list."""
        file = Path.home() / "notices.json"
        self.finish({"notices": json.loads(file.read_text()) if file.exists() else []})


class AnswerHandler(APIHandler):
    """Take the answer to a notice as something that the user did."""

    _track_activity = False

    @authenticated
    async def post(self) -> None:
        """Count it."""
        self.settings["staged_last_activity"] = datetime.now(UTC)
        self.set_status(204)
        self.finish()


def _load_jupyter_server_extension(app: Any) -> None:
    url = url_path_join(app.web_app.settings["base_url"], "notices")
    app.web_app.add_handlers(".*$", [(url, NoticesHandler, {}), (f"{url}/answer", AnswerHandler, {})])
