"""Give the hub our pages: templates, logo, language."""

import contextvars
import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment
from jinja2.ext import InternationalizationExtension
from jupyterhub.spawner import SpawnException
from jupyterhub.utils import url_escape_path, url_path_join
from tornado.httputil import url_concat
from tornado.web import HTTPError
from traitlets.config import Config

from jupyterhub_sessions import announcements, i18n, upstream
from jupyterhub_sessions.choices import KINDS, gib
from jupyterhub_sessions.homes import TEMPORARY_HOME
from jupyterhub_sessions.i18n import decimal
from jupyterhub_sessions.i18n import gettext as _

PACKAGE = Path(__file__).parent
TEMPLATES = PACKAGE / "templates"
DEFAULT_LOGO = PACKAGE / "static" / "cygnet.svg"


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a request asked for: a session with options, by a form or an address."""

    spawner: Any
    options: Mapping[str, Any]


#: Of the request that is being answered. The hub shows the form again after a refusal, and tells neither the page nor
#: the spawner what was refused or, for a session with a name, which session it was.
asked: contextvars.ContextVar[Asked | None] = contextvars.ContextVar("asked", default=None)


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a session could not be started, for a student to read.

    `html` is set by the spawner and trusted, as upstream trusts it; `message` and `log` are escaped by the template.
    `temporary_home_url` starts the session with a temporary home; empty where that would not help.
    """

    message: str
    html: str = ""
    log: str = ""
    temporary_home_url: str = ""


def describe_failure(exception: BaseException | None, spawner: Any = None) -> Failure:
    """Say why a start failed.

    Only texts meant for people are shown: `jupyterhub_message` or `jupyterhub_html_message` of the exception, a
    SpawnException's message, an HTTP error's message. Any other exception is for the hub's log.

    Parameters
    ----------
    exception
        What `Spawner.start` raised.
    spawner
        The spawner, or None. The last lines of the session's log are its attribute `log_tail`, or the exception's:
        a string or a list of lines. Its attribute `offers_temporary_home` tells whether one would help.
    """
    html = getattr(exception, "jupyterhub_html_message", "") or getattr(exception, "message_html", "")
    message = getattr(exception, "jupyterhub_message", "")
    if not message and isinstance(exception, SpawnException):
        message = exception.message
    elif not message and isinstance(exception, HTTPError):
        message = upstream.translate(exception.get_message())
    elif not message and isinstance(exception, TimeoutError):
        message = _("The session did not answer in time. The server may be busy; please try again in a minute.")
    if not message:
        message = _("The session could not be started because of an error in the service.")
    log = getattr(exception, "log_tail", "") or getattr(spawner, "log_tail", "") or ""
    if not isinstance(log, str):
        log = "\n".join(log)
    url = ""
    if getattr(spawner, "offers_temporary_home", False):
        path = url_path_join(spawner.hub.base_url, "spawn", spawner.user.escaped_name, url_escape_path(spawner.name))
        options = {**spawner.user_options, "home": TEMPORARY_HOME}
        url = url_concat(path, {f"opt-{name}": value for name, value in options.items()})
    return Failure(message=message, html=html or "", log=log.strip(), temporary_home_url=url)


def asked_failure() -> Failure | None:
    """Return why the start failed that this request asked for, None where it did not."""
    request = asked.get()
    if request is None or not request.spawner._failed:
        return None
    return describe_failure(request.spawner._spawn_future.exception(), request.spawner)


async def memory_in_use(spawner: Any) -> str:
    """Return for people how much memory a session uses; empty where it is not known."""
    used = await spawner.memory_in_use() if hasattr(spawner, "memory_in_use") else None
    return "" if used is None else gib(used)


def moment(seconds: float) -> str:
    """Write seconds since the epoch as the pages' scripts read them."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def latest_failure(user: Any) -> Failure | None:
    """Return the failure of the user's only failed session.

    The page of a start that fails within a second is the error page, which upstream does not tell the session's name:
    with two failed sessions none can be shown.
    """
    failed = [spawner for spawner in user.spawners.values() if spawner._failed]
    if len(failed) != 1:
        return None
    return describe_failure(failed[0]._spawn_future.exception(), failed[0])


class PagesExtension(InternationalizationExtension):
    """Teach the hub's template environments our language and helpers.

    An extension is the only way in: the hub builds two environments (one of them synchronous, for error pages) and
    hands neither out. The callables look up the active language when a page is rendered.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.policies["ext.i18n.trimmed"] = True
        install: Any = environment
        install.install_gettext_callables(i18n.gettext, i18n.ngettext, newstyle=True)
        environment.filters["upstream"] = upstream.translate
        environment.globals["script_sentences"] = upstream.script_sentences
        environment.globals["announcement_text"] = announcements.announcement
        environment.globals["asked_failure"] = asked_failure
        environment.globals["describe_failure"] = describe_failure
        environment.globals["gib"] = gib
        environment.globals["decimal"] = decimal
        environment.globals["kinds"] = KINDS
        environment.globals["latest_failure"] = latest_failure
        environment.globals["memory_in_use"] = memory_in_use
        environment.globals["moment"] = moment


def support_link(contact: str) -> Mapping[str, str]:
    """Return text and address of the support contact: an e-mail address, a web address, or any other text."""
    contact = contact.strip()
    if contact.startswith(("https://", "http://")):
        return {"text": contact.split("://", 1)[1].rstrip("/"), "href": contact}
    if "@" in contact and " " not in contact:
        return {"text": contact, "href": f"mailto:{contact}"}
    return {"text": contact, "href": ""}


def configure_pages(
    c: Config,
    *,
    site_name: str,
    language: str,
    support_contact: str = "",
    logo_file: str = "",
    kerberos: bool = False,
) -> None:
    """Set what the hub needs to show our pages; called in jupyterhub_config.py.

    Parameters
    ----------
    c
        The hub's configuration.
    site_name
        The service's name as students know it: title of every page and of the login form.
    language
        One of `i18n.LANGUAGES`; also the language of the spawner's messages.
    support_contact
        Where students turn to: an e-mail address, a web address or other text. Empty: no contact is shown.
    logo_file
        Absolute path of the site's logo (SVG or PNG, about square). Empty: ours.
    kerberos
        Whether there is a page of the Kerberos ticket.

    Raises
    ------
    ValueError
        If the language is not one of `i18n.LANGUAGES`.
    """
    i18n.set_language(language)
    c.JupyterHub.template_paths = [str(TEMPLATES)]
    c.JupyterHub.template_vars = {
        "site_name": site_name,
        "language": language,
        "support": support_link(support_contact),
        "kerberos": kerberos,
    }
    c.JupyterHub.logo_file = logo_file or str(DEFAULT_LOGO)
    c.JupyterHub.jinja_environment_options = {"extensions": [PagesExtension]}
