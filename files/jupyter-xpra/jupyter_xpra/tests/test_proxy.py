"""The way to a display through the Jupyter server."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from jupyter_xpra import client_page, proxy
from jupyter_xpra.proxy import CONNECTION, is_input
from jupyter_xpra.tests.staged_server import TOKEN, Server, short_directory

WWW = Path("/usr/share/xpra/www")


@pytest.fixture(scope="module")
def echoing() -> Iterator[Server]:
    """A server whose displays echo."""
    directory = short_directory()
    programs = directory / "bin"
    programs.mkdir()
    fake = programs / "xpra"
    fake.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("fake_xpra.py")} "$@"\n')
    fake.chmod(0o755)
    running = Server(directory, base_url="/hub/user/b-1/")
    running.environment["PATH"] = f"{programs}:{os.environ['PATH']}"
    running.start()
    yield running
    running.stop()
    shutil.rmtree(directory)


@pytest.fixture
async def display(echoing: Server) -> Any:
    made = await echoing.create()
    yield made
    await echoing.delete(made)


async def test_page_of_the_client(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    display = await server.create()
    status, page = await server.request("GET", display["url"])
    shipped = (WWW / "index.html").read_bytes()
    rewritten = client_page.rewrite(shipped, WWW)
    assert status == 200 and page.encode() == rewritten.replace(b"</head>", CONNECTION.encode() + b"</head>")
    async with server.client() as client, client.get(server.url(display["url"])) as answer:
        assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'self'"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    async with server.client() as client, client.get(server.url("xpra/static/connection.js")) as answer:
        assert await answer.read() == (Path(proxy.__file__).parent / "static" / "connection.js").read_bytes()
    directory = display["url"]
    async with server.client() as client:
        for file in ("js/Client.js", "css/client.css", "favicon.png"):
            async with client.get(server.url(directory + file)) as answer:
                assert answer.status == 200
                assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'self'"
                assert await answer.read() == (WWW / file).read_bytes()
                assert "max-age=315360000" in answer.headers["Cache-Control"]
        async with client.get(server.url(f"{directory}no/such/file")) as answer:
            assert answer.status == 404
        # What draws the windows: a WebSocket with Xpra itself, whose first word is a packet's P.
        url = server.url(directory, "ws")
        async with client.ws_connect(url, protocols=["binary"], max_msg_size=0) as connection:
            assert connection.protocol == "binary"
            path = f"xpra/api/displays/{display['id']}"
            while (await server.request("GET", path))[1]["clients"] != 1:
                await asyncio.sleep(0.05)
            await server.delete(display)
            message = await connection.receive()
            while message.type == aiohttp.WSMsgType.BINARY:
                message = await connection.receive()
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 4410)


async def test_page_has_all_its_files_while_xpra_is_busy(server: Server) -> None:
    display = await server.create()
    xpra = server.pids(display)["xpra"]
    os.kill(xpra, signal.SIGSTOP)
    try:
        _status, page = await server.request("GET", display["url"])
        # The page's other sources are comments and what we add.
        files = re.findall(r'(?:src|href)="(\.\./client/[^"]+)"', page)
        assert len(files) > 20
        async with server.client() as client:
            for file in files:
                async with client.get(server.url(display["url"] + file)) as answer:
                    assert answer.status == 200
                    assert await answer.read() == (WWW / file.removeprefix("../client/").partition("?")[0]).read_bytes()
    finally:
        os.kill(xpra, signal.SIGCONT)
    await server.delete(display)


def test_every_file_of_the_page_may_be_kept() -> None:
    head = client_page.rewrite((WWW / "index.html").read_bytes(), WWW).partition(b"</head>")[0]
    shown = re.sub(rb"<!--.*?-->", b"", head, flags=re.DOTALL)
    named = re.findall(rb'<(?:script|link)[^>]+(?:src|href)="([^"]+)"', shown)
    assert named and all(name.startswith((b"../client/", b"../static/")) for name in named), named


@pytest.mark.parametrize("path", ["../../../../etc/passwd", "/etc/passwd", "js/../index.html", ".hidden", "js", ""])
def test_no_other_file_has_an_address(path: str) -> None:
    assert client_page.address(path, WWW) is None


async def test_without_token_a_page_sends_to_the_login(server: Server) -> None:
    display = await server.create()
    async with server.client(None) as client:
        async with client.get(server.url(display["url"]), allow_redirects=False) as answer:
            assert answer.status == 302 and answer.headers["Location"].startswith("/user/alice/login?next=")
        directory = display["url"]
        async with client.get(server.url(f"{directory}js/Client.js"), allow_redirects=False) as answer:
            assert answer.status == 403
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect(server.url(directory, "ws"), protocols=["binary"])
        assert refused.value.status == 403
    # A page of another site, in the browser of somebody who is logged in.
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        async with browser.get(server.url(f"api?token={TOKEN}")) as answer:
            assert answer.status == 200
        url = server.url(directory, "ws")
        async with browser.ws_connect(url, protocols=["binary"], origin=server.url("/").rstrip("/")):
            pass
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await browser.ws_connect(url, protocols=["binary"], origin="https://evil.example")
        assert refused.value.status == 403
    await server.delete(display)


async def test_xpra_does_not_see_the_keys_to_jupyter(echoing: Server, display: dict[str, Any]) -> None:
    url = echoing.url(f"{display['url']}websocket?token={TOKEN}", "ws")
    headers = {"Cookie": "session=secret", "Authorization": f"token {TOKEN}"}
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(url, protocols=["binary"], headers=headers) as connection,
    ):
        await connection.send_str("request")
        seen = await connection.receive_json()
    assert seen["uri"] == "/websocket"
    assert {"Cookie", "Authorization"} & set(seen["headers"]) == set()
    assert TOKEN not in str(seen)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_only_reading(echoing: Server, display: dict[str, Any], method: str) -> None:
    assert (await echoing.request(method, display["url"]))[0] == 405


async def test_messages_of_any_size(echoing: Server, display: dict[str, Any]) -> None:
    url = echoing.url(f"{display['url']}websocket", "ws")
    async with echoing.client() as client, client.ws_connect(url, protocols=["binary"], max_msg_size=0) as connection:
        for message in (b"", b"\0" * 100, os.urandom(40 * 2**20)):
            await connection.send_bytes(message)
            assert await connection.receive_bytes() == message
        await connection.send_str("привет")
        assert await connection.receive_str() == "привет"


async def test_many_messages_keep_their_order(echoing: Server, display: dict[str, Any]) -> None:
    url = echoing.url(f"{display['url']}websocket", "ws")
    async with echoing.client() as client, client.ws_connect(url, protocols=["binary"]) as connection:
        for number in range(500):
            await connection.send_bytes(number.to_bytes(4) * 1000)
        for number in range(500):
            assert (await connection.receive_bytes())[:4] == number.to_bytes(4)


@pytest.mark.parametrize("code", [1000, 1011, 4001])
async def test_close_code_is_passed_on(echoing: Server, display: dict[str, Any], code: int) -> None:
    url = echoing.url(f"{display['url']}websocket", "ws")
    async with echoing.client() as client, client.ws_connect(url, protocols=["binary"]) as connection:
        await connection.send_str(f"close {code}")
        message = await connection.receive()
        assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, code, "as asked")


async def test_what_the_user_does_is_activity(echoing: Server, display: dict[str, Any]) -> None:
    url = echoing.url(f"{display['url']}websocket", "ws")
    api = f"xpra/api/displays/{display['id']}"

    async def activity() -> tuple[str, str]:
        display_ = (await echoing.request("GET", api))[1]
        return display_["last_activity"], (await echoing.request("GET", "api/status"))[1]["last_activity"]

    async with echoing.client() as client, client.ws_connect(url, protocols=["binary"]) as connection:
        before = await activity()
        await asyncio.sleep(1.1)
        await connection.send_bytes(b"P\0\0\0\0\0\0\x10\xc4\x04ping\x01")
        await connection.receive_bytes()
        assert await activity() == before
        await connection.send_bytes(b"P\0\0\0\0\0\0\x10\xc4\x0akey-action\x01")
        await connection.receive_bytes()
        after = await activity()
        assert after[0] > before[0] and after[1] > before[1]


def test_input_is_named_at_the_start_of_a_packet() -> None:
    assert is_input(b"P\0\0\0\0\0\0\x10\xc4\x8dbutton-action\x01")
    assert not is_input(b"P\0\0\0\0\0\0\x10\xc4\x8fclipboard-token" + b" " * 64 + b"key-action")
    assert not is_input("key-action")
