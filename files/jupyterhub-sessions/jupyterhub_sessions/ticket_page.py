"""The hub's page of the Kerberos ticket: how long it is valid, and a form that gets a new one for the password."""

from __future__ import annotations

import asyncio
import pwd
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jupyterhub.handlers import BaseHandler
from tornado.web import authenticated

from . import tickets
from .i18n import gettext as _

if TYPE_CHECKING:
    from .accounts import AccountsAuthenticator


@dataclass(frozen=True)
class State:
    """What is known of a user's ticket: None where there is none, or where it could not be read."""

    ticket: tickets.Ticket | None
    unknown: bool = False


class TicketHandler(BaseHandler):
    """Show the ticket of the user who is logged in, and renew it."""

    def initialize(self, accounts: AccountsAuthenticator) -> None:
        """Keep whom to ask about passwords; the hub's own authenticator may not know any."""
        self.accounts = accounts

    @authenticated
    async def get(self) -> None:
        """Show the page."""
        await self._show(await self._state())

    @authenticated
    async def post(self) -> None:
        """Get a new ticket: pam_sss puts it into the user's cache, where running programs find it."""
        before = await self._state()
        # Never another user's: the form has no field for the name.
        error = await self.accounts.try_password(
            self.current_user.name, self.get_body_argument("password", "", strip=False), self.request.remote_ip
        )
        after = before if error else await self._state()
        refusal, status = (error.jupyterhub_message, error.status_code) if error else ("", 200)
        if not error and not after.unknown and after.ticket == before.ticket:
            # SSSD gave up on the KDC, and knew the password from an earlier login.
            status = 403
            refusal = _(
                "The password is right, but the university’s Kerberos server did not answer in time. Please try again "
                "in a minute."
            )
        if refusal:
            self.set_status(status)
            await self._show(after, refusal)
        else:
            self.redirect(f"{self.hub.base_url}ticket{'' if after.unknown else '?renewed=1'}")

    async def _ticket(self) -> tickets.Ticket | None:
        try:
            # Cached by SSSD: somebody who is logged in has an account.
            account = await asyncio.to_thread(pwd.getpwnam, self.current_user.name)
        except KeyError as error:
            raise tickets.TicketError(f"There is no account {self.current_user.name}") from error
        return await tickets.read_ticket(account.pw_uid, account.pw_gid)

    async def _state(self) -> State:
        try:
            return State(await self._ticket())
        except tickets.TicketError as error:
            self.log.error("The ticket of %s cannot be read: %s", self.current_user.name, error)
            return State(None, unknown=True)

    async def _show(self, state: State, refusal: str = "") -> None:
        context: dict[str, Any] = {"ticket": state.ticket, "unknown": state.unknown, "refusal": refusal}
        context["renewed"] = self.request.method == "GET" and bool(self.get_query_argument("renewed", ""))
        context |= {"now": datetime.now(UTC), "xsrf": self.xsrf_token.decode("ascii"), "title": _("Kerberos ticket")}
        self.finish(await self.render_template("ticket.html", **context))
