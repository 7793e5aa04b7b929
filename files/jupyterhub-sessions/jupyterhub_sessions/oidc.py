"""Log in through the university's single sign-on: OpenID Connect, with the machine's accounts behind it.

The provider says who somebody is. Whether that is an account of this machine, and one that may be used, the machine
says: the database of accounts, the account part of PAM, and the groups, as with a password.
"""

from __future__ import annotations

import json
import pwd
import ssl
from html import escape
from typing import Any

from jupyterhub.handlers import BaseHandler
from oauthenticator.generic import GenericOAuthenticator
from oauthenticator.oauth2 import OAuthLoginHandler
from tornado.httpclient import HTTPClientError
from tornado.web import HTTPError
from traitlets import Integer, List, Unicode, default

from .accounts import (
    AccountsAuthenticator,
    DirectoryError,
    NotAllowedError,
    RefusedError,
    account_name,
    check_account,
    directory_offline,
)
from .extend_page import ExtendHandler
from .i18n import gettext as _
from .ticket_page import TicketHandler

#: What an issuer's description calls the addresses that the authenticator needs.
ENDPOINTS = {
    "authorize_url": "authorization_endpoint",
    "token_url": "token_endpoint",
    "userdata_url": "userinfo_endpoint",
}
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 10.0


class ProviderError(RefusedError):
    """Refuse a login because the provider does not do its part; why, is in the hub's log."""

    def __init__(self) -> None:
        super().__init__(
            _(
                "The university’s single sign-on cannot be asked who you are. Please try again in a minute; if it "
                "happens again, tell the support."
            ),
            status=500,
        )


class LateError(RefusedError):
    """Refuse a login whose code has been used, or has expired."""

    def __init__(self) -> None:
        super().__init__(
            _("The login took too long, or its page was opened again. Please log in once more."), status=400
        )


class LoginHandler(OAuthLoginHandler):
    """Send the browser to the provider, once its addresses are known."""

    async def get(self) -> None:
        """Redirect."""
        await self.authenticator.discover()
        super().get()


