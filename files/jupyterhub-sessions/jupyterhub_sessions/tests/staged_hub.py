"""Configure a hub on loopback whose sessions succeed, fail or linger as the user's name says.

Read by `jupyterhub -f`; what differs from one test run to another comes from the environment.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from jupyterhub.auth import DummyAuthenticator
from jupyterhub.proxy import Proxy
from jupyterhub.spawner import SimpleLocalProcessSpawner, SpawnException
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from traitlets.config import get_config

from jupyterhub_sessions.accounts import RefusedError
from jupyterhub_sessions.extend_page import ExtendHandler
from jupyterhub_sessions.form import FormSpawner, redirect_with_options
from jupyterhub_sessions.pages import configure_pages
from jupyterhub_sessions.ticket_page import TicketHandler
from jupyterhub_sessions.tickets import Ticket, TicketError

REASON = "Причина: память" if os.environ["STAGED_LANGUAGE"] == "ru" else "Reason: memory"
LOG = ["kernel: <first> line", "kernel: last line"]


class SpokenError(Exception):
    """A failure that the student may read."""

    jupyterhub_message = REASON


PROFILES: list[dict[str, Any]] = [
    {"name": "small", "title": "Small", "memory_mb": 2048, "cpus": 1, "hours": 8, "max_hours": 12},
    {"name": "large", "title": "Large", "memory_mb": 4096, "cpus": 2.5},
    {"name": "exam", "title": "Exam", "memory_mb": 2**30, "cpus": 64, "groups": ["teachers", "administrators"]},
]


class Answer(RequestHandler):
    """Answer as a session does."""

    def get(self) -> None:
        """Give anything."""
        self.write("a session")


class StagedSpawner(FormSpawner, SimpleLocalProcessSpawner):
    """Act a start without any process.

    Users whose name begins with `picks` have a form, and sessions that answer.
    """

    log_tail: Sequence[str] = ()
    stopped_reason = ""
    _answers: HTTPServer | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.picks:
            self.kinds = ["lab", "notebook", "desktop"]
            self.profiles = PROFILES
            self.place = "hub.example.org"

    @property
    def picks(self) -> bool:
        """Tell whether the user has a choice."""
        return bool(self.user.name.startswith("picks"))

    def has_network_homes(self) -> bool:
        """Have homes on the network for some."""
        return "network" in self.user.name

    def belongs(self, groups: Iterable[str]) -> bool:
        """Have teachers, known by their names."""
        return "teachers" in groups and self.user.name.endswith("teacher")

    async def memory_in_use(self) -> int | None:
        """Have a session use some memory."""
        return 300 * 2**20

    def load_state(self, state: dict[str, Any]) -> None:
        """Remember of the ended session what the real spawner would."""
        super().load_state(state)
        if self.user.name == "ended":
            self.stopped_reason = REASON

    async def start(self) -> str:
        """Fail, linger or succeed."""
        if self.picks:
            profile = self.choice.profile
            assert profile
            if self.choice.kind.name == "desktop":
                self.log_tail = LOG
                raise SpokenError
            self.session = self.described(time.time())
            self._answers = HTTPServer(Application([(".*", Answer)]))
            sockets = bind_sockets(0, "127.0.0.1")
            self._answers.add_sockets(sockets)
            return f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        match self.user.name:
            case "refused":
                raise SpawnException(REASON, reason="staged")
            case "crashes":
                raise RuntimeError("internal matters")
            case "fails":
                await asyncio.sleep(1.5)
                self.log_tail = LOG
                raise SpokenError
            case "late":
                await asyncio.sleep(1.5)
                raise TimeoutError("internal matters")
        await asyncio.sleep(600)
        raise AssertionError

    async def progress(self) -> AsyncGenerator[dict[str, Any], None]:
        """Report an event of upstream's and linger."""
        async for event in super().progress():
            yield event
        await asyncio.sleep(600)

    async def poll(self) -> int | None:
        """Run only where a stop is to linger, or where there is a session."""
        return None if self.user.name == "lingers" or self._answers else 0

    async def stop(self, now: bool = False) -> None:
        """End what there is, or linger."""
        if self._answers:
            self._answers.stop()
            self._answers = None
            return
        await asyncio.sleep(600)


