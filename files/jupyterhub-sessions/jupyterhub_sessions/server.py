"""What the single-user server does differently inside a session: say why a kernel died.

The kernel process of a session that reached its memory limit is killed by Linux without a word. The control group
counts these kills, so the connection to the browser can tell the student in the output of the very cell that did it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from jupyter_server.services.kernels.connection.base import deserialize_binary_message, deserialize_msg_from_ws_v1
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

from .i18n import gettext as _
from .i18n import set_language


def control_group() -> Path:
    """Return the control group of this process (cgroups(7), version 2)."""
    line = Path("/proc/self/cgroup").read_text().splitlines()[-1]
    return Path("/sys/fs/cgroup") / line.partition("::")[2].lstrip("/")


def out_of_memory_kills(group: Path) -> int:
    """Count the processes of the group that were killed for want of memory."""
    try:
        events = (group / "memory.events").read_text()
    except OSError:
        return 0
    return int(dict(line.split() for line in events.splitlines()).get("oom_kill", 0))


def memory_limit_mib(group: Path) -> int | None:
    """Return the memory limit of the group in MiB, None if there is none."""
    try:
        limit = (group / "memory.max").read_text().strip()
    except OSError:
        return None
    return None if limit == "max" else int(limit) // 2**20


class SessionKernelConnection(ZMQChannelsWebsocketConnection):
    """Tell the student when the memory limit ended the kernel."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        set_language(os.environ.get("JUPYTERHUB_SESSIONS_LANGUAGE", "en"))
        self._group = control_group()
        self._kills = out_of_memory_kills(self._group)
        self._last_request: dict[str, Any] = {}

    def handle_incoming_message(self, incoming_msg: str) -> None:
        """Remember which request ran last: its cell is where the student looks."""
        self._remember(incoming_msg)
        super().handle_incoming_message(incoming_msg)

    def _remember(self, message: Any) -> None:
        if self.subprotocol == "v1.kernel.websocket.jupyter.org":
            _channel, parts = deserialize_msg_from_ws_v1(message)
            header = self.session.unpack(parts[0])
        else:
            content = deserialize_binary_message(message) if isinstance(message, bytes) else json.loads(message)
            header = content["header"]
        if header.get("msg_type") == "execute_request":
            self._last_request = header

    def on_kernel_restarted(self) -> None:
        """Say why first: on the restart the page lets go of the cells that were running."""
        kills = out_of_memory_kills(self._group)
        if kills > self._kills and self._last_request:
            self._kills = kills
            limit = memory_limit_mib(self._group)
            message = _("The kernel was ended: this session reached its memory limit of %(limit)s MiB.")
            self.write_stderr(message % {"limit": limit}, self._last_request)
        super().on_kernel_restarted()
