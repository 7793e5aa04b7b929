"""Who may log in: the machine's accounts, asked through PAM.

An account is the machine's own or comes from the university's directory, through SSSD. Whatever refuses a login, the
person who waits for it reads why; the modules' own words are for the hub's log.
"""

from __future__ import annotations

import asyncio
import functools
import grp
import logging
import os
import pwd
import re
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from jupyterhub.auth import PAMAuthenticator
from pamela import PAMError
from tornado.web import HTTPError
from traitlets import Bool, Float, Integer, Unicode, default

from . import pam
from .extend_page import ExtendHandler
from .i18n import gettext as _
from .i18n import ngettext
from .pam import Code
from .ticket_page import TicketHandler

T = TypeVar("T")

#: How long the number of a group is remembered: the database answers with all members, of which there may be thousands.
GROUP_SECONDS = 600.0
#: How long SSSD may take to say whether it reaches the directory.
DIRECTORY_SECONDS = 5.0
#: Names of the machine's accounts are shorter; a longer one is nothing to hand to PAM or to the log.
NAME_BYTES = 255
#: PAM_MAX_RESP_SIZE: modules cut or refuse what is longer.
PASSWORD_BYTES = 511


class RefusedError(HTTPError):
    """Refuse a login, with a text for the person who waits for it.

    Parameters
    ----------
    message
        The text; the page of the login shows it in the place of the form's error.
    status
        HTTP status; those that the web server replaces by its own pages (429, 502 to 504) cannot be used.
    """

    def __init__(self, message: str, status: int = 403) -> None:
        super().__init__(status)
        self.jupyterhub_message = message


class WrongPasswordError(RefusedError):
    """Refuse a wrong name or a wrong password, without telling which of the two."""

    def __init__(self) -> None:
        super().__init__(_("The user name or the password is wrong."))


class DirectoryError(RefusedError):
    """Refuse a login because the directory cannot be reached."""


class NotAllowedError(RefusedError):
    """Refuse an account that may not use the service; its owner gave the right password."""

    def __init__(self, user: str) -> None:
        message = _(
            "Your password is right, but the account %(user)s may not use this service. "
            "If you think it should, please tell the support."
        )
        super().__init__(message % {"user": user})


# -- the database of accounts: these functions block while a directory is asked ---------------------------------------


def account_name(typed: str) -> str | None:
    """Return an account's name as the database writes it, or None where there is no such account.

    People write their names as they like; a directory may moreover know one account under several names. The locks
    after wrong passwords, the sessions and the rights belong to the one name that the database gives.
    """
    if not typed or "\0" in typed or len(typed.encode(errors="replace")) > NAME_BYTES:
        return None
    for name in dict.fromkeys((typed.lower(), typed)):
        try:
            return pwd.getpwnam(name).pw_name
        except (KeyError, UnicodeError):
            continue
    return None


_group_ids: dict[str, tuple[float, int]] = {}


def group_id(name: str) -> int | None:
    """Return the number of a group, or None where there is no such group."""
    known = _group_ids.get(name)
    if known and time.monotonic() - known[0] < GROUP_SECONDS:
        return known[1]
    try:
        number = grp.getgrnam(name).gr_gid
    except KeyError:
        return None
    _group_ids[name] = (time.monotonic(), number)
    return number


def in_groups(user: str, groups: Iterable[str]) -> bool | None:
    """Tell whether an account belongs to one of the groups.

    Asks which groups the account has, never which accounts a group has: there may be thousands.

    Returns
    -------
    None where it belongs to none of the groups that are there, but some are not: a misspelled name, or a directory
    out of reach.
    """
    try:
        have = set(os.getgrouplist(user, pwd.getpwnam(user).pw_gid))
    except KeyError:
        return None
    numbers = {name: group_id(name) for name in groups}
    if have & {number for number in numbers.values() if number is not None}:
        return True
    return None if None in numbers.values() else False


# -- what PAM refuses -----------------------------------------------------------------------------------------------