class NoProxy(Proxy):
    """Keep the routes and proxy nothing: the tests talk to the hub's port."""

    should_start = False
    routes: ClassVar[dict[str, dict[str, Any]]] = {}

    async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
        """Remember a route."""
        self.routes[routespec] = {"routespec": routespec, "target": target, "data": data}

    async def delete_route(self, routespec: str) -> None:
        """Forget a route."""
        self.routes.pop(routespec, None)

    async def get_all_routes(self) -> dict[str, dict[str, Any]]:
        """Return the routes."""
        return self.routes


class StagedTicketHandler(TicketHandler):
    """Show a ticket as the user's name says."""

    renewed: ClassVar[set[str]] = set()

    async def _ticket(self) -> Ticket | None:
        now = datetime.now(UTC)
        match self.current_user.name:
            case name if name == "fresh" or name in self.renewed:
                return Ticket(f"{name}@EXAMPLE.ORG", now, now + timedelta(hours=10), now + timedelta(days=7))
            case "short":
                return Ticket("short@EXAMPLE.ORG", now, now + timedelta(hours=10), now + timedelta(hours=10))
            case "stale" | "renews" | "late" as name:
                day = now.replace(hour=0, minute=0, second=0, microsecond=0)
                return Ticket(f"{name}@EXAMPLE.ORG", day - timedelta(days=2), day - timedelta(days=1), day)
            case "none":
                return None
        raise TicketError("klist could not be started")


class StagedAuthenticator(DummyAuthenticator):
    """Know one password, and the page of the ticket."""

    def get_handlers(self, app: Any) -> list[Any]:
        """Add the page."""
        pages = [(r"/ticket", StagedTicketHandler, {"accounts": self}), (r"/extend", ExtendHandler)]
        return [*super().get_handlers(app), *pages]

    async def try_password(self, user: str, password: str, address: str) -> RefusedError | None:
        """Refuse any other password; get a ticket for one user alone."""
        if password == "right" and user == "renews":
            StagedTicketHandler.renewed.add(user)
        return None if (password, address) == ("right", "127.0.0.1") else RefusedError(f"{REASON} ({user})")


c = get_config()
configure_pages(
    c,
    site_name="Лаборатория <β>",
    language=os.environ["STAGED_LANGUAGE"],
    support_contact="help@university.example",
    kerberos=True,
)
c.JupyterHub.authenticator_class = StagedAuthenticator
c.DummyAuthenticator.password = "right"
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {"chief"}
c.JupyterHub.allow_named_servers = True
c.JupyterHub.named_server_limit_per_user = 3
c.JupyterHub.spawner_class = StagedSpawner
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.hub_ip = "127.0.0.1"
c.JupyterHub.hub_port = int(os.environ["STAGED_PORT"])
c.JupyterHub.db_url = "sqlite:///hub.sqlite"
c.JupyterHub.cleanup_servers = False
c.JupyterHub.tornado_settings = {
    "slow_spawn_timeout": float(os.environ["STAGED_SLOW_START"]),
    "slow_stop_timeout": 0,
}
c.JupyterHub.user_redirect_hook = redirect_with_options
c.JupyterHub.services = [
    {
        "name": "quiz",
        "api_token": "0123456789abcdef",
        "oauth_client_id": "service-quiz",
        "oauth_redirect_uri": "http://127.0.0.1:9/quiz",
        "display": False,
    }
]
c.JupyterHub.load_roles = [{"name": "user", "scopes": ["self", "access:services!service=quiz", "shares!user"]}]
