"""The desktop of a session that is nothing else: one display, started, and started again when its user wants it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from .display import DisplayError
from .manager import DisplayManager


@dataclass(frozen=True)
class DesktopState:
    """How the desktop is.

    Parameters
    ----------
    name
        `starting`, `running`, or `ended`.
    url
        Path of its page, while it runs.
    reason, log
        Why it does not run, and the last lines of its log.
    """

    name: str
    url: str = ""
    reason: str = ""
    log: str = ""


class Desktop:
    """The one desktop of a session.

    Parameters
    ----------
    manager
        Of displays, which has no other one.
    """

    def __init__(self, manager: DisplayManager) -> None:
        self.manager = manager
        self._failure: DisplayError | None = None
        self._start: asyncio.Task[None] | None = None

    def state(self) -> DesktopState:
        """Tell how it is."""
        if self._start and not self._start.done():
            return DesktopState("starting")
        for display in self.manager.list():
            if display["state"] == "running":
                return DesktopState("running", url=display["url"])
            # One that ended by itself stays in the list for its reason.
            return DesktopState("ended", reason=display["reason"], log=display["log"])
        if self._failure:
            return DesktopState("ended", reason=self._failure.message, log=self._failure.log)
        return DesktopState("ended", reason="The desktop was closed.")

    def start(self) -> None:
        """Start it, unless it runs or is about to."""
        if self.state().name == "ended":
            self._start = asyncio.create_task(self._create())

    async def _create(self) -> None:
        self._failure = None
        try:
            for ended in self.manager.list():
                await self.manager.delete(ended["id"])
            await self.manager.create({"kind": "desktop"})
        except DisplayError as error:
            self.manager.log.error("The desktop was not started: %s\n%s", error.message, error.log)
            self._failure = error

    async def started(self, seconds: float) -> None:
        """Wait for a start that is under way, a limited time."""
        if self._start:
            await asyncio.wait([self._start], timeout=seconds)

    async def close(self) -> None:
        """End it, giving its programs time, and return when nothing of it is left."""
        if self._start:
            self._start.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._start
        await self.manager.close()
