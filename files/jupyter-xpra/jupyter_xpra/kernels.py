"""How kernels and terminals ask for a display: a socket that only their user can open."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from pathlib import Path

from .display import DisplayError
from .manager import DisplayManager
from .use import SOCKET_VARIABLE

__all__ = ["SOCKET_VARIABLE", "Chooser"]


class Chooser:
    """Answer at the socket: a line with the display's name or id, or an empty one, gets a line of JSON."""

    def __init__(self, manager: DisplayManager) -> None:
        self.manager = manager
        self.path = Path(manager.directory, f"server-{os.getpid()}.sock")
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen."""
        try:
            self._server = await asyncio.start_unix_server(self._answer, str(self.path))
        except OSError as error:
            self.manager.log.error("Kernels cannot ask for displays: %s: %s", self.path, error.strerror or error)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):
            wanted = (await reader.readline()).decode(errors="replace").strip()
            try:
                answer = await self.manager.use(wanted)
            except DisplayError as error:
                answer = {"message": error.message, "log": error.log}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def close(self) -> None:
        """Listen no more."""
        if self._server:
            self._server.close()
            self.path.unlink(missing_ok=True)
