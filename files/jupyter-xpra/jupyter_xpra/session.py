"""The processes of one display, as the Jupyter server sees them: started, adopted, watched and ended.

The supervisor is a process of its own, so that a display outlives the server by which it was started. The connection to
its control socket is what ties the two: its end tells either that the other has gone, whatever ended it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from . import runtime, supervisor
from .supervisor import descendants, kill

#: How long a supervisor may take to end its display, besides the time that its programs have, before it is killed.
STOP_SECONDS = 7.0
HELLO_SECONDS = 5.0


class SessionError(Exception):
    """There is nobody at the control socket, or another server's manager has it."""


class Session:
    """The link to one display's supervisor.

    Parameters
    ----------
    directory
        Of the display; its name is the display's id.
    notify
        Called with each message of the supervisor, the last of which is `{"event": "gone"}`: nothing is left then.
    grace_seconds
        How long the display's programs have to end by themselves.
    """

    def __init__(
        self, directory: Path, notify: Callable[[dict[str, Any]], Awaitable[None]], grace_seconds: float
    ) -> None:
        self.directory = directory
        self.id = directory.name
        self.number = 0
        self.pid = 0
        self.gone = asyncio.Event()
        self._notify = notify
        # It gives the time twice when it is ended by a signal.
        self._stop_seconds = 2 * grace_seconds + STOP_SECONDS
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    @staticmethod
    def listen(directory: Path) -> tuple[socket.socket, socket.socket]:
        """Make the control socket of a new display, and be the first who is connected to it.

        Returns
        -------
        tuple[socket.socket, socket.socket]
            What its supervisor inherits, and the connection.
        """
        path = str(directory / "control.sock")
        listener, connection = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        try:
            listener.bind(path)
            listener.listen(4)
            connection.connect(path)
        except OSError:
            listener.close()
            connection.close()
            raise
        return listener, connection

    async def start(self, listener: socket.socket, connection: socket.socket, plan: dict[str, Any]) -> None:
        """Start the supervisor with its plan, and hear of it."""
        fd = listener.fileno()
        try:
            log = os.open(self.directory / "log", os.O_WRONLY | os.O_APPEND)
        except OSError:
            listener.close()
            raise
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                supervisor.__file__,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
                pass_fds=[fd],
                start_new_session=True,
                cwd="/",
                env={"PATH": os.defpath, runtime.MARK: self.id},
            )
        finally:
            os.close(log)
            listener.close()
        assert process.stdin
        process.stdin.write(json.dumps(plan | {"directory": str(self.directory), "control": fd}).encode())
        process.stdin.close()
        await self.connect(connection)

    async def connect(self, connection: socket.socket | None = None) -> dict[str, Any]:
        """Hear of the supervisor, over a new connection or the given one, and return its first message.

        Raises
        ------
        SessionError
            It has ended, or obeys another manager.
        """
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                if connection:
                    reader, writer = await asyncio.open_unix_connection(sock=connection)
                else:
                    reader, writer = await asyncio.open_unix_connection(str(self.directory / "control.sock"))
                line = await reader.readline()
        except (OSError, TimeoutError) as error:
            raise SessionError(str(error) or "no answer") from error
        if not line:
            writer.close()
            raise SessionError("the supervisor has ended")
        hello: dict[str, Any] = json.loads(line)
        if hello["event"] != "hello":
            writer.close()
            raise SessionError(hello["event"])
        self.number, self.pid, self._writer = hello["number"], hello["pid"], writer
        self._reading = asyncio.create_task(self._read(reader))
        return hello

    async def _read(self, reader: asyncio.StreamReader) -> None:
        ending = False
        with contextlib.suppress(OSError):
            async for line in reader:
                message = json.loads(line)
                self.number = message.get("number", self.number)
                ending = ending or message["event"] == "ending"
                if message["event"] != "gone":
                    await self._notify(message)
        if not ending:
            reason = "What supervised the display was ended from outside."
            await self._notify({"event": "ending", "cause": "supervisor", "reason": reason})
        await self._finish()

    async def _finish(self) -> None:
        """See to it that nothing is left, then say so."""
        if self._writer:
            self._writer.close()
        await asyncio.to_thread(runtime.sweep, self.id, self.number)
        await self._notify({"event": "gone"})
        self.gone.set()

    def send(self, **message: Any) -> None:
        """Tell the supervisor something."""
        if self._writer and not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def stop(self, cause: str, reason: str) -> None:
        """End the display, and return when nothing of it is left."""
        if self._reading is None:
            await self._finish()
            return
        self.send(do="stop", cause=cause, reason=reason)
        try:
            async with asyncio.timeout(self._stop_seconds):
                await self.gone.wait()
        except TimeoutError:
            # One that is stopped does not listen. What it supervised is found by its mark.
            kill(self.pid, signal.SIGKILL)
            await self.gone.wait()

    def release(self) -> None:
        """Let go of the display, which goes on."""
        if self._reading:
            self._reading.cancel()
        if self._writer:
            self._writer.close()

    # -- what it uses ---------------------------------------------------------------------------------------------

    def usage(self) -> tuple[int, list[str]]:
        """Return the memory of all its processes (proportional set size, bytes) and the names of its programs."""
        pids = descendants(self.pid)
        memory = sum(_memory(pid) for pid in [self.pid, *pids])
        children = {pid for pid, parent, _session in supervisor.processes() if parent == self.pid}
        infrastructure = {pid for pid in children if _name(pid) in {"Xvfb", "xpra"}}
        for pid in list(infrastructure):
            infrastructure.update(descendants(pid))
        return memory, sorted({name for pid in pids if pid not in infrastructure and (name := _name(pid))})


def _memory(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""
