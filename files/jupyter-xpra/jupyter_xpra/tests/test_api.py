"""The REST API and its events, over HTTP."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from yarl import URL

from jupyter_xpra.tests.staged_server import Server, assert_nothing_left


async def test_a_display_from_start_to_end(server: Server) -> None:
    async with server.events() as first, server.events() as second:
        async with (
            server.client() as client,
            client.post(server.url("xpra/api/displays"), json={"program": "xterm", "layouts": ["us", "ru"]}) as answer,
        ):
            assert answer.status == 201, await answer.text()
            display = await answer.json()
            assert answer.headers["Location"] == f"/user/alice/xpra/api/displays/{display['id']}"
        assert display["state"] == "running" and display["name"] == "Terminal" and display["command"] == ["xterm"]
        assert display["url"] == f"/user/alice/xpra/{display['id']}/"
        assert display["size"] == {"width": 1920, "height": 1080} and display["layouts"] == ["us", "ru"]
        assert display["id"] in [other["id"] for other in await server.displays()]

        number = server.number(display)
        for browser in (first, second):
            created = await browser.next()
            assert created["action"] == "created" and created["display"]["state"] == "starting"
            assert (await browser.wait_state(display["id"], "running"))["url"] == display["url"]

        path = f"xpra/api/displays/{display['id']}"
        status, changed = await server.request("PATCH", path, {"name": "Детектор 1"})
        assert status == 200 and changed["name"] == "Детектор 1"
        assert (await second.next())["display"]["name"] == "Детектор 1"
        assert (await server.request("GET", path))[1]["name"] == "Детектор 1"

        status, usage = await server.request("GET", f"{path}/usage")
        assert status == 200 and "xterm" in usage["programs"] and 20e6 < usage["memory"] < 500e6

        await server.delete(display)
        await assert_nothing_left(server, display, number, seconds=0)
        assert (await first.wait_state(display["id"], "ended"))["cause"] == "stopped"
        assert (await first.next())["action"] == "removed"
    assert (await server.request("GET", path))[0] == 404
    assert (await server.request("DELETE", path))[0] == 404


async def test_desktop_with_a_window_manager(server: Server) -> None:
    display = await server.create(kind="desktop", command="xterm", size={"width": 800, "height": 600})
    assert set(server.pids(display)) >= {"Xvfb", "xpra", "openbox", "xterm"}
    number = server.number(display)
    await server.delete(display)
    await assert_nothing_left(server, display, number, seconds=0)


async def test_desktop_changes_its_size(server: Server) -> None:
    display = await server.create(kind="desktop", size={"width": 1000, "height": 800})
    path = f"xpra/api/displays/{display['id']}"

    def dimensions() -> str:
        authority = server.displays_directory / display["id"] / "Xauthority"
        environment = {"PATH": "/usr/bin", "DISPLAY": f":{server.number(display)}", "XAUTHORITY": str(authority)}
        told = subprocess.run(["xdpyinfo"], env=environment, capture_output=True, text=True, check=True).stdout
        return told.partition("dimensions:")[2].split()[0]

    assert dimensions() == "1000x800"
    for width, height in ((640, 480), (1000, 800), (640, 480), (801, 603)):
        size = {"width": width, "height": height}
        status, body = await server.request("PATCH", path, {"size": size})
        assert (status, body.get("size")) == (200, size), body
        assert dimensions() == f"{width}x{height}"
    status, body = await server.request("PATCH", path, {"name": "larger", "size": {"width": 1001, "height": 800}})
    assert status == 409 and "started with 1000 × 800" in body["message"]
    body = (await server.request("GET", path))[1]
    assert body["name"] == "openbox" and body["size"] == {"width": 801, "height": 603}
    await server.delete(display)


async def test_status(server: Server) -> None:
    status, body = await server.request("GET", "xpra/api/status")
    assert status == 200 and body["problem"] == "" and re.fullmatch(r"\d+\.\d+", body["xpra"])
    assert body["programs"] == [
        {"name": "xterm", "title": "Terminal", "icon": "", "kind": "seamless", "available": True}
    ]
    assert {"us", "ru", "us(dvorak)"} <= set(body["layouts"])


BAD_WISHES: list[tuple[Any, int, str]] = [
    ({"kind": "window"}, 400, "seamless or desktop"),
    ({"command": "no-such-program"}, 400, "no program 'no-such-program'"),
    ({"command": ["/etc/passwd"]}, 400, "no program '/etc/passwd'"),
    ({"command": "xterm '"}, 400, "cannot be read"),
    ({"command": ["xterm", 1]}, 400, "list of words"),
    ({"program": "paraview"}, 400, "not on offer"),
    ({"program": ["xterm"]}, 400, "not on offer"),
    ({"program": "xterm", "command": "xterm"}, 400, "not for both"),
    ({"command": ["sh", "-c", "echo needs a licence >&2; exit 3"]}, 422, "exit code 3"),
    ({"command": "true"}, 422, "was closed"),
    ({"layouts": ["xx"]}, 400, "no keyboard layout 'xx'"),
    ({"layouts": ["us(nothing)"]}, 400, "no keyboard layout"),
    ({"layouts": "us"}, 400, "as a list"),
    ({"layouts": ["us", "ru", "de", "fr", "es"]}, 400, "at most 4"),
    ({"size": {"width": 0, "height": 0}}, 400, "sizes go from 320 × 200 to 7680 × 4320"),
    ({"size": {"width": 100000, "height": 1000}}, 400, "sizes go from"),
    ({"size": {"width": True, "height": 1000}}, 400, "given as"),
    ({"size": [800, 600]}, 400, "given as"),
    ({"name": "<b>bold</b>"}, 400, "must not contain"),
    ({"name": "../../etc/passwd"}, 400, "must not contain"),
    ({"name": "two\u0000"}, 400, "must not contain"),
    ({"name": " "}, 400, "not empty"),
    ({"name": "x" * 61}, 400, "at most 60"),
    ({"id": "12345678"}, 400, "has no 'id'"),
    ([], 400, "JSON object"),
    ("xterm", 400, "JSON object"),
]


@pytest.mark.parametrize(("wish", "expected", "said"), BAD_WISHES, ids=[str(wish)[:40] for wish, *_ in BAD_WISHES])
async def test_bad_wish(server: Server, wish: Any, expected: int, said: str) -> None:
    before = await server.displays()
    status, body = await server.request("POST", "xpra/api/displays", wish)
    assert (status, said in body["message"]) == (expected, True), body
    if expected == 422:
        assert body["cause"] in {"program", "closed"}
    if "licence" in str(wish):
        assert "needs a licence" in body["log"]
    assert await server.displays() == before
    assert [path for path in server.displays_directory.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'"' + b"x" * 70000 + b'"'])
async def test_body_that_is_not_json(server: Server, body: bytes) -> None:
    async with server.client() as client, client.post(server.url("xpra/api/displays"), data=body) as answer:
        assert answer.status == 400 and (await answer.json())["message"] == "The body of the request is not JSON."


async def test_unknown_id(server: Server) -> None:
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/usage"), ("GET", "/thumbnail")):
        body: Any = {} if method == "PATCH" else None
        status, answer = await server.request(method, f"xpra/api/displays/00000000{path}", body)
        assert status == 404 and "There is no display 00000000" in answer["message"]
    status, text = await server.request("GET", "xpra/00000000/")
    assert status == 404 and "There is no display 00000000" in text


@pytest.mark.parametrize("name", ["..%2f..%2fetc", "x", "%00000000", "00000000%2f.."])
async def test_id_that_is_none(server: Server, name: str) -> None:
    async with server.client() as client:
        for path in (f"xpra/api/displays/{name}", f"xpra/{name}/", f"xpra/static/{name}", f"xpra/client/{name}"):
            # Jupyter takes the slash from the end of what it does not know.
            async with client.get(URL(server.url(path), encoded=True)) as answer:
                assert answer.status in {403, 404}


async def test_bad_change_changes_nothing(server: Server) -> None:
    display = await server.create()
    path = f"xpra/api/displays/{display['id']}"
    for change in ({"name": "<x>"}, {"name": "good", "layouts": ["xx"]}, {"state": "ended"}, {"default": False}):
        status, body = await server.request("PATCH", path, change)
        assert status == 400 and body["message"]
    assert (await server.request("GET", path))[1] == display
    await server.delete(display)


async def test_too_many(own_server: Server) -> None:
    own_server.settings["DisplayManager"]["max_displays"] = 1
    own_server.start()
    await own_server.create()
    status, body = await own_server.request("POST", "xpra/api/displays", {})
    assert status == 409 and "You have 1 display, and no more" in body["message"]


def routes() -> list[tuple[str, str]]:
    """List every route with every method that it has."""
    from jupyter_xpra.handlers import api_handlers
    from jupyter_xpra.manager import DisplayManager
    from jupyter_xpra.proxy import proxy_handlers

    manager = DisplayManager()
    found = []
    handlers: list[tuple[str, Any, Any]] = [*api_handlers(manager), *proxy_handlers(manager)]
    for path, handler, _arguments in handlers:
        path = re.sub(r"\(\?P<display_id>[^)]*\)|\(\[0-9a-f\]\{8\}\)", "01234567", path)
        path = path.replace("(?P<path>.*)", "file.js")
        path = re.sub("(static|client)/.*", r"\1/file.js", path)
        assert "(" not in path
        found += [(method, path.lstrip("/")) for method in handler.SUPPORTED_METHODS]
    return found


@pytest.mark.parametrize(("method", "path"), routes())
@pytest.mark.parametrize("token", [None, "of-another-user"])
async def test_every_route_asks_who_it_is(server: Server, method: str, path: str, token: str | None) -> None:
    async with server.client(token) as client, client.request(method, server.url(path), json={}) as answer:
        if method == "OPTIONS" and answer.status in {200, 204}:
            # Tells nothing but which methods there are, so that browsers can ask before they send a token.
            assert await answer.read() == b""
        else:
            assert answer.status in ({403} if method in {"GET", "POST", "PATCH", "DELETE"} else {403, 405})


@pytest.mark.parametrize(
    "path", ["xpra/01234567/", "xpra/01234567/websocket", "xpra/static/x", "xpra/client/x", "xpra/api/displays"]
)
@pytest.mark.parametrize("token", [None, "of-another-user"])
async def test_every_websocket_asks_who_it_is(server: Server, path: str, token: str | None) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    headers["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    async with server.client(token) as client, client.get(server.url(path), headers=headers) as answer:
        assert answer.status == 403


def test_openapi_describes_the_routes() -> None:
    described = yaml.safe_load((Path(__file__).parents[1] / "openapi.yaml").read_text())
    from jupyter_xpra.handlers import api_handlers
    from jupyter_xpra.manager import DisplayManager

    there = {}
    for path, handler, _arguments in api_handlers(DisplayManager()):
        name = path.replace("([0-9a-f]{8})", "{id}")
        there[name] = {method for method in ("get", "post", "patch", "put", "delete") if method in vars(handler)}
    methods = {path: {method for method in item if method != "parameters"} for path, item in described["paths"].items()}
    assert methods == there
