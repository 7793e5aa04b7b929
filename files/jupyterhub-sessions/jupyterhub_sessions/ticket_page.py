"""The hub's page of the Kerberos ticket: how long it is valid, and a form that gets a new one for the password."""

from __future__ import annotations

import asyncio
import pwd
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jupyterhub.handlers import BaseHandler
from tornado.web import authenticated

from . import tickets
from .i18n import gettext as _

if TYPE_CHECKING:
    from .accounts import AccountsAuthenticator


class TicketHandler(BaseHandler):
    """Show the ticket of the user who is logged in, and renew it."""

    def initialize(self, accounts: AccountsAuthenticator) -> None:
        """Keep whom to ask about passwords; the hub's own authenticator may not know any."""
        self.accounts = accounts

    @authenticated
    async def get(self) -> None:
        """Show the page."""
        await self._show()

    @authenticated
    async def post(self) -> None:
        """Get a new ticket: pam_sss puts it into the user's cache, where running programs find it."""
        # Never another user's: the form has no field for the name.
        error = await self.accounts.try_password(
            self.current_user.name, self.get_body_argument("password", "", strip=False), self.request.remote_ip
        )
        if error:
            self.set_status(error.status_code)
            await self._show(error.jupyterhub_message)
        else:
            self.redirect(f"{self.hub.base_url}ticket?renewed=1")

    async def _ticket(self) -> tickets.Ticket | None:
        try:
            # Cached by SSSD: somebody who is logged in has an account.
            account = await asyncio.to_thread(pwd.getpwnam, self.current_user.name)
        except KeyError as error:
            raise tickets.TicketError(f"There is no account {self.current_user.name}") from error
        return await tickets.read_ticket(account.pw_uid, account.pw_gid)

    async def _show(self, refusal: str = "") -> None:
        context: dict[str, Any] = {"ticket": None, "unknown": False, "refusal": refusal}
        context["renewed"] = self.request.method == "GET" and bool(self.get_query_argument("renewed", ""))
        try:
            context["ticket"] = await self._ticket()
        except tickets.TicketError as error:
            self.log.error("The ticket of %s cannot be read: %s", self.current_user.name, error)
            context["unknown"] = True
        context |= {"now": datetime.now(UTC), "xsrf": self.xsrf_token.decode("ascii"), "title": _("Kerberos ticket")}
        self.finish(await self.render_template("ticket.html", **context))
