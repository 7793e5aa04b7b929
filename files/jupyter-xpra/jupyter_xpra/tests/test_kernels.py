"""Kernels and terminals know the user's display."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from jupyter_xpra import use
from jupyter_xpra.tests.staged_server import Server

USE_DISPLAY = [sys.executable, "-c", "from jupyter_xpra.use import main; main()"]


class Kernel:
    """A kernel of the server, spoken to as a notebook does."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self.connection = connection

    async def run(self, code: str) -> str:
        """Run code, and return what it wrote."""
        message_id = uuid.uuid4().hex
        header = {"msg_id": message_id, "msg_type": "execute_request", "username": "", "session": "s", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": True}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        await self.connection.send_json(message)
        written = ""
        async with asyncio.timeout(60):
            while True:
                answer = await self.connection.receive_json()
                if answer["parent_header"].get("msg_id") != message_id:
                    continue
                if answer["msg_type"] == "stream":
                    written += answer["content"]["text"]
                elif answer["msg_type"] == "error":
                    written += "\n".join(answer["content"]["traceback"])
                elif answer["msg_type"] == "status" and answer["content"]["execution_state"] == "idle":
                    return written


async def start_kernel(server: Server, client: aiohttp.ClientSession) -> Kernel:
    status, kernel = await server.request("POST", "api/kernels", {"name": "python3"})
    assert status == 201, kernel
    return Kernel(await client.ws_connect(server.url(f"api/kernels/{kernel['id']}/channels", "ws"), max_msg_size=0))


ASK = "import os; print(os.environ.get('DISPLAY'), os.environ.get('XAUTHORITY'))"


async def test_kernels(own_server: Server) -> None:
    config = own_server.directory / "ipython" / "profile_default"
    config.mkdir(parents=True)
    # What the package puts into its environment.
    name = "ipython_kernel_config.json"
    (config / name).write_text((Path(__file__).parents[2] / "jupyter-config" / name).read_text())
    own_server.start()
    async with own_server.client() as client:
        early = await start_kernel(own_server, client)
        assert await early.run(ASK) == "None None\n"
        # The first use makes a display.
        assert "Windows open on the display Display" in await early.run("%display")
        (display,) = await own_server.displays()
        assert display["default"] and display["name"] == "Display"
        number = own_server.number(display)
        name, authority = (await early.run(ASK)).split()
        assert name == f":{number}"
        assert "name of display" in await early.run("!xdpyinfo | head -1")
        assert "*VT100.selectToClipboard:\ttrue" in await early.run("!appres XTerm")

        # One that is started now has it from its start; so has a terminal.
        late = await start_kernel(own_server, client)
        assert (await late.run(ASK)).split() == [name, authority]
        status, terminal = await own_server.request("POST", "api/terminals")
        assert status == 200
        url = own_server.url(f"terminals/websocket/{terminal['name']}", "ws")
        async with client.ws_connect(url) as connection:
            await connection.send_json(["stdin", "echo is:$DISPLAY: is; xdpyinfo | head -1\r"])
            seen = ""
            async with asyncio.timeout(20):
                while f"is:{name}: is" not in seen or "name of display:    " not in seen:
                    message = await connection.receive_json()
                    seen += message[1] if message[0] == "stdout" else ""
        assert (await own_server.request("DELETE", f"api/terminals/{terminal['name']}"))[0] == 204

        # Another one, by name, for a kernel that runs; and for all that come.
        second = await own_server.create(name="Вторая")
        second_name = f":{own_server.number(second)}"
        assert second_name != name and not second["default"]
        assert "Вторая" in await late.run("%display Вторая")
        assert (await late.run(ASK)).split()[0] == second_name
        assert (await early.run(ASK)).split()[0] == name
        assert "name of display" in await late.run("!xdpyinfo | head -1")
        assert [entry["default"] for entry in await own_server.displays()] == [False, True]
        assert "There is no display 'Третья'. Running: Display, Вторая." in await late.run("%display Третья")

        # Its end leaves new kernels without one.
        await own_server.delete(second)
        path = f"xpra/api/displays/{display['id']}"
        last = await start_kernel(own_server, client)
        assert await last.run(ASK) == "None None\n"
        assert (await own_server.request("PATCH", path, {"default": True}))[1]["default"]
        again = await start_kernel(own_server, client)
        assert (await again.run(ASK)).split()[0] == name


def run_use_display(server: Server, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # Opened a moment after the server's port.
    end = time.monotonic() + 20
    while not (sockets := list(server.displays_directory.glob("server-*.sock"))):
        assert time.monotonic() < end, server.log()
        time.sleep(0.05)
    (socket,) = sockets
    environment = server.environment | {use.SOCKET_VARIABLE: str(socket)} | variables
    return subprocess.run(
        [*USE_DISPLAY, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


async def test_use_display(server: Server) -> None:
    display = await server.create(name="with spaces")
    done = await asyncio.to_thread(run_use_display, server, "--display", "with spaces", "xdpyinfo")
    assert f"name of display:    :{server.number(display)}" in done.stdout, done.stderr
    done = await asyncio.to_thread(run_use_display, server)
    shell = subprocess.run(["sh", "-c", f"{done.stdout}\nxdpyinfo"], capture_output=True, text=True, check=True, env={})
    assert f":{server.number(display)}" in shell.stdout
    await server.delete(display)


async def test_two_at_once_get_the_same_new_display(own_server: Server) -> None:
    own_server.start()
    async with own_server.client():
        first = asyncio.to_thread(run_use_display, own_server, "printenv", "DISPLAY")
        second = asyncio.to_thread(run_use_display, own_server, "printenv", "DISPLAY")
        answers = await asyncio.gather(first, second)
    assert len({answer.stdout for answer in answers}) == 1 and answers[0].stdout.startswith(":")
    assert len(await own_server.displays()) == 1


async def test_use_display_refused(server: Server) -> None:
    done = await asyncio.to_thread(run_use_display, server, "--display", "no such", "true")
    assert done.returncode == 1 and "There is no display 'no such'" in done.stderr
    done = await asyncio.to_thread(run_use_display, server, "true", **{use.SOCKET_VARIABLE: ""})
    assert done.returncode == 1 and "no kernel or terminal of a Jupyter server" in done.stderr
    done = await asyncio.to_thread(run_use_display, server, "true", **{use.SOCKET_VARIABLE: "/nowhere"})
    assert done.returncode == 1 and "does not answer" in done.stderr


async def test_chosen_display_outlives_its_program(server: Server) -> None:
    display = await server.create(command=["xterm", "-e", "sleep", "3"])
    path = f"xpra/api/displays/{display['id']}"
    assert (await server.request("PATCH", path, {"default": True}))[0] == 200
    async with asyncio.timeout(20):
        while "sleep" in server.pids(display):
            await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)
    assert (await server.request("GET", path))[1]["state"] == "running"
    await server.delete(display)


def test_answer_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(use.SOCKET_VARIABLE, raising=False)
    with pytest.raises(use.UseError, match="no kernel or terminal"):
        use.use()


def test_magic_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    registered: dict[str, Any] = {}

    class Shell:
        def register_magic_function(self, function: Any, kind: str, name: str) -> None:
            registered[name] = function

    use.load_ipython_extension(Shell())
    monkeypatch.delenv(use.SOCKET_VARIABLE, raising=False)
    before = dict(os.environ)
    registered["display"]("")
    assert "no kernel or terminal" in capsys.readouterr().err and dict(os.environ) == before
