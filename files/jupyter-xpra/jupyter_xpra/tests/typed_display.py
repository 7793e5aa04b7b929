"""A display for tests: Xpra on a unix socket, and before it the least that serves the page, with ours in it."""

import asyncio
import contextlib
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from jupyter_xpra.client_page import rewrite
from jupyter_xpra.manager import XRESOURCES

PACKAGE = Path(__file__).parents[1]
PROGRAM = Path(__file__).with_name("typed_program.py")
XVFB = "Xvfb +extension Composite -screen 0 1920x1080x24+32 -dpi 96 -nolisten tcp -noreset -auth $XAUTHORITY"
XTERM = "xterm -u8 -e"
OFF = "mdns systemd-run pulseaudio notifications webcam printing dbus-control file-transfer"
# In the page, when keys have a window to go to; the client of Xpra 6 calls it otherwise.
READY = "typeof client === 'object' && client?.connected && (client.focused_wid ?? client.topwindow)"
TYPES = {".js": "text/javascript", ".css": "text/css"}


T = TypeVar("T")


class UnixConnection(http.client.HTTPConnection):
    """Speak HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class Display:
    """One Xpra with one of the typed programs, reached over HTTP on loopback.

    Parameters
    ----------
    program
        ``xterm``, ``gtk`` or ``qt``.
    """

    def __init__(self, program: str) -> None:
        self.program = program
        # A socket's path is short, pytest's directories are not.
        self.directory = Path(tempfile.mkdtemp(prefix="keyboard-"))
        self.socket = self.directory / "x.sock"
        self.typed = self.directory / "typed.json"
        self.log = self.directory / "log"

    def __enter__(self) -> Self:
        (self.directory / "empty").mkdir()
        command = ["/usr/bin/python3", str(PROGRAM), self.program, str(self.typed)]
        if self.program == "xterm":
            command = [*shlex.split(XTERM), *command]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "XDG_RUNTIME_DIR": str(self.directory),
            "TMPDIR": str(self.directory),
            "LANG": "C.UTF-8",
            "XENVIRONMENT": str(XRESOURCES),
            # Debian's own would start a whole session.
            "XPRA_SYSTEM_CONF_DIRS": str(self.directory / "empty"),
            "XPRA_DEFAULT_CONF_DIRS": str(self.directory / "empty"),
        }
        with self.log.open("wb") as log:
            self.xpra = subprocess.Popen(
                ["xpra", "start", "--daemon=no", f"--bind={self.socket}", "--html=on", "--socket-permissions=600",
                 f"--socket-dir={self.directory}/xpra", *(f"--{option}=no" for option in OFF.split()), "--dbus-launch=",
                 "--speaker=disabled", "--microphone=disabled", f"--xvfb={XVFB}", f"--start={shlex.join(command)}"],
                env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        try:
            self.wait(self.answers, 20, "Xpra does not answer")
            self.wait(lambda: self.typed.exists() or None, 20, "the program does not start")
            self.server = asyncio.run_coroutine_threadsafe(self.serve(), self.loop).result()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/xpra/1/"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error:
            print(self.log.read_text(errors="replace")[-8000:])
        self.xpra.send_signal(signal.SIGTERM)
        try:
            self.xpra.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.xpra.pid, signal.SIGKILL)
            self.xpra.wait()
        # Not closed one by one: the connections end with the loop's thread.
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        shutil.rmtree(self.directory)

    def wait(self, condition: Callable[[], T | None], seconds: float, failure: str) -> T:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.xpra.poll() is None, f"Xpra has ended:\n{self.log.read_text()}"
            if (found := condition()) is not None:
                return found
            time.sleep(0.03)
        raise AssertionError(f"{failure}:\n{self.log.read_text(errors='replace')[-1500:]}")

    def answers(self) -> bool | None:
        with contextlib.suppress(OSError):
            self.get("Info")
            return True
        return None

    def get(self, path: str) -> tuple[str, bytes]:
        connection = UnixConnection(self.socket)
        with contextlib.closing(connection):
            connection.request("GET", f"/{path}", headers={"Accept-Encoding": "identity"})
            answer = connection.getresponse()
            return answer.headers.get_content_type(), answer.read()

    def state(self) -> dict[str, Any]:
        """Tell what the program has got until now."""
        state: dict[str, Any] = json.loads(self.typed.read_text())
        return state

    def typed_after(self, before: str, length: int) -> str:
        """Wait until so many characters more have come, and a little for what should not come; return all of them."""

        def typed() -> str | None:
            text: str = self.state()["text"]
            return text if len(text) >= len(before) + length else None

        with contextlib.suppress(AssertionError):
            self.wait(typed, 5, "what was typed has not come")
        time.sleep(0.2)
        text: str = self.state()["text"]
        assert text.startswith(before)
        return text[len(before) :]

    async def serve(self) -> asyncio.Server:
        """Serve `/xpra/1/` from Xpra and `/xpra/static/` from the package, on a free port."""
        return await asyncio.start_server(self.answer, "127.0.0.1", 0)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ", 2)[1].partition("?")[0]
            if "upgrade: websocket" in head.lower():
                await self.splice(head.replace(path, "/", 1), reader, writer)
            elif path.startswith("/xpra/static/"):
                file = PACKAGE / "static" / Path(path).name
                self.reply(writer, TYPES.get(file.suffix, ""), file.read_bytes() if file.exists() else None)
            else:
                kind, body = await asyncio.to_thread(self.get, path.removeprefix("/xpra/1/"))
                # The client as shipped, to compare with: the page asked for with `?shipped`.
                if path == "/xpra/1/" and "shipped" not in head.split("\r\n", 1)[0]:
                    body = rewrite(body)
                self.reply(writer, kind, body)
            await writer.drain()
        writer.close()

    @staticmethod
    def reply(writer: asyncio.StreamWriter, kind: str, body: bytes | None) -> None:
        status = "404 Not Found" if body is None else "200 OK"
        body = body or b""
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)

    async def splice(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        xpra_reader, xpra_writer = await asyncio.open_unix_connection(str(self.socket))
        xpra_writer.write(head.encode())

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
            target.close()

        await asyncio.gather(copy(reader, xpra_writer), copy(xpra_reader, writer))
