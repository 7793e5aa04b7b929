"""Who may log in: the machine's accounts, asked through PAM."""

from __future__ import annotations

from typing import Any

from jupyterhub.auth import PAMAuthenticator
from tornado.web import HTTPError

from .i18n import gettext as _


class NotAllowedError(HTTPError):
    """Refuse a login with a text that the hub's page of errors shows.

    Parameters
    ----------
    message
        The text.
    """

    def __init__(self, message: str) -> None:
        super().__init__(403)
        self.jupyterhub_message = message


class AccountsAuthenticator(PAMAuthenticator):
    """Tell a user whose account may not log in that it is the account.

    JupyterHub answers as to a wrong password, and lets people with the right one try until they are locked out.
    """

    def check_allowed(self, username: str, authentication: dict[str, Any] | None = None) -> bool:
        """Tell whether the account may log in.

        Raises
        ------
        NotAllowedError
            It may not, and its owner, whose password was right, waits for the answer.
        """
        if super().check_allowed(username, authentication):
            return True
        if authentication is None:
            return False
        self.log.warning("User %r is in none of the groups that may log in", username)
        message = _(
            "Your password is right, but the account %(user)s may not use this service. "
            "If you think it should, please tell the support."
        )
        raise NotAllowedError(message % {"user": username})
