"""Run jupyterhub-idle-culler against a hub that listens on a unix socket.

Its HTTP client, Tornado's, knows TCP only. Resolving every name to the socket is the one hook that Tornado offers.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any
from urllib.parse import unquote, urlsplit

from jupyterhub_idle_culler import main as cull_idle
from tornado.netutil import Resolver


class HubSocketResolver(Resolver):
    """Resolve any host to the hub's socket."""

    def initialize(self, path: str = "") -> None:
        """Keep the path of the socket."""
        self.path = path

    async def resolve(self, host: str, port: int, family: Any = socket.AF_UNSPEC) -> list[tuple[int, Any]]:
        """Answer with the one address there is."""
        return [(socket.AF_UNIX, self.path)]


def main() -> None:
    """Point the culler at the hub's socket and run it; its options are passed through."""
    api = urlsplit(os.environ["JUPYTERHUB_API_URL"])
    if api.scheme == "http+unix":
        Resolver.configure(HubSocketResolver, path=unquote(api.netloc))
        sys.argv.append(f"--url=http://hub{api.path}")
    cull_idle()


if __name__ == "__main__":
    main()