def directory_offline() -> bool:
    """Tell whether SSSD cannot reach the servers of any of its domains; False also where it does not answer.

    Asked over D-Bus: sssctl, which asks there as well, opens SSSD's database for writing first.
    """
    try:
        found = _infopipe("/org/freedesktop/sssd/infopipe", _INFOPIPE, "ListDomains")
        domains = re.findall(r'"([^"]+)"', found)
        return any(_infopipe(domain, f"{_INFOPIPE}.Domains.Domain", "IsOnline") == "b false" for domain in domains)
    except (OSError, subprocess.TimeoutExpired):
        return False


_INFOPIPE = "org.freedesktop.sssd.infopipe"


def _infopipe(*call: str) -> str:
    """Call a method of SSSD's on the system's bus; return what busctl prints, nothing where it fails."""
    return subprocess.run(
        ["busctl", "--system", f"--timeout={DIRECTORY_SECONDS:.0f}", "call", _INFOPIPE, *call],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DIRECTORY_SECONDS + 1,
    ).stdout.strip()


def directory_refusal() -> RefusedError:
    """Explain that the directory cannot be reached."""
    return DirectoryError(
        _(
            "The university’s directory of accounts cannot be reached, so your password cannot be checked. Those who "
            "logged in here lately can still do so, with the password they used then. Please try again later."
        )
    )


def service_refusal() -> RefusedError:
    """Explain that the service itself failed; the reason is in the hub's log."""
    return RefusedError(
        _(
            "Your password could not be checked because of an error in the service. Please try again in a minute; if "
            "it happens again, tell the support."
        ),
        status=500,
    )


def refusal(answer: pam.Answer, user: str, *, locked_minutes: int = 0, password_url: str = "") -> RefusedError:
    """Explain a refusal of PAM's to the person who logs in.

    Parameters
    ----------
    answer
        What PAM answered.
    user
        Name of the account.
    locked_minutes
        For how long pam_faillock locks an account; 0 where it is not in use.
    password_url
        Where people change their password; empty where there is no such page.
    """
    match answer.code:
        # pam_faillock stands before the modules that ask for the password: refused without being asked means locked.
        case Code.AUTH_ERR if locked_minutes and not answer.account and not answer.asked:
            found = re.search(r"(\d+) minute", " ".join(answer.messages))
            minutes = int(found[1]) if found else locked_minutes
            return RefusedError(
                ngettext(
                    "The account %(user)s is locked after too many wrong passwords. Please try again in %(minutes)s "
                    "minute.",
                    "The account %(user)s is locked after too many wrong passwords. Please try again in %(minutes)s "
                    "minutes.",
                    minutes,
                )
                % {"user": user, "minutes": minutes}
            )
        case Code.AUTH_ERR | Code.PERM_DENIED if answer.account:
            return NotAllowedError(user)
        case Code.AUTH_ERR | Code.USER_UNKNOWN | Code.MAXTRIES | Code.CRED_ERR:
            return WrongPasswordError()
        case Code.PERM_DENIED:
            return RefusedError(_("The account %(user)s is locked. Please tell the support.") % {"user": user})
        case Code.ACCT_EXPIRED:
            return RefusedError(_("The account %(user)s has expired. Please tell the support.") % {"user": user})
        case Code.NEW_AUTHTOK_REQD | Code.AUTHTOK_EXPIRED:
            if password_url:
                message = _("Your password has expired. Please change it at %(url)s and then log in here.")
                return RefusedError(message % {"url": password_url})
            return RefusedError(_("Your password has expired. Please change it, and then log in here."))
        case Code.AUTHINFO_UNAVAIL:
            return directory_refusal()
        case _:
            return service_refusal()