class OidcAuthenticator(GenericOAuthenticator):
    """Let the university's single sign-on say who logs in, and the machine whether that account may."""

    login_handler = LoginHandler

    issuer = Unicode(
        "", help="Address of the provider; it describes itself there. Empty where the three addresses are given."
    ).tag(config=True)
    username_claim = Unicode("preferred_username", help="Which of the provider's claims names the account.").tag(
        config=True
    )
    username_domain = Unicode(
        "", help="The claim must end in @ and this domain, which is no part of the account's name; empty for no domain."
    ).tag(config=True)
    min_uid = Integer(
        1000, help="Smallest number of an account that logs in: root and the machine's own services never do."
    ).tag(config=True)
    ca_certificate = Unicode(
        "", help="Certificates (PEM) of the authority that signs the provider's; empty trusts what the machine trusts."
    ).tag(config=True)
    scope = List(Unicode(), ["openid", "profile"], help="Which scopes the provider is asked for.").tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        #: Who knows the machine's accounts; it has the same settings as when it logs people in itself.
        self.accounts = AccountsAuthenticator(parent=self.parent, config=self.config)
        self._end_session_url = ""

    @default("login_service")
    def _login_service(self) -> str:
        return _("single sign-on")

    @default("custom_403_message")
    def _custom_403_message(self) -> str:
        # For a name that the hub itself cannot have, or blocks.
        return _("This account may not use this service. If you think it should, please tell the support.")

    @default("any_allow_config")
    def _any_allow_config(self) -> bool:
        return bool(self.accounts.any_allow_config)

    @default("http_request_kwargs")
    def _http_request_kwargs(self) -> dict[str, Any]:
        """Bound the waiting, and trust the site's own authority."""
        found: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "request_timeout": ANSWER_SECONDS}
        if self.ca_certificate:
            found["ssl_options"] = ssl.create_default_context(cadata=self.ca_certificate)
        return found

    def get_handlers(self, app: Any) -> list[Any]:
        """Add what extends sessions, and the page of the Kerberos ticket, which single sign-on does not give."""
        handlers: list[Any] = [*super().get_handlers(app), (r"/extend", ExtendHandler)]
        return (
            [*handlers, (r"/ticket", TicketHandler, {"accounts": self.accounts})]
            if self.accounts.kerberos
            else handlers
        )

    # -- the provider -----------------------------------------------------------------------------------------------

    async def discover(self) -> None:
        """Learn the provider's addresses from its issuer, once; those that are set stay as they are.

        At the first login rather than at the start: the hub shall start while the provider is away.

        Raises
        ------
        ProviderError
            The issuer does not describe itself; the log says how.
        """
        if not self.issuer or all(getattr(self, trait) for trait in ENDPOINTS):
            return
        url = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            found = await self.httpfetch(url, "reading what the provider says of itself")
            if found["issuer"].rstrip("/") != self.issuer.rstrip("/"):
                # OpenID Connect Discovery 1.0, 4.3: another provider's description must not be used.
                raise ValueError(f"it is the description of {found['issuer']!r}")
            addresses = {trait: str(found[name]) for trait, name in ENDPOINTS.items()}
        except (HTTPClientError, OSError, LookupError, TypeError, ValueError) as error:
            self.log.error("The OpenID Connect provider %s cannot be used: %s: %r", self.issuer, url, error)
            raise ProviderError from error
        for trait, address in addresses.items():
            setattr(self, trait, getattr(self, trait) or address)
        self._end_session_url = str(found.get("end_session_endpoint", ""))

    async def _claims(self, handler: BaseHandler, data: Any) -> dict[str, Any]:
        """Return what the provider says of who logs in."""
        await self.discover()
        try:
            params = self.build_access_tokens_request_params(handler, data)
            token = await self.get_token_info(handler, params)
            return dict(await self.token_to_user(token))
        except HTTPError as error:
            if error.status_code < 500:
                raise
            # Not with its text, which has the whole answer and with it tokens.
            self.log.error("The OpenID Connect provider answers without a token")
            raise ProviderError from None
        except HTTPClientError as error:
            if _is_invalid_grant(error):
                raise LateError from error
            # oauthenticator has logged what the provider answered, which holds no secret.
            self.log.error("The OpenID Connect provider refuses the hub, or cannot be reached: %s", error)
            raise ProviderError from error
        except (OSError, LookupError, TypeError, ValueError) as error:
            self.log.error("The OpenID Connect provider answers what it should not: %r", error)
            raise ProviderError from error

    # -- the account --------------------------------------------------------------------------------------------------

    def claimed_name(self, claims: dict[str, Any]) -> str:
        """Return the name that the claims give to the account.

        Raises
        ------
        ProviderError
            The claim is missing.
        RefusedError
            It is of another domain than `username_domain`.
        """
        name = claims.get(self.username_claim)
        if not name or not isinstance(name, str):
            self.log.error(
                "The OpenID Connect provider gives no claim %r, which should name the account, but %s. Set another "
                "username_claim, or have the provider give it; perhaps it wants a further scope.",
                self.username_claim,
                ", ".join(sorted(claims)) or "none",
            )
            raise ProviderError
        if not self.username_domain:
            return name
        account, _at, domain = name.rpartition("@")
        if not account or domain.lower() != self.username_domain.lower():
            self.log.warning("Single sign-on as %r: not of the domain %s", name[:255], self.username_domain)
            raise self._refusal(
                _("You are logged in as %(name)s, but only accounts of %(domain)s may use this service."),
                name=name,
                domain=self.username_domain,
            )
        return account

    def _account(self, name: str) -> str:
        """Return the name of the account that the provider calls by a name; blocks.

        Raises
        ------
        RefusedError
            There is no such account, or it may not be used.
        """
        found = account_name(name)
        if found is not None and pwd.getpwnam(found).pw_uid < self.min_uid:
            self.log.warning("Single sign-on as %r: an account of the machine itself", name[:255])
            found = None
        elif found is None:
            self.log.warning("Single sign-on as %r: there is no such account", name[:255])
            if self.accounts.directory and directory_offline():
                raise DirectoryError("")
        if found is None:
            raise self._refusal(
                _(
                    "You are logged in as %(name)s, but there is no account %(account)s for you on this service. If "
                    "you think there should be one, please tell the support these names."
                ),
                name=name,
                account=name.lower(),
            )
        try:
            check_account(
                found,
                service=self.accounts.service,
                password_url=self.accounts.password_url,
                directory=self.accounts.directory,
                log=self.log,
            )
        except NotAllowedError:
            raise self._not_allowed(found) from None
        except DirectoryError:
            raise
        except RefusedError as error:
            raise self._with_way_out(error) from None
        return found

    def _not_allowed(self, user: str) -> RefusedError:
        return self._refusal(
            _(
                "You are logged in as %(name)s, but this account may not use this service. If you think it should, "
                "please tell the support."
            ),
            name=user,
        )

    def _refusal(self, message: str, **values: str) -> RefusedError:
        return self._with_way_out(RefusedError(message % values))

    def _with_way_out(self, refusal: RefusedError) -> RefusedError:
        """Add the way to log in as somebody else: the provider would not ask again."""
        error: Any = refusal
        if url := self.logout_redirect_url or self._end_session_url:
            text = _("Log out, to log in with another account")
            error.jupyterhub_html_message = (
                f'{escape(error.jupyterhub_message)} <a href="{escape(url)}">{escape(text)}</a>'
            )
        return refusal

    async def authenticate(self, handler: BaseHandler, data: Any = None, **kwargs: Any) -> dict[str, Any]:
        """Return the account of who comes back from the provider.

        Nothing else of the provider's answers is kept: no token of somebody's single sign-on lies in the hub's database
        or reaches a session.
        """
        name = self.claimed_name(await self._claims(handler, data))
        try:
            account = await self.accounts._in_thread(self._account, name)
        except DirectoryError as error:
            raise RefusedError(
                _(
                    "The university’s directory of accounts cannot be reached, so the service cannot tell whether you "
                    "may use it. Please try again later."
                )
            ) from error
        self.accounts.remember(account)
        return {"name": account}

    async def refresh_user(self, user: Any, handler: Any = None, **kwargs: Any) -> bool:
        """Leave a login as it is until its cookie expires, as with a password."""
        return True

    # -- rights, which are the account's ------------------------------------------------------------------------------

    def normalize_username(self, username: str) -> str:
        """Return the name as the database of accounts writes it."""
        return self.accounts.normalize_username(username)

    async def check_allowed(self, username: str, auth_model: dict[str, Any] | None = None) -> bool:
        """Tell whether the account belongs to the groups that may log in.

        Raises
        ------
        RefusedError
            It does not, and its owner waits for the answer.
        """
        if self.accounts.allow_all:
            return True
        try:
            return await self.accounts.check_allowed(username, auth_model)
        except NotAllowedError:
            raise self._not_allowed(username) from None

    async def is_admin(self, handler: Any, authentication: dict[str, Any]) -> bool | None:
        """Tell whether the account administers the hub."""
        return await self.accounts.is_admin(handler, authentication)


def _is_invalid_grant(error: HTTPClientError) -> bool:
    """Tell whether a provider refused the code (RFC 6749, 5.2) rather than the hub."""
    if error.response is None or error.code >= 500:
        return False
    try:
        answer = json.loads(error.response.body)
    except ValueError:
        return False
    return isinstance(answer, dict) and answer.get("error") == "invalid_grant"
