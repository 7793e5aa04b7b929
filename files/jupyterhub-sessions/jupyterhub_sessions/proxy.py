"""Give the proxy its routes back as soon as it has restarted."""

from __future__ import annotations

import asyncio
from typing import Any

from jupyterhub.proxy import ConfigurableHTTPProxy
from traitlets import Float, default


class StandingProxy(ConfigurableHTTPProxy):
    """Configure a proxy that is a unit of its own and may restart at any time.

    The proxy keeps its routes in memory. JupyterHub by itself looks after a proxy that it did not start every five
    minutes only, and until then no session would be found.
    """

    check_routes_interval = Float(1.0, help="Seconds between two looks at whether the proxy has its routes.").tag(
        config=True
    )

    @default("should_start")
    def _never_start(self) -> bool:
        return False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._watch = asyncio.ensure_future(self._watch_routes())

    async def get_all_routes(self) -> dict[str, Any]:
        """Return the routes without what the proxy knows of activity.

        To the proxy an open page is activity, whether anybody looks at it or not. The sessions themselves report what
        their users do.
        """
        routes: dict[str, Any] = await super().get_all_routes()
        for route in routes.values():
            route["data"].pop("last_activity", None)
        return routes

    async def _watch_routes(self) -> None:
        known = False
        while True:
            await asyncio.sleep(self.check_routes_interval)
            try:
                present = self.app.hub.routespec in await self.get_all_routes()
                if known and not present:
                    self.log.warning("The proxy has restarted; giving it its routes back")
                    await self.check_routes(self.app.users, self.app._service_map)
                known = known or present
            except Exception as error:  # the proxy is down: systemd brings it back
                self.log.debug("The proxy does not answer: %s", error)
