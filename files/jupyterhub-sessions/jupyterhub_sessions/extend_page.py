"""The hub's address that gives a session more time: the button on the page of sessions."""

from __future__ import annotations

import time

from jupyterhub.handlers import BaseHandler
from tornado.web import HTTPError, authenticated


class ExtendHandler(BaseHandler):
    """Extend a session of the user who is logged in."""

    @authenticated
    async def post(self) -> None:
        """Extend it, and go back to the page."""
        spawners = self.current_user.spawners
        # Never another user's: the form has no field for the name.
        name = self.get_body_argument("server", "")
        if name not in spawners or not spawners[name].ready:
            raise HTTPError(404)
        spawners[name].extend(time.time())
        self.redirect(f"{self.hub.base_url}home")
