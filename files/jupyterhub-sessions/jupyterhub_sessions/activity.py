"""When somebody last did something in a session, which the hub ends when that is long ago.

The server knows it and reports it to the hub. Jupyter counts each request, also those that an open page makes by
itself every few seconds, and counts neither a kernel that computes in silence nor a program in a terminal; here it is
the other way round.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from jupyter_server.base.handlers import APIHandler
from jupyterhub.httpclient import fetch
from jupyterhub.utils import isoformat

#: Jupyter takes the latest of all settings whose names end like this one's.
SETTING = "jupyterhub_sessions_last_activity"
#: What only looks: pages ask for lists of kernels, files and the like again and again, whoever sits in front of them.
LOOKING = {"GET", "HEAD", "OPTIONS"}
#: A shell in a shell waits for somebody; a program that runs in it does not.
SHELLS = {"bash", "csh", "dash", "fish", "ksh", "sh", "tcsh", "zsh"}


def idle_seconds() -> float:
    """Return the seconds without activity after which the hub ends the session; 0 for never."""
    return float(os.environ.get("JUPYTERHUB_SESSIONS_IDLE_S") or 0)


_count_request = APIHandler.update_api_activity


def _count_change(handler: Any) -> None:
    """Count a request that changes something, which a page does for its user.

    JupyterLab 4.6 saves the arrangement of its parts every ten seconds, changed or not.
    """
    if handler.request.method not in LOOKING and "/api/workspaces/" not in handler.request.path:
        _count_request(handler)


def busy(kernels: Iterable[dict[str, Any]]) -> bool:
    """Tell whether one of the kernels computes, given as the server's API lists them."""
    return any(kernel["execution_state"] == "busy" for kernel in kernels)


def _processes(proc: Path) -> Iterator[tuple[int, str, str, int]]:
    """Yield number, name, state and session of each process (proc(5))."""
    for directory in proc.glob("[0-9]*"):
        try:
            name, _bracket, rest = (directory / "stat").read_text(errors="replace").partition("(")[2].rpartition(")")
        except OSError:
            continue
        if rest:
            state, _parent, _group, session = rest.split()[:4]
            yield int(directory.name), name, state, int(session)


def works(shells: set[int], proc: Path = Path("/proc")) -> bool:
    """Tell whether a program runs in one of the terminals, in the foreground or not.

    Parameters
    ----------
    shells
        Numbers of the processes that the terminals were opened with: each leads the session of its terminal.
    proc
        Where processes are looked up.
    """
    return bool(shells) and any(
        session in shells and number not in shells and state not in "TtZX" and (name not in SHELLS or state == "R")
        for number, name, state, session in _processes(proc)
    )


class Activity:
    """Know when something was last done in a Jupyter server.

    Parameters
    ----------
    web_app
        The server's, whose own answer this one takes the place of.
    """

    def __init__(self, web_app: Any) -> None:
        self._settings = web_app.settings
        self._known = web_app.last_activity
        web_app.last_activity = self.last
        APIHandler.update_api_activity = _count_change

    def last(self) -> datetime:
        """Return the moment; now, while something is being worked on."""
        # The terminals are there only where somebody may have them, and later than the extensions are.
        terminals = getattr(self._settings.get("terminal_manager"), "terminals", {}).values()
        if busy(self._settings["kernel_manager"].list_kernels()) or works({one.ptyproc.pid for one in terminals}):
            self._settings[SETTING] = datetime.now(UTC)
        last: datetime = self._known()
        return last


async def stay(settings: dict[str, Any]) -> None:
    """Count a user's word as activity, and tell the hub at once: the session might be about to be ended.

    Parameters
    ----------
    settings
        Of the server.

    Raises
    ------
    OSError
        The hub does not answer, which is told by the next of the server's reports.
    """
    settings[SETTING] = now = datetime.now(UTC)
    url, server = os.environ.get("JUPYTERHUB_ACTIVITY_URL", ""), os.environ.get("JUPYTERHUB_SERVER_NAME", "")
    if not url:
        return
    time = isoformat(now)
    headers = {"Authorization": f"token {os.environ['JUPYTERHUB_API_TOKEN']}", "Content-Type": "application/json"}
    body = json.dumps({"servers": {server: {"last_activity": time}}, "last_activity": time})
    try:
        await fetch(url, method="POST", headers=headers, data=body)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise OSError(f"The hub does not answer: {error}") from error