def _ask(
    service: str,
    user: str,
    passwords: Iterable[str] | None,
    address: str,
    *,
    locked_minutes: int,
    password_url: str,
    directory: bool,
    log: logging.Logger,
) -> None:
    """Ask PAM, and raise the refusal, if it refuses."""
    try:
        answer = pam.ask(service, user, passwords, address)
    except PAMError as failure:
        log.error("PAM could not be asked about %r: %s", user, failure)
        raise service_refusal() from failure
    if answer.code == Code.SUCCESS:
        return
    error = refusal(answer, user, locked_minutes=locked_minutes, password_url=password_url)
    log.log(
        logging.ERROR if error.status_code == 500 else logging.WARNING,
        "Login of %r%s refused: %s",
        user,
        f" from {address}" if address else "",
        answer,
    )
    # What SSSD also answers of an account whose password it does not keep, while it is offline.
    vague = answer.code in {Code.USER_UNKNOWN, Code.PERM_DENIED, Code.OTHER} and not answer.account
    if vague and directory and directory_offline():
        error = directory_refusal()
    raise error


def check_account(
    user: str,
    *,
    service: str = "jupyterhub",
    password_url: str = "",
    directory: bool = False,
    log: logging.Logger | None = None,
) -> None:
    """Ask the account part of PAM whether an account may be used, for logins whose password others check; blocks.

    Parameters
    ----------
    user
        Name of the account, as `account_name` gives it.
    service, password_url, directory
        The settings of `AccountsAuthenticator`.
    log
        Where the reason of a refusal is written.

    Raises
    ------
    RefusedError
        It may not; the message says why.
    """
    _ask(
        service,
        user,
        None,
        "",
        locked_minutes=0,
        password_url=password_url,
        directory=directory,
        log=log or logging.getLogger(__name__),
    )


# -- the authenticator ------------------------------------------------------------------------------------------------


