"""Configure a hub on loopback whose sessions succeed, fail or linger as the user's name says.

Read by `jupyterhub -f`; what differs from one test run to another comes from the environment.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from typing import Any, ClassVar

from jupyterhub.proxy import Proxy
from jupyterhub.spawner import SimpleLocalProcessSpawner, SpawnException
from jupyterhub_sessions.pages import configure_pages
from traitlets.config import get_config

REASON = "Причина: память" if os.environ["STAGED_LANGUAGE"] == "ru" else "Reason: memory"
LOG = ["kernel: <first> line", "kernel: last line"]


class SpokenError(Exception):
    """A failure that the student may read."""

    jupyterhub_message = REASON


class StagedSpawner(SimpleLocalProcessSpawner):
    """Act a start without any process."""

    log_tail: Sequence[str] = ()
    stopped_reason = ""

    def load_state(self, state: dict[str, Any]) -> None:
        """Remember of the ended session what the real spawner would."""
        super().load_state(state)
        if self.user.name == "ended":
            self.stopped_reason = REASON

    async def start(self) -> str:
        """Fail or linger."""
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
        """Run only where a stop is to linger."""
        return None if self.user.name == "lingers" else 0

    async def stop(self, now: bool = False) -> None:
        """Linger."""
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


def options_form(spawner: StagedSpawner) -> str:
    """Offer a choice to one user only."""
    return '<select name="choice" class="form-select"></select>' if spawner.user.name == "chooses" else ""


c = get_config()
configure_pages(
    c, site_name="Лаборатория <β>", language=os.environ["STAGED_LANGUAGE"], support_contact="help@university.example"
)
c.JupyterHub.authenticator_class = "dummy"
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
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0, "slow_stop_timeout": 0}
c.Spawner.options_form = options_form
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
