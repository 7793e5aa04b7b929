"""What the hub learns from its proxy."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from jupyterhub_sessions.proxy import StandingProxy


async def test_traffic_is_no_activity(monkeypatch: pytest.MonkeyPatch) -> None:
    """An open page that nobody looks at does not keep a session from being culled."""
    known = {
        "/user/alice/": {
            "target": "http+unix://socket",
            "user": "alice",
            "server_name": "",
            "jupyterhub": True,
            "last_activity": "2026-11-24T12:00:00.000Z",
        }
    }

    async def answer(*_arguments: Any, **_options: Any) -> Any:
        async def read() -> Any:
            return json.loads(json.dumps(known))

        return SimpleNamespace(json=read)

    monkeypatch.setattr(StandingProxy, "api_request", answer)
    monkeypatch.setattr(StandingProxy, "_watch_routes", answer)
    proxy = StandingProxy(app=SimpleNamespace(subdomain_host=""), auth_token="x")
    routes = await proxy.get_all_routes()
    await proxy._watch
    assert routes["/user/alice/"]["data"] == {"user": "alice", "server_name": ""}