class AccountsAuthenticator(PAMAuthenticator):
    """Log in with an account of the machine, and say why when that is refused.

    JupyterHub answers each refusal as a wrong password, and lets people with the right one try until they are locked
    out.
    """

    service = Unicode("jupyterhub", help="Name of the PAM service.").tag(config=True)
    lockout_minutes = Integer(
        0, help="For how many minutes the PAM service locks an account after wrong passwords; 0 if it does not."
    ).tag(config=True)
    password_url = Unicode("", help="Where people change an expired password; empty for no such page.").tag(config=True)
    directory = Bool(False, help="Whether SSSD provides accounts of a directory.").tag(config=True)
    timeout_s = Float(9.0, help="Seconds after which an answer of PAM or of the directory is no longer awaited.").tag(
        config=True
    )
    refusal_s = Float(
        2.0,
        help="Seconds that a wrong name or password takes at least: against guessing, and so that the time does not "
        "tell whether an account exists.",
    ).tag(config=True)
    kerberos = Bool(False, help="Whether a login with the password gives a Kerberos ticket.").tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        #: Names as the database of accounts writes them, by the same in lower case.
        self._names: dict[str, str] = {}
        self._turns = asyncio.Semaphore(self.executor_threads)

    @default("executor_threads")
    def _executor_threads(self) -> int:
        # A password costs processor time: its hash, or SSSD's own process for each login, which SSSD ends after some
        # seconds and then takes the directory for dead. When a class logs in at once, the others wait for their turn.
        return min(32, os.cpu_count() or 1)

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function that may wait for a directory, for a bounded time from when its turn has come."""
        async with self._turns:
            call: Awaitable[T] = asyncio.get_running_loop().run_in_executor(self.executor, function, *arguments)
            try:
                return await asyncio.wait_for(call, self.timeout_s)
            except TimeoutError:
                self.log.error("PAM or the directory did not answer within %s s", self.timeout_s)
                raise directory_refusal() from None

    # -- password ---------------------------------------------------------------------------------------------------

    def _check(self, typed: str, passwords: list[str], address: str) -> str:
        """Return the account's name if the password is right; blocks."""
        if any("\0" in password or len(password.encode()) > PASSWORD_BYTES for password in passwords):
            raise WrongPasswordError
        name = account_name(typed)
        if name is None:
            self.log.warning("Login of an unknown user %r from %s", typed[:32], address or "?")
            raise directory_refusal() if self.directory and directory_offline() else WrongPasswordError()
        _ask(
            self.service,
            name,
            passwords,
            address,
            locked_minutes=self.lockout_minutes,
            password_url=self.password_url,
            directory=self.directory,
            log=self.log,
        )
        return name

    async def check_password(self, typed: str, passwords: list[str], address: str = "") -> str:
        """Return the account's name if the password is right.

        Raises
        ------
        RefusedError
            It is not, or the account may not be used; the message says why.
        """
        begin = time.monotonic()
        try:
            return await self._in_thread(self._check, typed, passwords, address)
        except WrongPasswordError:
            await asyncio.sleep(self.refusal_s - (time.monotonic() - begin))
            raise

    async def authenticate(self, handler: Any, data: dict[str, str]) -> str | None:
        """Return the account's name, or None for a wrong name or password, which the hub counts and explains itself."""
        passwords = [data[field] for field in ("password", "otp") if field in data]
        address = handler.request.remote_ip if handler is not None else ""
        try:
            name = await self.check_password(data.get("username", ""), passwords, address or "")
        except WrongPasswordError:
            return None
        self.remember(name)
        return name

    async def try_password(self, user: str, password: str, address: str = "") -> RefusedError | None:
        """Ask again for the password of a user who is logged in; return the refusal, None if it is right."""
        try:
            await self.check_password(user, [password], address)
        except WrongPasswordError:
            return RefusedError(_("The password is wrong."))
        except RefusedError as error:
            return error
        return None

    def get_handlers(self, app: Any) -> list[Any]:
        """Add what extends sessions, and the page of the ticket where there is one."""
        handlers: list[Any] = [*super().get_handlers(app), (r"/extend", ExtendHandler)]
        return [*handlers, (r"/ticket", TicketHandler, {"accounts": self})] if self.kerberos else handlers

    def remember(self, name: str) -> None:
        """Keep how the database of accounts writes a name, for `normalize_username`, which must not ask it again."""
        self._names[name.lower()] = name

    def normalize_username(self, username: str) -> str:
        """Return the name as the database of accounts writes it where that was asked, otherwise in lower case."""
        lower = username.lower()
        return str(self.username_map.get(lower, self._names.get(lower, lower)))

    # -- rights -----------------------------------------------------------------------------------------------------

    def check_allowed_groups(self, username: str, authentication: dict[str, Any] | None = None) -> bool:
        """Tell whether the account belongs to one of the groups that may log in; blocks."""
        belongs = in_groups(username, self.allowed_groups) if self.allowed_groups else False
        if belongs is None:
            self.log.error("Some of the groups %s are unknown to this machine", ", ".join(sorted(self.allowed_groups)))
        return bool(belongs)

    async def check_allowed(self, username: str, authentication: dict[str, Any] | None = None) -> bool:
        """Tell whether the account may log in.

        Raises
        ------
        NotAllowedError
            It may not, and its owner, whose password was right, waits for the answer.
        """
        if await self._in_thread(super().check_allowed, username, authentication):
            return True
        if authentication is None:
            return False
        self.log.warning("User %r is in none of the groups that may log in", username)
        raise NotAllowedError(username)

    async def is_admin(self, handler: Any, authentication: dict[str, Any]) -> bool | None:
        """Tell whether the account administers the hub; None, which changes nothing, where that cannot be known."""
        name = authentication["name"]
        if name in self.admin_users:
            return True
        if not self.admin_groups:
            return None
        belongs = await self._in_thread(in_groups, name, self.admin_groups)
        if belongs is None:
            self.log.error("Some of the groups %s are unknown to this machine", ", ".join(sorted(self.admin_groups)))
        return belongs

    def system_user_exists(self, user: Any) -> Any:
        """Tell whether the machine has the account, without holding up the hub while a directory is asked."""
        return self._in_thread(functools.partial(super().system_user_exists, user))
